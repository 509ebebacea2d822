"""Which operators of a model file do not run in the kernels that its precision promises."""

import builtins
import subprocess
import sys

import onnx
import pytest
from torch import nn

from fbbase.errors import UnknownNameError
from fbexport.errors import ExportError
from fbexport.export import export_spec
from fbexport.formats import load_format
from fbexport.quantization.calibration import plausible_ranges
from fbexport.runtimes import fallbacks
from fbexport.trace import trace
from fbspace.blocks import build_block
from fbspace.opspec import OpSpec
from fbspace.weights import randomize

RELU = OpSpec("ir", 24, 24, 9, 9, kernel=5, expansion=3)
HSWISH = OpSpec("ir", 24, 32, 9, 9, kernel=5, stride=2, groups=2, activation="hswish", squeeze_excite=True)
SHAPE = HSWISH.input_shape
ALONE = nn.Sequential(nn.Hardsigmoid(), nn.Hardswish(), nn.ReLU(), nn.ReLU6(), nn.Sigmoid(), nn.AdaptiveAvgPool2d(1))


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
@pytest.mark.parametrize("spec", [RELU, HSWISH], ids=["relu", "hswish"])
def test_litert_leaves_nothing_outside_xnnpack(spec, precision):
    assert fallbacks(export_spec(spec, "tflite", precision), "litert", precision) == []


def test_litert_leaves_nothing_outside_xnnpack_where_ranges_are_wide():
    block = randomize(build_block(HSWISH), 0)
    wide = {name: (1e3 * low, 1e3 * high) for name, (low, high) in plausible_ranges(trace(block, SHAPE)).items()}
    assert fallbacks(load_format("tflite").write(block, SHAPE, "int8", wide), "litert", "int8") == []


def test_litert_tells_operators_on_both_sides_of_a_delegate():
    module = randomize(ALONE, 0)
    found = fallbacks(load_format("tflite").write(module, (1, 8, 6, 6), "int8"), "litert", "int8")
    assert found == ["RELU not delegated", "RELU6 not delegated"]


@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("spec", [RELU, HSWISH, OpSpec("classifier", 8, 10, 5, 4, activation="none")], ids=OpSpec.key)
def test_onnxruntime_runs_all_that_is_written(spec, precision):
    assert fallbacks(export_spec(spec, "onnx", precision), "onnxruntime", precision) == []


def test_onnxruntime_runs_functions_alone_in_integers():
    module = randomize(ALONE, 0)
    assert fallbacks(load_format("onnx").write(module, (1, 8, 6, 6), "int8"), "onnxruntime", "int8") == []


def test_onnxruntime_tells_what_is_computed_in_float():
    assert set(fallbacks(export_spec(RELU, "onnx"), "onnxruntime", "int8")) == {"Add in float", "Conv in float"}


def test_onnxruntime_tells_conversions_that_remain():
    model = onnx.load_from_string(export_spec(RELU, "onnx", "int8"))
    add = next(node for node in model.graph.node if node.op_type == "Add")
    add.op_type = "Max"  # has no integer kernel
    found = fallbacks(model.SerializeToString(), "onnxruntime", "int8")
    assert found == ["DequantizeLinear remains", "Max in float", "QuantizeLinear remains"]


def test_torch_has_float_only():
    assert fallbacks(export_spec(RELU, "torchscript"), "torch", "float32") == []


def test_another_runtime():
    with pytest.raises(UnknownNameError, match="runtime 'tensorrt'"):
        fallbacks(b"", "tensorrt", "int8")


@pytest.mark.parametrize("runtime", ["litert", "onnxruntime"])
def test_a_file_that_is_no_model(runtime):
    with pytest.raises(ExportError, match=f"runtime {runtime} refuses the model: "):
        fallbacks(b"no model at all", runtime, "int8")


@pytest.mark.parametrize(("runtime", "package"), [("litert", "ai-edge-litert"), ("onnxruntime", "onnxruntime")])
def test_a_package_that_is_missing(runtime, package, monkeypatch):
    found = builtins.__import__

    def missing(name, *rest):
        if name.partition(".")[0] in ("ai_edge_litert", "onnxruntime"):
            raise ModuleNotFoundError(name=name)
        return found(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ExportError, match=f"runtime {runtime} is not installed here: pip install {package}"):
        fallbacks(b"", runtime, "int8")


def test_executorchs_is_named_by_its_extra():
    code = (
        "import importlib.metadata as metadata\n"
        "from fbexport.runtimes import load_model\n"
        "def missing(name): raise metadata.PackageNotFoundError(name)\n"
        "metadata.distribution = missing\n"
        "load_model(b'', 'executorch')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    told = "runtime executorch is not installed here: pip install 'fbnet-lab[executorch]'"
    assert done.stderr.splitlines()[-1].endswith(told)
