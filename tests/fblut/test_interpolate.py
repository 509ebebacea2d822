"""Interpolation: a function that is linear on every axis is met exactly, order is kept, nothing is said beyond."""

import itertools
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fblut.errors import LutError
from fblut.table import Lut, Metadata, Row
from fbspace.opspec import OpSpec

INS, MIDDLES, OUTS, SIDES = (8, 16, 32), (16, 48, 96), (8, 24, 40), (4, 8, 10)
METADATA = Metadata(space="x", device="d", runtime="litert", runtime_version="1", precision="float32", threads=1)


def block(ins: int, middle: int, outs: int, side: int, kernel: int = 3) -> OpSpec:
    expansion = round(middle / ins, 4) if middle != ins else 1.001
    return OpSpec("mbconv", ins, outs, side, side, kernel, 1, expansion)


def table(latency_us: dict[tuple[int, int, int, int], float], grid_points: int | None = 3) -> Lut:
    rows = [
        Row(block(*at), us, us - 1, us + 1, samples=9, isolated_us=us / 2, isolated_low_us=us / 3, isolated_high_us=us)
        for at, us in latency_us.items()
    ]
    return Lut(METADATA.model_copy(update={"grid_points": grid_points}), {row.spec.key(): row for row in rows})


GRID = list(itertools.product(INS, MIDDLES, OUTS, SIDES))
AT = st.tuples(
    st.integers(8, 32), st.integers(2, 12).map(lambda i: 8 * i), st.integers(8, 40), st.sampled_from([4, 6, 8, 9, 10])
)


@given(at=AT, seed=st.integers(0, 1000))
def test_what_is_linear_on_every_axis_is_met(at: tuple[int, int, int, int], seed: int) -> None:
    generator = random.Random(seed)
    weights = [generator.uniform(0.1, 1) for _ in range(16)]

    def latency_us(ins: int, middle: int, outs: int, side: int) -> float:
        axes = ins / 8, middle / 16, outs / 8, side * side / 16
        terms = itertools.product(*((1.0, x) for x in axes))
        return 5 + sum(w * a * b * c * d for w, (a, b, c, d) in zip(weights, terms, strict=True))

    lut = table({point: latency_us(*point) for point in GRID})
    expected = latency_us(*at)
    row = lut.row(block(*at))
    assert row is not None
    assert row.latency_us == pytest.approx(expected)
    assert lut.latency_us(block(*at)) == row.latency_us
    assert (row.ci_low_us, row.ci_high_us) == (pytest.approx(expected - 1), pytest.approx(expected + 1))
    assert row.isolated_us == pytest.approx(expected / 2)
    assert (row.notes == "interpolated") == (at not in GRID)
    assert lut.predict([block(*at)]).latency_us == pytest.approx(expected)


@given(at=AT, axis=st.integers(0, 3), seed=st.integers(0, 1000))
def test_more_of_anything_is_never_faster_where_no_measured_row_is(
    at: tuple[int, int, int, int], axis: int, seed: int
) -> None:
    generator = random.Random(seed)
    us: dict[tuple[int, int, int, int], float] = {}
    for point in GRID:  # in ascending order: above all neighbours below it
        below = [us[other] for other in us if all(a <= b for a, b in zip(other, point, strict=True))]
        us[point] = max(below, default=1.0) + generator.choice([0.0, generator.expovariate(0.1)])
    lut = table(us)
    largest = (32, 96, 40, 10)[axis]
    more = list(at)
    more[axis] = min(largest, at[axis] + 8)
    assert lut.latency_us(block(*more)) >= lut.latency_us(block(*at)) * (1 - 1e-12)


def test_other_parameters_of_a_block_are_another_family(own_block: str) -> None:
    def own(channels: int, dilation: int) -> OpSpec:
        return OpSpec("own", channels, 8, 8, 8, parameters=(("dilation", dilation),) if dilation > 1 else ())

    rows = [Row(own(8, 1), 10.0), Row(own(24, 1), 30.0), Row(own(8, 2), 100.0), Row(own(24, 2), 300.0)]
    rows.append(Row(replace(own(16, 1), kind="other"), 1.0))  # of a block that is not known here
    lut = Lut(METADATA.model_copy(update={"grid_points": 2}), {row.spec.key(): row for row in rows})
    assert [lut.latency_us(own(16, dilation)) for dilation in (1, 2)] == [20.0, 200.0]
    assert lut.missing([own(16, 3)]) == [own(16, 3)]


def test_a_block_says_how_wide_it_is_in_the_middle() -> None:
    """Expansion 2.5 of 12 channels: 30 in an ir, which does not round, and 32 in an mbconv."""
    for kind, expected in (("ir", 30.0), ("mbconv", 32.0)):
        ends = [OpSpec(kind, 12, 8, 8, 8, expansion=expansion) for expansion in (2, 4)]  # 24 and 48 in the middle
        rows = [Row(ends[0], 24.0), Row(ends[1], 48.0)]
        lut = Lut(METADATA.model_copy(update={"grid_points": 2}), {row.spec.key(): row for row in rows})
        assert lut.latency_us(OpSpec(kind, 12, 8, 8, 8, expansion=2.5)) == pytest.approx(expected)


@pytest.mark.parametrize("at", [(4, 48, 24, 8), (16, 104, 24, 8), (16, 48, 48, 8), (16, 48, 24, 12), (16, 48, 24, 3)])
def test_nothing_is_said_beyond_what_was_measured(at: tuple[int, int, int, int]) -> None:
    lut = table(dict.fromkeys(GRID, 10.0))
    assert lut.missing([block(*at)]) == [block(*at)]
    with pytest.raises(LutError, match="no row for operator"):
        lut.latency_us(block(*at))


def test_another_block_is_not_interpolated_from_this_one() -> None:
    lut = table(dict.fromkeys(GRID, 10.0))
    assert lut.row(block(10, 48, 24, 8)) is not None
    assert lut.row(block(10, 48, 24, 8, kernel=5)) is None
    assert lut.row(OpSpec("mbconv", 10, 24, 8, 8, 3, 1, 1)) is None


def test_two_grids_on_one_map_are_kept_apart() -> None:
    """The nearest width in belongs to another grid, in which the corner is missing."""
    narrow = dict.fromkeys(itertools.product((8, 16), (16, 48), (8, 24), (8,)), 10.0)
    wide = dict.fromkeys(itertools.product((12, 32), (48, 96), (24, 40), (8,)), 30.0)
    lut = table(narrow | wide)
    assert lut.latency_us(block(10, 32, 16, 8)) == pytest.approx(10)
    assert lut.latency_us(block(20, 64, 32, 8)) == pytest.approx(30)


def test_a_table_that_is_no_grid_says_only_what_was_measured() -> None:
    lut = table(dict.fromkeys(GRID, 10.0), grid_points=None)
    assert lut.row(block(10, 48, 24, 8)) is None
