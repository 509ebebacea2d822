"""skip with many widths: the input passes where it leaves with the width it came in, else a 1x1 convolution."""

from torch import Tensor, nn

from fbsearch.fbnetv2.blocks import Choice, MaskedBlock, Widths
from fbsearch.fbnetv2.masks import fit, masked, same
from fbspace.layers import conv_bn
from fbspace.opspec import OpSpec


class MaskedSkip(MaskedBlock):
    """y = Σ_o r_o (s_o · x + (1 − s_o) · b(x)) ∘ 1_{c_o},    s_o = Σ_{i: c_i = c_o} p_i,    b = conv → BN → activation.

    p and r weigh the widths that come in and that go out. With a stride no input passes: s_o = 0. Where the width is
    kept, x passes as it is.
    """

    def __init__(self, spec: OpSpec, widths: Widths) -> None:
        super().__init__(spec, widths)
        self.project = conv_bn(max(widths.ins), max(widths.outs), 1, spec.stride, activation=spec.activation)

    def forward(self, x: Tensor, choice: Choice) -> Tensor:
        """Map N, the largest C_in, H, W, zero in the channels left out, to N, the largest C_out, H/stride, W/stride."""
        outs = self.widths.outs
        if self.widths.keeps:
            return x
        if self.spec.stride > 1:
            return masked(self.project(x), choice.outs, outs)
        passes = same(choice.ins, self.widths.ins, outs)
        y = masked(fit(x, max(outs)), choice.outs * passes, outs)
        projected = choice.outs * (1 - passes)
        return y + masked(self.project(x), projected, outs) if bool((projected != 0).any()) else y

    def weights(self, spec: OpSpec) -> nn.Module:
        """Return the convolution; an identity has no parameters, and takes none of its."""
        return self.project
