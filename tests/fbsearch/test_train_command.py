"""fbsearch train and eval as a person gives them: files, killing and going on, what is refused, what eval says."""

import json
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from fbbase.commandline import run
from fbsearch.cli import fbsearch
from fbspace.architecture import Architecture, load_architecture
from fbspace.space import Space
from fbspace.weights import load_network
from peers.processes import PIPE, Python

QUICK = ["--threads", "1", "--batch", "40", "--limit", "200"]


@pytest.fixture
def arch(micro_file: Path, tmp_path: Path) -> Path:
    found = Architecture(
        name="small", space=str(micro_file), choices=("k3_e1", "k5_e3"), provenance={"where": "a search"}
    )
    found.save(tmp_path / "arch.json")
    return tmp_path / "arch.json"


@pytest.fixture
def arguments(arch: Path, tmp_path: Path) -> list[str]:
    return ["train", str(arch), "-o", str(tmp_path / "out"), *QUICK, "--epochs", "2"]


def evaluated(folder: Path, *extra: str) -> dict[str, float]:
    arguments = ["eval", str(folder / "arch.json"), "--weights", str(folder / "weights.pt"), "--json", *extra]
    done = CliRunner().invoke(fbsearch, arguments, catch_exceptions=False, standalone_mode=False)
    result: dict[str, float] = json.loads(done.stdout)
    return result


def npz(path: Path, labels: int = 4, seed: int = 0, test_value: int | None = None) -> Path:
    """Write images whose class is their brightness, with test images of their own."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for part, count in (("train", 120), ("test", 40)):
        y = np.arange(count) % labels
        x = rng.integers(0, 20, (count, 8, 8, 3)) + 50 * y[:, None, None, None]
        arrays |= {f"x_{part}": x.astype(np.uint8), f"y_{part}": y}
    if test_value is not None:
        arrays["x_test"] = np.full_like(arrays["x_test"], test_value)
    np.savez(path, **arrays)
    return path


def test_training_writes_weights_record_and_metrics_and_eval_agrees(
    arguments: list[str], arch: Path, tmp_path: Path, micro: Space, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(fbsearch, [*arguments, "--ema", "0.9"]) == 0
    out, folder = capsys.readouterr().out, tmp_path / "out"
    written = load_architecture(str(folder / "arch.json"))
    record = written.provenance["training"]
    assert (written.name, written.choices) == ("small", ("k3_e1", "k5_e3"))
    assert written.provenance["where"] == "a search"
    assert (record["recipe"]["ema"], record["recipe"]["epochs"], record["limit"]) == (0.9, 2, 200)
    assert (record["train_images"], record["validation_images"]) == (180, 20)
    assert f"{record['validation_accuracy_percent']:.1f} % of 20 images held out" in out
    assert f"next                 fbsearch eval {folder}/arch.json --weights {folder}/weights.pt --data digits" in out
    assert f"fbprof verify {folder}/arch.json --lut TABLE" in out
    assert load_network(written, folder / "weights.pt")(torch.zeros(1, *micro.input_shape[1:])).shape == (1, 10)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [(line["stage"], line["epoch"]) for line in lines] == [("train", 0), ("train", 1)]
    assert (folder / "tensorboard" / "train").is_dir()

    result = evaluated(folder, "--split", "validation")
    assert result["images"] == 20
    assert result["top1_percent"] == pytest.approx(record["validation_accuracy_percent"], abs=1e-3)
    assert result["cross_entropy"] == pytest.approx(record["validation_cross_entropy"], abs=1e-4)
    assert evaluated(folder)["images"] == 359  # a fifth of the digits, whatever the training's --limit
    assert evaluated(folder, "--limit", "50")["images"] == 50

    before = (folder / "weights.pt").read_bytes()
    assert run(fbsearch, [*arguments, "--ema", "0.9", "--json"]) == 0  # finished: nothing is trained again
    assert json.loads(capsys.readouterr().out)["training"] == record
    assert (folder / "weights.pt").read_bytes() == before
    assert run(fbsearch, [*arguments, "--ema", "0.9", "--seed", "1"]) == 2
    assert "seed: 0 then, 1 now" in capsys.readouterr().err
    assert run(fbsearch, [*arguments, "--seed", "1", "--fresh"]) == 0


def test_stopped_twice_the_same_command_ends_in_the_same_bits(
    arguments: list[str], digits_npz: Path, tmp_path: Path
) -> None:
    recipe = ["--epochs", "5", "--batch", "8", "--mixup", "0.2", "--ema", "0.9", "--augment", "flip"]
    options = [*arguments, "--data", str(digits_npz), *recipe]
    command = ["-m", "fbsearch", *options]
    metrics = tmp_path / "out" / "metrics.jsonl"
    for sent, epochs, code, words in (
        (signal.SIGKILL, 1, -9, ""),
        (signal.SIGTERM, 3, 4, "stopped by SIGTERM; the same command continues"),
    ):
        with Python(command, stdout=PIPE, stderr=PIPE) as process:
            deadline = time.monotonic() + 60
            while (not metrics.exists() or metrics.read_text().count("\n") < epochs) and time.monotonic() < deadline:
                time.sleep(0.01)
            process.send_signal(sent)
            _, err = process.communicate(timeout=60)
        assert process.returncode == code, err
        assert words in err
        assert not (tmp_path / "out" / "weights.pt").exists()
    assert run(fbsearch, options) == 0
    whole = tmp_path / "whole"
    assert run(fbsearch, [*options, "-o", str(whole)]) == 0
    mine, other = (torch.load(f / "weights.pt", weights_only=True) for f in (tmp_path / "out", whole))
    for name, value in other.items():
        assert torch.equal(value, mine[name]), name
    records = [load_architecture(str(f / "arch.json")).provenance for f in (tmp_path / "out", whole)]
    assert records[0] == records[1]


def test_eval_normalises_as_the_training_did_whatever_the_images(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "out"
    known = npz(tmp_path / "known.npz")
    options = [*arguments, "--epochs", "12", "--batch", "20", "--data", str(known)]
    assert run(fbsearch, options) == 0
    assert evaluated(folder, "--data", str(known)) == evaluated(folder)  # the training's own, unless told otherwise
    assert evaluated(folder)["top1_percent"] == 100
    assert "top5_percent" not in capsys.readouterr().out
    dark = npz(tmp_path / "dark.npz", test_value=10)  # all of class 0 to this network
    assert evaluated(folder, "--data", str(dark))["top1_percent"] == 25
    with np.load(known) as arrays:
        x_train, rest = arrays["x_train"], {name: arrays[name] for name in ("y_train", "x_test", "y_test")}
    np.savez(tmp_path / "brighter.npz", x_train=np.minimum(x_train, 155) + 100, **rest)
    assert evaluated(folder, "--data", str(tmp_path / "brighter.npz"))["top1_percent"] == 100


def test_eval_refuses_other_classes_other_validation_images_and_other_networks(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "out"
    assert run(fbsearch, [*arguments, "--data", str(npz(tmp_path / "four.npz"))]) == 0
    five, other = npz(tmp_path / "five.npz", labels=5), npz(tmp_path / "other.npz", seed=1)
    arch, weights = str(folder / "arch.json"), str(folder / "weights.pt")
    for extra, message in (
        (["--data", str(five)], "other classes than the network was trained on; missing: none; new: 4"),
        (["--data", str(other), "--split", "validation"], "is not the data of the training"),
        (["--data", "digits"], "digits has other classes than the network was trained on; missing: none; new: 4, 5"),
        (["--split", "validation", "--limit", "5"], "--limit is for test images"),
        (["--device", "gpu"], "--device is auto, cpu, cuda"),
    ):
        assert run(fbsearch, ["eval", arch, "--weights", weights, *extra]) == 2
        assert message in capsys.readouterr().err
    plain = str(tmp_path / "arch.json")  # says nothing of a training
    assert run(fbsearch, ["eval", plain, "--weights", weights, "--data", str(five)]) == 2
    err = capsys.readouterr().err
    assert "records no training: images are normalised by the mean of this data's training images" in err
    assert "five.npz has 5 classes, and the weights are of a network for 4" in err
    assert run(fbsearch, ["eval", plain, "--weights", weights, "--split", "validation"]) == 2
    assert "records no training that images were held out of" in capsys.readouterr().err


def test_weights_to_begin_with_may_be_of_another_number_of_classes(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(fbsearch, arguments) == 0
    weights = str(tmp_path / "out" / "weights.pt")
    more = ["--data", str(npz(tmp_path / "four.npz")), "--init", weights, "-o", str(tmp_path / "tuned")]
    assert run(fbsearch, [*arguments, *more, "--lr", "1e-7", "--epochs", "1"]) == 0
    first, tuned = (torch.load(tmp_path / f / "weights.pt", weights_only=True) for f in ("out", "tuned"))
    assert tuned["head_2.fc.weight"].shape[0] == 4
    torch.testing.assert_close(tuned["stem_1.0.weight"], first["stem_1.0.weight"], rtol=1e-3, atol=1e-4)
    assert run(fbsearch, [*arguments, *more[:2], "-o", str(tmp_path / "tuned"), "--lr", "1e-7", "--epochs", "1"]) == 2
    assert "another initial weights" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--data", "nowhere.npz"], "nowhere.npz"),
        (["--lr", "0"], "--lr must be a positive number"),
        (["--warmup", "2"], "--warmup of 2 epochs leaves none of 2"),
        (["--augment", "flips"], "unknown augmentation 'flips'"),
        (["--milestones", "a,b"], "is not a list of numbers such as 0.25,0.5,0.75"),
        (["--init", "nowhere.pt"], "weights not found: nowhere.pt"),
        (["--device", "cpu", "--amp", "fp16"], "--amp fp16 needs a GPU"),
    ],
)
def test_mistakes_are_one_message_and_exit_code_2(
    extra: list[str], message: str, arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(fbsearch, [*arguments, *extra]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out" / "arch.json").exists()


def test_a_training_that_diverges_ends_with_exit_code_1(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(fbsearch, [*arguments, "--lr", "1e30"]) == 1
    err = capsys.readouterr().err
    assert "in epoch 1, step 2 of 5 at learning rate" in err
    assert "lower --lr and --fresh" in err
    assert not (tmp_path / "out" / "arch.json").exists()


def test_a_searchs_folder_is_not_overwritten(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "search.ckpt").touch()
    assert run(fbsearch, [*arguments, "--fresh"]) == 2
    assert "holds a search" in capsys.readouterr().err
