"""Batch normalisation of a supernet: by the statistics of the batch, of all ranks' images, of one network's images."""

import itertools
from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fbsearch.machine.compute import channels_last
from fbsearch.machine.ranks import Ranks


def use_batch_statistics(net: nn.Module) -> None:
    """Let batch normalisation keep no statistics and always use those of the batch.

    A ReLU after it overwrites its input, which no gradient needs: less memory and time.
    """
    for sequence in net.modules():
        if isinstance(sequence, nn.Sequential):
            for before, activation in itertools.pairwise(sequence):
                if isinstance(before, nn.BatchNorm2d) and isinstance(activation, nn.ReLU):
                    activation.inplace = True
    for norm in _norms(net):
        norm.track_running_stats = False
        norm.running_mean = norm.running_var = norm.num_batches_tracked = None


def estimate_norms(network: nn.Sequential, images: Iterable[Tensor]) -> nn.Sequential:
    """Return the network in eval mode, its batch normalisation estimated on batches of images."""
    for norm in _norms(network):
        norm.momentum, norm.track_running_stats = None, True  # None: the plain mean over the batches
        norm.running_mean, norm.running_var = torch.zeros_like(norm.weight), torch.ones_like(norm.weight)
        norm.num_batches_tracked = torch.zeros((), dtype=torch.long, device=norm.weight.device)
    network.train()
    for x in images:
        network(channels_last(x))
    return network.eval()


def _norms(module: nn.Module) -> list[nn.BatchNorm2d]:
    return [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]


class SharedBatchNorm(nn.BatchNorm2d):
    """Batch normalisation without running statistics: over all ranks.

    A copy that is given running statistics normalises like any other, over its own rank alone. (torch's SyncBatchNorm
    refuses a CPU.)
    """

    def __init__(self, norm: nn.BatchNorm2d, ranks: Ranks) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum, track_running_stats=False)
        self.weight, self.bias = norm.weight, norm.bias
        self.ranks = ranks

    def forward(self, x: Tensor) -> Tensor:
        """Map N, C, H, W to the same shape."""
        if self.track_running_stats:
            return super().forward(x)
        y: Tensor = _Normalise.apply(x, self.weight, self.bias, self.eps, self.ranks)  # type: ignore[no-untyped-call]
        return y


def share_norms(net: nn.Module, ranks: Ranks) -> None:
    """Make every batch normalisation of a network one over all ranks, with the same parameters."""
    for module in list(net.modules()):
        for name, child in module.named_children():
            if type(child) is nn.BatchNorm2d:
                setattr(module, name, SharedBatchNorm(child, ranks))


class _Normalise(torch.autograd.Function):
    """y = γ · x̂ + β with x̂ = (x − μ) / σ over the N images and pixels of all ranks (Ioffe and Szegedy, ICML'15).

        ∂L/∂x = γ / σ · (∂L/∂y − mean(∂L/∂y) − x̂ · mean(∂L/∂y · x̂)),    means over all ranks too

    ∂L/∂γ and ∂L/∂β are those of this rank's images alone: like all gradients of weights they are summed afterwards.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, ranks: Ranks) -> Tensor:
        count = x.numel() // x.shape[1]
        var, mean = torch.var_mean(_exact(x), (0, 2, 3), correction=0)
        mine = torch.cat([mean, var, mean.new_tensor([count])])
        means, variances, counts = torch.split(ranks.gather(mine), [len(mean), len(mean), 1], dim=1)
        total = counts.sum()
        mean = (counts * means).sum(0) / total
        var = (counts * (variances + (means - mean) ** 2)).sum(0) / total
        ctx.ranks = ranks
        ctx.save_for_backward(x, weight, mean, torch.rsqrt(var + eps), total)
        return F.batch_norm(x, mean, var, weight, bias, training=False, eps=eps)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, inverse, total = ctx.saved_tensors
        dy = _exact(gradients[0])
        normalised = (_exact(x) - _wide(mean)) * _wide(inverse)
        dbias, dweight = dy.sum((0, 2, 3)), (dy * normalised).sum((0, 2, 3))
        dx = None
        if ctx.needs_input_grad[0]:
            mean_dy, mean_dy_normalised = (ctx.ranks.add(torch.stack([dbias, dweight])) / total).split(1)
            dx = _wide(weight * inverse) * (dy - _wide(mean_dy[0]) - normalised * _wide(mean_dy_normalised[0]))
            dx = dx.to(x.dtype)
        return dx, dweight, dbias, None, None


def _exact(x: Tensor) -> Tensor:
    """Return half precision as float32; anything else as it is."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _wide(values: Tensor) -> Tensor:
    return values[:, None, None]
