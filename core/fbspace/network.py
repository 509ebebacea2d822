"""An architecture as an ordinary nn.Module, and what it costs to run it: multiply-accumulates and parameters.

Blocks of this project are counted without torch, which is imported where modules are built (`fbspace.blocks`).
"""

import functools
import math
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fbspace.architecture import Architecture
from fbspace.blocks import block_of, build_block
from fbspace.errors import SpecError
from fbspace.opspec import OpSpec
from fbspace.space import Space

if TYPE_CHECKING:
    from torch import Tensor, nn


def build_network(
    architecture: Architecture, space: Space | None = None, classes: int | None = None
) -> "nn.Sequential":
    """Return the network: N, channels, size, size → N, classes (the space's number of classes unless given).

    Its children are `stem_1`, `layer_01` … `layer_22`, `head_1`, `head_2`.
    """
    from torch import nn

    space = space or architecture.load_space()
    specs = architecture.all_specs(space)
    if classes is not None:
        specs[-1] = replace(specs[-1], out_channels=classes)
    names = [f"stem_{i}" for i in range(1, len(space.stem) + 1)]
    names += [f"layer_{layer.index:02d}" for layer in space.layers]
    names += [f"head_{i}" for i in range(1, len(specs) - len(names) + 1)]
    return nn.Sequential(OrderedDict((n, build_block(s)) for n, s in zip(names, specs, strict=True)))


@dataclass(frozen=True, slots=True)
class Complexity:
    """Multiply-accumulates of convolutions and fully connected layers, and all parameters."""

    macs: int
    parameters: int


def count(module: "nn.Module", input_shape: tuple[int, ...]) -> Complexity:
    """Count what one image takes by running the module on none, which loses its weights.

    Biases, BN and pooling are not multiply-accumulates.
    """
    import torch

    try:
        return _count(module.to_empty(device="cpu").eval(), torch.empty(0, *input_shape[1:]))
    except RuntimeError:  # no images cannot be reshaped to (0, -1); shapes alone can, but torch loads for seconds first
        return _count(module.to("meta"), torch.empty(1, *input_shape[1:], device="meta"))


def _count(module: "nn.Module", images: "Tensor") -> Complexity:
    import torch
    from torch import nn

    macs = 0

    def add(layer: nn.Module, _: object, output: "Tensor") -> None:
        nonlocal macs
        if isinstance(layer, nn.Conv1d | nn.Conv2d):
            macs += output.shape[1:].numel() * layer.in_channels // layer.groups * math.prod(layer.kernel_size)
        elif isinstance(layer, nn.Linear):
            macs += output.shape[1:].numel() * layer.in_features

    hooks = [layer.register_forward_hook(add) for layer in module.modules()]
    try:
        with torch.no_grad():
            module(images)
    finally:
        for hook in hooks:
            hook.remove()
    return Complexity(macs, sum(p.numel() for p in module.parameters()))


def count_architecture(architecture: Architecture) -> Complexity:
    """Count a whole network."""
    counts = list(map(count_spec, architecture.all_specs()))
    return Complexity(sum(each.macs for each in counts), sum(each.parameters for each in counts))


@functools.lru_cache(maxsize=4096)
def count_spec(spec: OpSpec) -> Complexity:
    """Count one operator, once: its block is run, which no thread may do while another one traces, or has a formula."""
    counts = block_of(spec).count(spec)
    if counts is not None:
        return Complexity(*counts)
    import torch

    with torch.device("meta"):
        block = build_block(spec)
    try:
        return count(block, spec.input_shape)
    except (RuntimeError, TypeError, ValueError, IndexError) as error:  # what a block of others raises
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise SpecError(f"block {spec.kind!r} cannot run {spec.key()}: {reason:.300}") from error
