"""A start at which the candidates of a layer agree: each does what skip does, and learns what it does better.

Drawn independently, nine candidates hand nine unrelated representations to the next layer, which can learn nothing from
any of them until they agree; that takes thousands of steps, and skip, which has nothing to learn, is ahead all along.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fbsearch.errors import SearchError
from fbspace.blocks import Block, Start, block_of, is_identity
from fbspace.opspec import OpSpec
from fbspace.space import Space

NOISE = 0.3
"""How much of its random weights a block keeps around what it passes on; they set candidates and channels apart."""
OPEN = 1.0
"""β of the normalisations before an activation, in standard deviations: ReLU then cuts off a sixth of the values."""


@torch.no_grad()
def agree(specs: Sequence[OpSpec], candidates: Sequence[nn.Module]) -> None:
    """Change the weights of a layer's candidates in place, of those whose blocks have a start (`kinds_apart`).

    Where the shape changes and no candidate leaves the layer out, all stay as they are.

    Where the shape is kept, the branch beside the identity starts at zero: γ = 0 of its last normalisation (Goyal et
    al., 2017). Where it changes, skip is a 1x1 convolution, of which only the weights are kept that a grouped block can
    have too; and a block passes its input on, with random weights around that, and projects it with skip's weights.
    Raises SearchError for a start that is none.
    """
    found = [(block_of(s), _start(s, m)) for s, m in zip(specs, candidates, strict=True) if not is_identity(s)]
    blocks = [start for block, start in found if start is not None and not block.leaves_out]
    skip = next((start.project for block, start in found if start is not None and block.leaves_out), None)
    for block in blocks:
        if block.adds_input:
            nn.init.zeros_(_norm(block.project).weight)
    if skip is not None:
        nn.init.constant_(_norm(skip).bias, OPEN)
        sources = [_pass_on(block, specs[0].in_channels) for block in blocks]
        weight = _convolution(skip).weight[:, :, 0, 0]
        for seen in sources:
            weight *= _reached(seen, weight)
        for block, seen in zip(blocks, sources, strict=True):
            for rows, columns in zip(torch.arange(len(weight)).chunk(len(seen)), seen, strict=True):
                _convolution(block.project).weight[rows, :, 0, 0] = weight[rows][:, columns]


def _start(spec: OpSpec, module: nn.Module) -> Start | None:
    """Return what a block says of its module; raise SearchError where that is not as `Start` has it."""
    start = block_of(spec).start(module)
    if start is None:
        return None
    weighted = [part for part in start.path if next(part.parameters(), None) is not None]
    normalised = all(_layers(part) == [nn.Conv2d, nn.BatchNorm2d] for part in (*weighted, start.project))
    if not normalised or _convolution(start.project).kernel_size != (1, 1):
        raise SearchError(
            f"the start of block {spec.kind!r} has a part that is no convolution followed by batch normalisation, or "
            "projects by more than 1x1: mend its start(), or leave it away to begin at random (docs/extend/block.md)"
        )
    return start


def _layers(module: nn.Module) -> list[type[nn.Module]]:
    """Return the kinds of the layers that have weights, in order."""
    return [type(m) for m in module.modules() if next(m.parameters(recurse=False), None) is not None]


def kinds_apart(space: Space) -> list[str]:
    """Return the kinds of candidates that start at random beside others that agree: their blocks have no start."""
    blocks = {spec.kind: block_of(spec) for layer in space.layers for spec in layer.candidates.values()}
    return [kind for kind, block in blocks.items() if type(block).start is Block.start]


def _pass_on(block: Start, in_channels: int) -> Tensor:
    """Let a block pass its input on up to the projection; return the input channels that each of its groups sees."""
    seen = torch.arange(in_channels)
    for part in block.path:
        if next(part.parameters(), None) is not None:
            _convolution(part).weight *= NOISE
            nn.init.constant_(_norm(part).bias, OPEN)
            seen = seen[_open(_convolution(part))]
        else:
            seen = part(seen[None, :, None, None]).flatten()
    return seen.view(_convolution(block.project).groups, -1)


def _open(convolution: nn.Conv2d) -> Tensor:
    """Add 1 where each output channel of a convolution takes one of the inputs of its group; return which it takes."""
    out, groups, (height, width) = convolution.out_channels, convolution.groups, convolution.kernel_size
    per_group, middle = convolution.in_channels // groups, torch.arange(out)
    group, channel = middle // (out // groups), middle % (out // groups) % per_group
    convolution.weight[middle, channel, height // 2, width // 2] += 1
    return group * per_group + channel


def _reached(seen: Tensor, weight: Tensor) -> Tensor:
    """Return 1 where a block's groups lead from an input to an output channel, else 0."""
    mask = torch.zeros_like(weight)
    for rows, columns in zip(torch.arange(len(weight)).chunk(len(seen)), seen, strict=True):
        mask[rows[:, None], columns] = 1
    return mask


def _convolution(module: nn.Module) -> nn.Conv2d:
    return next(m for m in module.modules() if isinstance(m, nn.Conv2d))


def _norm(module: nn.Module) -> nn.BatchNorm2d:
    return next(m for m in module.modules() if isinstance(m, nn.BatchNorm2d))
