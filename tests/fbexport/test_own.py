"""A network of a user's own Python file: what loads, and every way in which it does not."""

import sys
from pathlib import Path

import pytest
import torch

from fbbase.errors import FbError
from fbexport.own import is_own, load_module, parse_shape

FILE = """
import torch
from dataclasses import dataclass
from torch import nn
from beside import WIDTH

@dataclass
class Sizes:
    side: int = 32

def network():
    print("made")
    return nn.Sequential(nn.Conv2d(3, WIDTH, 3), nn.BatchNorm2d(WIDTH))

def with_shape():
    return network(), [1, 3, Sizes().side, 32]

class Net(nn.Sequential):
    pass

ready = nn.ReLU()

def raises():
    size = 0
    return 1 / size

def ends():
    raise SystemExit("enough")

def wants(width):
    return nn.ReLU()

def text():
    return "a network"

def short():
    return nn.ReLU(), (3, 0, 32)

def several():
    return nn.ReLU(), ([1, 3, 8, 8], (1, 12))
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "beside.py").write_text("WIDTH = 5\n")
    path = tmp_path / "net.py"
    path.write_text(FILE)
    return path


def test_a_function_returns_a_module_in_eval_mode(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = [*sys.path]
    module, shape = load_module(f"{file}:network")
    assert not any(part.training for part in module.modules())
    assert module(torch.zeros(1, 3, 8, 8)).shape == (1, 5, 6, 6)
    assert shape is None
    assert sys.path == before
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "made\n")


def test_it_may_say_the_shape_be_a_class_or_the_module_itself(file: Path) -> None:
    assert load_module(f"{file}:with_shape")[1] == (1, 3, 32, 32)
    assert load_module(f"{file}:several")[1] == ((1, 3, 8, 8), (1, 12))
    assert len(list(load_module(f"{file}:Net")[0].modules())) == 1
    assert isinstance(load_module(f"{file}:ready")[0], torch.nn.ReLU)


@pytest.mark.parametrize(
    ("function", "told"),
    [
        ("netwrk", "unknown function of .*net.py 'netwrk'. Did you mean 'network'?"),
        ("raises", "net.py: line 25: raises raises ZeroDivisionError: division by zero"),
        ("ends", "net.py: line 28: ends raises SystemExit: enough"),
        ("wants", "net.py: wants raises TypeError: wants.. missing 1 required"),
        ("text", "net.py:text returns str; it must return an nn.Module"),
        ("short", r"net.py:short returns .ReLU, .3, 0, 32..; it must return"),
        ("Sizes", "net.py:Sizes returns Sizes; it must return"),
        ("", "unknown function of .*net.py ''"),
    ],
)
def test_what_is_no_network_is_told_in_words(file: Path, function: str, told: str) -> None:
    with pytest.raises(FbError, match=told):
        load_module(f"{file}:{function}")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("def f(:\n", "own.py: line 1: invalid syntax"),
        ("\n\nimport nothing_of_that_name\n", "own.py: line 3: it raises ModuleNotFoundError: No module named"),
        ("x = '\0'\n", "own.py"),
        ("raise ValueError\n", "own.py: line 1: it raises ValueError$"),
    ],
)
def test_a_file_that_does_not_run_is_told_with_its_line(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "own.py").write_text(text)
    with pytest.raises(FbError, match=told):
        load_module(f"{tmp_path / 'own.py'}:f")


def test_no_file_and_no_function_are_told(tmp_path: Path) -> None:
    with pytest.raises(FbError, match=r"Python file not found: .*none\.py"):
        load_module(f"{tmp_path}/none.py:f")
    with pytest.raises(FbError, match=r"net\.py:FUNCTION"):
        load_module("net.py")
    (tmp_path / "x.py").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FbError, match="not a text file"):
        load_module(f"{tmp_path}/x.py:f")


def test_which_names_are_of_files() -> None:
    assert [is_own(name) for name in ("a.py:f", "a.py", "fbnet-a", "arch.json", "C:/x/a.py:f", "a.pyc:f")] == [
        True, True, False, False, True, False,
    ]  # fmt: skip


def test_a_shape_has_four_sizes() -> None:
    assert parse_shape("1x3x224x160") == (1, 3, 224, 160)
    for text in ("3x224x224", "1x3x0x5", "1x3xax5", "1x3x224x224x1", "", "1x3x224x99999999999"):
        with pytest.raises(FbError, match="1x3x224x224"):
            parse_shape(text)
