"""Searches among the blocks of modern networks: every strategy takes steps with them, on images that are not square."""

from pathlib import Path

import pytest

from fbbase.commandline import run
from fblut.table import Lut, Metadata, Row
from fblut.writing import write_lut
from fbsearch.cli import fbsearch
from fbsearch.strategies import STRATEGIES
from fbspace.architecture import load_architecture
from fbspace.network import count_spec
from fbspace.space import load_space

SPACE = """
description = "two layers, each of other blocks"
input = { channels = 1, height = 6, width = 10 }
classes = 10
head_channels = [8]
stem = [{ kind = "conv", channels = 8, kernel = 3 }]
stages = [
  { channels = 8, repeats = 1, stride = 1, candidates = ["ghost", "shuffle", "uib", "skip"] },
  { channels = 12, repeats = 1, stride = 2, candidates = ["next", "fused", "fold", "attention"] },
]
[candidates]
ghost = { kind = "ghost", kernel = 3, expansion = 2, squeeze_excite = true }
shuffle = { kind = "shuffle", kernel = 3 }
uib = { kind = "uib", kernel = 3, start_kernel = 3, expansion = 2 }
next = { kind = "convnext", kernel = 3, expansion = 2, activation = "gelu" }
fused = { kind = "fusedmb", kernel = 3, expansion = 2, activation = "silu" }
fold = { kind = "repvgg", kernel = 3 }
attention = { kind = "mbconv", kernel = 3, expansion = 2, eca = true }
skip = { kind = "skip" }
"""


@pytest.mark.parametrize(
    "strategy",
    [pytest.param(name, marks=() if name == "single-path" else pytest.mark.full) for name in STRATEGIES.names()],
)
def test_every_strategy_searches_among_them(strategy: str, tmp_path: Path) -> None:
    (tmp_path / "modern.toml").write_text(SPACE)
    space = load_space(str(tmp_path / "modern.toml"))
    told = {"device": "made-up", "runtime": "litert", "runtime_version": "1", "precision": "float32", "threads": 1}
    rows = {spec.key(): Row(spec, 8 + 60e-6 * count_spec(spec).macs, samples=9) for spec in space.operators()}
    write_lut(Lut(Metadata(space=str(tmp_path / "modern.toml"), **told), rows), tmp_path / "table.csv")
    words = ["run", "--lut", str(tmp_path / "table.csv"), "--data", "digits", "--limit", "120", "--strategy", strategy]
    words += ["--epochs", "2", "--batch", "30", "--threads", "1", "--evaluations", "3", "-o", str(tmp_path / "run")]
    assert run(fbsearch, words) == 0
    first, second = load_architecture(str(tmp_path / "run" / "arch.json")).choices
    assert first in ("ghost", "shuffle", "uib", "skip")
    assert second in ("next", "fused", "fold", "attention")
