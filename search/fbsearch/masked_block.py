"""MaskedMBConv: mbconv with many widths and expansions in one set of weights (FBNetV2, CVPR'20, section 3.1)."""

import itertools
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from fbsearch.masking import channel_mask, equal, expected, joint
from fbspace.blocks import build_block
from fbspace.blocks.mbconv import middle_channels
from fbspace.layers import SqueezeExcite, conv_bn, squeezed_channels
from fbspace.opspec import OpSpec


@dataclass(frozen=True, slots=True)
class Widths:
    """The options of a layer: widths that may come in, expansions, and widths that may go out."""

    ins: tuple[int, ...]
    expansions: tuple[float, ...]
    outs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """Weights of the options of a layer: of the width that comes in, of the expansion, of the width that goes out."""

    ins: Tensor
    expansions: Tensor
    outs: Tensor


class MaskedMBConv(nn.Module):
    """The largest of the blocks, of which masks leave a smaller one; at one-hot choices it is that block exactly.

        y = BN(W₂ (h ∘ Σ_{i,j} p_i q_j 1_{middle(c_i, e_j)})) ∘ Σ_o r_o 1_{c_o} + (Σ_{i,o: c_i = c_o} p_i r_o) · x
        h = act(BN(depthwise((1 − q_1) · act(BN(W₁ x)) + q_1 · x)))

    p, q and r weigh the widths that come in, the expansions, and the widths that go out. The width in the middle
    follows from the first two; q_1 is the weight of expansion 1, at which the first 1x1 is dropped. Batch normalisation
    comes before a mask: it normalises every channel by itself.
    """

    def __init__(self, spec: OpSpec, widths: Widths) -> None:
        """Make the block of a kernel, stride, activation and squeeze-excite, those of `spec`, for all the widths."""
        super().__init__()
        self.spec, self.widths = spec, widths
        pairs = itertools.product(widths.ins, widths.expansions)
        self.middles = [middle_channels(replace(spec, in_channels=ins, expansion=e)) for ins, e in pairs]
        self.squeezes = [squeezed_channels(middle) for middle in self.middles]
        ins, middle, outs = max(widths.ins), max(self.middles), max(widths.outs)
        act = spec.activation
        self.expand = conv_bn(ins, middle, 1, activation=act)
        self.depthwise = conv_bn(middle, middle, spec.kernel, spec.stride, groups=middle, activation=act)
        self.squeeze_excite = SqueezeExcite(middle) if spec.squeeze_excite else None
        self.project = conv_bn(middle, outs, 1)

    def forward(self, x: Tensor, choice: Choice) -> Tensor:
        """Map N, the largest C_in, H, W, zero in the channels left out, to N, the largest C_out, H/stride, W/stride."""
        combined = joint(choice.ins, choice.expansions)
        y: Tensor = self.expand(x)
        for q, e in zip(choice.expansions, self.widths.expansions, strict=True):
            if e == 1:
                y = (1 - q) * y + q * _fit(x, y.shape[1])
        y = self.depthwise(y) * channel_mask(combined, self.middles)[:, None, None]
        if self.squeeze_excite is not None:
            mask = channel_mask(combined, self.squeezes)[:, None, None]
            y = self.squeeze_excite.excite(y, self.squeeze_excite.squeeze(y) * mask)
        y = self.project(y) * channel_mask(choice.outs, self.widths.outs)[:, None, None]
        if self.spec.stride == 1:
            y = y + equal(choice.ins, self.widths.ins, choice.outs, self.widths.outs) * _fit(x, y.shape[1])
        return y

    def macs(self, choice: Choice, pixels_in: Tensor, pixels_out: Tensor) -> Tensor:
        """Return the multiply-accumulates of the effective shape (FBNetV2, section 3.3); at one-hot, the block's own.

        n · C_in · M + n' · (k² · M + M · C_out) + 2 · M · S,    C = Σ_i g_i c_i,    without the first at expansion 1
        """
        combined, k = joint(choice.ins, choice.expansions), self.spec.kernel
        ins, outs = expected(choice.ins, self.widths.ins), expected(choice.outs, self.widths.outs)
        middle = expected(combined, self.middles)
        expands = expected(choice.expansions, [float(e != 1) for e in self.widths.expansions])
        macs = expands * pixels_in * ins * middle + pixels_out * (k * k * middle + middle * outs)
        return macs + 2 * middle * expected(combined, self.squeezes) if self.spec.squeeze_excite else macs

    @torch.no_grad()
    def inherit(self, ins: int, expansion: float, outs: int) -> nn.Module:
        """Return one of the blocks as an ordinary mbconv, with the first of the filters as its weights."""
        spec = replace(self.spec, in_channels=ins, expansion=expansion, out_channels=outs)
        block = build_block(spec)
        mine = self.state_dict()
        block.load_state_dict(
            {name: mine[name][tuple(map(slice, value.shape))].clone() for name, value in block.state_dict().items()}
        )
        return block


def _fit(x: Tensor, channels: int) -> Tensor:
    """Return a map with so many channels: zeros added, or channels dropped that no choice of this width uses."""
    return nn.functional.pad(x[:, :channels], (0, 0, 0, 0, 0, max(0, channels - x.shape[1])))
