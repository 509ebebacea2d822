"""How ranges are chosen by the noise that they leave, and what an int8 ONNX file says of its numbers."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from fbbase.errors import UnknownNameError
from fbexport.formats import load_format
from fbexport.noise import calibrated, layer_noise
from fbexport.quantization.calibration import METHODS, calibrate
from fbexport.runtimes import load_model
from fbexport.trace import trace
from fbspace.blocks import build_block
from fbspace.opspec import OpSpec
from fbspace.weights import randomize

SHAPE = (1, 3, 8, 8)
SPECS = [
    OpSpec("conv", 3, 8, 8, 8, kernel=7, stride=2),
    OpSpec("mbconv", 8, 8, 4, 4, kernel=3, expansion=4, squeeze_excite=True, activation="hswish"),
    OpSpec("classifier", 8, 10, 4, 4, activation="none"),
]


def network(seed: int) -> nn.Sequential:
    return nn.Sequential(*(randomize(build_block(spec), seed + i) for i, spec in enumerate(SPECS))).eval()


def images(tail: float) -> Tensor:
    """Normal numbers, and a few that are so much larger."""
    x = torch.randn(16, *SHAPE[1:], generator=torch.Generator().manual_seed(5))
    x[::5, 0, 0, 0] *= tail
    return x


@pytest.mark.parametrize("tail", [1.0, 30.0])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_method_chosen_is_the_one_with_the_least_noise_in_the_runtime(seed: int, tail: float) -> None:
    net, x = network(seed), images(tail)
    graph = trace(net, SHAPE)
    found = calibrated(graph, [x])
    measured = {}
    for method in METHODS:
        ranges = calibrate(graph, [x], method)
        measured[method] = layer_noise(net, x, "tflite", "int8", ranges)[-1].snr_db or 0.0
        assert measured[method] == pytest.approx(found.snr_db[method], abs=3.0)  # the runtime rounds on the way, too
    assert measured[found.method] >= max(measured.values()) - 2.0
    assert found.ranges == calibrate(graph, [x], found.method)
    assert found.images == 16
    assert str(found).startswith(f"calibrated by 16 images, {found.method}: signal to noise ")


def test_a_method_that_is_asked_for_is_taken_and_not_compared() -> None:
    graph = trace(network(0), SHAPE)
    found = calibrated(graph, [images(1.0)], "percentile")
    assert found.ranges == calibrate(graph, [images(1.0)], "percentile")
    assert str(found) == "calibrated by 16 images, percentile"
    with pytest.raises(UnknownNameError, match=r"unknown calibration method 'mean'.* least-noise, "):
        calibrated(graph, [images(1.0)], "mean")


def test_an_int8_onnx_file_says_what_its_input_and_output_stand_for() -> None:
    """Who knows nothing but the file feeds real numbers by it, and gets what the network computes."""
    net, x = network(0), images(1.0)[:1]
    ranges = calibrate(trace(net, SHAPE), [images(1.0)])
    content = load_format("onnx").write(net, SHAPE, "int8", ranges)
    says = {each.key: each.value for each in onnx.load_from_string(content).metadata_props}
    q = np.rint(x.numpy() / float(says["input_scale"])) + int(says["input_zero_point"])
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", "1")
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    (result,) = session.run(None, {"input": np.clip(q, 0, 255).astype(np.uint8)})
    real = (result.astype(float) - int(says["output_zero_point"])) * float(says["output_scale"])
    np.testing.assert_allclose(real, load_model(content, "onnxruntime")(x.numpy())[0], rtol=1e-6)
    assert not onnx.load_from_string(load_format("onnx").write(net, SHAPE)).metadata_props
