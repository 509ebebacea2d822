"""A small network of our own as a file of every format, to open, to damage and to cut."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from fbexport.formats import load_format
from peers import forked


@pytest.fixture(autouse=True)
def children(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fork trial runs, which need not import their runtimes: 0.4 s each."""
    forked.fork(monkeypatch)


class Small(nn.Module):
    """Every way in which convolutions end: a plain one, grouped, depthwise, squeezed, a sum, a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.Hardswish())
        self.depthwise = nn.Sequential(nn.Conv2d(8, 8, 5, 1, 2, groups=8), nn.ReLU6())
        self.grouped = nn.Conv2d(8, 8, 1, groups=2)
        self.head = nn.Linear(8, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = x + self.grouped(self.depthwise(x))
        return self.head(x.mean((2, 3)))


SHAPE = (1, 3, 32, 32)
MACS = 16 * 16 * (8 * 3 * 9 + 8 * 25 + 8 * 4) + 8 * 10
PARAMETERS = (8 * 3 * 9 + 8) + (8 * 25 + 8) + (8 * 4 + 8) + (80 + 10)


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return the path of the small network in a format and precision."""
    folder = tmp_path_factory.mktemp("small")
    torch.manual_seed(0)
    module = Small().eval()

    def path_of(format_name: str, precision: str = "float32") -> Path:
        model_format = load_format(format_name)
        path = folder / f"{precision}{model_format.suffix}"
        if not path.exists():
            path.write_bytes(model_format.write(module, SHAPE, precision))
        return path

    return path_of
