"""The base of the installation: without torch and other extras files are measured, and what lacks is named."""

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from fbbase.plugins import EXTRAS
from fbexport.residual import residual_model
from fbspace.opspec import OpSpec
from peers.extending import DRIVER, Ended

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
TABLE = "amd-epyc-litert"
BLOCKER = """
import os, sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in os.environ["MISSING"].split(","):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
"""
HELP = """
from importlib import import_module
from fbbase.commandline import run
for tool in ("fbprof", "fbsearch"):
    group = getattr(import_module(f"{tool}.cli"), tool)
    for name in ((), *((each,) for each in group.list_commands(None))):
        assert run(group, [*name, "--help"]) == 0, name
    print(f"helped {tool}")
"""
Lean = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def lean(tmp_path: Path) -> Lean:
    """Run Python in an empty folder where packages of extras cannot be imported, by default none of them."""
    (tmp_path / "missing").mkdir()
    (tmp_path / "missing" / "sitecustomize.py").write_text(BLOCKER)
    (tmp_path / "work").mkdir()

    def run(
        *arguments: str, missing: tuple[str, ...] = tuple(EXTRAS), input: str = ""
    ) -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join([str(tmp_path / "missing"), *sys.path])
        nobody = {"ADB_SERVER_SOCKET": "tcp:127.0.0.1:1"}  # no adb server answers
        own = {"PYTHONPATH": path, "MISSING": ",".join(missing), "HOME": str(tmp_path)}
        environment = os.environ | nobody | own
        command = [sys.executable, *arguments]
        where = tmp_path / "work"
        return subprocess.run(
            command, input=input, capture_output=True, text=True, cwd=where, env=environment, timeout=300
        )

    return run


def each_of(lean: Lean, commands: Sequence[str]) -> list[Ended]:
    """Give commands one after the other in one process, as starting one takes longest; return how each ended."""
    done = lean("-c", DRIVER, input=json.dumps([command.split() for command in commands]))
    assert done.returncode == 0, done.stderr
    return [Ended(*each) for each in json.loads(done.stdout.splitlines()[-1])]


def small_files(folder: Path) -> None:
    for name, spec in (("a.onnx", OpSpec("ir", 8, 8, 8, 8)), ("b.tflite", OpSpec("ir", 8, 8, 8, 8, expansion=2))):
        format_name = Path(name).suffix.lstrip(".")
        (folder / name).write_bytes(residual_model(spec, format_name))


def test_model_files_are_profiled_and_compared(lean: Lean, tmp_path: Path) -> None:
    small_files(tmp_path / "work")
    few = "--rounds 4 --max-time 1"
    commands = [
        f"fbprof profile a.onnx b.tflite --layers {few} --json -o one.json",
        "fbprof compare one.json one.json",
        "fbprof ab b.tflite b.tflite --max-time 0.05",
    ]
    ended = each_of(lean, commands)
    assert [each.code for each in ended] == [0] * len(commands), ended
    profiled, compared, ab = ended
    models = json.loads(profiled.out)["models"]
    assert [each["name"] for each in models] == ["a.onnx", "b.tflite"]
    assert all(each["latency_us"] > 0 and each["layers"] for each in models)
    assert "b.tflite" in compared.out
    assert "95 %" in ab.out


def test_every_command_explains_itself(lean: Lean) -> None:
    done = lean("-c", HELP)
    assert "helped fbprof" in done.stdout, done.stderr
    assert "helped fbsearch" in done.stdout, done.stderr


WORKS = {
    f"fbprof check {TABLE}": "usable",
    f"fbprof compare {TABLE} amd-epyc-onnxruntime": "operators",
    "fbprof luts": TABLE,
    f"fbprof predict fbnet-a --lut {TABLE}": "95 % interval",
    "fbprof devices": "fbnet-lab[adb]",
    "fbprof measure --space fbnet-tiny --dry-run": "estimated time",
    "fbprof agent build --help": "native agent",
    "fbprof config": "nothing is set",
    "fbsearch zoo": "fbnet-a",
    "fbsearch spaces new own.toml": "spaces check own.toml",
}
NEEDS = {
    "fbprof measure --space fbnet-tiny --quick": ("torch", "torch"),
    "fbprof measure --runtime torch --quick": ("torch", "torch"),
    "fbprof profile fbnet-a": ("torch", "torch"),
    "fbprof export fbnet-a --format tflite": ("torch", "torch"),
    f"fbprof verify fbnet-a --lut {TABLE}": ("torch", "torch"),
    f"fbprof validate --lut {TABLE}": ("torch", "torch"),
    f"fbprof report {TABLE}": ("plotly", "report"),
    f"fbprof compare {TABLE} amd-epyc-onnxruntime --plot plot.png": ("matplotlib", "report"),
    "fbprof profile program.pt": ("torch", "torch"),
    f"fbsearch run --lut {TABLE}": ("torch", "search"),
    "fbsearch train fbnet-a": ("torch", "search"),
    "fbsearch plot fbnet-a": ("matplotlib", "report"),
}
"""What lacks for a command, and the extra that brings it."""


def test_what_needs_no_extra_works(lean: Lean) -> None:
    for (command, words), done in zip(WORKS.items(), each_of(lean, list(WORKS)), strict=True):
        assert done.code == 0, (command, done.err)
        assert words in done.out, command


def test_what_needs_one_says_so_in_a_line(lean: Lean, tmp_path: Path) -> None:
    program = tmp_path / "work" / "program.pt"
    program.write_bytes(b"PK\x03\x04 and more")
    for (command, (missing, extra)), done in zip(NEEDS.items(), each_of(lean, list(NEEDS)), strict=True):
        assert done.code == 2, command
        (line,) = (line for line in done.err.splitlines() if line != "exporting fbnet-a …")
        assert missing in line, command
        assert f"pip install 'fbnet-lab[{extra}]'" in line, command
        assert done.out == "", command
    assert list(program.parent.iterdir()) == [program]  # nothing was begun


def test_a_phone_needs_one_and_other_devices_do_not(lean: Lean, tmp_path: Path) -> None:
    small_files(tmp_path / "work")
    done = lean("-m", "fbprof", "profile", "a.onnx", "--device", "adb:emulator-1")
    assert done.returncode == 3
    assert "pip install 'fbnet-lab[adb]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_module_of_our_own_that_lacks_is_no_missing_extra(lean: Lean) -> None:
    done = lean("-m", "fbprof", "check", TABLE, missing=("fblut",))
    assert "fbnet-lab[" not in done.stderr


PIP_NAMES = {"PIL": "pillow", "sklearn": "scikit-learn", "yaml": "pyyaml", "usb1": "adb-shell"}


@pytest.mark.parametrize("package", EXTRAS)
def test_an_extra_brings_the_package_that_it_is_named_for(package: str) -> None:
    name = PIP_NAMES.get(package, package.replace("_", "-"))
    assert name in [required(line) for line in PROJECT["optional-dependencies"][EXTRAS[package]]]
    assert name not in [required(line) for line in PROJECT["dependencies"]]


def test_all_is_all_of_them() -> None:
    (line,) = PROJECT["optional-dependencies"]["all"]
    named = line.partition("[")[2].rstrip("]").split(",")
    assert set(named) == PROJECT["optional-dependencies"].keys() - {"all", "dev"}


def test_the_constraints_are_found(lean: Lean) -> None:
    done = lean("-m", "fbprof", "config", "--constraints")
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).read_bytes() == (ROOT / "constraints.txt").read_bytes()


def required(line: str) -> str:
    """Return the name of the package in a requirement."""
    found = re.match(r"[A-Za-z0-9-]+", line)
    assert found is not None
    return found[0]
