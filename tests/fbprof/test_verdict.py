"""The verdict: every rule on runs that show what it warns of, a little and badly, and on runs that do not."""

import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fbagents.agent.protocol import State
from fbbase.commandline import run
from fblut.reading import read_lut
from fblut.table import Lut
from fbprof.cli import fbprof
from fbprof.estimate.table import estimate
from fbprof.estimate.verdict import is_bimodal
from fbprof.journal.journal import Failed, JournalContent, StateRead, journal_path
from fbprof.plan.subject import Subject, network, operator
from fbspace.opspec import OpSpec
from fbspace.space import Layer, Space, load_space
from journals import journal, visit

Moment = float
"""Where in the run something happens, from 0 to 1."""
SPECS = tuple(OpSpec("conv", 3, 8 * width, 32, 32) for width in range(1, 13))
SPACE = Space("twelve", "", 3, 32, 2, (), (Layer(1, 1, {spec.key(): spec for spec in SPECS}),), {0: ()})
ROUNDS = 80


def true_us(subject: Subject) -> float:
    return 50 + 10 * sum(spec.out_channels * spec.kernel for spec in subject.specs)


def recorded(
    subjects: tuple[Subject, ...] = tuple(map(operator, SPECS)),
    *,
    latency_us: Callable[[Subject], float] = true_us,
    factor: Callable[[Subject, Moment, np.random.Generator], float] = lambda subject, moment, rng: 1.0,
    rounds: int = ROUNDS,
    noise: float = 0.002,
    preempted: float = 0.0,
    clock_ghz: Callable[[Moment], float] | None = None,
    temperature_c: Callable[[Moment], float] | None = None,
    cores: Callable[[Moment], tuple[int, ...]] | None = None,
    failed: int = 0,
) -> JournalContent:
    """Return the journal of a run in random rounds, the device's state read after each."""
    rng = np.random.default_rng(1)
    content = journal()
    for subject in subjects[:failed]:
        content.add(Failed(key=subject.key, reason="no such kernel"))
    subjects = subjects[failed:]
    for number in range(rounds):
        for place, index in enumerate(rng.permutation(len(subjects))):
            moment = (number + place / len(subjects)) / rounds
            us = latency_us(subjects[index]) * factor(subjects[index], moment, rng)
            cpu_us = us * np.exp(rng.normal(0, noise, 3))
            wall_us = cpu_us + 1_000 * (rng.random(3) < preempted)
            freq_khz = int(1e6 * clock_ghz(moment)) if clock_ghz else None
            content.add(visit(subjects[index].key, wall_us, list(cpu_us), freq_khz=freq_khz))
        state = {
            "event": "state",
            "affinity": cores(number / rounds) if cores else None,
            "temperature_c": {"cpu": temperature_c(number / rounds), "skin": 20.0} if temperature_c else None,
        }
        content.add(StateRead(state=State.model_validate(state)))
    return content


def judged(content: JournalContent, words: str, space: Space = SPACE) -> tuple[str | None, list[str]]:
    """Return the verdict and the warnings that have these words."""
    metadata = estimate(content, space).metadata
    return metadata.verdict, [warning for warning in metadata.warnings if words in warning]


def assert_warns(content: JournalContent, level: str, words: str, remedy: str, space: Space = SPACE) -> str:
    found, warnings = judged(content, words, space)
    (warning,) = warnings
    assert found == level
    assert remedy in warning.rpartition(": ")[2]
    return warning


def square_wave(percent: float) -> Callable[[Subject, Moment, np.random.Generator], float]:
    return lambda subject, moment, rng: 1 + percent / 100 * (math.floor(moment * 12) % 2)


def ramp(percent: float) -> Callable[[Subject, Moment, np.random.Generator], float]:
    return lambda subject, moment, rng: 1 + percent / 100 * moment


def test_a_quiet_run_on_a_steady_device_is_good() -> None:
    steady = {"clock_ghz": lambda t: 2.0, "temperature_c": lambda t: 40 + 10 * t, "cores": lambda t: (0, 1)}
    lut = estimate(recorded(**steady), SPACE)  # type: ignore[arg-type]
    assert (lut.metadata.verdict, lut.metadata.warnings) == ("good", ())


def test_failed_operators() -> None:
    """More than a tenth are too many."""
    warning = assert_warns(recorded(failed=1), "usable", "could not be measured", "see the notes in the table")
    assert warning.startswith("1 of 12 operators could not be measured (no such kernel)")
    assert_warns(recorded(failed=2), "do not use", "could not be measured", "see the notes in the table")


def test_drift_that_is_large_although_it_was_taken_out() -> None:
    """15 % are told, 150 % are too much."""
    words, remedy = "speed wandered", "close other programs, fix its clocks or bind it with --cores"
    assert judged(recorded(factor=square_wave(12)), words) == ("good", [])
    assert_warns(recorded(factor=square_wave(18)), "usable", words, remedy)
    assert_warns(recorded(factor=square_wave(130)), "usable", words, remedy)
    assert_warns(recorded(factor=square_wave(180)), "do not use", words, remedy)


def test_throttling_is_becoming_ever_slower() -> None:
    """The last tenth 5 % slower than the fastest before it is told, 50 % are too much."""
    words, remedy = "it throttles", "let it cool"
    assert judged(recorded(factor=ramp(4)), words) == ("good", [])
    assert judged(recorded(factor=square_wave(10)), words)[1] == []
    assert judged(recorded(factor=lambda s, t, rng: 2 - ramp(15)(s, t, rng)), words)[1] == []
    warning = assert_warns(recorded(factor=ramp(7)), "usable", words, remedy)
    assert "°C" not in warning
    hot = recorded(factor=ramp(70), temperature_c=lambda t: 41 + 30 * t)
    assert "from 41 to 71 °C" in assert_warns(hot, "do not use", words, remedy)


def test_preemption_by_other_work() -> None:
    """2 % of the samples are told, 30 % are too many."""
    words, remedy = "other work interrupted", "close other programs"
    assert judged(recorded(preempted=0.01), words) == ("good", [])
    warning = assert_warns(recorded(preempted=0.04), "usable", words, remedy)
    assert float(warning.split()[3]) == pytest.approx(4, abs=1.5)
    assert_warns(recorded(preempted=0.25), "usable", words, remedy)
    assert_warns(recorded(preempted=0.36), "do not use", words, remedy)


def two_speeds(operators: int) -> Callable[[Subject, Moment, np.random.Generator], float]:
    keys = [spec.key() for spec in SPECS[:operators]]
    return lambda subject, moment, rng: 1.1 if subject.key in keys and rng.random() < 0.4 else 1.0


def test_operators_with_two_speeds() -> None:
    """One of a few operators may be chance; more than half are too many."""
    words, remedy = "have two speeds", "bind the agent to cores of one kind with --cores"
    assert judged(recorded(factor=two_speeds(1)), words) == ("good", [])
    warning = assert_warns(recorded(factor=two_speeds(2)), "usable", words, remedy)
    assert warning.startswith("2 of 12 operators have two speeds, e.g. conv_in3x32x32_out")
    assert_warns(recorded(factor=two_speeds(7)), "do not use", words, remedy)


def test_a_clock_that_wanders() -> None:
    """By 5 % or more."""
    words, remedy = "the clock wandered", "fix the governor"
    assert judged(recorded(clock_ghz=lambda t: 2.0 - 0.08 * t), words) == ("good", [])
    assert_warns(recorded(clock_ghz=lambda t: 2.0 - 0.12 * t), "usable", words, remedy)
    warning = assert_warns(recorded(clock_ghz=lambda t: 1.5 if 0.5 < t < 0.6 else 2.0), "usable", words, remedy)
    assert "between 1.50 and 2.00 GHz" in warning


def test_cores_that_come_and_go() -> None:
    words, remedy = "cores that the agent may use changed", "keep the device awake"
    assert judged(recorded(cores=lambda t: (0, 1, 2, 3)), words) == ("good", [])
    assert_warns(recorded(cores=lambda t: (0, 1) if t > 0.7 else (0, 1, 2, 3)), "usable", words, remedy)


def test_wide_intervals() -> None:
    """±2 % are told, ±10 % are too wide. The interval of 8 visits is from fastest to slowest; of 3 there is none."""
    words, remedy = "interval of the middle entry is", "measure longer (more --rounds or --max-time)"
    assert judged(recorded(rounds=8, noise=0.006), words) == ("good", [])
    assert_warns(recorded(rounds=8, noise=0.04), "usable", words, remedy)
    assert_warns(recorded(rounds=8, noise=0.25), "do not use", words, remedy)
    assert "is not known" in assert_warns(recorded(rounds=3), "usable", words, remedy)


@pytest.mark.parametrize(("error_percent", "level"), [(0.75, "good"), (5, "usable"), (22.5, "do not use")])
def test_networks_that_do_not_add_up(error_percent: float, level: str) -> None:
    """Every network takes the sum of its operators, but for an error of its own that no operator explains."""
    space = load_space("fbnet-tiny")
    rng = np.random.default_rng(2)
    names = list(space.layers[0].candidates)
    networks = [network(space, [str(name) for name in rng.choice(names, len(space.layers))]) for _ in range(30)]
    operators = [operator(spec) for spec in dict.fromkeys(spec for n in networks for spec in n.specs)]
    off = {n.key: math.exp(rng.normal(0, error_percent / 100)) for n in networks}

    def latency_us(subject: Subject) -> float:
        return sum(true_us(operator(spec)) for spec in subject.specs) * off.get(subject.key, 1.0)

    content = recorded((*operators, *networks), latency_us=latency_us, rounds=8)
    if level == "good":
        assert judged(content, "misses a network", space) == ("good", [])
    else:
        warning = assert_warns(content, level, "misses a network", "fbprof fit makes a table of whole networks", space)
        assert "fbprof validate" in warning


def test_the_worst_comes_first_and_decides() -> None:
    content = recorded(preempted=0.04, failed=6, clock_ghz=lambda t: 1.0 + t, cores=lambda t: (0, int(9 * t)))
    metadata = estimate(content, SPACE).metadata
    assert metadata.verdict == "do not use"
    assert len(metadata.warnings) == 4
    assert metadata.warnings[0].startswith("6 of 12 operators could not be measured")


def share_of_bimodal(draw: Callable[[np.random.Generator], NDArray[np.float64]], repetitions: int = 100) -> float:
    rng = np.random.default_rng(3)
    return sum(is_bimodal(list(100 * draw(rng))) for _ in range(repetitions)) / repetitions


@pytest.mark.parametrize("visits", [40, 80, 300])
@pytest.mark.parametrize("spread", [0.002, 0.02, 0.2])
@pytest.mark.parametrize("shape", ["normal", "lognormal", "heavy tail", "disturbed", "uniform"])
def test_one_mode_is_hardly_ever_taken_for_two(shape: str, spread: float, visits: int) -> None:
    shapes: dict[str, Callable[[np.random.Generator], NDArray[np.float64]]] = {
        "normal": lambda rng: np.maximum(1 + spread * rng.normal(size=visits), 0.01),
        "lognormal": lambda rng: np.exp(spread * rng.normal(size=visits)),
        "heavy tail": lambda rng: 1 + spread * np.abs(rng.standard_t(2, size=visits)),
        "disturbed": lambda rng: (1 + spread * rng.normal(size=visits) / 5) * (1 + (rng.random(visits) < 0.08) / 2),
        "uniform": lambda rng: 1 + spread * rng.random(visits),
    }
    assert share_of_bimodal(shapes[shape]) <= 0.05


@pytest.mark.parametrize("visits", [40, 80, 300])
@pytest.mark.parametrize("slow", [0.35, 0.5, 0.65])
@pytest.mark.parametrize(("gap", "spread"), [(0.06, 0.005), (0.3, 0.02), (1.5, 0.1)])
def test_two_modes_are_found(gap: float, spread: float, slow: float, visits: int) -> None:
    def mixture(rng: np.random.Generator) -> NDArray[np.float64]:
        return np.exp(spread * rng.normal(size=visits) + np.log1p(gap) * (rng.random(visits) < slow))

    assert share_of_bimodal(mixture) >= 0.95


def test_few_visits_or_a_small_difference_or_rare_outliers_are_not_two_speeds() -> None:
    two = [100.0, 120.0] * 30
    assert is_bimodal(two)
    assert is_bimodal(two[:40])
    assert not is_bimodal(two[:39])
    assert not is_bimodal([100.0, 103.6] * 30)
    assert not is_bimodal([100.0] * 54 + [120.0] * 6)
    assert not is_bimodal([100.0] * 60)
    assert is_bimodal([value for pair in itertools.repeat((5.0, 9.0), 40) for value in pair])


TINY = """
description = "one layer"
input = { channels = 3, size = 8 }
classes = 2
head_channels = [8]
stem = [{ kind = "conv", channels = 8, kernel = 3 }]
stages = [{ channels = 8, repeats = 1, stride = 1 }]
[candidates]
k3 = { kind = "ir", kernel = 3, expansion = 1 }
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.toml").write_text(TINY)
    return tmp_path


def measuring(folder: Path, python: str) -> list[str]:
    """Return the words that measure a small space by a Python."""
    (folder / "board.toml").write_text(f'description = "x"\ntransport = "local"\npython = "{python}"\n')
    return ["measure", "--device", "board.toml", "--space", "tiny.toml", "--calibrate", "0", "--rounds", "10"]


def test_strict_turns_do_not_use_into_exit_1_and_table_and_json_say_why(
    here: Path, python_that_takes: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    interrupted = measuring(here, python_that_takes("100_000 + 5_000_000 * (index % 2)", "100_000"))
    assert run(fbprof, [*interrupted, "-o", "t.csv", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    metadata = read_lut(here / "t.csv").metadata
    assert summary["verdict"] == metadata.verdict == "do not use"
    assert summary["warnings"] == list(metadata.warnings)
    assert metadata.warnings[0].startswith("other work interrupted")
    assert run(fbprof, [*interrupted, "-o", "t.csv", "--strict"]) == 1
    captured = capsys.readouterr()
    assert "verdict: do not use" in captured.out
    assert f"  - {metadata.warnings[0]}" in captured.out
    assert f"verdict: do not use t.csv: {metadata.warnings[0]}" in captured.err
    assert journal_path(here / "t.csv").exists()


def test_strict_is_satisfied_with_a_quiet_run(
    here: Path, python_that_takes: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    quiet = measuring(here, python_that_takes("100_000", "100_000"))
    assert run(fbprof, [*quiet, "-o", "t.csv", "--strict", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == "good"
    lut: Lut = read_lut(here / "t.csv")
    assert (lut.metadata.verdict, lut.metadata.warnings) == ("good", ())
