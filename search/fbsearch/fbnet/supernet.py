"""SuperNet: every network of a space in one module that shares weights."""

import copy
import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fbsearch.beyond.alike import agree
from fbsearch.machine.compute import channels_last
from fbsearch.machine.norm import estimate_norms, use_batch_statistics
from fbsearch.strategies import Strategy
from fbspace.blocks import build_block
from fbspace.space import Space

RUN_AGAIN_ELEMENTS = 1 << 17
"""Elements of a batch from which a layer counts as one on large maps, which keeps most of all for its gradients."""


class SuperNet(nn.Module):
    """Stem → layers of candidates → head; the architecture parameters θ are not part of it.

    Batch normalisation always uses the statistics of the batch: running ones would average over random mixtures of
    candidates and fit no single network. A network taken out (`network`) gets statistics of its own.

    With `saves_memory`, layers on large maps keep nothing for their gradients but run once more (Chen et al., 2016).
    `shares_norms` says that its batch normalisation is over many processes (`fbsearch.machine.norm`).
    """

    saves_memory: bool = False
    shares_norms: bool = False

    def __init__(self, stem: nn.Module, layers: Sequence[Sequence[nn.Module]], head: nn.Module) -> None:
        super().__init__()
        self.stem = stem
        self.layers = nn.ModuleList(nn.ModuleList(candidates) for candidates in layers)
        self.head = head
        use_batch_statistics(self)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # 0.42x the time on a CPU

    @classmethod
    def of(cls, space: Space, classes: int, seed: int, alike: bool = True) -> "SuperNet":
        """Build the supernet of a space; with `alike` the candidates of a layer start as one (`fbsearch.beyond.alike`).

        The classifier has as many classes as the data, whereas costs use the space's own operators: searching on a
        proxy task for the network of the real one is the paper's practice (FBNet searched on 100 of ImageNet's
        classes).
        """
        *head, classifier = space.heads[space.head_channels]
        head.append(replace(classifier, out_channels=classes))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            stem = nn.Sequential(*map(build_block, space.stem))
            layers = [[build_block(spec) for spec in layer.candidates.values()] for layer in space.layers]
            for layer, candidates in zip(space.layers, layers, strict=True) if alike else []:
                agree(list(layer.candidates.values()), candidates)
            return cls(stem, layers, nn.Sequential(*map(build_block, head)))

    def forward(self, x: Tensor, m: Sequence[Tensor], strategy: Strategy) -> Tensor:
        """Map N, C, H, W to N, classes; `m` holds the weights of every layer's candidates."""
        x = self.stem(channels_last(x))
        for candidates, m_l in zip(self.layers, m, strict=True):
            x = self.run(functools.partial(strategy.layer, list(candidates.children()), m=m_l), x)
        logits: Tensor = self.head(x)
        return logits

    def run(self, layer: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """Return a layer's output, which keeps nothing for its gradients where that saves memory."""
        if self.saves_memory and torch.is_grad_enabled() and x.numel() > RUN_AGAIN_ELEMENTS:
            again: Tensor = checkpoint(layer, x, use_reentrant=False, preserve_rng_state=False)
            return again
        return layer(x)

    @torch.no_grad()
    def network(self, choices: Sequence[int], images: Iterable[Tensor]) -> nn.Sequential:
        """Return a copy of one network in eval mode, its batch normalisation re-estimated on batches of images."""
        return estimate_norms(self.taken_out(choices), images)

    def taken_out(self, choices: Sequence[int]) -> nn.Sequential:
        """Return a copy of one network, with batch normalisation that uses the statistics of the batch."""
        layers = [[*candidates.children()][i] for candidates, i in zip(self.layers, choices, strict=True)]
        return copy.deepcopy(nn.Sequential(self.stem, *layers, self.head))
