"""Published networks compute what their publishers' do: their weights are copied in, and outputs compared."""

import pytest
import torch
from torch import nn

from fbspace.architecture import load_architecture
from fbspace.network import build_network
from fbspace.weights import randomize
from peers.published import MOBILE_VISION, TIMM, copy_weights

# as mobile-vision counts: pooling takes one operation for each value, biases and batch normalisation are no parameters
MILLIONS_MACS = {
    "fbnetv2-f1": 56.41056,
    "fbnetv2-f2": 85.441392,
    "fbnetv2-f3": 121.824,
    "fbnetv2-f4": 238.351984,
    "fbnetv2-l1": 326.023,
    "fbnetv2-l2": 423.912768,
    "fbnetv3-b": 461.550136,
}
PARAMETERS = {
    "fbnetv2-f1": 5_999_408,
    "fbnetv2-f2": 5_999_408,
    "fbnetv2-f3": 6_899_504,
    "fbnetv2-f4": 6_994_824,
    "fbnetv2-l1": 8_496_520,
    "fbnetv2-l2": 8_496_520,
    "fbnetv3-b": 8_542_224,
}


@pytest.mark.parametrize(
    ("name", "make"),
    [
        pytest.param(*each, marks=pytest.mark.full if at % 3 else ())
        for at, each in enumerate((*MOBILE_VISION.items(), *TIMM.items()))
    ],
)
def test_a_published_network_computes_what_its_publishers_does(name, make) -> None:
    theirs = randomize(make(), seed=1)
    ours = build_network(load_architecture(name)).eval()
    copy_weights(theirs, ours)
    x = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected, found = theirs(x), ours(x)
    # both in float32, which rounds sums of another order otherwise; biases of timm's are where ours are
    tolerance = 1e-4 if name in MOBILE_VISION else 1e-6
    assert (found - expected).norm() <= tolerance * expected.norm()


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.full if at % 3 else ()) for at, n in enumerate(PARAMETERS)]
)
def test_counts_are_mobile_visions_to_the_unit(name: str) -> None:
    architecture = load_architecture(name)
    counted: list[int] = []
    with torch.device("meta"):
        network = build_network(architecture)

    def count(layer: nn.Module, inputs: tuple[torch.Tensor], y: torch.Tensor) -> None:
        if isinstance(layer, nn.Conv2d):
            counted.append(y[0].numel() * layer.weight[0].numel())
        elif isinstance(layer, nn.Linear):
            counted.append(layer.weight.numel())
        elif type(layer).__name__ in ("Mean", "SqueezeExcite"):
            counted.append(inputs[0].numel())

    for layer in network.modules():
        layer.register_forward_hook(count)
    network.eval()(torch.zeros(architecture.load_space().input_shape, device="meta"))
    assert sum(counted) / 1e6 == pytest.approx(MILLIONS_MACS[name], abs=5e-4)
    assert sum(p.numel() for p in network.parameters() if p.ndim > 1) == PARAMETERS[name]


def test_an_ordinary_gate_stays_as_it_was() -> None:
    """Tables and networks of before hold operators by these keys."""
    keys = [spec.key() for spec in load_architecture("mobilenetv3-large").specs()]
    assert keys[4] == "mbconv_in24x56x56_out40_k5_s2_e3_g1_relu_se"
    keys = [spec.key() for spec in load_architecture("fbnetv2-f1").specs()]
    assert keys[4] == "mbconv_in24x32x32_out32_k5_s2_e5.3501_g1_relu_se"
    assert keys[8] == "mbconv_in56x8x8_out56_k3_s1_e5.1246_g1_hswish_se_squeeze_activation=hswish"
    assert keys[9] == "skip_in56x8x8_out80_k1_s1_e1_g1_relu"
    assert keys[-2] == "pool_in1344x4x4_out1600_k1_s1_e1_g1_hswish_bias=false"
