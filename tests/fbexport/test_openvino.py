"""Our ONNX and TFLite files in OpenVINO, whose readers of both nobody here wrote: what it computes equals torch's."""

import numpy as np
import pytest
import torch

from fbexport.export import export_network
from fbexport.formats import load_format
from fbspace.architecture import ZOO, load_architecture
from fbspace.network import build_network
from fbspace.weights import randomize
from operators import SAMPLES, SHAPE

openvino = pytest.importorskip("openvino", reason="OpenVINO is not installed: pip install --no-deps openvino")
FORMATS = ("onnx", "tflite")
NOT_IN = {("transposed convolution, dilation", "tflite")}  # which we do not write
CASES = [
    pytest.param(each, name, marks=() if at % 8 == 4 * place else pytest.mark.full, id=f"{each.operator}-{name}")
    for at, each in enumerate(SAMPLES)
    for place, name in enumerate(FORMATS)
    if (each.operator, name) not in NOT_IN
]


def run(content, x, tmp_path, name):
    """Return the output for an image N, C, H, W as torch has it; TFLite's is N, H, W, C."""
    path = tmp_path / f"model.{name}"
    path.write_bytes(content)
    exact = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = openvino.Core().compile_model(str(path), "CPU", exact)
    is_last = tuple(compiled.input(0).shape) != tuple(x.shape)
    return compiled(x.permute(0, 2, 3, 1).contiguous().numpy() if is_last else x.numpy())[compiled.output(0)]


def image(shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")
@pytest.mark.parametrize(("sample", "name"), CASES)
def test_an_operator_equals_torch(sample, name, tmp_path):
    torch.manual_seed(0)
    module, x = sample.make().eval(), image(SHAPE)
    with torch.no_grad():
        expected = module(x).numpy()
    result = run(load_format(name).write(module, SHAPE), x, tmp_path, name)
    if result.shape != expected.shape:
        result = result.transpose(0, 3, 1, 2)
    assert np.abs(result - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize(
    "network", [pytest.param(name, marks=pytest.mark.full if at else ()) for at, name in enumerate(ZOO.names())]
)
@pytest.mark.parametrize("name", FORMATS)
def test_a_published_network_equals_torch(network, name, tmp_path):
    architecture = load_architecture(network)
    x = image(architecture.load_space().input_shape)
    with torch.no_grad():
        expected = randomize(build_network(architecture), 0)(x).numpy()
    result = run(export_network(architecture, name), x, tmp_path, name)
    assert np.abs(result - expected).max() <= 1e-3 * np.abs(expected).max()
