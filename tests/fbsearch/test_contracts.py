"""What every strategy, cost, loss and data source must do, for every name found."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from fblut.table import Lut
from fbsearch.beyond.score import Estimate, with_score
from fbsearch.costs import COSTS
from fbsearch.losses import LOSSES
from fbsearch.sources import SOURCES, open_source
from fbsearch.strategies import STRATEGIES
from fbsearch.theta import one_hot, softmax
from fbspace.space import Space

TARGET = 400.0


def test_the_published_names_are_found() -> None:
    assert {"mixture", "single-path", "darts", "random", "evolution"} <= set(STRATEGIES.names())
    assert {"lut", "macs", "params"} <= set(COSTS.names())
    assert {"paper", "product", "additive", "target"} <= set(LOSSES.names())
    assert {"cifar", "digits", "folders", "hf", "npz"} <= set(SOURCES.names())


@pytest.mark.parametrize("name", STRATEGIES.names())
class TestStrategy:
    def test_weights_are_a_distribution_per_layer_and_follow_from_the_generator(self, name: str) -> None:
        strategy = STRATEGIES.load(name)
        theta = [torch.tensor([0.0, 1.0, 2.0], requires_grad=True), torch.zeros(2, requires_grad=True)]
        m, again = (strategy.sample(theta, 1.0, torch.Generator().manual_seed(1)) for _ in range(2))
        assert [m_l.shape for m_l in m] == [(3,), (2,)]
        for m_l, again_l in zip(m, again, strict=True):
            assert (m_l >= 0).all()
            assert m_l.sum().item() == pytest.approx(1)
            assert torch.equal(m_l, again_l)

    def test_cross_entropy_and_cost_reach_theta_where_it_is_learned(self, name: str) -> None:
        strategy = STRATEGIES.load(name)
        if not strategy.learns_theta:
            return
        theta = [torch.zeros(3, requires_grad=True)]
        scales = nn.ModuleList([nn.Identity(), nn.Hardtanh(-0.5, 0.5), nn.ReLU()])
        generator = torch.Generator().manual_seed(1)
        for _ in range(9):  # a strategy that runs one candidate learns nothing from some draws
            samples = [strategy.sample(theta, 1.0, generator) for _ in range(strategy.compares or 1)]
            losses = [(strategy.layer(scales, torch.tensor([[-2.0, 2.0]]), m[0]) ** 2).sum() for m in samples]
            if strategy.compares:
                losses = [with_score(torch.stack(losses), samples, softmax(theta), Estimate([3]))]
            losses[0].backward()
        assert theta[0].grad is not None
        assert theta[0].grad.abs().sum() > 0

    def test_one_hot_weights_give_the_chosen_candidate(self, name: str) -> None:
        candidates = nn.ModuleList([nn.Identity(), nn.ReLU(), nn.Tanh()])
        x = torch.randn(2, 5, generator=torch.Generator().manual_seed(0))
        for choice, candidate in enumerate(candidates):
            y = STRATEGIES.load(name).layer(candidates, x, one_hot(choice, 3))
            torch.testing.assert_close(y, candidate(x))


@pytest.mark.parametrize("name", COSTS.names())
class TestCost:
    def test_is_positive_differentiable_and_grows_with_the_larger_candidate(
        self, name: str, micro: Space, micro_lut: Lut
    ) -> None:
        cost = COSTS.load(name).build(micro, micro_lut)
        m = [torch.full((3,), 1 / 3, requires_grad=True) for _ in micro.layers]
        total = cost(m)
        assert total.ndim == 0
        assert total.item() > 0
        assert cost.unit
        total.backward()
        assert all(m_l.grad is not None and m_l.grad[1] > m_l.grad[0] for m_l in m)  # k5_e3 over k3_e1
        assert cost([one_hot(1, 3)] * 2) > cost([one_hot(2, 3)] * 2)  # k5_e3 over skip


@pytest.mark.parametrize("name", LOSSES.names())
class TestLoss:
    def test_is_a_scalar_that_grows_with_cross_entropy_and_is_differentiable_in_both(self, name: str) -> None:
        loss = LOSSES.load(name).weigh
        cross_entropy = torch.tensor(1.5, requires_grad=True)
        cost = torch.tensor(500.0, dtype=torch.float64, requires_grad=True)
        value = loss(cross_entropy, cost, TARGET)
        assert value.ndim == 0
        value.backward()
        assert cross_entropy.grad is not None
        assert cross_entropy.grad > 0
        assert cost.grad is not None
        assert torch.isfinite(cost.grad)


def make_set(kind: str, path: Path) -> str:
    """Write a small set in a form that the kind reads; a new kind has its own here. Returns what follows the colon."""
    if kind == "digits":
        return ""
    if kind == "cifar":
        for name, count in (("train.bin", 20), ("test.bin", 6)):
            (path / name).write_bytes(b"".join(bytes([0, i % 2]) + bytes([i]) * 3072 for i in range(count)))
        (path / "fine_label_names.txt").write_bytes(b"a\nb\n")
        return str(path)
    if kind == "npz":
        np.savez(path / "set.npz", x_train=np.zeros((20, 9, 9, 3), np.float64), y_train=np.arange(20) % 2)
        return str(path / "set.npz")
    assert kind in ("folders", "hf"), f"write a small set of kind {kind!r} here"
    for i in range(20):
        folder = path / "train" / "ab"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("L", (9 + i, 30 - i), i).save(folder / f"{i}.png")
    return str(path)


@pytest.mark.parametrize("name", SOURCES.names())
def test_source(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "hf":
        datasets = pytest.importorskip("datasets")
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
        datasets.disable_progress_bars()
    (tmp_path / "set").mkdir()
    rest = make_set(name, tmp_path / "set")
    for source in filter(None, open_source(f"{name}:{rest}", 16)):
        assert source.labels.dtype == np.int64
        assert set(source.labels.tolist()) == set(range(len(source.classes)))
        images = [source.decode(i) for i in range(min(20, len(source.labels)))]
        assert {(image.shape, image.dtype) for image in images} == {(images[0].shape, images[0].dtype)}
        assert images[0].dtype in (np.uint8, np.float32)
        assert images[0].ndim == 3
        assert images[0].shape[0] in (1, 3)
        assert np.array_equal(source.decode(3), images[3])
        assert source.identity() == source.identity() != ""
