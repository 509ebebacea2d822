"""pool: global average pool → 1x1 convolution with bias → activation, before the classifier of MobileNetV3."""

from torch import Tensor, nn

from fbspace.layers import ACTIVATION_LAYERS
from fbspace.opspec import OpSpec


class Pool(nn.Module):
    """N, C_in, H, W → N, C_out, 1, 1; the convolution has no batch normalisation."""

    def __init__(self, spec: OpSpec) -> None:
        super().__init__()
        self.conv = nn.Conv2d(spec.in_channels, spec.out_channels, 1)
        self.activation = ACTIVATION_LAYERS[spec.activation]()

    def forward(self, x: Tensor) -> Tensor:
        """Average over the pixels, then apply convolution and activation."""
        y: Tensor = self.activation(self.conv(x.mean((2, 3), keepdim=True)))
        return y


def build(spec: OpSpec) -> nn.Module:
    """Build a pool."""
    return Pool(spec)
