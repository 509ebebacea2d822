"""Grids: every operator of a space lies between measured ones."""

import functools
import random
from pathlib import Path

import pytest

from fbbase.commandline import run
from fblut.reading import read_lut
from fblut.table import Lut, Metadata, Row
from fbprof.cli import fbprof
from fbprof.plan.grid import grid_operators, most_points, spread
from fbspace.network import count_spec
from fbspace.opspec import OpSpec
from fbspace.space import Space, load_space

MASKED = ["fbnetv2-tiny", "fbnetv2-f", "fbnetv2-p", "fbnetv2-l"]
SAMPLE = [("fbnetv2-tiny", 2), ("fbnetv2-p", 3)]
"""What `make test` interpolates."""


def lut_of(space: Space, points: int) -> Lut:
    rows = {s.key(): Row(s, 8 + 1e-4 * count_spec(s).macs, samples=9) for s in grid_operators(space, points)}
    metadata = Metadata(
        space=space.name,
        device="d",
        runtime="litert",
        runtime_version="1",
        precision="float32",
        threads=1,
        grid_points=points,
    )
    return Lut(metadata, rows)


@functools.cache
def space_with_operators(name: str) -> tuple[Space, list[OpSpec]]:
    space = load_space(name)
    return space, space.operators()


@pytest.mark.parametrize(
    ("name", "points"),
    [
        pytest.param(name, points, marks=() if (name, points) in SAMPLE else pytest.mark.full)
        for name in MASKED
        for points in (2, 3)
    ],
)
def test_every_operator_lies_between_measured_ones(name: str, points: int) -> None:
    space, operators = space_with_operators(name)
    lut = lut_of(space, points)
    assert len(lut.rows) < len(operators)
    some = random.Random(0).sample(operators, min(300, len(operators)))
    assert lut.missing(some) == []
    # multiply-accumulates are linear in all but the width of squeeze-excite, which is rounded, and so in steps
    for spec in some:
        expected = 8 + 1e-4 * count_spec(spec).macs
        assert lut.latency_us(spec) == pytest.approx(expected, rel=0.12 if spec.squeeze_excite else 1e-9), spec.key()


def test_spread_has_both_ends() -> None:
    assert spread((1, 2, 3, 4, 5, 6, 7), 2) == (1, 7)
    assert spread((1, 2, 3, 4, 5, 6, 7), 3) == (1, 4, 7)
    assert spread((1, 2), 3) == (1, 2)
    assert spread((5,), 2) == (5,)


def test_the_finest_grid_that_fits_is_taken() -> None:
    space = load_space("fbnetv2-tiny")
    counts = {points: len(grid_operators(space, points)) for points in (2, 3, 4)}

    def fits(limit: int) -> int | None:
        def under(points: int | None) -> bool:
            return (len(space.operators()) if points is None else counts[points]) <= limit

        return most_points(space, under)

    assert counts[2] < counts[3] < len(space.operators())
    assert fits(10) == 2
    assert fits(counts[3] - 1) == 2
    assert fits(counts[3]) == 3
    assert fits(len(space.operators())) is None


MICRO = """
description = "two layers that decide on everything"
input = { channels = 3, size = [12, 16] }
classes = 10
head_channels = [16]
stem = [{ kind = "conv", channels = 8, kernel = 3, stride = 1 }]
expansions = [1, 2, 3, 4]
stages = [{ channels = [8, 16, 24], repeats = 1, stride = 1 }, { channels = [16, 24, 32], repeats = 1, stride = 2 }]
[candidates]
k3 = { kind = "mbconv", kernel = 3 }
skip = { kind = "skip", activation = "none" }
"""


def test_a_grid_is_measured_and_calibrated_by_networks_that_are_off_it(tmp_path: Path) -> None:
    (tmp_path / "micro.toml").write_text(MICRO)
    space, table = str(tmp_path / "micro.toml"), tmp_path / "micro.csv"
    command = ["measure", "--device", "local", "--runtime", "litert", "--space", space, "--grid", "2", "--quick"]
    assert run(fbprof, [*command, "--calibrate", "20", "-o", str(table)]) == 0
    lut, micro = read_lut(table), load_space(space)
    assert lut.metadata.grid_points == 2
    assert set(lut.rows) == {spec.key() for spec in grid_operators(micro, 2)}
    assert lut.metadata.calibration_networks == 20  # many of their operators have no row
    assert lut.missing(micro.operators()) == []
    command = ["validate", "--lut", str(table), "--device", "local", "--networks", "5", "--rounds", "5"]
    assert run(fbprof, [*command, "-o", str(tmp_path / "off.csv")]) == 0
