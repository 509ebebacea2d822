"""Batch normalisation over two real processes against torch's over the whole batch: outputs and all gradients."""

import os
import socket
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from peers.processes import Python

WORKER = """
import sys
import torch
from fbsearch.machine.compute import Compute
from fbsearch.machine.norm import SharedBatchNorm
from fbsearch.machine.ranks import Ranks

x, dy, weight, bias = torch.load(sys.argv[1])
norm = torch.nn.BatchNorm2d(x.shape[1]).to(x.dtype)
norm.weight.data, norm.bias.data = weight, bias
with Ranks.joined(Compute()) as ranks:
    x = x[ranks.rank :: ranks.world].requires_grad_()
    shared = SharedBatchNorm(norm, ranks)
    y = shared(x)
    y.backward(dy[ranks.rank :: ranks.world])
    gradients = [ranks.add(parameter.grad.clone()) for parameter in (shared.weight, shared.bias)]
    half = shared.float()(x.detach().bfloat16())
    torch.save([y.detach(), x.grad, *gradients, half.detach()], f"{sys.argv[1]}.{ranks.rank}")
"""


def test_two_ranks_normalise_as_one_process_with_the_whole_batch(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    x, dy, weight, bias = 3 + 2 * drawn(5, 4, 3, 3), drawn(5, 4, 3, 3), drawn(4), drawn(4)  # 3 images and 2
    torch.save([x, dy, weight, bias], tmp_path / "batch")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    meeting = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    command = ["-c", WORKER, str(tmp_path / "batch")]
    workers = [Python(command, env=meeting | {"RANK": str(rank)}) for rank in range(2)]
    assert [worker.wait(timeout=60) for worker in workers] == [0, 0]

    norm = nn.BatchNorm2d(4, track_running_stats=False).double()
    norm.weight.data, norm.bias.data = weight, bias
    whole = x.clone().requires_grad_()
    y = norm(whole)
    y.backward(dy)
    assert whole.grad is not None
    for rank in range(2):
        mine = torch.load(tmp_path / f"batch.{rank}")
        expected = [y[rank::2], whole.grad[rank::2], norm.weight.grad, norm.bias.grad]
        for value, other in zip(mine, expected, strict=False):
            torch.testing.assert_close(value, other, rtol=1e-12, atol=1e-12)
        assert mine[-1].dtype == torch.bfloat16
        torch.testing.assert_close(mine[-1].double(), y[rank::2], rtol=0.02, atol=0.02)


@pytest.mark.parametrize("images", [1, 8])
def test_one_rank_normalises_as_torch_does(images: int) -> None:
    from fbsearch.machine.norm import SharedBatchNorm
    from fbsearch.machine.ranks import Ranks

    x = torch.randn(images, 4, 3, 3, generator=torch.Generator().manual_seed(1))
    norm = nn.BatchNorm2d(4, track_running_stats=False)
    torch.testing.assert_close(SharedBatchNorm(norm, Ranks())(x), norm(x))
