"""MaskedNet: every network of a space with several widths, expansions and sizes in one module that shares weights."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from fbsearch.fbnet.supernet import SuperNet
from fbsearch.fbnetv2.blocks import MASKED, Choice, MaskedBlock, Widths, inherit, run_first_filters
from fbsearch.fbnetv2.masks import at_sides, subsample
from fbsearch.machine.compute import channels_last
from fbsearch.machine.norm import use_batch_statistics
from fbsearch.strategies import Strategy
from fbspace.blocks import build_block
from fbspace.opspec import OpSpec
from fbspace.space import Layer, Space

ONE = torch.ones(1)
"""The weights of a decision with one option."""


class MaskedNet(SuperNet):
    """The supernet of FBNetV2 (CVPR'20): θ decides on sizes, expansions and widths beside blocks, one vector each.

    Widths that go out of a layer are those that come into the next, so one decision masks both. Where one path runs,
    masks are one-hot, and the first filters alone are run in their place; not where batch normalisation is shared by
    many processes, as those run it over the modules of the masks.
    """

    def __init__(self, space: Space, classes: int) -> None:
        """Build the supernet for so many classes. Raises UnknownNameError for a kind of block without masks."""
        *head, classifier = space.heads[space.head_channels]
        head = [*head, replace(classifier, out_channels=classes)]
        layers = [
            [MASKED.find(spec.kind)(spec, _widths(layer, spec)) for spec in layer.candidates.values()]
            for layer in space.layers
        ]
        super().__init__(nn.Sequential(*map(build_block, space.stem)), layers, nn.Sequential(*map(build_block, head)))
        self.space, self.classes = space, classes
        self.sides = [[cursor.height for cursor in at] for at in zip(*space.cursors().values(), strict=True)]
        """Sides of the maps that come into the stem, every layer and the head, each for every size."""

    @classmethod
    def of(cls, space: Space, classes: int, seed: int, alike: bool = True) -> "MaskedNet":
        """Build the supernet of a space; its candidates start at random (`alike` is for blocks without masks)."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(space, classes)

    def forward(self, x: Tensor, m: Sequence[Tensor], strategy: Strategy) -> Tensor:
        """Map N, C, H, W to N, classes; `m` holds the weights of the options of every decision of the space."""
        if strategy.one_path and not self.shares_norms:
            return self._one_network(x, [int(m_d.argmax()) for m_d in m])
        decided = dict(zip(((d.layer, d.what) for d in self.space.decisions), m, strict=True))
        size = decided.get((0, "size"), ONE)
        x = self.at_sizes(self.stem, channels_last(x), size, 0)
        ins = ONE
        for number, (layer, blocks) in enumerate(zip(self.space.layers, self.layers, strict=True), start=1):
            expansions = decided.get((layer.index, "expansion"), ONE)
            outs = ins if layer.keeps_width else decided.get((layer.index, "width"), ONE)
            choice = Choice(ins, expansions, outs)
            bound = [functools.partial(block, choice=choice) for block in blocks.children()]
            run = functools.partial(strategy.layer, bound, m=decided[layer.index, "block"])
            x = self.run(functools.partial(self.at_sizes, run, size=size, number=number), x)
            ins = outs
        logits: Tensor = self.at_sizes(self.head, x, size, -1)
        return logits

    def at_sizes(self, run: Callable[[Tensor], Tensor], x: Tensor, size: Tensor, number: int) -> Tensor:
        """Run a part of the network at every size; the head, number -1, ends in logits, which are summed."""
        sides = self.sides[number]
        if len(sides) == 1:
            return run(x)
        return at_sides(run, x, size, sides, max(self.sides[number + 1]) if number >= 0 else None)

    def taken_out(self, choices: Sequence[int]) -> nn.Sequential:
        """Return a copy of one network: ordinary blocks with slices of the weights, on images of the size chosen."""
        parts = self._parts(choices)
        resize = [Resize(parts[0][0].height)] if self.space.sizes else []
        network = nn.Sequential(*resize, *(inherit(spec, source) for spec, source in parts))
        use_batch_statistics(network)
        return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]

    def _one_network(self, x: Tensor, choices: Sequence[int]) -> Tensor:
        """Return the logits of one network: what masks make of the whole at one-hot, without running what they drop."""
        parts = self._parts(choices)
        x = channels_last(subsample(x, parts[0][0].height)) if self.space.sizes else channels_last(x)
        for spec, source in parts:
            x = self.run(functools.partial(run_first_filters, spec, source), x)
        return x

    def _parts(self, choices: Sequence[int]) -> list[tuple[OpSpec, nn.Module]]:
        """Return the operators of one network, each with the module that has its weights."""
        decisions = self.space.decisions
        specs = self.space.all_specs(self.space.names(choices))
        specs[-1] = replace(specs[-1], out_channels=self.classes)
        blocks = {d.layer: i for d, i in zip(decisions, choices, strict=True) if d.what == "block"}
        first, last = len(self.space.stem), len(self.space.stem) + len(self.layers)
        chosen: list[nn.Module] = []
        for number, (spec, layer) in enumerate(zip(specs[first:last], self.layers, strict=True), start=1):
            block = [*layer.children()][blocks[number]]
            assert isinstance(block, MaskedBlock)
            chosen.append(block.weights(spec))
        return list(zip(specs, [*self.stem.children(), *chosen, *self.head.children()], strict=True))


class Resize(nn.Module):
    """Subsample images to the size that was chosen, by nearest neighbour as the supernet does."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, x: Tensor) -> Tensor:
        """Map N, C, H, H to N, C, side, side."""
        return subsample(x, self.side)


def _widths(layer: Layer, spec: OpSpec) -> Widths:
    """Return the options of a candidate; one option where the space file names none."""
    ins, outs = layer.ins or (spec.in_channels,), layer.widths or (spec.out_channels,)
    return Widths(ins, layer.expansions_of(spec), outs, layer.keeps_width)
