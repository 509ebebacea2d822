"""ir: the inverted residual that every FBNet candidate is made of (FBNet, CVPR'19, figure 3)."""

import math
from dataclasses import dataclass

from fbbase.options import option
from fbspace.blocks import Block, Module, Start
from fbspace.errors import SpecError
from fbspace.opspec import ACTIVATIONS, OpSpec
from fbspace.widths import attention_kernel, squeezed_channels


@dataclass(frozen=True)
class Ir(Block):
    """Inverted residual; the first 1x1 is kept at expansion 1, as in the paper's table."""

    expands = True

    squeeze_activation: str = option(
        "relu", "activation between the two convolutions of squeeze-excite", choices=ACTIVATIONS
    )
    squeeze_of: str = option(
        "middle",
        "a quarter of which width squeeze-excite squeezes to: that in its middle, or its input's",
        choices=("middle", "input"),
    )
    eca: bool = option(False, "efficient channel attention in place of squeeze-excite (ECA-Net, CVPR'20)")

    def build(self, spec: OpSpec) -> Module:
        """Build an inverted residual. Raises SpecError where the groups do not divide its middle."""
        return self._inverted_residual(spec, expands=True)

    def count(self, spec: OpSpec) -> tuple[int, int]:
        """Return what counting the module gives. Raises SpecError as `build` does."""
        return self._count(spec, expands=True)

    def _count(self, spec: OpSpec, expands: bool) -> tuple[int, int]:
        pixels_in, pixels_out = spec.height * spec.width, math.prod(self.output_size(spec))
        middle = self._middle(spec)
        depthwise, project = spec.kernel**2 * middle, middle * spec.out_channels // spec.groups
        expand = spec.in_channels * middle // spec.groups if expands else 0
        gates, gate_parameters = self._count_gate(spec, middle)
        norms = 2 * (middle * (2 if expands else 1) + spec.out_channels)
        macs = pixels_in * expand + pixels_out * (depthwise + project) + gates
        return macs, expand + depthwise + project + gate_parameters + norms

    def _inverted_residual(self, spec: OpSpec, expands: bool, padding: int = -1) -> Module:
        from fbspace.layers import InvertedResidual

        middle = self._middle(spec)
        return InvertedResidual(spec, middle, self._gate(spec, middle), expands, padding)

    def _gate(self, spec: OpSpec, middle: int) -> Module | None:
        """Return squeeze-excite or efficient channel attention, or None where it has neither."""
        from fbspace.layers import ChannelAttention, SqueezeExcite

        if self.eca:
            return ChannelAttention(attention_kernel(middle))
        if not spec.squeeze_excite:
            return None
        return SqueezeExcite(middle, self.squeeze_activation, self._squeezed(spec, middle))

    def _count_gate(self, spec: OpSpec, middle: int) -> tuple[int, int]:
        """Return multiply-accumulates and parameters of the gate."""
        if self.eca:
            return attention_kernel(middle) * middle, attention_kernel(middle)
        if not spec.squeeze_excite:
            return 0, 0
        squeezed = self._squeezed(spec, middle)
        return 2 * middle * squeezed, 2 * middle * squeezed + squeezed + middle

    def _squeezed(self, spec: OpSpec, middle: int) -> int:
        """Return the width between the two convolutions of squeeze-excite."""
        return squeezed_channels(spec.in_channels if self.squeeze_of == "input" else middle)

    def _middle(self, spec: OpSpec) -> int:
        """Return the width between the 1x1 convolutions. Raises SpecError for what cannot be built."""
        middle = self.middle_channels(spec) or spec.in_channels
        if middle % spec.groups:
            raise SpecError(f"groups={spec.groups} must divide the {middle} channels in the middle of {spec.key()}")
        for name in ("squeeze_activation", "squeeze_of"):
            if name in dict(spec.parameters) and not spec.squeeze_excite:
                raise SpecError(f"{name} is of squeeze-excite, which {spec.key()} does not have: leave it away")
        if self.eca and spec.squeeze_excite:
            raise SpecError(f"eca stands in place of squeeze-excite, which {spec.key()} has too: leave one away")
        return middle

    def middle_channels(self, spec: OpSpec) -> int | None:
        """Return in_channels · expansion, to the nearest whole number."""
        return round(spec.in_channels * spec.expansion) if spec.expansion != 1 else None

    def start(self, module: Module) -> Start:
        """A start passes the input on to the projection."""
        from fbspace.layers import InvertedResidual, Residual

        assert isinstance(module, InvertedResidual | Residual)
        parts = dict(module.named_children())
        path = tuple(parts[name] for name in ("start", "expand", "shuffle", "depthwise") if name in parts)
        return Start(path, parts["project"], module.residual)
