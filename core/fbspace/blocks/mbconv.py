"""mbconv: the inverted residual of MobileNetV2 and V3 and of FBNetV2, whose first 1x1 is dropped at expansion 1."""

from dataclasses import dataclass

from fbbase.options import option
from fbspace.blocks import Block, Module
from fbspace.blocks.ir import Ir
from fbspace.errors import SpecError
from fbspace.opspec import OpSpec


@dataclass(frozen=True)
class MbConv(Ir):
    """Inverted residual; the width in the middle is rounded to a multiple of 8."""

    padding: int = option(
        -1, "pixels around the input of a strided depthwise convolution; -1: half its kernel", least=-1, most=127
    )

    def build(self, spec: OpSpec) -> Module:
        """Build an inverted residual. Raises SpecError where the groups do not divide its middle."""
        self._check_padding(spec)
        return self._inverted_residual(spec, spec.expansion != 1, self.padding)

    middle_channels = Block.middle_channels  # rounded to a multiple of 8

    def count(self, spec: OpSpec) -> tuple[int, int]:
        """Return what counting the module gives. Raises SpecError as `build` does."""
        self._check_padding(spec)
        return self._count(spec, expands=spec.expansion != 1)

    def output_size(self, spec: OpSpec) -> tuple[int, int]:
        """Return height and width of the output: by the stride, rounded up unless it is padded otherwise."""
        if self.padding < 0:
            return super().output_size(spec)
        height, width = ((n + 2 * self.padding - spec.kernel) // spec.stride + 1 for n in (spec.height, spec.width))
        return height, width

    def _check_padding(self, spec: OpSpec) -> None:
        """Raise SpecError for a padding that changes the size at stride 1, or leaves nothing."""
        if self.padding < 0:
            return
        if spec.stride == 1:
            raise SpecError(f"padding is told where the stride is above 1, unlike in {spec.key()}: leave it away")
        if self.padding > spec.kernel // 2 or min(self.output_size(spec)) < 1:
            raise SpecError(f"padding={self.padding} does not fit kernel and input of {spec.key()}")
