"""What is particular to each format: padding and alignment in TFLite, versions in ONNX, loading in TorchScript."""

import io
import zipfile

import numpy as np
import onnx
import pytest
import torch
from ai_edge_litert import schema_py_generated as schema
from torch import nn

from fbexport.errors import ExportError
from fbexport.export import export_network, export_spec
from fbexport.formats import FORMATS, load_format
from fbexport.graph import Graph, Node, Value
from fbexport.runtimes import fallbacks, load_model
from fbspace.architecture import ZOO, load_architecture
from fbspace.blocks import build_block
from fbspace.opspec import OpSpec
from fbspace.space import load_space
from fbspace.weights import randomize

NAMES = {code: name for name, code in vars(schema.BuiltinOperator).items() if name.isupper()}
EVERYTHING = OpSpec("ir", 24, 32, 9, 9, kernel=5, stride=2, groups=2, activation="hswish", squeeze_excite=True)


def tflite_operators(content):
    """Return (name, version, options) of each operator."""
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    codes = [(NAMES[code.builtinCode], code.version) for code in model.operatorCodes]
    return [(*codes[operator.opcodeIndex], operator.builtinOptions) for operator in model.subgraphs[0].operators]


def tflite_names(**fields):
    spec = OpSpec(**{"kind": "ir", "in_channels": 24, "out_channels": 24, "height": 14, "width": 14} | fields)
    return [name for name, _, _ in tflite_operators(export_spec(spec, "tflite"))]


def test_tflite_fuses_relu_and_batch_norm():
    operators = tflite_operators(export_spec(OpSpec("ir", 24, 24, 14, 14, kernel=5, expansion=6), "tflite"))
    assert [name for name, _, _ in operators] == ["CONV_2D", "DEPTHWISE_CONV_2D", "CONV_2D", "ADD"]
    relu, none = schema.ActivationFunctionType.RELU, schema.ActivationFunctionType.NONE
    assert [options.fusedActivationFunction for _, _, options in operators] == [relu, relu, none, none]


def test_tflite_pads_explicitly_only_where_its_own_padding_differs():
    convolutions = ["CONV_2D", "DEPTHWISE_CONV_2D", "CONV_2D"]
    padded = ["CONV_2D", "PAD", "DEPTHWISE_CONV_2D", "CONV_2D"]
    assert tflite_names(kernel=3, stride=2) == padded
    assert tflite_names(kernel=3, stride=2, height=7, width=7) == convolutions
    assert tflite_names(kernel=3, stride=2, height=7) == padded
    assert tflite_names(kernel=3) == [*convolutions, "ADD"]
    assert tflite_names(kernel=1, stride=2) == convolutions


def test_tflite_grouped_convolution_is_version_6():
    operators = tflite_operators(export_spec(OpSpec("ir", 24, 24, 14, 14, kernel=3, groups=2), "tflite"))
    assert [(name, version) for name, version, _ in operators if name == "CONV_2D"] == [("CONV_2D", 6)] * 2
    assert [name for name, _, _ in operators[1:4]] == ["RESHAPE", "TRANSPOSE", "RESHAPE"]


def address(array):
    return array.__array_interface__["data"][0]


def test_tflite_data_is_aligned_to_16_bytes():
    content = export_spec(EVERYTHING, "tflite")
    model = schema.Model.GetRootAs(content, 0)
    first = address(np.frombuffer(content, np.uint8))
    starts = [address(model.Buffers(i).DataAsNumpy()) - first for i in range(1, model.BuffersLength())]
    assert len(starts) > 10
    assert 0 < min(starts) < max(starts) < len(content)
    assert [start % 16 for start in starts] == [0] * len(starts)
    assert model.Buffers(0).DataIsNone()


def test_tflite_runs_in_xnnpack_as_a_whole():
    from ai_edge_litert.interpreter import Interpreter

    content = export_network(load_architecture("fbnet-a"), "tflite")
    assert fallbacks(content, "litert", "float32") == []
    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    assert interpreter.get_input_details()[0]["shape"].tolist() == [1, 224, 224, 3]
    assert interpreter.get_output_details()[0]["shape"].tolist() == [1, 1000]
    assert interpreter.get_input_details()[0]["name"] == "input"
    assert interpreter.get_output_details()[0]["name"] == "output"


@pytest.mark.parametrize("spec", load_space("fbnet-tiny").operators(), ids=OpSpec.key)
def test_onnx_checker_accepts_every_operator(spec):
    onnx.checker.check_model(onnx.load_from_string(export_spec(spec, "onnx")), full_check=True)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.full if at % 3 else ()) for at, name in enumerate(ZOO.names())]
)
def test_onnx_checker_accepts_the_published_networks(name):
    onnx.checker.check_model(onnx.load_from_string(export_network(load_architecture(name), "onnx")), full_check=True)


def test_onnx_is_old_enough_for_older_runtimes():
    model = onnx.load_from_string(export_spec(EVERYTHING, "onnx"))
    onnx.checker.check_model(model, full_check=True)
    assert model.ir_version == 8
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 17)]
    assert [(len(model.graph.input), model.graph.input[0].name)] == [(1, "input")]
    assert [(len(model.graph.output), model.graph.output[0].name)] == [(1, "output")]


@pytest.mark.filterwarnings("ignore:You are using the legacy TorchScript-based ONNX export:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The feature will be removed:DeprecationWarning")
def test_onnx_equals_torchs_own_exporter(run_model):
    module = randomize(build_block(EVERYTHING), 5)
    buffer = io.BytesIO()
    example = torch.randn(EVERYTHING.input_shape, generator=torch.Generator().manual_seed(1))
    torch.onnx.export(
        module, (example,), buffer, dynamo=False, opset_version=17, input_names=["input"], output_names=["output"]
    )
    theirs = run_model("onnx", buffer.getvalue(), example.numpy())
    ours = run_model("onnx", export_spec(EVERYTHING, "onnx", seed=5), example.numpy())
    assert np.abs(theirs - ours).max() <= 1e-5 * np.abs(theirs).max()


def test_torchscript_can_be_optimised_after_loading():
    content = export_spec(EVERYTHING, "torchscript")
    loaded = torch.jit.load(io.BytesIO(content)).eval()
    x = torch.randn(EVERYTHING.input_shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = randomize(build_block(EVERYTHING), 0)(x)
        optimised = torch.jit.optimize_for_inference(loaded)
        assert (optimised(x) - expected).abs().max() <= 1e-4 * expected.abs().max()


class Ordered(nn.Module):
    """What our tracer knows nothing of, and a branch on values."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 1)

    def forward(self, x):
        x = self.conv(x)
        return x.sort(1).values if x.shape[1] > 4 else x


def test_torchscript_takes_what_torch_alone_follows():
    torch.manual_seed(0)
    module, x = Ordered().eval(), torch.randn(1, 8, 5, 6)
    contents = [load_format("torchscript").write(module, (1, 8, 5, 6)) for _ in range(2)]
    assert contents[0] == contents[1]
    (result,) = load_model(contents[0], "torch")(x.numpy())
    np.testing.assert_allclose(result, module(x).detach().numpy(), rtol=1e-6)
    assert module.conv.weight.requires_grad
    with pytest.raises(ExportError, match="is in training mode"):
        load_format("torchscript").write(module.train(), (1, 8, 5, 6))


def test_torchscript_holds_no_call_stacks():
    names = zipfile.ZipFile(io.BytesIO(export_spec(EVERYTHING, "torchscript"))).namelist()
    assert "archive/code/__torch__.py" in names
    assert not [name for name in names if name.endswith("debug_pkl")]


def all_activations():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU6(), nn.Hardsigmoid(), nn.ReLU6(), nn.Conv2d(8, 8, 1), nn.Sigmoid(),
        nn.ReLU(), nn.Hardswish(), nn.AdaptiveAvgPool2d(1),
    )  # fmt: skip


def dilated():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=2, dilation=2), nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=8), nn.ReLU(),
        nn.Conv2d(8, 8, 3, stride=2, padding=(2, 3), dilation=(2, 3)), nn.Conv2d(8, 4, 3, padding=1, dilation=1),
    )  # fmt: skip


@pytest.mark.parametrize("name", FORMATS.names())
@pytest.mark.parametrize("make", [all_activations, dilated])
def test_operators_that_no_block_uses_yet_equal_torch(make, name, assert_equals_torch):
    module = randomize(make(), 0)
    content = load_format(name).write(module, (1, 3, 6, 6), "float32")
    assert_equals_torch(name, content, module, (1, 3, 6, 6))


@pytest.mark.parametrize("name", FORMATS.names())
def test_more_than_one_image(name, assert_equals_torch):
    spec = OpSpec("ir", 8, 8, 6, 6, kernel=3, groups=2, squeeze_excite=True)
    module = nn.Sequential(build_block(spec), build_block(OpSpec("classifier", 8, 5, 6, 6, activation="none")))
    content = load_format(name).write(randomize(module, 0), (3, 8, 6, 6), "float32")
    assert_equals_torch(name, content, module, (3, 8, 6, 6))


class Unheard(Node):
    """An operator of the graph that no format knows."""


@pytest.mark.parametrize("name", FORMATS.names())
def test_an_operator_a_format_does_not_know_is_named(name):
    x, y = Value("input", (1, 2, 3, 3)), Value("1_y", (1, 2, 3, 3))
    with pytest.raises(ExportError, match=r"operator Unheard of module 'body\.3'"):
        load_format(name).encode(Graph((x,), (y,), (Unheard((x,), y, "body.3"),)), [y], "float32", None)


@pytest.mark.parametrize("name", FORMATS.names())
def test_errors_say_which_network(name):
    with pytest.raises(ExportError, match=r"^ir_in24x9x9_.*: \w+ has no precision 'int4', which no format knows"):
        export_spec(EVERYTHING, name, precision="int4")
    with pytest.raises(ExportError, match=r"^network 'fbnet-a': \w+ has no precision 'int4'"):
        export_network(load_architecture("fbnet-a"), name, precision="int4")
