"""The average of weights against its closed form."""

import pytest
import torch
from torch import Tensor, nn

from fbsearch.training.ema import Ema


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


def test_weights_and_statistics_are_the_weighted_average_of_all_that_was_seen_and_counters_are_copied() -> None:
    live, decay = network(1), 0.9
    ema = Ema(live, decay)
    seen: list[dict[str, Tensor]] = []
    for step in range(5):
        with torch.no_grad():
            for parameter in live.parameters():
                parameter.add_(torch.randn(parameter.shape))
        live.train()(torch.randn(2, 3, 8, 8))  # moves the statistics
        ema.update()
        seen.append({name: value.clone() for name, value in live.state_dict().items()})
        shares = [(1 - decay) * decay ** (step - i) / (1 - decay ** (step + 1)) for i in range(step + 1)]
        assert sum(shares) == pytest.approx(1)
        for name, value in ema.network.state_dict().items():
            if value.is_floating_point():
                expected = sum(share * each[name].double() for share, each in zip(shares, seen, strict=True))
                torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-6)
            else:
                assert value == step + 1, name


def test_it_continues_from_its_state_and_leaves_the_network_alone() -> None:
    live, other = network(1), network(1)
    whole, half, resumed = Ema(live, 0.5), Ema(live, 0.5), Ema(other, 0.5)
    for seed in range(4):
        weights = network(seed).state_dict()
        live.load_state_dict(weights)
        other.load_state_dict(weights)
        whole.update()
        if seed < 2:
            half.update()
        if seed == 1:
            resumed.load_state(half.state())
        elif seed > 1:
            resumed.update()
        assert all(torch.equal(value, weights[name]) for name, value in live.state_dict().items())
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, resumed.network.state_dict()[name]), name
    assert not any(parameter.requires_grad for parameter in whole.network.parameters())
