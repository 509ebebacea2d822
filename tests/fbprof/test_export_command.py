"""`fbprof export` as a person and a program use it."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from ai_edge_litert.interpreter import Interpreter

from fbbase.commandline import run
from fbexport.export import export_network
from fbexport.formats import load_format
from fbexport.quantization.calibration import calibrate
from fbexport.runtimes import load_model
from fbexport.trace import trace
from fbprof.cli import fbprof
from fbsearch.cli import fbsearch
from fbsearch.commands.zoo import scaled
from fbspace.architecture import load_architecture
from fbspace.network import build_network
from fbspace.weights import load_network, randomize, save_weights


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_writes_name_and_suffix_here_and_prints_the_cost(here, capsys):
    assert run(fbprof, ["export", "fbnet-c", "--format", "tflite"]) == 0
    assert [path.name for path in here.iterdir()] == ["fbnet-c.tflite"]
    assert (here / "fbnet-c.tflite").read_bytes() == export_network(load_architecture("fbnet-c"), "tflite")
    out = capsys.readouterr().out
    assert out == "fbnet-c.tflite  22.2 MB  (385.0 M multiply-accumulates, 5.57 M parameters)\n"


def test_weights_of_another_number_of_classes_from_an_architecture_file(here, capsys):
    architecture = load_architecture("fbnet-a")
    architecture.save(here / "arch.json")
    network = randomize(build_network(architecture, classes=10), 4)
    save_weights(network, here / "weights.pt")
    arguments = ["export", "arch.json", "--format", "onnx", "--weights", "weights.pt", "-o", "sub/net.onnx", "--json"]
    assert run(fbprof, arguments) == 0
    result = json.loads(capsys.readouterr().out)
    content = (here / "sub" / "net.onnx").read_bytes()
    assert content == export_network(architecture, "onnx", weights=here / "weights.pt")
    assert result == {
        "file": "sub/net.onnx",
        "size_bytes": len(content),
        "format": "onnx",
        "precision": "float32",
        "macs": result["macs"],
        "parameters": sum(p.numel() for p in network.parameters()),
    }


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fbnet-c", "--format", "onxn"], ["unknown format 'onxn'", "Did you mean 'onnx'?", "torchscript"]),
        (["fbnet-x", "--format", "onnx"], ["unknown published network 'fbnet-x'", "Did you mean 'fbnet-c'?"]),
        (["fbnet-a", "--format", "torchscript", "--precision", "int8"], ["'fbnet-a'", "precision 'int8'", "float32"]),
        (["fbnet-a", "--format", "onnx", "--weights", "no.pt"], ["weights not found: no.pt"]),
        (["fbnet-a"], ["Missing option '--format'"]),
    ],
)
def test_mistakes_are_one_message_and_leave_no_file(here, capsys, arguments, words):
    assert run(fbprof, ["export", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    for word in words:
        assert word in captured.err
    assert list(here.iterdir()) == []


def test_help_has_an_example_and_imports_nothing_heavy():
    code = (
        "import sys; from fbbase.commandline import run; from fbprof.cli import fbprof\n"
        "run(fbprof, ['export', '--help'])\n"
        "assert not {'torch', 'onnx', 'numpy', 'ai_edge_litert'} & set(sys.modules), 'heavy import'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "  Example:\n    fbprof export fbnet-c --format tflite\n" in done.stdout


TINY = "mobilenetv3-small"


def test_an_int8_file_of_trained_weights_needs_ranges_and_the_report_has_every_layer(here, capsys):
    """A smaller MobileNetV3 with images to calibrate by; the noise is below the signal in every layer."""
    architecture = scaled(load_architecture(TINY), width=0.35, size=32)
    architecture.save(here / "arch.json")
    network = randomize(build_network(architecture), 1)
    save_weights(network, here / "weights.pt")
    command = ["export", "arch.json", "--format", "tflite", "--precision", "int8", "--weights", "weights.pt", "-o", "n"]
    assert run(fbprof, command) == 2
    assert "int8 needs the ranges of a trained network's values" in capsys.readouterr().err
    images = np.random.default_rng(0).normal(size=(4, 3, 32, 32)).astype(np.float32)
    np.save(here / "images.npy", images)
    assert run(fbprof, [*command, "--calibration", "images.npy", "--report", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    method = re.match(r"calibrated by 4 images, (\S+): signal to noise \d", result["ranges"])[1]
    graph = trace(network, (1, 3, 32, 32))
    ranges = calibrate(graph, [torch.from_numpy(images)], method)
    content = load_format("tflite").write(network, (1, 3, 32, 32), "int8", ranges)
    assert (here / "n").read_bytes() == content
    assert [layer["operator"] for layer in result["layers"]] == [type(node).__name__ for node in graph.nodes]
    last = result["layers"][-1]["snr_db"]
    # the report's figure by hand: the file run here, against torch
    interpreter = Interpreter(model_content=load_format("tflite").write(network, (4, 3, 32, 32), "int8", ranges))
    interpreter.allocate_tensors()
    (source,), (end,) = interpreter.get_input_details(), interpreter.get_output_details()
    scale, zero = source["quantization"]
    q = np.clip(np.rint(images.transpose(0, 2, 3, 1) / scale) + zero, -128, 127).astype(np.int8)
    interpreter.set_tensor(source["index"], q)
    interpreter.invoke()
    y = (interpreter.get_tensor(end["index"]).astype(float) - end["quantization"][1]) * end["quantization"][0]
    with torch.no_grad():
        exact = network.eval()(torch.from_numpy(images)).numpy()
    assert last == pytest.approx(10 * np.log10((exact**2).sum() / ((y - exact) ** 2).sum()), abs=0.05)
    assert last > 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--calibration", "no.npy"], "images to calibrate by not found: no.npy"),
        (["--calibration", "text.npy"], "text.npy is not an .npy file"),
        (["--calibration", "none.npy"], "none.npy holds no images"),
        (["--calibration", "flat.npy"], "flat.npy does not hold images"),
        (["--calibration", "small.npy"], "holds images of shape N, 3, 8, 8, not N, 3, 224, 224"),
        (["--ranges", "r.json"], "--ranges are those of trained weights"),
        (["--ranges", "r.json", "--calibration", "small.npy"], "--ranges or --calibration, not both"),
        (["--calibration", "nan.npy"], "the images to calibrate by: values from nan"),
    ],
)
def test_bad_calibration_is_one_clear_message(here, capsys, arguments, message):
    for name, shape in (("none", (0, 3, 224, 224)), ("flat", (3, 224)), ("small", (2, 3, 8, 8))):
        np.save(here / f"{name}.npy", np.zeros(shape, np.float32))
    np.save(here / "nan.npy", np.full((1, 3, 224, 224), np.nan, np.float32))
    (here / "text.npy").write_text("images")
    command = ["export", "fbnet-a", "--format", "tflite", "--precision", "int8", "-o", "n.tflite"]
    assert run(fbprof, [*command, *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (here / "n.tflite").exists()


def test_int8_of_random_weights_says_that_its_ranges_are_of_one_image(here, capsys):
    command = ["export", TINY, "--format", "onnx", "--precision", "int8"]
    assert run(fbprof, command) == 0
    assert "\nint8: random weights, and ranges of one image of random numbers: for timing" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("value", "words"),
    [(float("nan"), "NaN"), (float("-inf"), "infinities"), (1e300, "infinities"), (1 + 2j, "complex numbers")],
)
def test_weights_that_are_no_finite_real_numbers_are_refused(here, capsys, value, words):
    state = build_network(load_architecture(TINY)).state_dict()
    weight = state["layer_03.project.0.weight"].to(torch.tensor(value).dtype if value != 1e300 else torch.float64)
    weight[1, 2] = value
    torch.save(state | {"layer_03.project.0.weight": weight}, here / "w.pt")
    assert run(fbprof, ["export", TINY, "--format", "onnx", "--weights", "w.pt"]) == 2
    assert f"w.pt: layer_03.project.0.weight holds {words}, where weights are finite" in capsys.readouterr().err
    for command in (["eval", TINY, "--weights", "w.pt"], ["train", TINY, "--init", "w.pt", "-o", "t"]):
        assert run(fbsearch, command) == 2
        assert "w.pt: layer_03.project.0.weight holds" in capsys.readouterr().err
    assert [path.name for path in here.iterdir()] == ["w.pt"]


def test_ranges_are_of_int8_alone(here, capsys):
    assert run(fbprof, ["export", "fbnet-a", "--format", "tflite", "--calibration", "x.npy"]) == 2
    assert "are of --precision int8" in capsys.readouterr().err


def test_ncnns_two_files_are_left_beside_the_one(tmp_path, capsys):
    path = tmp_path / "net.v2.ncnn"
    assert run(fbprof, ["export", "fbnet-96-0.35-1", "--format", "ncnn", "-o", str(path), "--json"]) == 0
    names = json.loads(capsys.readouterr().out)["parts"]
    assert names == [str(tmp_path / "net.v2.param"), str(tmp_path / "net.v2.bin")]
    parts = load_format("ncnn").parts(path.read_bytes()).values()
    assert [(tmp_path / each).read_bytes() for each in names] == list(parts)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["net.v2.bin", "net.v2.ncnn", "net.v2.param"]


def test_ncnns_two_files_are_not_beside_stdout_and_replace_nothing_that_is_read(tmp_path, monkeypatch, capfdbinary):
    monkeypatch.chdir(tmp_path)
    assert run(fbprof, ["export", "fbnet-96-0.35-1", "--format", "ncnn", "-o", "net.ncnn"]) == 0
    capfdbinary.readouterr()
    assert run(fbprof, ["export", "fbnet-96-0.35-1", "--format", "ncnn", "-o", "-"]) == 0
    assert capfdbinary.readouterr().out.startswith(Path("net.ncnn").read_bytes())
    weights = tmp_path / "own.bin"
    torch.save(load_network(load_architecture("fbnet-96-0.35-1")).state_dict(), weights)
    before = weights.read_bytes()
    arguments = ["export", "fbnet-96-0.35-1", "--format", "ncnn", "--weights", str(weights), "-o", "own.ncnn"]
    assert run(fbprof, arguments) == 2
    assert b"own.bin comes to lie beside own.ncnn, and is read, too" in capfdbinary.readouterr().err
    assert weights.read_bytes() == before
    assert sorted(each.name for each in tmp_path.iterdir()) == ["net.bin", "net.ncnn", "net.param", "own.bin"]


OWN = """
from torch import nn
class Sum(nn.Module):
    def forward(self, x, y):
        return x + y, x * y
def two():
    return Sum(), ((1, 2, 3, 3), (1, 2, 3, 3))
"""


def test_a_module_of_ones_own_is_written(here, capsys):
    (here / "own.py").write_text(OWN)
    assert run(fbprof, ["export", "own.py:two", "--format", "onnx", "--shape", "y=1x2x1x1", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["file"], told["parameters"]) == ("two.onnx", 0)
    x, y = np.full((1, 2, 3, 3), 2, np.float32), np.full((1, 2, 1, 1), 3, np.float32)
    total, product = load_model((here / "two.onnx").read_bytes(), "onnxruntime")(x, y)
    assert (total.mean(), product.mean()) == (5, 6)
    assert run(fbprof, ["export", "own.py:two", "--format", "onnx", "-o", "net.onnx"]) == 0
    assert capsys.readouterr().out == "net.onnx  0.0 MB  (0.00 M parameters)\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["own.py:two", "--shape", "z=1x2"], "--shape z: own.py:two has no input of that name"),
        (["own.py:two", "--report"], "are not of a file.py:function"),
        (["own.py:three"], "unknown function of own.py 'three'"),
        (["fbnet-a", "--shape", "1x3x8x8"], "--shape is of a file.py:function"),
    ],
)
def test_mistakes_with_a_module_of_ones_own_are_told(here, capsys, arguments, words):
    (here / "own.py").write_text(OWN)
    assert run(fbprof, ["export", *arguments, "--format", "onnx"]) == 2
    assert words in capsys.readouterr().err
