"""The mixture of the search, with all that makes it fast, against the plain way: same outputs, same gradients."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fbsearch.fbnet.supernet import SuperNet
from fbsearch.machine.compute import Compute
from fbsearch.strategies import STRATEGIES
from fbspace.blocks import build_block
from fbspace.space import Space

Y = torch.tensor([0, 1, 2, 3, 4, 5])


@pytest.mark.parametrize("size", [8, 2], ids=["maps larger than kernels", "maps smaller than kernels"])
def test_a_mixture_and_its_gradients_are_those_of_the_plain_way(micro: Space, size: int) -> None:
    net = Compute().place(SuperNet.of(micro, 10, seed=0))
    *head, classifier = micro.heads[micro.head_channels]
    plain = nn.ModuleDict(
        {
            "stem": nn.Sequential(*map(build_block, micro.stem)),
            "layers": nn.ModuleList(
                nn.ModuleList(map(build_block, layer.candidates.values())) for layer in micro.layers
            ),
            "head": nn.Sequential(*map(build_block, [*head, classifier])),
        }
    )
    plain.load_state_dict(net.state_dict(), strict=False)  # the supernet keeps no running statistics
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(6, 3, size, size, generator=generator)
    theta = [
        [torch.randn(3, generator=torch.Generator().manual_seed(i)).requires_grad_() for i in (1, 2)] for _ in "ab"
    ]
    mixture = STRATEGIES.load("mixture")

    ours = net(x, mixture.sample(theta[0], 5.0, torch.Generator().manual_seed(0)), mixture)
    theirs = plain["stem"](x)
    m = mixture.sample(theta[1], 5.0, torch.Generator().manual_seed(0))
    for candidates, m_l in zip(plain["layers"], m, strict=True):  # type: ignore[call-overload]
        theirs = torch.stack([m_i * b_i(theirs) for m_i, b_i in zip(m_l, candidates, strict=True)]).sum(0)
    theirs = plain["head"](theirs)

    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    for logits in (ours, theirs):
        F.cross_entropy(logits, Y).backward()
    expected = dict(plain.named_parameters())
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name].grad, rtol=1e-4, atol=1e-4)
    for ours_l, theirs_l in zip(*theta, strict=True):
        torch.testing.assert_close(ours_l.grad, theirs_l.grad, rtol=1e-4, atol=1e-4)
