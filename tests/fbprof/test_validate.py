"""fbprof validate: which networks, what the figures are, when a device is not additive, and real measurements."""

import functools
import json
import math
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from scipy import stats

from fbagents.connect import load_profile
from fbbase.commandline import run
from fbbase.errors import FbError
from fblut.correlation import kendall
from fblut.errors import LutError
from fblut.reading import read_lut
from fblut.table import Lut, Metadata, Prediction, Row
from fblut.writing import write_lut
from fbprof.cli import fbprof
from fbprof.errors import MeasurementError
from fbprof.journal.journal import JournalContent, journal_path, read_journal
from fbprof.plan.grid import grid_operators
from fbprof.plan.networks_file import read_networks
from fbprof.plan.plan import calibration_networks, zoo_choices
from fbprof.plan.subject import is_network_key, network_specs
from fbprof.predict.error import Candidate, Result, additivity, figures_of
from fbprof.predict.validate import Validation, draw_between, draw_candidates, evaluate, validation_plan
from fbprof.report.plot import plot_results
from fbspace.network import count_spec
from fbspace.opspec import OpSpec
from fbspace.space import Space, load_space
from journals import journal, visit

SPACE = """
description = "four layers of the same shape"
input = { channels = 3, size = 64 }
classes = 4
head_channels = [16, 32]
stem = [{ kind = "conv", channels = 16, kernel = 3, stride = 2 }]
stages = [{ channels = 16, repeats = 4, stride = 1 }]
[candidates]
k3 = { kind = "ir", kernel = 3, expansion = 3 }
k5 = { kind = "ir", kernel = 5, expansion = 3 }
skip = { kind = "skip" }
"""
DIFFERENT_NETWORKS = 31  # sequences of at most four k3 and k5; where a skip stands makes no difference
CALIBRATING = 8


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("table")
    (folder / "four.toml").write_text(SPACE)
    path = folder / "t.csv"
    command = ["measure", "--space", str(folder / "four.toml"), "--calibrate", str(CALIBRATING), "--rounds", "10"]
    assert run(fbprof, [*command, "-o", str(path)]) == 0
    return path


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
    assert figures.spearman == pytest.approx(stats.spearmanr(predicted, measured).statistic)
    assert figures.kendall == pytest.approx(stats.kendalltau(predicted, measured).statistic)
    assert figures.noise_floor_percent == pytest.approx(100 * np.abs(halves[0] / halves[1] - 1).mean())
    assert figures.noise_spearman == pytest.approx(stats.spearmanr(*halves).statistic)
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


def validate(table: Path, *arguments: str) -> int:
    return run(fbprof, ["validate", "--lut", str(table), *arguments])


def test_a_real_validation_from_table_to_fit(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "v.csv"
    arguments = ["--networks", "100", "--rounds", "8", "-o", str(output), "--plot", str(tmp_path / "p.svg")]
    assert validate(table, *arguments, "--json") == 0
    captured = capsys.readouterr()
    result = json.loads(captured.out)
    left = DIFFERENT_NETWORKS - len(calibrated := calibrating_networks(table))
    assert f"has only {left} more networks, not 100" in captured.err
    assert result["networks"] == left
    space = load_space(str(table.with_name("four.toml")))
    measured = read_networks(output, space)
    specs = {tuple(space.specs(m.choices)) for m in measured}
    assert len(specs) == left
    assert not specs & calibrated
    lut = read_lut(table)
    for one, line in zip(result["results"], measured, strict=True):
        sum_us = lut.predict_us(space.specs(one["choices"]))
        assert one["table_us"] == pytest.approx(sum_us)
        assert one["predicted_us"] == pytest.approx(sum_us * (1 + result["speed_percent"] / 100))
        assert line.latency_us == pytest.approx(one["measured_us"], abs=1e-3)
        low, high = one["measured_ci_us"] or (0, math.inf)  # other work may leave too few visits
        assert low <= one["measured_us"] <= high
        assert 0.2 < one["predicted_us"] / one["measured_us"] < 5  # on a machine that others use, too
    assert (tmp_path / "p.svg").read_text(encoding="utf-8").lstrip().startswith("<?xml")

    journal, content = journal_path(output).read_bytes(), output.read_bytes()
    assert validate(table, *arguments) == 0
    assert journal_path(output).read_bytes() == journal  # nothing is measured again
    assert output.read_bytes() == content
    assert "verdict: " in capsys.readouterr().out

    fitted = tmp_path / "fitted.csv"
    command = ["fit", str(output), "--space", str(table.with_name("four.toml")), "--runtime", "litert"]
    assert run(fbprof, [*command, "-o", str(fitted)]) == 0
    capsys.readouterr()
    assert validate(fitted, "--exclude", str(output), "-o", str(tmp_path / "w.csv"), "--rounds", "6") == 0
    captured = capsys.readouterr()
    assert f"{len(calibrated)} random and 0 published networks" in captured.out  # those that are left
    assert "no operator timed alone" in captured.out
    assert "warning: the table does not say" not in captured.err


def calibrating_networks(table: Path) -> set[tuple[OpSpec, ...]]:
    space = load_space(str(table.with_name("four.toml")))
    content = read_journal(journal_path(table))
    assert content is not None
    return {tuple(network_specs(key, space)) for key in content.counts if is_network_key(key)}


def test_a_killed_validation_continues_where_it_was(table: Path, tmp_path: Path) -> None:
    output = tmp_path / "v.csv"
    command = ["validate", "--lut", str(table), "--networks", "9", "-o", str(output)]
    argv = [sys.executable, "-m", "fbprof", *command, "--rounds", "5000"]
    with subprocess.Popen(argv, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        journal = journal_path(output)
        while (
            not (journal.exists() and journal.read_bytes().count(b'"warm_up":false') >= 60)
            and time.monotonic() < deadline
        ):
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not output.exists()
    kept = read_journal(journal)
    assert kept is not None
    rounds = str(2 + min(kept.counts.values()))
    deadline = time.monotonic() + 20
    while (code := run(fbprof, [*command, "--rounds", rounds])) == 2 and time.monotonic() < deadline:
        time.sleep(0.2)  # after SIGKILL the kernel needs a moment to release the lock
    assert code == 0
    after = read_journal(journal)
    assert after is not None
    assert after.visits[: len(kept.visits)] == kept.visits
    assert len(after.sessions) == 2
    assert len(read_networks(output, load_space(str(table.with_name("four.toml"))))) == 9


def test_within_turns_a_wrong_table_into_exit_1(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lut = read_lut(table)
    rows = {
        key: Row(row.spec, 10 * (row.latency_us or 0), isolated_us=row.isolated_us) for key, row in lut.rows.items()
    }
    write_lut(Lut(lut.metadata, rows), tmp_path / "wrong.csv")
    arguments = ["--networks", "9", "--rounds", "3", "--within"]
    assert validate(tmp_path / "wrong.csv", *arguments, "50") == 1
    captured = capsys.readouterr()
    assert "verdict: not additive" in captured.out
    assert "the mean error is" in captured.err
    assert (tmp_path / "wrong.validation.csv").exists()
    assert (tmp_path / "wrong.validation.journal.jsonl").exists()
    assert validate(tmp_path / "wrong.csv", *arguments, "5000") == 0


def test_a_space_without_a_network_left_is_told() -> None:
    space = load_space("fbnet-tiny")
    few = Space("few", "", 3, 32, 10, space.stem, space.layers[:1], space.heads)
    with pytest.raises(FbError, match="space few has no network left to validate by"):
        draw_candidates(synthetic_table(few, calibration_networks=9), few, 5, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lut", "none.csv"], "latency table not found: none.csv"),
        (["--lut", "t.csv", "--plot", "p.pdf"], "a plot is a .png or .svg file, not 'p.pdf'"),
        (["--lut", "t.csv", "--device", "galaxy"], "unknown device 'galaxy'"),
        (["--lut", "t.csv", "-o", "t.csv"], "-o t.csv is the table itself"),
        (["--lut", "t.csv", "--exclude", "n.csv"], "networks file not found: n.csv"),
        (["--lut", "unknown.csv"], "the table does not say which runtime it is of"),
        (["--lut", "int3.csv"], "litert (format tflite) has no precision 'int3'"),
        (["--lut", "t.csv", "--networks", "0"], "0 is not in the range"),
        ([], "Missing option '--lut'"),
    ],
)
def test_bad_input_is_one_clear_message_and_nothing_is_measured(
    arguments: list[str],
    message: str,
    table: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lut = read_lut(table)
    write_lut(lut, tmp_path / "t.csv")
    write_lut(Lut(lut.metadata.model_copy(update={"runtime": "unknown"}), lut.rows), tmp_path / "unknown.csv")
    write_lut(Lut(lut.metadata.model_copy(update={"precision": "int3"}), lut.rows), tmp_path / "int3.csv")
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    assert run(fbprof, ["validate", *arguments]) == 2
    stderr = capsys.readouterr().err
    assert message in stderr
    assert "Traceback" not in stderr
    assert sorted(tmp_path.iterdir()) == before
