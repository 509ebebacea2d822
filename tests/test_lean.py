"""The base of the installation: without torch and other extras files are measured, and what lacks is named."""

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from fbbase.plugins import EXTRAS
from fbexport.residual import residual_model
from fbspace.opspec import OpSpec

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

    def run(*arguments: str, missing: tuple[str, ...] = tuple(EXTRAS)) -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join([str(tmp_path / "missing"), *sys.path])
        nobody = {"ADB_SERVER_SOCKET": "tcp:127.0.0.1:1"}  # no adb server answers
        own = {"PYTHONPATH": path, "MISSING": ",".join(missing), "HOME": str(tmp_path)}
        environment = os.environ | nobody | own
        command = [sys.executable, *arguments]
        where = tmp_path / "work"
        return subprocess.run(command, capture_output=True, text=True, cwd=where, env=environment, timeout=300)

    return run


def small_files(folder: Path) -> None:
    for name, spec in (("a.onnx", OpSpec("ir", 8, 8, 8, 8)), ("b.tflite", OpSpec("ir", 8, 8, 8, 8, expansion=2))):
        format_name = Path(name).suffix.lstrip(".")
        (folder / name).write_bytes(residual_model(spec, format_name))


def test_model_files_are_profiled_and_compared(lean: Lean, tmp_path: Path) -> None:
    small_files(tmp_path / "work")
    few = ("--rounds", "4", "--max-time", "1")
    profiled = lean("-m", "fbprof", "profile", "a.onnx", "b.tflite", "--layers", *few, "--json", "-o", "one.json")
    assert profiled.returncode == 0, profiled.stderr
    models = json.loads(profiled.stdout)["models"]
    assert [each["name"] for each in models] == ["a.onnx", "b.tflite"]
    assert all(each["latency_us"] > 0 and each["layers"] for each in models)
    again = lean("-m", "fbprof", "profile", "b.tflite", *few, "-o", "two.json")
    assert again.returncode == 0, again.stderr
    compared = lean("-m", "fbprof", "compare", "one.json", "two.json")
    assert compared.returncode == 0, compared.stderr
    assert "b.tflite" in compared.stdout
    ab = lean("-m", "fbprof", "ab", "b.tflite", "b.tflite", "--max-time", "0.05")
    assert ab.returncode == 0, ab.stderr
    assert "95 %" in ab.stdout


def test_every_command_explains_itself(lean: Lean) -> None:
    done = lean("-c", HELP)
    assert "helped fbprof" in done.stdout, done.stderr
    assert "helped fbsearch" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["check", TABLE], "usable"),
        (["compare", TABLE, "amd-epyc-onnxruntime"], "operators"),
        (["luts"], TABLE),
        (["predict", "fbnet-a", "--lut", TABLE], "95 % interval"),
        (["devices"], "fbnet-lab[adb]"),
        (["measure", "--space", "fbnet-tiny", "--dry-run"], "estimated time"),
        (["agent", "build", "--help"], "native agent"),
        (["config"], "nothing is set"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_needs_no_extra_works(lean: Lean, arguments: list[str], words: str) -> None:
    done = lean("-m", "fbprof", *arguments)
    assert done.returncode == 0, done.stderr
    assert words in done.stdout


@pytest.mark.parametrize(
    ("command", "missing", "extra"),
    [
        ("fbprof measure --space fbnet-tiny --quick", "torch", "torch"),
        ("fbprof measure --runtime torch --quick", "torch", "torch"),
        ("fbprof profile fbnet-a", "torch", "torch"),
        ("fbprof export fbnet-a --format tflite", "torch", "torch"),
        (f"fbprof verify fbnet-a --lut {TABLE}", "torch", "torch"),
        (f"fbprof validate --lut {TABLE}", "torch", "torch"),
        (f"fbprof report {TABLE}", "plotly", "report"),
        (f"fbprof compare {TABLE} amd-epyc-onnxruntime --plot plot.png", "matplotlib", "report"),
        ("fbprof profile program.pt", "torch", "torch"),
        (f"fbsearch run --lut {TABLE}", "torch", "search"),
        ("fbsearch train fbnet-a", "torch", "search"),
        ("fbsearch plot fbnet-a", "matplotlib", "report"),
    ],
)
def test_what_needs_one_says_so_in_a_line(lean: Lean, tmp_path: Path, command: str, missing: str, extra: str) -> None:
    program = tmp_path / "work" / "program.pt"
    program.write_bytes(b"PK\x03\x04 and more")
    done = lean("-m", *command.split())
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert missing in line
    assert f"pip install 'fbnet-lab[{extra}]'" in line
    assert done.stdout == ""
    assert list(program.parent.iterdir()) == [program]  # nothing was begun


@pytest.mark.parametrize(("command", "words"), [("zoo", "fbnet-a"), ("spaces", "fbnet-tiny")])
def test_networks_and_spaces_are_listed(lean: Lean, command: str, words: str) -> None:
    done = lean("-m", "fbsearch", command)
    assert done.returncode == 0, done.stderr
    assert words in done.stdout


def test_a_phone_needs_one_and_other_devices_do_not(lean: Lean) -> None:
    done = lean("-m", "fbprof", "measure", "--device", "adb:emulator-1", "--quick", missing=("adb_shell", "usb1"))
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
