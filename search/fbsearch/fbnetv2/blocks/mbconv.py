"""mbconv with many widths and expansions in one set of weights (FBNetV2, CVPR'20, section 3.1)."""

import itertools
from dataclasses import replace

from torch import Tensor, nn

from fbsearch.fbnetv2.blocks import Choice, MaskedBlock, Widths
from fbsearch.fbnetv2.masks import fit, joint, masked, same
from fbspace.blocks import block_of
from fbspace.blocks.mbconv import MbConv
from fbspace.errors import SpecError
from fbspace.layers import SqueezeExcite, conv_bn
from fbspace.opspec import OpSpec
from fbspace.widths import squeezed_channels


class MaskedMBConv(MaskedBlock):
    """The largest of the blocks, of which masks leave a smaller one; at one-hot choices it is that block exactly.

        y = BN(W₂ (h ∘ Σ_{i,j} p_i q_j 1_{middle(c_i, e_j)})) ∘ Σ_o r_o 1_{c_o} + x ∘ Σ_{i,o: c_i = c_o} p_i r_o 1_{c_o}
        h = act(BN(depthwise((1 − q_1) · act(BN(W₁ x)) + q_1 · x)))

    p, q and r weigh the widths that come in, the expansions, and the widths that go out. The width in the middle
    follows from the first two; q_1 is the weight of expansion 1, at which the first 1x1 is dropped. Batch normalisation
    comes before a mask: it normalises every channel by itself. Where the block keeps the width, r is p, the same
    decision, and all of x passes.
    """

    def __init__(self, spec: OpSpec, widths: Widths) -> None:
        super().__init__(spec, widths)
        largest = block_of(spec)
        assert isinstance(largest, MbConv)
        if spec.groups != 1 or largest.eca:
            unknown = "groups" if spec.groups != 1 else "eca"
            raise SpecError(f"{spec.key()}: widths and expansions are searched by masks, which know no {unknown}")
        pairs = itertools.product(widths.ins, widths.expansions)
        blocks = [replace(spec, in_channels=c, expansion=e) for c, e in pairs]
        self.middles = [largest.middle_channels(block) or block.in_channels for block in blocks]
        squeezed_of = self.middles if largest.squeeze_of == "middle" else [block.in_channels for block in blocks]
        self.squeezes = [squeezed_channels(c) for c in squeezed_of]
        ins, middle, outs = max(widths.ins), max(self.middles), max(widths.outs)
        act = spec.activation
        self.expand = conv_bn(ins, middle, 1, activation=act)
        self.depthwise = conv_bn(middle, middle, spec.kernel, spec.stride, middle, act, largest.padding)
        gate = SqueezeExcite(middle, largest.squeeze_activation, max(self.squeezes)) if spec.squeeze_excite else None
        self.squeeze_excite = gate
        self.project = conv_bn(middle, outs, 1)

    def forward(self, x: Tensor, choice: Choice) -> Tensor:
        """Map N, the largest C_in, H, W, zero in the channels left out, to N, the largest C_out, H/stride, W/stride."""
        combined = joint(choice.ins, choice.expansions)
        y = masked(self.depthwise(self._expanded(x, choice.expansions)), combined, self.middles)
        if self.squeeze_excite is not None:
            squeezed = masked(self.squeeze_excite.squeeze(y), combined, self.squeezes)
            y = self.squeeze_excite.excite(y, squeezed)
        y = masked(self.project(y), choice.outs, self.widths.outs)
        if self.widths.keeps:
            return y + x
        if self.spec.stride == 1:
            passes = choice.outs * same(choice.ins, self.widths.ins, self.widths.outs)
            y = y + masked(fit(x, y.shape[1]), passes, self.widths.outs)
        return y

    def _expanded(self, x: Tensor, expansions: Tensor) -> Tensor:
        """Return (1 − q_1) · act(BN(W₁ x)) + q_1 · x; what weighs nothing is not run, and its weights get no gradient.

        Weights with a gradient of zero would go on moving by their momentum, as those that were not run do not.
        """
        q_1 = [q for q, e in zip(expansions, self.widths.expansions, strict=True) if e == 1]
        if q_1 and q_1[0] == 1 and not q_1[0].requires_grad:
            return fit(x, max(self.middles))
        y: Tensor = self.expand(x)
        for q in q_1:
            y = (1 - q) * y + q * fit(x, y.shape[1])
        return y

    def weights(self, spec: OpSpec) -> nn.Module:
        """Return the module whose parameters begin with those of one of the blocks: this one."""
        return self
