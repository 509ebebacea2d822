"""The examples in docs/extend are complete: each is taken from its page and used as it stands."""

import math
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from fblut.table import Lut
from fbsearch.theta import one_hot
from fbspace.space import Space

DOCS = Path(__file__).parents[2] / "docs" / "extend"


def block(page: str, language: str) -> str:
    found = re.findall(rf"```{language}\n(.*?)```", (DOCS / f"{page}.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(found) == 1
    return str(found[0])


def module(page: str) -> SimpleNamespace:
    namespace: dict[str, object] = {"__name__": page}
    exec(compile(block(page, "python"), f"{page}.md", "exec"), namespace)
    return SimpleNamespace(**namespace)


def test_strategy() -> None:
    strategy = module("strategy").Hard()
    theta = [torch.tensor([0.0, 3.0, 1.0], requires_grad=True)]
    m = strategy.sample(theta, 1.0, torch.Generator().manual_seed(0))[0]
    assert sorted(m.tolist()) == pytest.approx([0, 0, 1])
    x = torch.randn(2, 4)
    torch.testing.assert_close(strategy.layer(nn.ModuleList([nn.Identity(), nn.ReLU()]), x, one_hot(1, 2)), x.relu())
    strategy.layer(nn.ModuleList([nn.Identity(), nn.ReLU(), nn.Tanh()]), x, m).sum().backward()
    assert theta[0].grad is not None
    assert theta[0].grad.abs().sum() > 0


def test_cost(micro: Space, micro_lut: Lut) -> None:
    cost = module("cost").Bytes().build(micro, micro_lut)
    assert cost([one_hot(1, 3)] * 2) > cost([one_hot(0, 3)] * 2)


def test_loss() -> None:
    loss = module("loss").Sum(alpha=0.5)
    value = loss.weigh(torch.tensor(2.0), torch.tensor(3000.0, dtype=torch.float64), math.nan)
    assert value.item() == pytest.approx(2 + 0.5 * 3)


def test_source(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    sets = {"train": rng.integers(0, 256, (60, 784)), "t10k": rng.integers(0, 256, (20, 784))}
    for part, pixels in sets.items():
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(bytes(16) + pixels.astype(np.uint8).tobytes())
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(bytes(8) + bytes(i % 10 for i in range(len(pixels))))
    for source, pixels in zip(module("source").Idx().open(str(tmp_path), 32), sets.values(), strict=True):
        assert source.labels.tolist() == [i % 10 for i in range(len(pixels))]
        assert np.array_equal([source.decode(i).reshape(784) for i in range(len(pixels))], pixels)
