"""The command as a person gives it: what it writes and prints, how it continues, how it refuses."""

import itertools
import json
import signal
import time
from pathlib import Path

import pytest
import torch

from fbbase.commandline import run
from fblut.reading import read_lut
from fblut.table import Lut
from fblut.writing import write_lut
from fbsearch.cli import fbsearch
from fbspace.architecture import load_architecture
from fbspace.blocks import is_identity
from fbspace.space import Space
from fbspace.weights import load_network
from peers.processes import PIPE, Python

QUICK = [
    "--threads",
    "1",
    "--epochs",
    "2",
    "--train-epochs",
    "2",
    "--batch",
    "40",
    "--limit",
    "200",
    "--theta-lr",
    "0.4",
]


@pytest.fixture
def arguments(micro_file: Path, micro_lut_file: Path, tmp_path: Path) -> list[str]:
    # --space as a file, because the table only knows the space's name
    return ["run", "--lut", str(micro_lut_file), "--space", str(micro_file), "-o", str(tmp_path / "run"), *QUICK]


def test_a_run_writes_what_it_found_and_is_read_back_the_second_time(
    arguments: list[str], tmp_path: Path, micro: Space, micro_lut_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(fbsearch, [*arguments, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    folder = tmp_path / "run"
    architecture = load_architecture(str(folder / "arch.json"))
    assert architecture.model_dump(mode="json", exclude_none=True) == printed
    assert architecture.predicted is not None
    assert architecture.predicted.latency_us == read_lut(micro_lut_file).predict_us(architecture.specs())
    assert architecture.predicted.device == "made-up"
    found = architecture.provenance
    assert (found["w_images"], found["theta_images"], found["test_images"]) == (140, 40, 200)
    assert found["validation_images"] == 20
    assert found["skip_layers"] == architecture.choices.count("skip")
    assert 0 <= found["test_accuracy_percent"] <= 100
    assert found["settings"]["seed"] == 0
    network = load_network(architecture, folder / "weights.pt")
    assert network(torch.zeros(1, *micro.input_shape[1:])).shape == (1, 10)

    before = (folder / "arch.json").stat().st_mtime_ns
    assert run(fbsearch, arguments) == 0
    output = capsys.readouterr()
    assert (folder / "arch.json").stat().st_mtime_ns == before
    assert f"{found['test_accuracy_percent']:.1f} % of 200 images held out" in output.out
    assert f"{architecture.predicted.latency_us:.1f} µs on made-up" in output.out
    for choice in architecture.choices:
        assert choice in output.out

    assert run(fbsearch, [*arguments, "--seed", "5"]) == 2
    assert "seed: 0 then, 5 now" in capsys.readouterr().err
    assert run(fbsearch, [*arguments, "--seed", "5", "--fresh"]) == 0


def test_reported_test_accuracy_is_that_of_the_saved_weights(arguments: list[str], tmp_path: Path) -> None:
    from fbsearch.images.data import load_data
    from fbsearch.training.evaluate import evaluate

    assert run(fbsearch, arguments) == 0
    architecture = load_architecture(str(tmp_path / "run" / "arch.json"))
    data = load_data("digits", (1, 3, 8, 8), seed=0, limit=200)
    network = load_network(architecture, tmp_path / "run" / "weights.pt")
    tested = evaluate(network, data, data.test, 40).top1_percent
    assert tested == pytest.approx(architecture.provenance["test_accuracy_percent"], abs=1e-3)


def test_most_layers_skipped_is_a_warning(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from fbsearch.jobs import search_job

    real = search_job.derive
    monkeypatch.setattr(search_job, "derive", lambda *given: [c for c in real(*given) if c.choices == ("skip", "skip")])
    assert run(fbsearch, [*arguments, "--samples", "8"]) == 0
    assert "warning: 2 of 2 layers of the network for micro are skip" in capsys.readouterr().err


def test_a_target_is_hit_and_reported(
    arguments: list[str], tmp_path: Path, micro: Space, micro_lut: Lut, capsys: pytest.CaptureFixture[str]
) -> None:
    target_ms = micro_lut.predict_us(micro.specs(["k5_e3", "k3_e1"])) / 1000 * 1.01
    assert run(fbsearch, [*arguments, "--target-ms", str(target_ms)]) == 0
    found = load_architecture(str(tmp_path / "run" / "arch.json"))
    assert found.predicted is not None
    share = found.predicted.latency_us / target_ms / 1000
    assert 0.97 <= share <= 1
    assert found.provenance["settings"]["loss"] == "target"
    assert f"{100 * share:.1f} % of it" in capsys.readouterr().out


def test_a_target_out_of_reach_is_refused_before_any_training_with_the_range(
    arguments: list[str], tmp_path: Path, micro: Space, micro_lut_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lut = read_lut(micro_lut_file)
    networks = itertools.product(*(list(layer.candidates) for layer in micro.layers))
    latencies_ms = [lut.predict_us(micro.specs(choices)) / 1000 for choices in networks]
    least, greatest = min(latencies_ms), max(latencies_ms)
    for target_ms in (0.99 * least, 1.04 * greatest):
        assert run(fbsearch, [*arguments, "--target-ms", str(target_ms)]) == 2
        assert f"take {least:.4g} to {greatest:.4g} ms" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def whole(micro_file: Path, micro_lut_file: Path, digits_npz: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    inputs = ["--lut", str(micro_lut_file), "--space", str(micro_file), "--data", str(digits_npz)]
    assert run(fbsearch, ["run", *inputs, *QUICK, "--epochs", "12", "-o", str(folder)]) == 0
    return folder


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(signal.SIGINT, marks=pytest.mark.full),
        pytest.param(signal.SIGTERM, marks=pytest.mark.full),
        signal.SIGKILL,
    ],
)
def test_an_interrupted_run_continues_to_the_same_result(
    sent: signal.Signals, arguments: list[str], digits_npz: Path, whole: Path, tmp_path: Path
) -> None:
    options = [*arguments, "--data", str(digits_npz), "--epochs", "12"]
    command = ["-m", "fbsearch", *options]
    with Python(command, stdout=PIPE, stderr=PIPE) as process:
        deadline = time.monotonic() + 60
        metrics = tmp_path / "run" / "metrics.jsonl"
        while (not metrics.exists() or metrics.read_text().count("\n") < 2) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(sent)
        _, err = process.communicate(timeout=60)
    if sent is not signal.SIGKILL:
        assert process.returncode == (130 if sent is signal.SIGINT else 4)
        assert "the same command continues" in err
    assert not (tmp_path / "run" / "arch.json").exists()
    assert run(fbsearch, options) == 0
    mine, other = (torch.load(f / "search.ckpt", weights_only=True)["state"] for f in (tmp_path / "run", whole))
    for name, value in other["net"].items():
        assert torch.equal(value, mine["net"][name]), name
    for name in ("choices", "predicted", "provenance"):
        found = [json.loads((f / "arch.json").read_text())[name] for f in (tmp_path / "run", whole)]
        assert found[0] == found[1]


def test_a_table_of_another_space_is_refused(
    micro_lut_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(fbsearch, ["run", "--lut", str(micro_lut_file), "--space", "fbnet-tiny", "-o", str(tmp_path / "run")])
    assert code == 2
    assert "measured for space 'micro', not 'fbnet-tiny'" in capsys.readouterr().err


def test_a_table_that_names_its_space_by_a_file_is_taken_and_finds_it_there(
    arguments: list[str], micro_file: Path, micro_lut: Lut, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """So fbprof measure --space FILE writes it."""
    metadata = micro_lut.metadata.model_copy(update={"space": str(micro_file)})
    write_lut(Lut(metadata, micro_lut.rows), tmp_path / "file.csv")
    run_options = ["run", "--lut", str(tmp_path / "file.csv"), "-o", str(tmp_path / "run"), *QUICK]
    assert run(fbsearch, run_options) == 0
    assert load_architecture(str(tmp_path / "run" / "arch.json")).space == str(micro_file)
    capsys.readouterr()
    elsewhere = metadata.model_copy(update={"space": "elsewhere/other.toml"})
    write_lut(Lut(elsewhere, micro_lut.rows), tmp_path / "other.csv")
    arguments[2] = str(tmp_path / "other.csv")
    assert run(fbsearch, arguments) == 2
    assert "measured for space 'elsewhere/other.toml', not 'micro'" in capsys.readouterr().err


def test_all_missing_operators_are_listed_with_the_remedy(
    arguments: list[str], micro: Space, micro_lut: Lut, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = [spec.key() for layer in micro.layers for spec in layer.candidates.values() if not is_identity(spec)]
    rows = {key: row for key, row in micro_lut.rows.items() if key not in wanted}
    write_lut(Lut(micro_lut.metadata, rows), tmp_path / "poor.csv")
    arguments[2] = str(tmp_path / "poor.csv")
    assert run(fbsearch, arguments) == 2
    err = capsys.readouterr().err
    assert all(key in err for key in wanted)
    assert "fbprof measure --space micro" in err


def test_only_the_default_head_has_to_be_in_the_table(micro: Space, micro_lut: Lut) -> None:
    from fbsearch.jobs.search_job import check_tables

    narrow = {spec.key() for spec in micro.heads[8]}
    rows = {key: row for key, row in micro_lut.rows.items() if key not in narrow}
    check_tables({"micro": Lut(micro_lut.metadata, rows)}, micro)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--data", "nowhere.npz"], "data not found"),
        (["--strategy", "mixtur"], "Did you mean 'mixture'"),
        (["--cost", "watts"], "unknown cost 'watts'"),
        (["--loss", "pape"], "Did you mean 'paper'"),
        (["--loss", "target"], "--loss target needs a target: give --target-ms"),
        (["--loss", "additive"], "--loss additive needs a target: give --target-ms"),
        (["--target-ms", "0.1", "--cost", "macs"], "--target-ms goes with --cost lut, not with --cost macs"),
        (["--target-ms", "0"], "--target-ms must be a positive number"),
        (["--epochs", "0"], "--epochs must be at least 1"),
        (["--lut", "nowhere.csv"], "latency table not found: nowhere.csv"),
        (["--space", "fbnet-tyni"], "Did you mean 'fbnet-tiny'"),
    ],
)
def test_mistakes_are_one_message_and_exit_code_2(
    extra: list[str], message: str, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(fbsearch, [*arguments, *extra]) == 2
    assert message in capsys.readouterr().err


def test_a_short_search_on_real_images(shared: Path, tiny_lut: Lut, tmp_path: Path) -> None:
    write_lut(tiny_lut, tmp_path / "tiny.csv")
    options = [
        "--threads",
        "1",
        "--epochs",
        "2",
        "--train-epochs",
        "1",
        "--steps",
        "1",
        "--batch",
        "16",
        "--limit",
        "64",
    ]
    images = str(shared / "data" / "cifar10_jpegs.npz")
    assert (
        run(fbsearch, ["run", "--lut", str(tmp_path / "tiny.csv"), "--data", images, "-o", str(tmp_path), *options])
        == 0
    )
    found = load_architecture(str(tmp_path / "arch.json"))
    assert found.provenance["classes"][3] == "cat"
    assert len(found.choices) == 8
