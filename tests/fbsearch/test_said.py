"""What a person is told on the way: tables not to be used, parts of data not used, where to go on."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fbbase.commandline import run
from fblut.table import Lut
from fblut.writing import write_lut
from fbsearch.cli import fbsearch
from fbsearch.images.data import load_data

FEW = ["--threads", "1", "--epochs", "2", "--batch", "40", "--limit", "200"]


@pytest.mark.parametrize("train_epochs", [0, 1])
def test_a_table_that_says_do_not_use_is_warned_of_and_nothing_is_advised_that_would_be_refused(
    train_epochs: int, micro_file: Path, micro_lut: Lut, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    about = {"verdict": "do not use", "warnings": ("it throttled: cool it",), "runtime": "unknown"}
    write_lut(dataclasses.replace(micro_lut, metadata=micro_lut.metadata.model_copy(update=about)), tmp_path / "t.csv")
    command = ["run", "--lut", str(tmp_path / "t.csv"), "--space", str(micro_file), "-o", str(tmp_path / "run"), *FEW]
    assert run(fbsearch, [*command, "--train-epochs", str(train_epochs)]) == 0
    captured = capsys.readouterr()
    assert "warning: table t says of itself: do not use (it throttled: cool it); measure it again" in captured.err
    arch = tmp_path / "run" / "arch.json"
    advised = f"fbprof export {arch} --weights {tmp_path / 'run' / 'weights.pt'} --format tflite"
    assert (f"next                 {advised}\n" in captured.out) == bool(train_epochs)
    assert run(fbsearch, ["train", str(arch), "-o", str(tmp_path / "t"), *FEW]) == 0
    assert "fbprof verify" not in captured.out + capsys.readouterr().out


def test_a_published_table_names_no_device_that_is_not_known_here(
    micro_file: Path, micro_lut: Lut, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    about = {"source": "their paper"}
    write_lut(dataclasses.replace(micro_lut, metadata=micro_lut.metadata.model_copy(update=about)), tmp_path / "t.csv")
    command = ["run", "--lut", str(tmp_path / "t.csv"), "--space", str(micro_file), "-o", str(tmp_path / "run"), *FEW]
    assert run(fbsearch, [*command, "--train-epochs", "1"]) == 0
    verify = f"fbprof verify {tmp_path / 'run' / 'arch.json'} --lut {tmp_path / 't.csv'} --device DEVICE"
    assert f"next                 {verify}\n" in capsys.readouterr().out


def test_a_network_in_place_of_a_command_is_told_how_it_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(fbsearch, ["zoo", "fbnet-c"]) == 2
    assert "fbnet-c is a network; see it with: fbsearch zoo show fbnet-c" in capsys.readouterr().err
    assert run(fbsearch, ["zoo", "shwo"]) == 2
    assert "No such command 'shwo'" in capsys.readouterr().err


def test_validation_images_that_are_not_used_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x, y = np.zeros((40, 4, 4), np.uint8), np.arange(40) % 2
    np.savez(tmp_path / "d.npz", x_train=x, y_train=y, x_val=x, y_val=y)
    data = load_data(str(tmp_path / "d.npz"), (1, 3, 4, 4), 0)
    assert len(data.w) + len(data.theta) + len(data.validation) + len(data.test) == 40
    why = "not used: networks are validated by a share of the training images\n"
    assert capsys.readouterr().err == f"note: {tmp_path / 'd.npz'}: x_val, y_val {why}"
    for part in ("train", "test", "val"):
        for name in ("a", "b"):
            (tmp_path / "f" / part / name).mkdir(parents=True)
            for number in range(5):
                Image.new("L", (4, 4)).save(tmp_path / "f" / part / name / f"{number}.png")
    load_data(str(tmp_path / "f"), (1, 3, 4, 4), 0)
    assert capsys.readouterr().err == f"note: {tmp_path / 'f'}: val/ {why}"
