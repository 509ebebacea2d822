"""Faults of fbprof profile and ab: files that were made to break them, outputs that would cost something."""

import csv
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from fbbase.commandline import run
from fbbase.errors import StorageError
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


@pytest.mark.parametrize("command", [["profile", "relu.onnx"], ["ab", "relu.onnx", "--b-threads", "2"]])
def test_results_have_names_by_which_they_are_known(command: list[str], capsys: Captured) -> None:
    assert run(fbprof, [*command, "-o", "out.csv"]) == 2
    assert "-o out.csv: name a file that ends in .json" in capsys.readouterr().err
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


def test_ab_promises_no_more_than_it_keeps(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    def collect(*_: Any) -> None:
        raise StorageError("cannot write it: No space left on device")

    monkeypatch.setattr("fbprof.models.jobs.collect", collect)
    arguments = ["ab", "relu.onnx", "--b-threads", "2"]
    assert run(fbprof, arguments) == 3
    assert "kept" not in capsys.readouterr().err
    assert run(fbprof, [*arguments, "-o", "kept.json"]) == 4
    assert "what was measured is kept, and the same command continues" in capsys.readouterr().err


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
        (without_inputs, ["--shape", "1x8"], "odd.onnx has no input: leave --shape out"),
        (without_inputs, ["--shape", "x=1"], "no model has an input of that name. There are: odd.onnx: none"),
    ],
)
def test_inputs_that_cannot_be_had(
    write: Callable[[], bytes], arguments: list[str], words: str, capsys: Captured
) -> None:
    Path("odd.onnx").write_bytes(write())
    assert profile("odd.onnx", *arguments) == 2
    assert words in capsys.readouterr().err


def test_numbers_that_were_made_up_and_do_not_run_are_told_with_a_way_on(capsys: Captured) -> None:
    rows = helper.make_tensor("w", TensorProto.FLOAT, [1, 3], [0.0] * 3)
    ends = [
        helper.make_tensor_value_info("x", TensorProto.INT64, [4]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, [4, 3]),
    ]
    graph = helper.make_graph([helper.make_node("Gather", ["w", "x"], ["y"])], "g", ends[:1], ends[1:], [rows])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    Path("rows.onnx").write_bytes(model.SerializeToString())
    assert profile("rows.onnx", "-o", "rows.json") == 3
    assert "its inputs were made up, and --inputs FILE.npz gives real ones" in capsys.readouterr().err
    np.savez("zeros.npz", x=np.zeros(4, np.int64))
    assert profile("rows.onnx", "--inputs", "zeros.npz", "-o", "rows.json") == 0


def test_arrays_of_another_byte_order_are_what_they_say(capsys: Captured) -> None:
    values = np.linspace(0, 7, 8, dtype=np.float32).reshape(1, 8)
    np.savez("swapped.npz", x=values.astype(">f4"))
    assert profile("relu.onnx", "--inputs", "swapped.npz", "-o", "swapped.json") == 0
    lines = Path("swapped.journal.jsonl").read_text().splitlines()
    sums = [json.loads(line)["loaded"]["output_sum"] for line in lines if '"loaded"' in line and "relu.onnx" in line]
    assert set(sums) == {28.0}


def test_arrays_that_are_there_twice(capsys: Captured) -> None:
    np.savez("x.npz", x=np.ones((1, 8), np.float32))
    with zipfile.ZipFile("x.npz") as one, zipfile.ZipFile("double.npz", "w") as double:
        double.writestr("x.npy", one.read("x.npy"))
        double.writestr("x", one.read("x.npy"))
    assert profile("relu.onnx", "--inputs", "double.npz") == 2
    assert "double.npz is not an .npz file of plain arrays: array 'x' is there twice" in capsys.readouterr().err


MODULES = """from torch import nn
def bare(): return nn.Conv2d(3, 4, 3)
def told(): return nn.Conv2d(3, 4, 3), (1, 3, 8, 8)
"""


@pytest.mark.parametrize("name", ["bare", "told"])
def test_a_module_has_the_shape_that_was_asked_for_once(name: str, capsys: Captured) -> None:
    """LiteRT, the default, has it as N, H, W, C."""
    Path("mine.py").write_text(MODULES)
    relu("other.onnx", (2, 5))
    shapes = ["--shape", "x=2x5", "--shape", "input=1x3x6x10"]
    assert profile(f"mine.py:{name}", "other.onnx", *shapes, "-o", "module.json") == 0
    module, other = read_result(Path("module.json")).models
    assert (module.inputs, other.inputs) == (("input 1x6x10x3 float32",), ("x 2x5 float32",))
    assert module.macs == 4 * 27 * 4 * 8


def test_shapes_of_other_models_and_types_are_no_modules(capsys: Captured) -> None:
    Path("mine.py").write_text(MODULES)
    assert profile("mine.py:bare", "relu.onnx", "--shape", "x=1x8") == 2
    assert "mine.py:bare does not say its input's shape: give --shape 1x3x224x224" in capsys.readouterr().err
    assert profile("mine.py:bare", "--shape", "1x3x8x8:int8") == 2
    assert "an input is of float32" in capsys.readouterr().err
    assert profile("mine.py:bare", "--shape", "1x3x999999x999999") == 2
    assert "error: bare.tflite: input 'input' is 1x999999x999999x3" in capsys.readouterr().err


@pytest.mark.parametrize(
    "option",
    [
        ["profile", "relu.onnx", "--max-time", "nan"],
        ["profile", "relu.onnx", "--max-time", "inf"],
        ["profile", "relu.onnx", "--ci", "nan"],
        ["profile", "relu.onnx", "--rounds", "5_0"],
        ["profile", "relu.onnx", "--seed", "1_0"],
        ["ab", "relu.onnx", "relu.onnx", "--max-time", "٥"],
        ["ab", "relu.onnx", "--b-threads", "٢"],
        ["compare", "a.csv", "b.csv", "--most", "1_0"],
        ["verify", "fbnet-c", "--lut", "a.csv", "--within", "nan"],
        ["validate", "--lut", "a.csv", "--within", "nan"],
    ],
)
def test_numbers_that_nobody_writes(option: list[str], capsys: Captured) -> None:
    assert run(fbprof, option) == 2
    assert f"Invalid value for '{option[-2]}': '{option[-1]}' is not a finite number" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["٥%", "-3%", "nan", "3 %%", "1e3", ""])
def test_limits_that_nobody_writes(value: str, capsys: Captured) -> None:
    assert run(fbprof, ["ab", "relu.onnx", "--b-threads", "2", f"--fail-above={value}"]) == 2
    assert "is not a share such as 5%" in capsys.readouterr().err


def test_torchscript_that_is_exported_has_the_shape_of_its_module(capsys: Captured) -> None:
    Path("mine.py").write_text(MODULES)
    assert profile("mine.py:told", "--runtime", "torch", "-o", "told.json") == 0
    assert profile("mine.py:told", "--runtime", "torch", "--shape", "1x3x6x10", "-o", "asked.json") == 0
    found = [read_result(Path(name)).models[0].inputs for name in ("told.json", "asked.json")]
    assert found == [("x 1x3x8x8 float32",), ("x 1x3x6x10 float32",)]
    assert profile("fbnet-c", "--runtime", "torch", "-o", "network.json") == 0
    assert read_result(Path("network.json")).models[0].inputs == ("x 1x3x224x224 float32",)
