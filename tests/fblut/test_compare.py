"""Comparing tables: against numbers worked out by hand and scipy's rank correlation."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fblut.compare import compare, spearman
from fblut.errors import LutError
from fblut.table import Lut
from fbspace.opspec import OpSpec

MakeLut = Callable[..., Lut]
A, B, C, D = (OpSpec("conv", 3, channels, 32, 32) for channels in (8, 16, 24, 32))


def test_ratios_mean_and_what_is_only_in_one(make_lut: MakeLut) -> None:
    first = make_lut({A: 100.0, B: 200.0, C: 400.0})
    second = make_lut({A: 200.0, B: 100.0, D: 5.0}, runtime="onnxruntime", threads=2)
    result = compare(first, second)
    assert [o.ratio for o in result.operators] == [2.0, 0.5]
    assert result.geometric_mean == pytest.approx(1.0)
    assert result.spearman is None
    assert result.only_first == (C.key(),)
    assert result.only_second == (D.key(),)
    assert result.differences == {"runtime": ("litert", "onnxruntime"), "threads": (1, 2)}


def test_the_most_different_are_farthest_from_the_geometric_mean(make_lut: MakeLut) -> None:
    first = make_lut({A: 100.0, B: 100.0, C: 100.0, D: 100.0})
    second = make_lut({A: 200.0, B: 210.0, C: 190.0, D: 50.0})
    assert [o.key for o in compare(first, second).most_different(1)] == [D.key()]


def test_tables_of_two_spaces_are_refused(make_lut: MakeLut) -> None:
    with pytest.raises(LutError, match="different spaces, 'fbnet' and 'fbnet-tiny'"):
        compare(make_lut({A: 1.0}), make_lut({A: 1.0}, space="fbnet-tiny"))


def test_tables_without_a_common_operator_are_refused(make_lut: MakeLut) -> None:
    with pytest.raises(LutError, match="no measured operator in common"):
        compare(make_lut({A: 1.0, B: None}), make_lut({B: 1.0}))


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=3, max_size=30))
def test_the_rank_correlation_is_scipys(pairs: list[tuple[int, int]]) -> None:
    x, y = [float(p[0]) for p in pairs], [float(p[1]) for p in pairs]
    ours = spearman(x, y)
    if ours is None:
        assert len(set(x)) == 1 or len(set(y)) == 1
    else:
        assert ours == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)
