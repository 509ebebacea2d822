"""Faults of fbprof profile and ab: files that were made to break them, outputs that would cost something."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from fbbase.commandline import run
from fbprof.cli import fbprof
from fbprof.models.result import LONGEST, read_result
from peers.small_models import onnx_model

QUICK = ["--rounds", "2", "--runs", "2"]
EVIL = '=cmd()|"<script>alert(1)</script>'
Captured = pytest.CaptureFixture[str]


def relu(name: str = "relu.onnx", shape: tuple[int, ...] = (1, 8)) -> Path:
    """Write a model of one node."""
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    Path(name).write_bytes(onnx_model({"x": ("float32", shape)}, {"y": ("float32", shape)}, nodes))
    return Path(name)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with a model."""
    monkeypatch.chdir(tmp_path)
    relu()
    return tmp_path


def profile(*arguments: str) -> int:
    """Run the command."""
    return run(fbprof, ["profile", *arguments, *QUICK])


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A result, measured once."""
    folder = tmp_path_factory.mktemp("measured")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert profile(str(relu()), "-o", "good.json") == 0
    return (folder / "good.json").read_text()


@pytest.fixture
def result(measured: str) -> dict[str, Any]:
    """A result as JSON has it, which good.json is."""
    Path("good.json").write_text(measured)
    return dict(json.loads(measured))


def test_names_of_nodes_stay_text_and_lose_nothing(capsys: Captured) -> None:
    names = (EVIL, "\x1b[31mred\nverdict: good", "=HYPERLINK()" + 2 * LONGEST * "L")
    kinds = ("Relu", "Neg", "Exp")
    tensors = ("x", "t", "u", "y")
    nodes = [
        helper.make_node(kind, [tensors[i]], [tensors[i + 1]], name=name)
        for i, (kind, name) in enumerate(zip(kinds, names, strict=True))
    ]
    Path("evil.onnx").write_bytes(onnx_model({"x": ("float32", (1, 8))}, {"y": ("float32", (1, 8))}, nodes))
    assert profile("evil.onnx", "--layers", "-o", "evil.json", "--csv", "evil.csv") == 0
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert "red\\nverdict: good" in printed
    assert len([line for line in printed.splitlines() if line.startswith("verdict: ")]) == 1
    layers = read_result(Path("evil.json")).models[0].layers
    assert [layer.name for layer in layers[:2]] == list(names[:2])
    assert layers[2].name == names[2][: LONGEST - 1] + "…"
    cells = [row["layer"] for row in csv.DictReader(Path("evil.csv").read_text().splitlines())]
    assert cells[1] == f"'{EVIL}"
    assert cells[2] == "\\x1b[31mred verdict: good"
    assert run(fbprof, ["report", "evil.json"]) == 0
    assert "<script>alert" not in Path("evil.html").read_text()


@pytest.mark.parametrize("csv_file", ["relu.onnx", "out.json", "./out.json", "out.journal.jsonl"])
def test_a_csv_is_written_over_nothing_that_is_needed(csv_file: str, capsys: Captured) -> None:
    model = Path("relu.onnx").read_bytes()
    assert profile("relu.onnx", "-o", "out.json", "--csv", csv_file) == 2
    assert "name another file" in capsys.readouterr().err
    assert Path("relu.onnx").read_bytes() == model
    assert not list(Path().glob("out*"))


def test_one_thing_alone_goes_to_stdout(capsys: Captured) -> None:
    assert profile("relu.onnx", "-o", "out.json", "--csv", "-", "--json") == 2
    assert "name a file for --csv" in capsys.readouterr().err
    assert profile("relu.onnx", "-o", "out.json", "--csv", "-") == 0
    (row,) = csv.DictReader(capsys.readouterr().out.splitlines())
    assert row["model"] == "relu.onnx"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"models": []}, "models: "),
        ({"reference_us": 0.0}, "reference_us: "),
        ({"reference_us": float("nan")}, "reference_us: "),
        ({"format": "fbnet-lab profile 2"}, "format: "),
        ({"more": 1}, "more: "),
    ],
)
def test_results_with_fields_that_cannot_be(
    change: dict[str, Any], words: str, result: dict[str, Any], capsys: Captured
) -> None:
    Path("bad.json").write_text(json.dumps(result | change))
    for command in (["compare", "good.json", "bad.json"], ["compare", "bad.json", "good.json"], ["report", "bad.json"]):
        assert run(fbprof, command) == 2
        assert f"bad.json is no result of fbprof profile: {words}" in capsys.readouterr().err


@pytest.mark.parametrize("latency_us", [0, -1, 1e-300, 1e300, float("inf"), float("nan"), "1 ms", [1]])
def test_results_with_latencies_that_cannot_be(latency_us: Any, result: dict[str, Any], capsys: Captured) -> None:
    result["models"][0]["latency_us"] = latency_us
    Path("bad.json").write_text(json.dumps(result))
    for command in (["compare", "good.json", "bad.json"], ["report", "bad.json"]):
        assert run(fbprof, command) == 2
        assert "models.0.latency_us" in capsys.readouterr().err


def test_a_model_that_is_there_twice(result: dict[str, Any], capsys: Captured) -> None:
    Path("bad.json").write_text(json.dumps(result | {"models": 2 * result["models"]}))
    assert run(fbprof, ["report", "bad.json"]) == 2
    assert "model 'relu.onnx' is there 2 times: keep one" in capsys.readouterr().err


def test_intervals_that_tell_nothing_are_not_told_apart(result: dict[str, Any], capsys: Captured) -> None:
    model = result["models"][0]
    model |= {"latency_us": 1.0, "ci_low_us": 0.0, "ci_high_us": 1e10}
    Path("wide.json").write_text(json.dumps(result | {"verdict": "good", "speed_error_percent": 1e6}))
    assert run(fbprof, ["compare", "wide.json", "wide.json", "--fail-above", "3%", "--json"]) == 4
    (found,) = json.loads(capsys.readouterr().out)["comparisons"]
    assert all(np.isfinite(found["operators"][0]["ratio_interval"]))


def test_a_table_is_not_compared_with_a_result(result: dict[str, Any], capsys: Captured) -> None:
    Path("table.csv").write_text("# fbnet-lab latency table 2\n")
    for names in (["good.json", "table.csv"], ["table.csv", "good.json"]):
        assert run(fbprof, ["compare", *names]) == 2
        assert "not both" in capsys.readouterr().err


def test_names_of_files_are_no_markup_in_a_comment(capsys: Captured) -> None:
    old, new = relu("a|b.onnx"), relu("<img src=x>.onnx")
    arguments = ["ab", str(old), str(new), "--max-time", "0.01", "--format", "md"]
    assert run(fbprof, arguments) == 0
    printed = capsys.readouterr().out
    assert r"| OLD | a\|b.onnx |" in printed
    assert "| NEW | &lt;img src=x>.onnx |" in printed


def test_ab_writes_into_a_folder_and_starts_over(capsys: Captured) -> None:
    Path("results").mkdir()
    arguments = ["ab", "relu.onnx", str(relu("other.onnx", (1, 16))), "--max-time", "0.01", "-o", "results"]
    assert run(fbprof, arguments) == 0
    assert [each.name for each in read_result(Path("results/local.ab.json")).models] == ["A relu.onnx", "B other.onnx"]
    capsys.readouterr()
    assert run(fbprof, [*arguments, "--runs", "4"]) == 2
    assert "--fresh" in capsys.readouterr().err
    assert run(fbprof, [*arguments, "--runs", "4", "--fresh"]) == 0


def of_strings() -> bytes:
    """A model that takes strings."""
    infos = [helper.make_tensor_value_info(name, TensorProto.STRING, [2]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "strings", infos[:1], infos[1:])
    made: bytes = helper.make_model(graph, ir_version=8).SerializeToString()
    return made


def of_one_number() -> bytes:
    """A model whose input has no sides."""
    return onnx_model({"x": ("float32", ())}, {"y": ("float32", ())}, [helper.make_node("Relu", ["x"], ["y"])])


def of_nothing() -> bytes:
    """A model whose input holds nothing."""
    shapes = dict.fromkeys("xy", ("float32", (0, 3)))
    return onnx_model({"x": shapes["x"]}, {"y": shapes["y"]}, [helper.make_node("Relu", ["x"], ["y"])])


def without_inputs() -> bytes:
    """A model that computes without any input."""
    return onnx_model({}, {"y": ("float32", (4,))}, [helper.make_node("RandomNormal", [], ["y"], shape=[4])])


@pytest.mark.parametrize(
    ("write", "arguments", "words"),
    [
        (of_strings, [], "input x takes str, and what can be fed is float32"),
        (of_nothing, [], "input x is 0x3, which holds nothing"),
        (of_one_number, ["--batch", "2"], "no input with a first side"),
        (without_inputs, ["--batch", "2"], "no input with a first side"),
        (without_inputs, ["--shape", "x=1"], "no model has an input of that name. There are: odd.onnx: none"),
    ],
)
def test_inputs_that_cannot_be_had(
    write: Callable[[], bytes], arguments: list[str], words: str, capsys: Captured
) -> None:
    Path("odd.onnx").write_bytes(write())
    assert profile("odd.onnx", *arguments) == 2
    assert words in capsys.readouterr().err
