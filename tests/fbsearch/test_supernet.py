"""The supernet against the sum written out, and against the network it stands for."""

import pytest
import torch

from fbsearch.fbnet.supernet import SuperNet
from fbsearch.strategies import STRATEGIES
from fbsearch.theta import one_hot
from fbspace.architecture import Architecture
from fbspace.network import build_network
from fbspace.space import Space

MIXTURE = STRATEGIES.load("mixture")
X = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def net(micro: Space) -> SuperNet:
    return SuperNet.of(micro, 10, seed=0)


def test_a_mixture_is_the_weighted_sum_of_its_candidates(net: SuperNet) -> None:
    m = [torch.tensor([0.2, 0.5, 0.3]), torch.tensor([0.6, 0.1, 0.3])]
    x = net.stem(X)
    x = 0.2 * net.layers[0][0](x) + 0.5 * net.layers[0][1](x) + 0.3 * net.layers[0][2](x)
    x = 0.6 * net.layers[1][0](x) + 0.1 * net.layers[1][1](x) + 0.3 * net.layers[1][2](x)
    torch.testing.assert_close(net(X, m, MIXTURE), net.head(x))


def test_a_mixture_and_its_gradients_are_those_of_the_plain_way(net: SuperNet, micro: Space) -> None:
    plain = SuperNet.of(micro, 10, seed=1).to(memory_format=torch.contiguous_format)
    plain.load_state_dict(net.state_dict())
    labels = torch.tensor([0, 1, 2, 3, 4, 5])
    logits = []
    for of in (net, plain):
        m = MIXTURE.sample([torch.zeros(3, requires_grad=True)] * 2, 5.0, torch.Generator().manual_seed(0))
        if of is net:
            y = of(X, m, MIXTURE)
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


def count_runs(*blocks: torch.nn.Module) -> list[int]:
    """Return a list to which every run of one of the blocks adds 1."""
    runs: list[int] = []
    for block in blocks:
        block.register_forward_pre_hook(lambda module, inputs: runs.append(1))
    return runs


def test_what_is_run_again_to_save_memory_has_the_same_gradients(micro: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fbsearch.fbnet.supernet.RUN_AGAIN_ELEMENTS", 0)
    single_path, results = STRATEGIES.load("single-path"), []
    for saves_memory in (False, True):
        net = SuperNet.of(micro, 10, seed=0)
        net.saves_memory = saves_memory
        runs = count_runs(net.layers[0][1], net.layers[1][0])
        logits = net(X, [one_hot(1, 3), one_hot(0, 3)], single_path)
        torch.nn.functional.cross_entropy(logits, torch.arange(6)).backward()
        results.append((sum(runs), logits, [p.grad for p in net.parameters()]))
    (kept, *plain), (again, *saving) = results
    assert (kept, again) == (2, 4)
    assert torch.equal(plain[0], saving[0])
    assert all(g is h is None or torch.equal(g, h) for g, h in zip(plain[1], saving[1], strict=True))


@pytest.mark.parametrize("choices", [(0, 0), (1, 2), (2, 1)])
def test_a_single_path_is_the_mixture_with_one_hot_weights(net: SuperNet, choices: tuple[int, int]) -> None:
    m = [one_hot(choice, 3) for choice in choices]
    torch.testing.assert_close(net(X, m, STRATEGIES.load("single-path")), net(X, m, MIXTURE))


def test_a_network_taken_out_is_the_one_that_it_stands_for(net: SuperNet, micro: Space, micro_file: object) -> None:
    """In training mode it would have the batch's statistics; in eval mode, those of the batches it was shown."""
    architecture = Architecture(name="x", space=str(micro_file), choices=("k5_e3", "k3_e1"))
    network = build_network(architecture, micro, classes=10)
    parts = [*net.stem, net.layers[0][1], net.layers[1][0], *net.head]  # type: ignore[index, misc]
    for target, part in zip(network, parts, strict=True):
        target.load_state_dict(part.state_dict(), strict=False)  # the supernet keeps no running statistics
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = None
    m = [one_hot(1, 3), one_hot(0, 3)]
    torch.testing.assert_close(net(X, m, MIXTURE), network.train()(X))
    network(2 * X + 1)
    taken = net.network((1, 0), [X, 2 * X + 1])
    torch.testing.assert_close(taken(X), network.eval()(X))
    torch.testing.assert_close(taken(X[:1]), network(X)[:1])
    torch.testing.assert_close(net(X, m, MIXTURE), net(X.clone(), m, MIXTURE))  # and the supernet is as it was


def test_classes_follow_the_data(micro: Space) -> None:
    assert SuperNet.of(micro, 7, seed=0)(X, [one_hot(0, 3)] * 2, MIXTURE).shape == (6, 7)
