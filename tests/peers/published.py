"""Networks as others publish them, written after their layer tables and with none of our code, to copy weights from.

`MOBILE_VISION` are those of facebookresearch/mobile-vision (fbnet_modeldef_cls_fbnet.py and …_fbnetv2.py), `TIMM` those
of huggingface/pytorch-image-models (efficientnet.py, mobilenetv3.py). A layer is OPERATOR/CHANNELS/STRIDE/EXPANSION:
`k5` an inverted residual with a 5x5 depthwise convolution, with `se` squeeze-excite, `hs` hard-swish, `r6` ReLU6, `g2`
groups of its 1x1 convolutions, else ReLU.
"""

import importlib
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import nn

ACTIVATIONS = {"r": nn.ReLU, "r6": nn.ReLU6, "hs": nn.Hardswish}


def divisible(channels, least):
    """Round to a multiple of 8, one step up where less than `least` of the channels would be left."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < least * channels else rounded


def conv(c_in, c_out, kernel, stride=1, groups=1, activation=None, bias=False):
    layers = [nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=bias), nn.BatchNorm2d(c_out)]
    return nn.Sequential(*layers, *([ACTIVATIONS[activation]()] if activation else []))


class SqueezeExcite(nn.Module):
    def __init__(self, channels, squeezed, activation):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.gate = nn.Sequential(
            nn.Conv2d(channels, squeezed, 1), ACTIVATIONS[activation](), nn.Conv2d(squeezed, channels, 1)
        )

    def forward(self, x):
        return x * (nn.functional.relu6(self.gate(self.pool(x)) + 3) / 6)


class InvertedResidual(nn.Module):
    def __init__(self, publisher, c_in, c_out, stride, expansion, parts):
        super().__init__()
        kernel, groups = int(parts[0][1:]), 2 if "g2" in parts else 1
        activation = next((part for part in parts if part in ACTIVATIONS), "r")
        middle = divisible(c_in * expansion, publisher.least)
        expands = middle != c_in or publisher.always_expands
        bias, squeezed = publisher.bias, divisible(middle / 4, publisher.least)
        self.first = conv(c_in, middle, 1, 1, groups, activation, bias) if expands else nn.Identity()
        self.groups = groups
        self.depthwise = conv(middle, middle, kernel, stride, middle, activation, bias)
        gated = "r" if publisher.always_squeezes_by_relu else activation
        self.gate = SqueezeExcite(middle, squeezed, gated) if "se" in parts else nn.Identity()
        self.last = conv(middle, c_out, 1, 1, groups, None, bias)
        self.adds = stride == 1 and c_in == c_out

    def forward(self, x):
        y = nn.functional.channel_shuffle(self.first(x), self.groups)
        y = self.last(self.gate(self.depthwise(y)))
        return x + y if self.adds else y


class Publisher:
    """What all networks of one source have in common."""

    def __init__(self, least, always_expands=False, always_squeezes_by_relu=False, bias=False, pool_bias=False):
        self.least, self.always_expands, self.bias = least, always_expands, bias
        self.always_squeezes_by_relu, self.pool_bias = always_squeezes_by_relu, pool_bias

    def network(self, stem, layers, head, pool=None, activation="r"):
        """Return a network: stem channels, layers, channels of the last 1x1 and, behind the pool, of another one."""
        made, c_in = [conv(3, stem, 3, 2, 1, activation)], stem
        for text in layers.split():
            operator, c_out, stride, expansion = text.split("/")
            c_out, stride, parts = int(c_out), int(stride), operator.split("_")
            if operator != "skip":
                made.append(InvertedResidual(self, c_in, c_out, stride, float(expansion), parts))
            elif (c_out, stride) != (c_in, 1):
                made.append(conv(c_in, c_out, 1, stride, 1, "r"))
            c_in = c_out
        made += [conv(c_in, head, 1, 1, 1, activation), nn.AdaptiveAvgPool2d(1)]
        if pool:
            made += [nn.Conv2d(head, pool, 1, bias=self.pool_bias), ACTIVATIONS[activation]()]
        return nn.Sequential(*made, nn.Flatten(), nn.Linear(pool or head, 1000))


F0 = (
    "k5_hs/8/1/1 k5_hs/16/2/4 k5_hs/16/1/3 k5_se/24/2/4 k5_se/24/1/3 k5_se_hs/48/2/4 k3_se_hs/48/1/3 "
    "k5_se_hs/64/1/3 k5_se_hs/64/1/2 k3_se_hs/128/2/3 k5_se_hs/160/1/3 skip/192/1/4"
)
F1 = (
    "k5/8/1/1 k5/24/2/5.4566 k5/24/1/4.7912 k5_se/32/2/5.3501 k5_se/24/1/4.5379 k5_hs/56/2/5.7133 "
    "k3_hs/56/1/4.1212 k3_se_hs/56/1/5.1246 skip/80/1/5.0333 k5_se_hs/80/1/4.507 k5_se_hs/80/1/1.7712 "
    "k3_se_hs/144/2/4.5685 k5_se_hs/144/1/5.84 k5_se_hs/144/1/6.8754 skip/224/1/6.5245"
)
F4 = (
    "k3_hs/16/1/1 k5_hs/24/2/5.4566 k5_hs/24/1/1.7912 k5_hs/24/1/1.7912 k5_se/32/2/5.3501 k5_se/32/1/3.5379 "
    "k5_se/32/1/4.5379 k5_se/32/1/4.5379 k5_hs/64/2/5.7133 k3_hs/64/1/2.1212 skip/64/1/3.1246 k3_hs/104/1/5.0333 "
    "k5_se_hs/104/1/2.507 k5_se_hs/104/1/1.7712 k5_se_hs/112/1/3.7712 k3_se_hs/184/2/5.5685 k5_se_hs/184/1/2.84 "
    "k5_se_hs/184/1/4.8754 skip/224/1/6.5245"
)
L1 = (
    "k3_hs/16/1/1 k5_hs/24/2/5.4566 k5_hs/24/1/1.7912 k3_hs/24/1/1.7912 k5_hs/24/1/1.7912 k5_se_hs/40/2/5.3501 "
    "k5_se_hs/32/1/3.5379 k5_se_hs/32/1/4.5379 k5_se_hs/32/1/4.5379 k5_hs/64/2/5.7133 k3_hs/64/1/2.1212 "
    "skip/64/1/3.1246 k3_hs/64/1/3.1246 k3_hs/112/1/5.0333 k5_se_hs/112/1/2.507 k5_se_hs/112/1/1.7712 "
    "k5_se_hs/112/1/2.7712 k5_se_hs/112/1/3.7712 k5_se_hs/112/1/3.7712 k3_se_hs/184/2/5.5685 k5_se_hs/184/1/2.84 "
    "k5_se_hs/184/1/2.84 k5_se_hs/184/1/4.8754 k5_se_hs/184/1/4.8754 skip/224/1/6.5245"
)
A = (
    "skip/16/1/1 k3/24/2/3 k3/24/1/1 skip/24/1/1 skip/24/1/1 k5/32/2/6 k3/32/1/3 k5/32/1/1 k3/32/1/3 k5/64/2/6 "
    "k5/64/1/3 k5_g2/64/1/1 k5/64/1/6 k3/112/1/6 k5_g2/112/1/1 k5/112/1/3 k3_g2/112/1/1 k5/184/2/6 k5/184/1/6 "
    "k5/184/1/3 k5/184/1/6 k5/352/1/6"
)
B = (
    "k3/16/1/1 k3/24/2/6 k5/24/1/1 k3/24/1/1 k3/24/1/1 k5/32/2/6 k5/32/1/3 k3/32/1/6 k5/32/1/6 k5/64/2/6 "
    "k5/64/1/6 skip/64/1/1 k5/64/1/3 k5/112/1/6 k3/112/1/1 k5/112/1/1 k5/112/1/3 k5/184/2/6 k5/184/1/1 k5/184/1/6 "
    "k5/184/1/6 k3/352/1/6"
)
C = (
    "k3/16/1/1 k3/24/2/6 skip/24/1/1 k3/24/1/1 k3/24/1/1 k5/32/2/6 k5/32/1/3 k5/32/1/6 k3/32/1/6 k5/64/2/6 "
    "k5/64/1/3 k5/64/1/6 k5/64/1/6 k5/112/1/6 k5/112/1/6 k5/112/1/6 k5/112/1/3 k5/184/2/6 k5/184/1/6 k5/184/1/6 "
    "k5/184/1/6 k3/352/1/6"
)
MOBILENETV2 = (
    "k3_r6/16/1/1 k3_r6/24/2/6 k3_r6/24/1/6 k3_r6/32/2/6 k3_r6/32/1/6 k3_r6/32/1/6 k3_r6/64/2/6 k3_r6/64/1/6 "
    "k3_r6/64/1/6 k3_r6/64/1/6 k3_r6/96/1/6 k3_r6/96/1/6 k3_r6/96/1/6 k3_r6/160/2/6 k3_r6/160/1/6 k3_r6/160/1/6 "
    "k3_r6/320/1/6"
)
MOBILENETV3_LARGE = (
    "k3/16/1/1 k3/24/2/4 k3/24/1/3 k5_se/40/2/3 k5_se/40/1/3 k5_se/40/1/3 k3_hs/80/2/6 k3_hs/80/1/2.5 k3_hs/80/1/2.3 "
    "k3_hs/80/1/2.3 k3_se_hs/112/1/6 k3_se_hs/112/1/6 k5_se_hs/160/2/6 k5_se_hs/160/1/6 k5_se_hs/160/1/6"
)
MOBILENETV3_SMALL = (
    "k3_se/16/2/1 k3/24/2/4.5 k3/24/1/3.67 k5_se_hs/40/2/4 k5_se_hs/40/1/6 k5_se_hs/40/1/6 k5_se_hs/48/1/3 "
    "k5_se_hs/48/1/3 k5_se_hs/96/2/6 k5_se_hs/96/1/6 k5_se_hs/96/1/6"
)

_FBNETV2, _FBNET = Publisher(0.95), Publisher(0.95, bias=True)
MOBILE_VISION = {
    "fbnetv2-f0": lambda: _FBNETV2.network(8, F0, 192 * 4, 1280, "hs"),
    "fbnetv2-f1": lambda: _FBNETV2.network(8, F1, 224 * 6, 1600, "hs"),
    "fbnetv2-f2": lambda: _FBNETV2.network(8, F1, 224 * 6, 1600, "hs"),
    "fbnetv2-f3": lambda: _FBNETV2.network(8, F1, 224 * 6, 1984, "hs"),
    "fbnetv2-f4": lambda: _FBNETV2.network(16, F4, 224 * 6, 1984, "hs"),
    "fbnetv2-l1": lambda: _FBNETV2.network(16, L1, 224 * 6, 1984, "hs"),
    "fbnetv2-l2": lambda: _FBNETV2.network(16, L1, 224 * 6, 1984, "hs"),
    "fbnet-a-mobile-vision": lambda: _FBNET.network(16, A, 1504),
    "fbnet-b-mobile-vision": lambda: _FBNET.network(16, B, 1984),
    "fbnet-c-mobile-vision": lambda: _FBNET.network(16, C, 1984),
}
_TIMM = {"least": 0.9, "always_squeezes_by_relu": True, "pool_bias": True}
TIMM = {
    "fbnet-c": lambda: Publisher(**_TIMM, always_expands=True).network(16, C, 1984),
    "mobilenetv2": lambda: Publisher(**_TIMM).network(32, MOBILENETV2, 1280, activation="r6"),
    "mobilenetv3-large": lambda: Publisher(**_TIMM).network(16, MOBILENETV3_LARGE, 960, 1280, "hs"),
    "mobilenetv3-small": lambda: Publisher(**_TIMM).network(16, MOBILENETV3_SMALL, 576, 1024, "hs"),
}

LIKE_TIMM = {
    "efficientnet-lite0": "efficientnet_lite0",
    "fbnetv3-b": "fbnetv3_b",
    "ghostnet-100": "ghostnet_100",
    "mobilenetv4-conv-medium": "mobilenetv4_conv_medium",
    "mobilenetv4-conv-small": "mobilenetv4_conv_small",
    "mobileone-s0": "mobileone_s0",
}
"""Networks of ours whose weights timm's own modules have, where timm is installed."""


def of_timm(name=""):
    """Return timm or a module of it, whether or not torchvision is there; skip the test where timm is not."""
    if find_spec("timm") is None:
        pytest.skip("timm is not installed: pip install --no-deps timm safetensors")
    path, finders = [*sys.path], [*sys.meta_path]
    sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
    try:
        importlib.import_module("_torchvision").stand_in()
        return importlib.import_module(f"timm.{name}" if name else "timm")
    finally:
        sys.path[:], sys.meta_path[:] = path, finders


@torch.no_grad()
def copy_weights(theirs, ours):
    """Copy the weights of one network to another whose layers follow each other in the same order.

    Where a convolution has a bias there and none here, the normalisation behind it takes the bias away from its mean.
    """

    def layers(network):
        return [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.BatchNorm2d | nn.Linear)]

    left = None
    for source, target in zip(layers(theirs), layers(ours), strict=True):
        assert isinstance(source, type(target))
        state = source.state_dict()
        if left is not None:
            state["running_mean"] = state["running_mean"] - left
            left = None
        if isinstance(source, nn.Conv2d) and target.bias is None:
            left = state.pop("bias", None)
        target.load_state_dict(state)
    assert left is None
