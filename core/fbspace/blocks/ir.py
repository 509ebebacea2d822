"""ir: the inverted residual that every FBNet candidate is made of (FBNet, CVPR'19, figure 3)."""

import math
from dataclasses import dataclass

from fbbase.options import option
from fbspace.blocks import Block, Module, Start
from fbspace.errors import SpecError
from fbspace.opspec import ACTIVATIONS, OpSpec
from fbspace.widths import squeezed_channels


@dataclass(frozen=True)
class Ir(Block):
    """Inverted residual; the first 1x1 is kept at expansion 1, as in the paper's table."""

    expands = True

    squeeze_activation: str = option(
        "relu", "activation between the two convolutions of squeeze-excite", choices=ACTIVATIONS
    )

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
        squeezed = squeezed_channels(middle) if spec.squeeze_excite else 0
        gates = 2 * middle * squeezed
        biases = squeezed + middle if squeezed else 0
        norms = 2 * (middle * (2 if expands else 1) + spec.out_channels)
        macs = pixels_in * expand + pixels_out * (depthwise + project) + gates
        return macs, expand + depthwise + project + gates + biases + norms

    def _inverted_residual(self, spec: OpSpec, expands: bool) -> Module:
        from fbspace.layers import InvertedResidual

        return InvertedResidual(spec, self._middle(spec), expands, self.squeeze_activation)

    def _middle(self, spec: OpSpec) -> int:
        """Return the width between the 1x1 convolutions. Raises SpecError for what cannot be built."""
        middle = self.middle_channels(spec) or spec.in_channels
        if middle % spec.groups:
            raise SpecError(f"groups={spec.groups} must divide the {middle} channels in the middle of {spec.key()}")
        if self.squeeze_activation != "relu" and not spec.squeeze_excite:
            raise SpecError(f"squeeze_activation is of squeeze-excite, which {spec.key()} does not have: leave it away")
        return middle

    def middle_channels(self, spec: OpSpec) -> int | None:
        """Return in_channels · expansion, to the nearest whole number."""
        return round(spec.in_channels * spec.expansion) if spec.expansion != 1 else None

    def start(self, module: Module) -> Start:
        """A start passes the input on to the projection."""
        from fbspace.layers import InvertedResidual

        assert isinstance(module, InvertedResidual)
        return Start((module.expand, module.shuffle, module.depthwise), module.project, module.residual)
