"""Comparing tables: against numbers worked out by hand and scipy's rank correlation and quantiles."""

import csv
import io
import math
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import scipy
from hypothesis import given
from hypothesis import strategies as st

from fblut.compare import Comparison, compare, stages_of
from fblut.comparison_views import as_dict, sections_of
from fblut.errors import LutError
from fblut.statistics import spearman, student_quantile
from fblut.table import Lut, Row
from fblut.views import VIEWS, Section
from fbspace.architecture import load_architecture
from fbspace.opspec import OpSpec
from fbspace.space import load_space

MakeLut = Callable[..., Lut]
A, B, C, D = (OpSpec("conv", 3, channels, 32, 32) for channels in (8, 16, 24, 32))


def test_ratios_mean_and_what_is_only_in_one(make_lut: MakeLut) -> None:
    first = make_lut({A: 100.0, B: 200.0, C: 400.0})
    second = make_lut({A: 200.0, B: 100.0, D: 5.0}, runtime="onnxruntime", threads=2)
    result = compare(first, second)
    assert [o.ratio for o in result.operators] == [2.0, 0.5]
    assert result.mean.ratio == pytest.approx(1.0)
    assert result.spearman is None
    assert result.only_first == (C.key(),)
    assert result.only_second == (D.key(),)
    assert result.differences == {"runtime": ("litert", "onnxruntime"), "threads": (1, 2)}


def test_the_most_different_are_farthest_from_the_geometric_mean(make_lut: MakeLut) -> None:
    first = make_lut({A: 100.0, B: 100.0, C: 100.0, D: 100.0})
    second = make_lut({A: 200.0, B: 210.0, C: 190.0, D: 50.0})
    assert [o.key for o in compare(first, second).most_different(1)] == [D.key()]


def test_operators_are_grouped_by_the_parameters_of_their_blocks(make_lut: MakeLut, own_block: str) -> None:
    """Two kinds: `own` is known here, with values at their default; of `other` only what keys say is."""
    specs = [replace(A, kind="own", parameters=own) for own in ((), (("dilation", 2),), (("dilation", 3),))]
    specs += [replace(A, kind="other", parameters=(("window", 7),)), A]
    result = compare(make_lut(dict.fromkeys(specs, 100.0)), make_lut(dict.fromkeys(specs, 110.0)))
    groups = [(g.what, g.value, g.relative.operators) for g in result.groups if g.what not in ("kernel", "size")]
    assert groups == [
        ("dilation", "1", 1),
        ("dilation", "2", 1),
        ("dilation", "3", 1),
    ]  # and no parameter that all have at one value


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
        assert ours == pytest.approx(scipy.stats.spearmanr(x, y).statistic, abs=1e-12)


@given(st.one_of(st.integers(1, 40), st.integers(1, 4000)), st.floats(0.51, 0.99999))
def test_the_quantiles_of_student_are_scipys(freedom: int, probability: float) -> None:
    assert student_quantile(freedom, probability) == pytest.approx(scipy.stats.t.ppf(probability, freedom), rel=1e-8)


def with_half_widths(lut: Lut, percent: float) -> Lut:
    """Give every row an interval of ± so many percent."""
    rows = {}
    for key, row in lut.rows.items():
        assert row.latency_us is not None
        low, high = (row.latency_us * (1 + sign * percent / 100) for sign in (-1, 1))
        rows[key] = replace(row, ci_low_us=low, ci_high_us=high)
    return Lut(lut.metadata, rows)


def test_the_mean_has_students_interval(make_lut: MakeLut) -> None:
    ratios = [1.1, 1.3, 0.9, 1.4]
    first = make_lut(dict.fromkeys((A, B, C, D), 100.0))
    second = make_lut({spec: 100.0 * r for spec, r in zip((A, B, C, D), ratios, strict=True)})
    mean = compare(first, second).mean
    expected = scipy.stats.t.interval(0.95, 3, np.mean(np.log(ratios)), scipy.stats.sem(np.log(ratios)))
    assert mean.interval == pytest.approx(tuple(np.exp(expected)))
    assert mean.ratio == pytest.approx(math.prod(ratios) ** 0.25)
    assert compare(make_lut({A: 1.0}), make_lut({A: 2.0})).mean.interval is None


def test_a_ratio_within_its_interval_of_one_is_not_significant(make_lut: MakeLut) -> None:
    first = with_half_widths(make_lut({A: 100.0, B: 100.0}), 3)
    second = with_half_widths(make_lut({A: 104.0, B: 106.0}), 4)  # together ± 5 %
    a, b = compare(first, second).operators
    assert a.interval == pytest.approx((1.04 * math.exp(-0.05), 1.04 * math.exp(0.05)))
    assert (a.is_significant, b.is_significant) == (False, True)
    unknown = Lut(first.metadata, {A.key(): Row(A, 100.0)})
    assert compare(unknown, second).operators[0].is_significant is None


def test_reversals_are_pairs_of_the_same_shapes_that_change_places(make_lut: MakeLut) -> None:
    small, large, skip = (
        OpSpec("ir", 16, 16, 8, 8, kernel=kernel, expansion=expansion) for kernel, expansion in ((3, 6), (5, 1), (3, 1))
    )
    elsewhere = OpSpec("ir", 16, 24, 8, 8, kernel=5, expansion=1)
    first = with_half_widths(make_lut({small: 60.0, large: 50.0, skip: 20.0, elsewhere: 45.0}), 1)
    second = with_half_widths(make_lut({small: 30.0, large: 90.0, skip: 29.5, elsewhere: 45.0}), 1)
    result = compare(first, second)
    assert result.pairs == 3
    (reversal,) = result.reversals
    assert (reversal.a.spec, reversal.b.spec, reversal.is_significant) == (large, small, True)
    assert reversal.strength == pytest.approx(60 / 50 - 1)
    groups = {(g.what, g.value): g for g in result.groups}
    assert (groups["kernel", "5"].reversals, groups["kernel", "3"].reversals) == (1, 1)
    assert (groups["expansion", "6"].reversals, groups["expansion", "1"].reversals) == (1, 1)
    mean = (0.5 * 1.8 * 1.475 * 1) ** 0.25
    assert groups["kernel", "5"].relative.ratio == pytest.approx((1.8 * 1) ** 0.5 / mean)
    assert groups["expansion", "6"].relative.ratio == pytest.approx(0.5 / mean)
    assert not any(what == "stage" for what, _ in groups)


def test_a_reversal_within_the_intervals_is_not_significant(make_lut: MakeLut) -> None:
    one, other = (OpSpec("ir", 16, 16, 8, 8, kernel=kernel) for kernel in (3, 5))
    first = with_half_widths(make_lut({one: 50.0, other: 51.0}), 5)
    second = with_half_widths(make_lut({one: 80.0, other: 40.0}), 5)
    (reversal,) = compare(first, second).reversals
    assert reversal.is_significant is False


def test_operators_are_grouped_by_the_stage_they_stand_in_first() -> None:
    space = load_space("fbnet-tiny")
    stages = stages_of(space)
    assert set(stages) >= set(space.operators())
    assert stages[space.stem[0]] == "stem"
    assert stages[space.layers[0].candidates["k3_e6"]] == "stage 1"
    assert stages[space.heads[space.head_channels][-1]] == "head"


def compared_networks(make_lut: MakeLut) -> Comparison:
    networks = {name: load_architecture(name).specs() for name in ("fbnet-a", "fbnet-b", "mobilenetv2")}
    specs = dict.fromkeys(s for name in ("fbnet-a", "fbnet-b") for s in networks[name])
    first = make_lut(dict.fromkeys(specs, 10.0))
    second = make_lut({spec: 30.0 if spec.kernel == 5 else 10.0 for spec in specs})
    return compare(first, second, load_space("fbnet"), networks)


def test_networks_are_predicted_by_both_and_others_left_out(make_lut: MakeLut) -> None:
    networks = {n.name: n for n in compared_networks(make_lut).networks}
    assert set(networks) == {"fbnet-a", "fbnet-b"}
    for name, found in networks.items():
        specs = load_architecture(name).specs()
        assert found.first_us == 10 * len(specs)
        assert found.second_us == 10 * len(specs) + 20 * sum(s.kernel == 5 for s in specs)
    assert sorted(n.first_rank for n in networks.values()) == [1, 2]


class Cells(HTMLParser):
    """Collects the cells of a page, and checks that what is opened is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.cells: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in ("meta",):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.cells.append(data)


def test_every_view_shows_every_cell(make_lut: MakeLut) -> None:
    result = compared_networks(make_lut)
    sections = sections_of(result, ("a.csv", "b <&> c.csv"), result.operators, "every operator")
    assert set(VIEWS.names()) == {"html", "md", "table", "csv", "json"}
    texts = {name: VIEWS.load(name).render("title", sections, {}) for name in ("html", "md", "table")}
    cells = [cell for section in sections for row in section.written() for cell in row]
    for text in (texts["md"], texts["table"]):
        assert all(cell in text for cell in cells)
    page = Cells()
    page.feed(texts["html"])
    assert page.open == []
    assert set(cells) <= set(page.cells)
    assert "http" not in texts["html"]
    assert "b &lt;&amp;&gt; c.csv" in texts["html"]


def test_numbers_are_set_to_the_right_and_pipes_are_escaped() -> None:
    section = Section("h", (), ("name", "n"), (("a|b", 1.0), ("c", None)), {"n": 1})
    assert VIEWS.load("table").render("t", [section], {}) == "t\n\nh\n  name    n\n  a|b   1.0\n  c       -"
    markdown = VIEWS.load("md").render("t", [section], {})
    assert r"| a\|b | 1.0 |" in markdown
    assert "| :-- | --: |" in markdown


def test_the_rows_of_csv_are_the_operators(make_lut: MakeLut) -> None:
    result = compared_networks(make_lut)
    values = {"comparisons": [{"table": "b.csv"} | as_dict(result)]}
    rows = list(csv.DictReader(io.StringIO(VIEWS.load("csv").render("title", [], values))))
    assert [OpSpec.from_key(row["key"]) for row in rows] == [o.spec for o in result.operators]
    assert [float(row["ratio"]) for row in rows] == [o.ratio for o in result.operators]
    assert {row["table"] for row in rows} == {"b.csv"}
