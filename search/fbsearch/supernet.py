"""SuperNet: every network of a space in one module that shares weights, with the architecture parameters θ."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from fbsearch.strategies import Strategy
from fbspace.blocks import build_block
from fbspace.space import Space


class SuperNet(nn.Module):
    """Stem → layers of candidates → head; θ holds one vector of logits per layer, zero at first (uniform P_θ).

    The classifier has as many classes as the data, whereas costs use the space's own operators: searching on a proxy
    task for the network of the real one is the paper's practice (FBNet searched on 100 of ImageNet's classes).

    Batch normalisation always uses the statistics of the batch: running ones would average over random mixtures of
    candidates and fit no single network.
    """

    def __init__(self, space: Space, classes: int, strategy: Strategy) -> None:
        super().__init__()
        *head, classifier = space.heads[space.head_channels]
        self.strategy = strategy
        self.stem = nn.Sequential(*map(build_block, space.stem))
        self.layers = nn.ModuleList(
            nn.ModuleList(build_block(spec) for spec in layer.candidates.values()) for layer in space.layers
        )
        self.head = nn.Sequential(*map(build_block, [*head, replace(classifier, out_channels=classes)]))
        self.theta = nn.ParameterList(torch.zeros(len(layer.candidates)) for layer in space.layers)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                _use_batch_statistics(module)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # 0.42x the time on a CPU

    def forward(self, x: Tensor, m: Sequence[Tensor]) -> Tensor:
        """Map N, C, H, W to N, classes; `m` holds the weights of every layer's candidates."""
        x = self.stem(x.contiguous(memory_format=torch.channels_last))
        for candidates, m_l in zip(self.layers, m, strict=True):
            assert isinstance(candidates, nn.ModuleList)
            x = self.strategy.layer(candidates, x, m_l)
        logits: Tensor = self.head(x)
        return logits

    def path(self, x: Tensor, choices: Sequence[int]) -> Tensor:
        """Map N, C, H, W to N, classes through one candidate per layer: what `forward` gives for one-hot weights."""
        x = self.stem(x.contiguous(memory_format=torch.channels_last))
        for candidates, choice in zip(self.layers, choices, strict=True):
            assert isinstance(candidates, nn.ModuleList)
            x = candidates[choice](x)
        logits: Tensor = self.head(x)
        return logits

    def weights(self) -> list[nn.Parameter]:
        """Return w: all parameters but θ."""
        return [p for name, p in self.named_parameters() if not name.startswith("theta.")]

    def probabilities(self) -> list[Tensor]:
        """Return P_θ per layer, softmax(θ_l), without gradient."""
        return [torch.softmax(theta_l.detach(), dim=-1) for theta_l in self.theta]


def _use_batch_statistics(norm: nn.BatchNorm2d) -> None:
    norm.track_running_stats = False
    norm.running_mean = norm.running_var = norm.num_batches_tracked = None
