"""fbprof validate: which networks, what the figures are, and when a device is not additive."""

import functools
import random
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import scipy

from fbagents.connect import load_profile
from fbbase.errors import FbError
from fblut.errors import LutError
from fblut.statistics import kendall
from fblut.table import Lut, Metadata, Prediction, Row
from fbprof.errors import MeasurementError
from fbprof.journal.journal import JournalContent
from fbprof.plan.grid import grid_operators
from fbprof.plan.plan import calibration_networks, zoo_choices
from fbprof.predict.error import Candidate, Result, additivity, figures_of
from fbprof.predict.validate import Validation, draw_between, draw_candidates, evaluate, validation_plan
from fbprof.report.plot import plot_results
from fbspace.network import count_spec
from fbspace.opspec import OpSpec
from fbspace.space import Space, load_space
from journals import journal, visit


@functools.cache
def flops_us(spec: OpSpec) -> float:
    return 2 + count_spec(spec).macs / 1e4


def synthetic_table(space: Space, **changes: object) -> Lut:
    fields = {"space": space.name, "device": "d", "runtime": "litert", "runtime_version": "2", "precision": "float32"}
    rows = {spec.key(): Row(spec, us := flops_us(spec), isolated_us=us) for spec in space.operators()}
    return Lut(Metadata.model_validate({**fields, "threads": 1, "calibration_networks": 50, **changes}), rows)


def synthetic_journal(latencies_us: dict[str, float], visits: int = 8, noise: float = 0.0) -> JournalContent:
    content = journal()
    generator = random.Random(0)
    for _ in range(visits):
        for key, us in latencies_us.items():
            content.add(visit(key, [us * generator.gauss(1, noise) for _ in range(3)]))
    return content


def on_device(
    lut: Lut, space: Space, operator: Callable[[OpSpec], float], network: Callable[[list[float]], float]
) -> Validation:
    """Validate on a device where an operator takes `operator` alone, and networks are `network` of their operators."""
    candidates = draw_candidates(lut, space, 60, 0)
    plan = validation_plan(lut, space, load_profile("local"), candidates, 8, 60, 0)
    latencies = {spec.key(): operator(spec) for spec in plan.operators}
    latencies |= {c.subject.key: network([operator(spec) for spec in c.subject.specs]) for c in candidates}
    return evaluate(synthetic_journal(latencies), lut, candidates)


def test_networks_are_random_and_published_and_none_that_calibrated() -> None:
    space = load_space("fbnet")
    candidates = draw_candidates(synthetic_table(space, seed=3), space, 30, 0)
    drawn = [c.choices for c in candidates if not c.is_published]
    assert len(set(drawn)) == 30
    assert not set(drawn) & set(zoo_choices(space))
    calibrating = {subject.specs for subject in calibration_networks(space, 1000, 3)}
    assert not {c.subject.specs for c in candidates} & calibrating
    heads = {c.name: c.head_channels for c in candidates if c.is_published}
    assert heads == {"fbnet-a": 1504, "fbnet-b": 1984, "fbnet-c": 1984, "fbnet-iphonex": 1504, "fbnet-s8": 1504}
    assert candidates[:30] == draw_candidates(synthetic_table(space, seed=3), space, 50, 0)[:30]
    assert drawn != [c.choices for c in draw_candidates(synthetic_table(space, seed=3), space, 30, 1)[:30]]


def test_a_fitted_table_draws_others_than_the_validation_it_may_be_fitted_to() -> None:
    space = load_space("fbnet")
    first = draw_candidates(synthetic_table(space), space, 20, 0)
    lut = synthetic_table(space)
    rows = {key: Row(row.spec, row.latency_us) for key, row in lut.rows.items()}
    kept = space.heads[1504][0].key()
    rows[kept] = Row(space.heads[1504][0], None, status="failed", notes="none of the networks has this operator")
    published = {c.name: c.choices for c in first if c.is_published}
    fitted = lut.metadata.model_copy(update={"origin": "fitted"})
    second = draw_candidates(Lut(fitted, rows), space, 20, 0, [published["fbnet-c"]])
    assert not {c.choices for c in first if not c.is_published} & {c.choices for c in second}
    assert [c.name for c in second if c.is_published] == ["fbnet-b"]  # the table lacks the head of the others
    assert {c.head_channels for c in second} == {1984}


def test_every_operator_that_the_table_lacks_is_told_before_anything_is_measured() -> None:
    space = load_space("fbnet-tiny")
    lut = synthetic_table(space)
    for spec in space.stem:
        lut.rows[spec.key()] = Row(spec, None, status="failed", notes="no such kernel")
    with pytest.raises(LutError, match=r"lacks 1 operator of the networks to validate by:\n.*no such kernel"):
        draw_candidates(lut, space, 10, 0)


def results_of(rows: list[tuple[float, float, float, float]]) -> list[Result]:
    """Results of (predicted, measured, first half, second half), predicted within ±4 %, the table 10 % below."""
    candidate = Candidate("n", ("skip",), 1, False, calibration_networks(load_space("fbnet-tiny"), 1, 0)[0])
    return [
        Result(candidate, Prediction(0.9 * p, None, None), Prediction(p, 0.96 * p, 1.04 * p), m, None, (first, second))
        for p, m, first, second in rows
    ]


def test_figures_equal_closed_forms_and_scipy() -> None:
    generator = np.random.default_rng(0)
    measured = generator.uniform(100, 200, 40).round(-1)  # with ties
    predicted = measured * generator.uniform(0.9, 1.12, 40)
    halves = measured * generator.uniform(0.98, 1.02, (2, 40))
    figures = figures_of(results_of([*zip(predicted, measured, *halves, strict=True)]))
    off = 100 * (predicted - measured) / measured
    assert figures.mape_percent == pytest.approx(np.abs(off).mean())
    assert figures.median_percent == pytest.approx(np.median(np.abs(off)))
    assert figures.p95_percent == pytest.approx(np.quantile(np.abs(off), 0.95))
    assert figures.bias_percent == pytest.approx(off.mean())
    assert figures.unscaled_mape_percent == pytest.approx(np.abs(90 * predicted / measured - 100).mean())
    assert figures.spearman == pytest.approx(scipy.stats.spearmanr(predicted, measured).statistic)
    assert figures.kendall == pytest.approx(scipy.stats.kendalltau(predicted, measured).statistic)
    assert figures.noise_floor_percent == pytest.approx(100 * np.abs(halves[0] / halves[1] - 1).mean())
    assert figures.noise_spearman == pytest.approx(scipy.stats.spearmanr(*halves).statistic)
    inside = (0.96 * predicted <= measured) & (measured <= 1.04 * predicted)
    assert 0 < inside.mean() < 1
    assert figures.coverage_percent == pytest.approx(100 * inside.mean())
    assert figures.spread_percent == pytest.approx(100 * measured.std() / measured.mean())


def test_kendall_is_none_where_it_is_not_defined() -> None:
    assert kendall([1, 2], [1, 2]) is None
    assert kendall([1, 1, 1], [1, 2, 3]) is None
    assert kendall([1, 2, 3], [3, 2, 1]) == -1


def test_a_slower_but_additive_device_is_told_apart_from_a_wrong_table() -> None:
    space = load_space("fbnet-tiny")
    result = on_device(synthetic_table(space), space, lambda spec: 1.07 * flops_us(spec), sum)
    assert result.speed_percent == pytest.approx(7, abs=0.1)
    assert result.references == 16
    assert result.figures.mape_percent < 0.1
    assert result.figures.unscaled_mape_percent == pytest.approx(100 * (1 - 1 / 1.07), abs=0.1)
    assert result.is_additive
    assert result.additivity.startswith("additive: ")


def test_a_device_that_is_not_additive_is_called_so() -> None:
    """It runs a network's operators side by side: the network takes as long as its slowest operator."""
    space = load_space("fbnet-tiny")
    result = on_device(synthetic_table(space), space, flops_us, max)
    assert result.is_additive is False
    assert result.additivity.startswith("not additive, even after calibration: the mean error is ")
    assert "the rank correlation is 0." in result.additivity
    assert "must not be trusted on this device; use fbprof fit" in result.additivity
    uncalibrated = on_device(synthetic_table(space, calibration_networks=0), space, flops_us, max)
    assert "fbprof measure --calibrate 50" in uncalibrated.additivity


def test_operators_between_the_points_of_a_grid_are_held_against_the_interpolation() -> None:
    """The device is 7 % slower than for the table, and operators off the grid are another 10 % slower than it says."""
    space = load_space("fbnetv2-tiny")
    rows = {spec.key(): Row(spec, us := flops_us(spec), isolated_us=us) for spec in grid_operators(space, 2)}
    lut = Lut(synthetic_table(space, grid_points=2).metadata, rows)
    between = draw_between(lut, space, 12, 0)
    assert len(set(between)) == 12
    assert not {spec.key() for spec in between} & set(rows)
    assert between != draw_between(lut, space, 12, 1)
    candidates = draw_candidates(lut, space, 8, 0)
    plan = validation_plan(lut, space, load_profile("local"), candidates, 8, 60, 0, between)
    assert plan.operators[-12:] == tuple(between)
    latencies = {spec.key(): 1.07 * flops_us(spec) for spec in plan.operators}
    latencies |= {spec.key(): 1.1 * 1.07 * lut.latency_us(spec) for spec in between}
    latencies |= {c.subject.key: 1.07 * lut.predict_us(c.subject.specs) for c in candidates}
    result = evaluate(synthetic_journal(latencies), lut, candidates, between)
    assert [o.spec for o in result.between] == between
    assert [o.error_percent for o in result.between] == pytest.approx([100 * (1 / 1.1 - 1)] * 12, abs=0.2)
    assert draw_between(synthetic_table(space), space, 12, 0) == []


def test_neither_noise_nor_few_networks_condemn_a_device() -> None:
    lut = synthetic_table(load_space("fbnet-tiny"))
    noisy = figures_of(results_of([(100 * f, 106 * f, 103 * f, 109 * f) for f in range(1, 20)]))
    assert noisy.mape_percent > 5
    is_additive, verdict = additivity(noisy, 19, lut)
    assert is_additive is None
    assert "measured twice differ by 5.5 %: close other programs" in verdict
    sharp = figures_of(results_of([(100 * f, 106 * f, 106 * f, 106.5 * f) for f in range(1, 20)]))
    assert additivity(sharp, 19, lut)[0] is False
    assert additivity(sharp, 7, lut) == (None, "none: 7 networks are too few to judge by, 8 are needed")


def test_a_table_without_operators_timed_alone_is_taken_as_it_stands() -> None:
    space = load_space("fbnet-tiny")
    lut = synthetic_table(space)
    metadata = lut.metadata.model_copy(update={"origin": "fitted"})
    fitted = Lut(metadata, {key: Row(row.spec, row.latency_us) for key, row in lut.rows.items()})
    result = on_device(fitted, space, lambda spec: 1.25 * flops_us(spec), sum)
    assert (result.speed_percent, result.references) == (None, 0)
    assert result.figures.mape_percent == result.figures.unscaled_mape_percent == pytest.approx(20, abs=0.1)
    assert "fit again to networks measured now" in result.additivity


def test_no_network_measured_is_an_error_with_the_reason() -> None:
    space = load_space("fbnet-tiny")
    candidates = draw_candidates(synthetic_table(space), space, 3, 0)
    with pytest.raises(MeasurementError, match="none of 3 networks could be measured: the time was up"):
        evaluate(synthetic_journal({}), synthetic_table(space), candidates)
    content = journal(*(visit(candidates[0].subject.key, [100.0] * 3, cpu_us=[10.0] * 3) for _ in range(4)))
    with pytest.raises(MeasurementError, match="other work interrupted all 8 samples: close other programs, or bind"):
        evaluate(content, synthetic_table(space), candidates)


def test_the_plot_is_a_png_or_an_svg_that_is_the_same_every_time(tmp_path: Path) -> None:
    results = results_of([(100, 104, 1, 1), (200, 190, 1, 1), (300, 301, 1, 1)])
    plot_results(results, "board, litert: MAPE 2 %, ρ 1.000", tmp_path / "p.png")
    content = (tmp_path / "p.png").read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    assert content.endswith(b"IEND\xaeB`\x82")
    for name in ("a.svg", "b.svg"):
        plot_results(results, "board, litert: MAPE 2 %, ρ 1.000", tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    root = ElementTree.fromstring((tmp_path / "a.svg").read_text(encoding="utf-8"))
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    circles = [use for use in root.iter("{http://www.w3.org/2000/svg}use") if float(use.get("x", "0")) > 0]
    assert len(circles) >= 3
    words = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert "measured latency (ms)" in words
    assert "MAPE 2 %" in words


def test_a_space_without_a_network_left_is_told() -> None:
    space = load_space("fbnet-tiny")
    few = Space("few", "", 3, 32, 10, space.stem, space.layers[:1], space.heads)
    with pytest.raises(FbError, match="space few has no network left to validate by"):
        draw_candidates(synthetic_table(few, calibration_networks=9), few, 5, 0)
