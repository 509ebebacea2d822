"""fbprof profile, from the command line to results that are read again and compared."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import helper
from torch import nn

from fbbase.commandline import run
from fbbase.files import file_sha256
from fbexport.formats import load_format
from fblut.views import VIEWS
from fbprof.cli import fbprof
from fbprof.models.result import read_result
from peers.small_models import onnx_model

QUICK = ["--rounds", "8", "--runs", "2"]
Captured = pytest.CaptureFixture[str]


class Small(nn.Module):
    """Two convolutions and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU())
        self.head = nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Classify images."""
        out: torch.Tensor = self.head(self.layers(x).mean((2, 3)))
        return out


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model in each format, one of them with open dimensions."""
    folder = tmp_path_factory.mktemp("models")
    for name in ("tflite", "onnx", "torchscript"):
        suffix = load_format(name).suffix
        (folder / f"small{suffix}").write_bytes(load_format(name).write(Small().eval(), (1, 3, 32, 32)))
    nodes = [helper.make_node("Add", ["ids", "more"], ["sum"]), helper.make_node("Neg", ["sum"], ["y"])]
    inputs = {"ids": ("int64", ("batch", "length")), "more": ("int64", ("batch", "length"))}
    (folder / "open.onnx").write_bytes(onnx_model(inputs, {"y": ("int64", ("batch", "length"))}, nodes))
    return folder


@pytest.fixture
def here(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with copies of the models, and nothing else."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(models, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.fixture(scope="module")
def measured(models: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The result of one model, measured once."""
    result = tmp_path_factory.mktemp("measured") / "a.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(models)
        assert profile("small.onnx", "-o", str(result)) == 0
    return result.read_text()


def profile(*arguments: str) -> int:
    """Run the command."""
    return run(fbprof, ["profile", *arguments, *QUICK])


def test_files_of_every_format_in_one_run(here: Path, capsys: Captured) -> None:
    torchscript = f"small{load_format('torchscript').suffix}"
    assert profile("small.tflite", "small.onnx", torchscript, "-o", "all.json") == 0
    found = read_result(here / "all.json")
    assert [each.runtime for each in found.models] == ["litert", "onnxruntime", "torch"]
    for each in found.models:
        assert each.latency_us
        assert each.worst_us
        assert each.p50_us
        assert 0 < each.p50_us <= each.worst_us
        assert each.parameters == sum(p.numel() for p in Small().parameters())
        assert each.samples + each.preempted == 8
        assert each.loads >= 1
        assert each.first_us
        assert each.load_us
    names = ("small.tflite", "small.onnx", torchscript)
    assert [each.sha256 for each in found.models] == [file_sha256(here / name) for name in names]
    macs = 8 * 27 * 16**2 + 16 * 72 * 8**2 + 160
    assert [each.macs for each in found.models[:2]] == [macs, macs]
    printed = capsys.readouterr().out
    assert "small.onnx  (onnxruntime" in printed
    assert "1x3x32x32 float32" in printed


def test_every_setting_of_a_sweep_in_one_run(here: Path, capsys: Captured) -> None:
    assert profile("small.onnx", "--threads", "1,2", "--cores", "0-1/0,1", "-o", "sweep.json", "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert [(each["threads"], each["cores"]) for each in answer["models"]] == [(1, "0,1"), (2, "0,1")]
    assert [each["name"] for each in answer["models"]] == ["small.onnx, 1 thread", "small.onnx, 2 threads"]


def test_open_dimensions_are_asked_for_and_then_fixed(here: Path, capsys: Captured) -> None:
    assert profile("open.onnx") == 2
    assert "--shape" in (error := capsys.readouterr().err)
    assert "ids" in error
    assert profile("open.onnx", "--shape", "ids=2x5", "--shape", "more=2x5", "-o", "open.json") == 0
    assert read_result(here / "open.json").models[0].inputs == ("ids 2x5 int64", "more 2x5 int64")


def test_a_batch_is_the_first_side_of_all_inputs(here: Path) -> None:
    assert profile("open.onnx", "--shape", "ids=1x5", "--shape", "more=1x5", "--batch", "1,4", "-o", "b.json") == 0
    found = read_result(here / "b.json").models
    assert [each.inputs[0] for each in found] == ["ids 1x5 int64", "ids 4x5 int64"]


def test_values_of_ones_own_are_what_the_model_gets(here: Path, capsys: Captured) -> None:
    shapes = ["--shape", "ids=2x3", "--shape", "more=2x3"]
    values = {"ids": np.arange(6).reshape(2, 3), "more": np.full((2, 3), 1000)}
    np.savez(here / "values.npz", **values)
    assert profile("open.onnx", *shapes, "--inputs", "values.npz", "-o", "v.json") == 0
    journal = (here / "v.journal.jsonl").read_text().splitlines()
    sums = [json.loads(line)["loaded"]["output_sum"] for line in journal if '"loaded"' in line and "open.onnx" in line]
    assert set(sums) == {float(-(values["ids"] + values["more"]).sum())}
    np.savez(here / "wrong.npz", ids=values["ids"].astype("float32"), more=values["more"])
    capsys.readouterr()
    assert profile("open.onnx", *shapes, "--inputs", "wrong.npz") == 2
    assert "array 'ids' is float32 of 2x3, and the input is int64 of 2x3" in capsys.readouterr().err


def test_a_module_of_ones_own_is_exported(here: Path) -> None:
    code = "from torch import nn\n"
    for name, last in (("net", "nn.ReLU()"), ("odd", "nn.Hardtanh(-3, 3)")):
        code += f"\ndef {name}():\n    return nn.Sequential(nn.Conv2d(3, 4, 3), {last}), (1, 3, 8, 8)\n"
    (here / "mine.py").write_text(code)
    assert profile("mine.py:net", "--runtime", "litert", "-o", "net.json") == 0
    assert read_result(here / "net.json").models[0].macs == 4 * 27 * 36
    assert profile("mine.py:odd", "--runtime", "onnxruntime", "-o", "odd.json") == 0  # by torch's own exporter
    assert read_result(here / "odd.json").models[0].macs == 4 * 27 * 36


TWO = """
import torch
from torch import nn
class Cell(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.next = nn.Conv2d(3, 4, 3), nn.Linear(4 + 5, 5)
    def forward(self, image, state):
        y = self.conv(image)
        return {"map": y, "state": torch.tanh(self.next(torch.cat([y.mean((2, 3)), state], 1)))}
def two():
    return Cell(), ((1, 3, 8, 6), (1, 5))
"""


@pytest.mark.parametrize("runtime", ["onnxruntime", "torch", "ncnn"])
def test_a_module_of_several_inputs_is_exported(here: Path, runtime: str) -> None:
    if runtime == "ncnn":
        pytest.importorskip("ncnn")
    (here / "mine.py").write_text(TWO)
    assert profile("mine.py:two", "--runtime", runtime, "--shape", "image=1x3x8x9", "-o", "two.json") == 0
    (found,) = read_result(here / "two.json").models
    assert (found.inputs, found.failed) == (("image 1x3x8x9 float32", "state 1x5 float32"), "")


def test_shapes_of_a_module_of_several_inputs_name_them(here: Path, capsys: Captured) -> None:
    (here / "mine.py").write_text(TWO + "def bare():\n    return Cell()\n")
    for arguments, words in (
        (["mine.py:two", "--shape", "1x3x8x9"], "has the inputs image, state: name the one that is meant"),
        (["mine.py:bare", "--shape", "state=1x5"], "give the shape of image, too"),
        (["mine.py:bare", "--shape", "image=1x3x8x9"], "takes another input, 'state': give its shape, too"),
        (["mine.py:two", "--shape", "imag=1x3x8x9"], "--shape imag: no model has an input of that name"),
        (["mine.py:two", *["--shape", "state=1x5"] * 2], "and has one shape: give --shape state=1x3x224x224 once"),
        (["mine.py:two", "--precision", "int8"], "int8 is for networks of one input and one output"),
    ):
        assert profile(*arguments) == 2
        assert words in capsys.readouterr().err


def test_layers_add_up_to_the_whole(here: Path, capsys: Captured) -> None:
    assert profile("small.onnx", "--layers", "-o", "layers.json", "--csv", "layers.csv") == 0
    (found,) = read_result(here / "layers.json").models
    assert sum(each.latency_us or 0 for each in found.layers) == pytest.approx(found.latency_us)
    assert sum(each.macs or 0 for each in found.layers) == found.macs
    assert "dearest" in capsys.readouterr().out
    whole, *layers = csv.DictReader((here / "layers.csv").read_text().splitlines())
    assert (whole["layer"], whole["share_percent"], whole["threads"]) == ("", "100.0", "1")
    assert [each["layer"] for each in layers] == [each.name for each in found.layers]
    assert sum(float(each["share_percent"]) for each in layers) == pytest.approx(100, abs=0.1)


def test_the_same_command_continues_and_another_file_starts_anew(here: Path, capsys: Captured) -> None:
    assert profile("small.onnx") == 0
    first, result = ((here / f"local.small.{end}").read_bytes() for end in ("journal.jsonl", "json"))
    assert profile("small.onnx") == 0
    assert (here / "local.small.journal.jsonl").read_bytes() == first
    (here / "small.onnx").write_bytes(load_format("onnx").write(Small().eval(), (1, 3, 64, 64)))
    capsys.readouterr()
    assert profile("small.onnx") == 0
    assert "set aside: local.small.journal.jsonl.old, local.small.json.old" in capsys.readouterr().err
    assert (here / "local.small.journal.jsonl.old").read_bytes() == first
    assert (
        read_result(here / "local.small.json.old").models[0].inputs
        != read_result(here / "local.small.json").models[0].inputs
    )
    assert (here / "local.small.json.old").read_bytes() == result


def test_one_that_cannot_run_leaves_the_others_alone(here: Path, capsys: Captured) -> None:
    model = onnx_model(
        {"x": ("float32", (4,))}, {"y": ("float32", (4,))}, [helper.make_node("Nonsense", ["x"], ["y"], domain="other")]
    )
    (here / "bad.onnx").write_bytes(model)
    with pytest.raises(Exception, match="Nonsense"):
        onnxruntime.InferenceSession(model)
    assert profile("bad.onnx", "small.onnx", "-o", "two.json") == 3
    bad, good = read_result(here / "two.json").models
    assert "Nonsense" in bad.failed
    assert good.latency_us
    assert "bad.onnx could not be measured" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere.onnx"], "model file not found: nowhere.onnx"),
        (["fbnet-cc"], "Did you mean 'fbnet-c'?"),
        (["small.onnx", "--runtime", "litert"], "runtime litert runs tflite files, and this is onnx"),
        (["small.onnx", "--shape", "1x3x64x64"], "64"),
        (["small.onnx", "--shape", "x=1x3x32x32"], "x"),
        (["small.onnx", "--shape", "1x3x"], "is no shape"),
        (["small.onnx", "--precision", "int8"], "a file is as it is"),
        (["small.onnx", "small.onnx"], "is given twice"),
        (["small.onnx", "--threads", "0"], "is no list of numbers"),
        (["small.onnx", "--threads", "4", "--cores", "0"], "4 threads cannot run side by side on 1 core"),
        (["small.onnx", "--inputs", "small.onnx"], "is not an .npz file"),
        (["open.onnx", "--shape", "1x5"], "has the inputs ids, more: name the one that is meant"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_told(here: Path, capsys: Captured, arguments: list[str], words: str) -> None:
    assert profile(*arguments) == 2
    assert words in capsys.readouterr().err
    assert not list(here.glob("*.json*"))


def changed(result: dict[str, Any], factor: float, reference: float, verdict: str = "good") -> str:
    """A result in which models took so many times longer, and the reference workload another many."""
    for each in result["models"]:
        for name in ("latency_us", "ci_low_us", "ci_high_us"):
            each[name] = (
                factor
                * each["latency_us"]
                * {"ci_low_us": 0.99, "ci_high_us": 1.01}.get(name, 1)
                / (factor if name != "latency_us" else 1)
            )
    return json.dumps(result | {"verdict": verdict, "reference_us": 100 * reference, "speed_error_percent": 0.5,
                                "reference_error_percent": 0.2})  # fmt: skip


@pytest.mark.parametrize(
    ("factor", "reference", "verdict", "code"),
    [
        (1.0, 1.0, "good", 0),
        (1.2, 1.0, "good", 1),
        (1.05, 1.0, "good", 4),
        (1.2, 1.2, "good", 4),  # so was the device
        (1.2, 1.0, "do not use", 4),
        (0.8, 1.0, "good", 0),
    ],
)
def test_results_are_compared_with_three_answers(
    here: Path, measured: str, capsys: Captured, factor: float, reference: float, verdict: str, code: int
) -> None:
    (here / "a.json").write_text(changed(json.loads(measured), 1.0, 1.0))
    (here / "b.json").write_text(changed(json.loads(measured), factor, reference, verdict))
    assert run(fbprof, ["compare", "a.json", "b.json", "--fail-above", "5%", "--json"]) == code
    (found,) = json.loads(capsys.readouterr().out)["comparisons"]
    assert found["operators"][0]["ratio"] == pytest.approx(factor)


def test_the_speed_is_told_by_a_reference_workload_that_ran_alike(here: Path, capsys: Captured) -> None:
    for name in ("small.tflite", "small.onnx"):
        assert profile(name, "-o", f"{name}.json") == 0
        result = json.loads((here / f"{name}.json").read_text())
        (here / f"{name}.json").write_text(json.dumps(result | {"reference_us": 100 + 50 * (name == "small.onnx")}))
    capsys.readouterr()
    assert run(fbprof, ["compare", "small.tflite.json", "small.onnx.json", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["comparisons"]
    assert found["speed"] is None  # its blocks ran in another runtime: 50 % is no matter of the device's speed


@pytest.mark.parametrize("view", VIEWS.names())
def test_results_are_compared_in_every_format(here: Path, measured: str, capsys: Captured, view: str) -> None:
    (here / "a.json").write_text(measured)
    assert run(fbprof, ["compare", "a.json", "a.json", "--format", view]) == 0
    assert "small.onnx" in capsys.readouterr().out


def test_what_is_no_result_is_told(here: Path, capsys: Captured) -> None:
    (here / "a.json").write_text('{"format": "fbnet-lab profile 1"}')
    assert run(fbprof, ["compare", "a.json", "a.json"]) == 2
    assert "a.json is no result of fbprof profile: device" in capsys.readouterr().err


@pytest.mark.parametrize(("limit", "code"), [("3%", 1), ("5%", 0), (None, 0)])
def test_ab_finds_what_an_agent_makes_slower(
    here: Path, python_that_takes: Callable[..., str], capsys: Captured, limit: str | None, code: int
) -> None:
    cpu_ns = "(1040000 if model.startswith('model:B') else 1000000)"
    python = python_that_takes(f"{cpu_ns} + index % 7", cpu_ns)
    (here / "paced.toml").write_text(
        f'description = "an agent of known times"\ntransport = "local"\npython = "{python}"\n'
    )
    gate = [] if limit is None else ["--fail-above", limit]
    assert run(fbprof, ["ab", "small.tflite", "small.onnx", "--device", "paced.toml", *gate]) == code
    assert capsys.readouterr().out.startswith("NEW is 4.0 % slower (95 %: 4.0 to 4.0 %)")


def test_ab_says_what_it_needs(here: Path, capsys: Captured) -> None:
    assert run(fbprof, ["ab", "small.onnx"]) == 2
    assert "--b-threads" in capsys.readouterr().err


def test_ab_of_two_settings_for_a_pull_request(here: Path, capsys: Captured) -> None:
    (here / "small.onnx").rename(here / "small|1.onnx")
    arguments = ["ab", "small|1.onnx", "--b-threads", "2", "--max-time", "0.1", "--format", "md", "-o", "ab.json"]
    assert run(fbprof, arguments) == 0
    printed = capsys.readouterr().out
    assert "| OLD | small\\|1.onnx |" in printed
    assert "2 threads" in printed
    assert [each.threads for each in read_result(here / "ab.json").models] == [1, 2]


def test_a_model_file_given_as_a_space_is_sent_to_profile(here: Path, capsys: Captured) -> None:
    for name in ("small.onnx", "none.tflite"):
        assert run(fbprof, ["measure", "--space", name]) == 2
        assert f"fbprof profile {name}" in capsys.readouterr().err
    assert run(fbprof, ["measure", "--space", "small.onxn"]) == 2
    assert "unknown space" in capsys.readouterr().err
