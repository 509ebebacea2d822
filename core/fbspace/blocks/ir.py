"""ir: the inverted residual that every FBNet candidate is made of (FBNet, CVPR'19, figure 3)."""

from fbspace.blocks import Block, Module, Start
from fbspace.opspec import OpSpec


class Ir(Block):
    """Inverted residual; the first 1x1 is kept at expansion 1, as in the paper's table."""

    expands = True

    def build(self, spec: OpSpec) -> Module:
        """Build an inverted residual."""
        from fbspace.layers import InvertedResidual

        return InvertedResidual(spec, self.middle_channels(spec) or spec.in_channels)

    def middle_channels(self, spec: OpSpec) -> int | None:
        """Return in_channels · expansion, to the nearest whole number."""
        return round(spec.in_channels * spec.expansion) if spec.expansion != 1 else None

    def start(self, module: Module) -> Start:
        """A start passes the input on to the projection."""
        from fbspace.layers import InvertedResidual

        assert isinstance(module, InvertedResidual)
        return Start((module.expand, module.shuffle, module.depthwise), module.project, module.residual)
