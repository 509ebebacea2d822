"""A start at which the candidates of a layer agree: each does what skip does, and learns what it does better.

Drawn independently, nine candidates hand nine unrelated representations to the next layer, which can learn nothing from
any of them until they agree; that takes thousands of steps, and skip, which has nothing to learn, is ahead all along.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from fbspace.blocks.ir import InvertedResidual

NOISE = 0.3
"""How much of its random weights a block keeps around what it passes on; they set candidates and channels apart."""
OPEN = 1.0
"""β of the normalisations before an activation, in standard deviations: ReLU then cuts off a sixth of the values."""


@torch.no_grad()
def agree(candidates: Iterable[nn.Module]) -> None:
    """Change the weights of a layer's candidates in place; blocks of other kinds, and layers without skip, stay.

    Where the shape is kept, the branch beside the identity starts at zero: γ = 0 of its last normalisation (Goyal et
    al., 2017). Where it changes, skip is a 1x1 convolution, of which only the weights are kept that a grouped block can
    have too; and a block passes its input on, with random weights around that, and projects it with skip's weights.
    """
    candidates = list(candidates)
    blocks = [block for block in candidates if isinstance(block, InvertedResidual)]
    for block in blocks:
        if block.residual:
            nn.init.zeros_(_norm(block.project).weight)
    skip = next((block for block in candidates if isinstance(block, nn.Sequential)), None)
    if skip is not None:
        nn.init.constant_(_norm(skip).bias, OPEN)
        sources = [_pass_on(block) for block in blocks]
        weight = _convolution(skip).weight[:, :, 0, 0]
        for seen in sources:
            weight *= _reached(seen, weight)
        for block, seen in zip(blocks, sources, strict=True):
            for rows, columns in zip(torch.arange(len(weight)).chunk(len(seen)), seen, strict=True):
                _convolution(block.project).weight[rows, :, 0, 0] = weight[rows][:, columns]


def _pass_on(block: InvertedResidual) -> Tensor:
    """Let a block pass its input on up to the projection; return the input channels that each of its groups sees."""
    expand, depthwise = _convolution(block.expand), _convolution(block.depthwise)
    middle, groups, per_group = torch.arange(expand.out_channels), expand.groups, expand.in_channels // expand.groups
    group, channel = middle // (len(middle) // groups), middle % (len(middle) // groups) % per_group
    for part in (block.expand, block.depthwise):
        _convolution(part).weight *= NOISE
        nn.init.constant_(_norm(part).bias, OPEN)
    expand.weight[middle, channel, 0, 0] += 1
    depthwise.weight[:, 0, depthwise.kernel_size[0] // 2, depthwise.kernel_size[1] // 2] += 1
    passed: Tensor = block.shuffle((group * per_group + channel)[None, :, None, None])
    return passed.view(groups, -1)


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
