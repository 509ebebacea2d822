"""classifier: global average pool → fully connected, the end of every network."""

from collections import OrderedDict

from fbspace.blocks import Block, Module
from fbspace.opspec import OpSpec


class Classifier(Block):
    """N, C, H, W → N, classes."""

    has_kernel = False

    def build(self, spec: OpSpec) -> Module:
        """Build a classifier."""
        from torch import nn

        from fbspace.layers import Mean

        return nn.Sequential(OrderedDict(mean=Mean(False), fc=nn.Linear(spec.in_channels, spec.out_channels)))

    def count(self, spec: OpSpec) -> tuple[int, int]:
        """Return what counting the module gives."""
        return spec.in_channels * spec.out_channels, (spec.in_channels + 1) * spec.out_channels

    def output_size(self, spec: OpSpec) -> tuple[int, int]:
        """Pooling ends in 1x1."""
        return 1, 1
