"""int8 model files: what runtimes compute of them, against an integer reference and against torch in float."""

import functools
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from ai_edge_litert.interpreter import Interpreter
from onnx import TensorProto, numpy_helper
from torch import nn

from fbexport.formats import load_format
from fbexport.functions import function_of, run_float
from fbexport.graph import Conv, Linear
from fbexport.quantization.calibration import calibrate
from fbexport.quantization.quantized import quantize
from fbexport.runtimes import load_model
from fbexport.trace import trace
from fbspace.architecture import ZOO, load_architecture
from fbspace.blocks import block_of, build_block, is_identity
from fbspace.opspec import OpSpec
from fbspace.space import load_space
from fbspace.weights import randomize
from peers.installed import FORMATS_HERE
from peers.integer_reference import run_onnx, run_tflite

FORMATS = [name for name in ("tflite", "onnx", "pte") if name in FORMATS_HERE]
OFF_BY_MORE_THAN_ONE = 1e-3
"""Share of an operator's outputs that may differ from the reference by more than one."""
SLACK = 3.0
"""How much noisier than predicted an output may be; 2.0 is the most that occurs, in a network with few outputs."""
DRAWS = 4
LARGEST = 28
"""Pixels of an operator's side: what it computes does not depend on more."""


def run_litert(content, x):
    """Return every output by name, N, C, H, W, for int8 numbers."""
    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], np.ascontiguousarray(nhwc(x)))
    interpreter.invoke()
    return {each["name"]: nchw(interpreter.get_tensor(each["index"])) for each in interpreter.get_output_details()}


def run_onnxruntime(content, x):
    """Return every output by name as int8 numbers.

    Without this option x86 processors that lack VNNI add products in 16 bits, in which some do not fit: half as slow
    again with it, and as the format's definition says.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.x64quantprecision", "1")
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_outputs()]
    return {name: signed(y) for name, y in zip(names, session.run(names, {"input": unsigned(x)}), strict=True)}


RUN = {"tflite": run_litert, "onnx": run_onnxruntime}


def nhwc(x):
    return x.transpose(0, 2, 3, 1) if x.ndim == 4 else x


def nchw(x):
    return x.transpose(0, 3, 1, 2) if x.ndim == 4 else x


def signed(x):
    """Return ONNX's unsigned numbers as the int8 numbers for the same reals."""
    assert x.dtype == np.uint8
    return (x.astype(np.int16) - 128).astype(np.int8)


def unsigned(x):
    return (x.astype(np.int16) + 128).astype(np.uint8)


def reference(name, content, x, given):
    """Return every value that the reference computes, each operator's from what the runtime gave it."""
    if name != "onnx":
        made = run_tflite(content, nhwc(x), {label: nhwc(y) for label, y in given.items()})
        return {label: nchw(y) for label, y in made.items()}
    made = run_onnx(content, unsigned(x), {label: unsigned(y) for label, y in given.items()})
    return {label: signed(y) for label, y in made.items()}


class Case:
    """A module in int8 by the ranges of one image, which it is then run on."""

    def __init__(self, module, shape, ranges=None, size=1.0):
        self.module, self.shape = module, shape
        self.graph = trace(module, shape)
        self.image = size * torch.randn(shape, generator=torch.Generator().manual_seed(7))
        self.ranges = ranges or calibrate(self.graph, [self.image])
        self.quantized = quantize(self.graph, self.ranges)
        self.x = self.quantized.of(self.graph.input).quantize(self.image.numpy())

    def write(self, name, every_value=True):
        return load_format(name).write(self.module, self.shape, "int8", self.ranges, every_value)

    @property
    def labels(self):
        """What files call the operators' outputs, in order."""
        return [*(node.output.name for node in self.graph.nodes[:-1]), "output"]

    def run_executorch(self, content):
        """Return every output by name as the int8 numbers that its real numbers stand for."""
        found = load_model(content, "executorch")(self.quantized.of(self.graph.input).dequantize(self.x))
        schemes = [self.quantized.of(node.output) for node in self.graph.nodes]
        return {label: scheme.quantize(y) for label, scheme, y in zip(self.labels, schemes, found, strict=True)}

    def check(self, name):
        """Assert that every operator's output equals the reference's, and return the network's."""
        content = self.write(name)
        got = self.run_executorch(content) if name == "pte" else RUN[name](content, self.x)
        assert list(got) == self.labels
        # A .pte file holds the numbers of a .tflite file, of which there is a reference.
        expected = reference(name, self.write("tflite") if name == "pte" else content, self.x, got)
        for label, y in got.items():
            difference = np.abs(y.astype(int) - expected[label])
            assert (difference > 1).mean() <= OFF_BY_MORE_THAN_ONE, (label, difference.max())
        return got["output"]

    def noise(self, output):
        """Return the share of noise in the output's power."""
        with torch.no_grad():
            real = self.module(self.image).double().numpy()
        error = self.quantized.of(self.graph.output).dequantize(output) - real
        return (error**2).mean() / (real**2).mean()

    @functools.cached_property
    def predicted_noise(self):
        """Return the share of noise that rounding should leave in the output: the mean of a few draws.

        What is rounded to steps s is off by s·u, u uniform between ±1/2, a noise of power s²/12. torch computes the
        network in float with such a noise in every value and every weight; the operators do the rest.
        """
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            real = self.module(self.image)
        found = []
        for _ in range(DRAWS):
            values = {self.graph.input.name: self.rounded(self.image, self.graph.input, generator)}
            for node in self.graph.nodes:
                if isinstance(node, Conv | Linear):
                    scale = self.quantized.parameters(node).weight_scale.reshape(-1, *[1] * (node.weight.ndim - 1))
                    noise = torch.rand(node.weight.shape, generator=generator).numpy() - 0.5
                    node = replace(node, weight=(node.weight + scale * noise).astype(np.float32))
                made = function_of(node)(*(values[value.name] for value in node.inputs))
                values[node.output.name] = self.rounded(made, node.output, generator)
            error = values[self.graph.output.name] - real
            found.append(float((error**2).mean() / (real**2).mean()))
        return np.mean(found)

    def rounded(self, x, value, generator):
        """Return a value with the noise of rounding, within the range of its numbers."""
        scheme = self.quantized.of(value)
        low, high = scheme.dequantize(np.array([-128, 127]))
        return (x + scheme.scale * (torch.rand(x.shape, generator=generator) - 0.5)).clamp(float(low), float(high))


def distinct(specs):
    """Return the smallest operator of each kind."""
    found: dict[tuple, OpSpec] = {}
    for spec in specs:
        if not is_identity(spec):
            small = replace(spec, height=min(spec.height, LARGEST), width=min(spec.width, LARGEST))
            kind = replace(small, in_channels=8, out_channels=8, height=1, width=1, expansion=1 + (spec.expansion > 1))
            residual = spec.in_channels == spec.out_channels
            found[kind, residual] = min(found.get((kind, residual), small), small, key=size_of)
    return list(found.values())


def size_of(spec):
    return spec.in_channels * spec.out_channels * spec.height * spec.width * spec.expansion


NETWORKS = [name for name in ZOO.names() if name != "ghostnet-100"]  # the integer reference has no concatenation
SPECS = distinct(
    [
        *load_space("fbnet").operators(),
        *load_space("fbnetv2-tiny").operators(),
        *(spec for name in NETWORKS for spec in load_architecture(name).specs()),
    ]
)


@functools.cache
def case_of(spec):
    return Case(randomize(build_block(spec), 0), spec.input_shape)


def test_the_operators_are_of_every_kind():
    assert len(SPECS) > 50
    older = {"ir", "mbconv", "conv", "skip", "pool", "classifier"}
    assert {spec.kind for spec in SPECS} == older | {"uib", "fusedmb", "repvgg"}
    assert {spec.activation for spec in SPECS} == {"none", "relu", "relu6", "hswish"}
    assert {spec.squeeze_excite for spec in SPECS} == {True, False}
    assert {spec.groups for spec in SPECS} == {1, 2}
    assert {spec.kernel for spec in SPECS} == {1, 3, 5}


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        pytest.param(name, spec, marks=pytest.mark.full if (at - turn) % every else (), id=f"{spec.key()}-{name}")
        for at, spec in enumerate(SPECS)
        for name, turn, every in (("tflite", 0, 3), ("onnx", 1, 3), ("pte", 2, 12))
        if name in FORMATS
    ],
)
def test_operators_equal_the_reference_and_are_no_noisier_than_rounding(name, spec):
    case = case_of(spec)
    assert case.noise(case.check(name)) <= SLACK * case.predicted_noise


def shrunk(specs, side):
    """Return a network's operators at another size and with a quarter of the channels."""
    size, made = (side, side), []
    for spec in specs:
        into, out = ((c if c == 3 else max(8, c // 16 * 4)) for c in (spec.in_channels, spec.out_channels))
        made.append(replace(spec, in_channels=into, out_channels=out, height=size[0], width=size[1]))
        size = block_of(made[-1]).output_size(made[-1])
    return made


@functools.cache
def chain_of(network):
    side = 64 if network == "fbnetv3-b" else 32  # whose last strided convolution is not padded
    blocks = [build_block(spec) for spec in shrunk(load_architecture(network).specs(), side)]
    return Case(randomize(nn.Sequential(*blocks), 0), (1, 3, side, side))


@pytest.mark.parametrize(
    ("network", "name"),
    [
        pytest.param(network, name, marks=pytest.mark.full if (number - 6 * at) % 18 else ())
        for number, network in enumerate(NETWORKS)
        for at, name in enumerate(FORMATS)
    ],
)
def test_chains_equal_the_reference_and_are_no_noisier_than_rounding(name, network):
    case = chain_of(network)
    assert case.noise(case.check(name)) <= SLACK * case.predicted_noise


ALONE = nn.Sequential(
    nn.Conv2d(3, 8, 3, padding=1), nn.ReLU6(), nn.Hardsigmoid(), nn.ReLU6(), nn.Conv2d(8, 8, 1), nn.Sigmoid(),
    nn.ReLU(), nn.Hardswish(), nn.AdaptiveAvgPool2d(1),
)  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
def test_functions_alone(name):
    case = Case(randomize(ALONE, 0), (1, 3, 6, 6))
    assert case.noise(case.check(name)) <= SLACK * case.predicted_noise


@pytest.mark.parametrize("name", FORMATS)
def test_more_than_one_image(name):
    spec = OpSpec("ir", 8, 8, 6, 6, kernel=3, groups=2, squeeze_excite=True)
    classifier = build_block(OpSpec("classifier", 8, 5, 6, 6, activation="none"))
    case = Case(randomize(nn.Sequential(build_block(spec), classifier), 0), (3, 8, 6, 6))
    assert case.noise(case.check(name)) <= SLACK * case.predicted_noise


class Activated(nn.Module):
    """The convolution is read twice, so that its activation stands alone."""

    def __init__(self, function):
        super().__init__()
        self.conv, self.function = nn.Conv2d(4, 4, 1), function

    def forward(self, x):
        y = self.conv(x)
        return self.function(y) + y


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("function", [nn.ReLU(), nn.ReLU6()])
@pytest.mark.parametrize("build", [lambda f: nn.Sequential(nn.Conv2d(4, 4, 1), f), Activated], ids=["fused", "alone"])
def test_relu_where_the_range_is_wider_than_it(name, function, build):
    module = randomize(build(function), 0)
    graph = trace(module, (1, 4, 9, 9))
    values = (graph.input, *(node.output for node in graph.nodes))
    case = Case(module, (1, 4, 9, 9), ranges={value.name: (-9.0, 11.0) for value in values}, size=2.0)
    output = case.quantized.of(graph.output).dequantize(case.check(name))
    with torch.no_grad():
        expected = module(case.image).clamp(-9, 11).numpy()
    assert np.abs(output - expected).max() <= 3 * 20 / 255
    if isinstance(module, nn.Sequential):
        step = 20 / 255
        assert output.min() == 0
        assert output.max() == pytest.approx(6 if isinstance(function, nn.ReLU6) else expected.max(), abs=step)


def convolution(change, bias):
    module = randomize(nn.Conv2d(8, 8, 1), 0)
    with torch.no_grad():
        module.weight.mul_(torch.tensor(change).reshape(-1, 1, 1, 1))
        module.bias.copy_(torch.tensor(bias))
    return module


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(
    ("change", "bias", "size"),
    [
        ([1.0] * 7 + [0.0], [0.1] * 8, 1.0),
        ([1e-3] * 7 + [0.0], [0.0] * 8, 1000.0),
        ([1.0] * 7 + [1e-39], [0.0] * 8, 1.0),
        ([1.0] * 7 + [1e-30], [0.2] * 8, 1.0),
        ([1.0] * 8, [1e6] * 8, 1.0),
        ([1.0] * 8, [0.0] * 8, 1e-30),
        ([0.0] * 8, [0.3] * 8, 1.0),
        ([0.0] * 8, [0.0] * 8, 1000.0),
    ],
    ids=["zeros", "zeros-large-input", "denormal", "tiny", "large-bias", "small-input", "only-bias", "nothing"],
)
def test_weights_out_of_the_ordinary_load_and_are_computed(name, change, bias, size):
    case = Case(convolution(change, bias), (1, 8, 6, 6), size=size)
    output = case.quantized.of(case.graph.output).dequantize(case.check(name))
    with torch.no_grad():
        expected = case.module(case.image).numpy()
    largest = np.abs(expected).max()
    assert np.abs(output - expected).max() <= 0.03 * largest


@pytest.mark.parametrize("name", FORMATS)
def test_relu_that_leaves_nothing(name):
    module = nn.Sequential(convolution([0.0] * 8, [-1.0] * 8), nn.ReLU(), nn.Conv2d(8, 4, 1)).eval()
    case = Case(module, (1, 8, 6, 6))
    output = case.quantized.of(case.graph.output).dequantize(case.check(name))
    assert np.abs(output - module(case.image).detach().numpy()).max() <= np.abs(output).max() / 100


EVERYTHING = OpSpec("ir", 24, 32, 9, 9, kernel=5, stride=2, groups=2, activation="hswish", squeeze_excite=True)


@pytest.mark.parametrize("name", FORMATS)
def test_the_same_bytes_every_time_also_without_ranges(name):
    module, write = randomize(build_block(EVERYTHING), 0), load_format(name).write
    first = write(module, EVERYTHING.input_shape, "int8")
    assert write(module, EVERYTHING.input_shape, "int8") == first
    assert write(module, EVERYTHING.input_shape, "int8", case_of(EVERYTHING).ranges) != first


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_onnx_gives_every_value_in_order(precision):
    case = case_of(EVERYTHING)
    content = load_format("onnx").write(case.module, case.shape, precision, case.ranges, every_value=True)
    outputs = onnx.load_from_string(content).graph.output
    assert [each.name for each in outputs] == [*(node.output.name for node in case.graph.nodes[:-1]), "output"]
    shapes = [tuple(side.dim_value for side in each.type.tensor_type.shape.dim) for each in outputs]
    assert shapes == [node.output.shape for node in case.graph.nodes]


def test_onnx_every_value_in_float_equals_torch():
    case = case_of(EVERYTHING)
    content = load_format("onnx").write(case.module, case.shape, "float32", every_value=True)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    made = session.run(None, {"input": case.image.numpy()})
    for y, (_, value, x) in zip(made, list(run_float(case.graph, case.image))[1:], strict=True):
        np.testing.assert_allclose(y, x.numpy(), atol=1e-4 * float(x.abs().max()), err_msg=value.name)


@pytest.mark.parametrize("spec", SPECS[::6], ids=OpSpec.key)
def test_onnx_checker_accepts_int8(spec):
    onnx.checker.check_model(onnx.load_from_string(case_of(spec).write("onnx")), full_check=True)


def test_onnx_weights_have_a_scale_for_each_channel_and_int32_biases():
    graph = onnx.load_from_string(case_of(EVERYTHING).write("onnx", every_value=False)).graph
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    makers = {node.output[0]: node for node in graph.node}
    kinds = {end.type.tensor_type.elem_type for end in (*graph.input, *graph.output)}
    assert kinds == {TensorProto.UINT8}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 5
    for conv in convolutions:
        x, weight, bias = (makers[name] for name in conv.input)
        assert weight.attribute[0].i == bias.attribute[0].i == 0
        assert tensors[weight.input[0]].dtype == np.int8
        assert tensors[bias.input[0]].dtype == np.int32
        channels = len(tensors[weight.input[0]])
        assert tensors[weight.input[1]].shape == tensors[bias.input[1]].shape == (channels,)
        product = tensors[x.input[1]].astype(float) * tensors[weight.input[1]]
        np.testing.assert_allclose(tensors[bias.input[1]], product, rtol=1e-6)
        assert not tensors[weight.input[2]].any()
        assert not tensors[bias.input[2]].any()
