"""The supernet against the sum written out, and against the network it stands for."""

import pytest
import torch

from fbsearch.search import one_hot
from fbsearch.strategies import load_strategy
from fbsearch.supernet import SuperNet
from fbspace.architecture import Architecture
from fbspace.network import build_network
from fbspace.space import Space

X = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def net(micro: Space) -> SuperNet:
    torch.manual_seed(0)
    return SuperNet(micro, 10, load_strategy("mixture"))


def test_a_mixture_is_the_weighted_sum_of_its_candidates(net: SuperNet) -> None:
    m = [torch.tensor([0.2, 0.5, 0.3]), torch.tensor([0.6, 0.1, 0.3])]
    x = net.stem(X)
    x = 0.2 * net.layers[0][0](x) + 0.5 * net.layers[0][1](x) + 0.3 * net.layers[0][2](x)
    x = 0.6 * net.layers[1][0](x) + 0.1 * net.layers[1][1](x) + 0.3 * net.layers[1][2](x)
    torch.testing.assert_close(net(X, m), net.head(x))


def test_a_mixture_and_its_gradients_are_those_of_the_plain_way(net: SuperNet, micro: Space) -> None:
    plain = SuperNet(micro, 10, net.strategy).to(memory_format=torch.contiguous_format)
    plain.load_state_dict(net.state_dict())
    labels = torch.tensor([0, 1, 2, 3, 4, 5])
    logits = []
    for of in (net, plain):
        m = of.strategy.sample(list(of.theta), 5.0, torch.Generator().manual_seed(0))
        if of is net:
            y = of(X, m)
        else:
            y = of.stem(X)
            for candidates, m_l in zip(of.layers, m, strict=True):
                y = torch.stack([m_i * b_i(y) for m_i, b_i in zip(m_l, candidates, strict=True)]).sum(0)
            y = of.head(y)
        torch.nn.functional.cross_entropy(y, labels).backward()
        logits.append(y)
    torch.testing.assert_close(*logits, rtol=1e-4, atol=1e-4)
    for (name, p), q in zip(net.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-4, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("choices", [(0, 0), (1, 2), (2, 1)])
def test_a_path_is_the_mixture_with_one_hot_weights(net: SuperNet, choices: tuple[int, int]) -> None:
    torch.testing.assert_close(net.path(X, choices), net(X, [one_hot(choice, 3) for choice in choices]))


def test_a_path_is_the_network_that_it_stands_for(net: SuperNet, micro: Space, micro_file: object) -> None:
    architecture = Architecture(name="x", space=str(micro_file), choices=("k5_e3", "k3_e1"))
    network = build_network(architecture, micro, classes=10).train()
    parts = [*net.stem, net.layers[0][1], net.layers[1][0], *net.head]
    for target, part in zip(network, parts, strict=True):
        target.load_state_dict(part.state_dict(), strict=False)  # the supernet keeps no running statistics
    torch.testing.assert_close(net.path(X, (1, 0)), network(X))


def test_classes_follow_the_data_and_theta_starts_uniform(micro: Space) -> None:
    net = SuperNet(micro, 7, load_strategy("mixture"))
    assert net.path(X, (0, 0)).shape == (6, 7)
    assert [p.tolist() for p in net.probabilities()] == [pytest.approx([1 / 3] * 3)] * 2
    assert len(net.weights()) + 2 == len(list(net.parameters()))
