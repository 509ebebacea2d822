"""single-path: what it draws, what runs, and what it leaves alone; its gradient is in test_score.py."""

from collections.abc import Callable

import torch

from fbsearch.fbnet.derive import derive
from fbsearch.fbnet.search import Search
from fbsearch.fbnet.settings import Settings
from fbsearch.fbnet.supernet import SuperNet
from fbsearch.images.data import Data
from fbsearch.machine.seeds import generator_of
from fbsearch.strategies import STRATEGIES
from fbsearch.theta import one_hot
from fbspace.space import Space

THETA = torch.tensor([0.4, -0.8, 1.1], dtype=torch.float64)
SETTINGS = Settings(space="micro", data="digits", strategy="single-path", w_start="random", batch=40, limit=200)


def test_draws_have_the_probabilities_of_softmax() -> None:
    draws, generator, strategy = 4000, torch.Generator().manual_seed(0), STRATEGIES.load("single-path")
    m = torch.stack([strategy.sample([THETA], 0.1, generator)[0] for _ in range(draws)])
    # 5 standard deviations of a frequency from 4,000 draws are below 0.04
    torch.testing.assert_close(m.mean(0), torch.softmax(THETA, 0), atol=0.04, rtol=0)


def test_forward_is_the_path_drawn_bit_for_bit(micro: Space) -> None:
    net, strategy = SuperNet.of(micro, 10, seed=0), STRATEGIES.load("single-path")
    x = torch.randn(6, 3, 8, 8).to(memory_format=torch.channels_last)
    for seed in range(4):
        m = strategy.sample([torch.zeros(3, requires_grad=True)] * 2, 1.0, torch.Generator().manual_seed(seed))
        y = net.stem(x)
        for layer, m_l in zip(net.layers, m, strict=True):
            y = layer[int(m_l.argmax())](y)  # type: ignore[index]
        assert torch.equal(net(x, m, strategy), net.head(y))


def test_a_w_step_touches_the_candidates_drawn_and_no_other(make: Callable[..., Search], digits: Data) -> None:
    search = make(SETTINGS)
    before = [[[p.clone() for p in b.parameters()] for b in layer] for layer in search.net.layers]  # type: ignore[union-attr]
    m = search.strategy.sample(list(search.objectives[0].theta), 5.0, generator_of(0, "x"))
    x, y = next(digits.batches(digits.w, 16))
    search.w_step(x, y, 5.0, generator_of(0, "x"))
    for layer, before_l, m_l in zip(search.net.layers, before, m, strict=True):
        changed = [
            any(not torch.equal(p, q) for p, q in zip(b.parameters(), before_b, strict=True))
            for b, before_b in zip(layer, before_l, strict=True)  # type: ignore[call-overload]
        ]
        trainable = [bool(before_b) for before_b in before_l]
        assert changed == [bool(m_i) and some for m_i, some in zip(m_l, trainable, strict=True)]


def test_the_network_that_the_estimate_says_loses_least_is_evaluated(make: Callable[..., Search], micro: Space) -> None:
    search = make(SETTINGS)
    objective = search.objectives[0]
    assert objective.estimate is not None
    with torch.no_grad():
        for theta_l in objective.theta:
            theta_l[2] = 50.0  # P_θ draws one network only
    first, _, likely = zip(*(layer.candidates for layer in micro.layers), strict=True)
    samples = [[one_hot(i, 3)] * 2 for i in (0, 2)]
    objective.estimate.learn(torch.tensor([1.0, 5.0]), samples)
    assert {candidate.choices for candidate in derive(search, objective, 2)} == {first, likely}
