"""mbconv: the inverted residual of MobileNetV2 and V3 and of FBNetV2, whose first 1x1 is dropped at expansion 1."""

from dataclasses import dataclass

from fbspace.blocks import Block, Module
from fbspace.blocks.ir import Ir
from fbspace.opspec import OpSpec


@dataclass(frozen=True)
class MbConv(Ir):
    """Inverted residual; the width in the middle is rounded to a multiple of 8."""

    def build(self, spec: OpSpec) -> Module:
        """Build an inverted residual. Raises SpecError where the groups do not divide its middle."""
        return self._inverted_residual(spec, expands=spec.expansion != 1)

    middle_channels = Block.middle_channels  # rounded to a multiple of 8

    def count(self, spec: OpSpec) -> tuple[int, int]:
        """Return what counting the module gives. Raises SpecError as `build` does."""
        return self._count(spec, expands=spec.expansion != 1)
