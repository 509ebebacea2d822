"""The verdict: every rule on runs that show what it warns of, a little and badly, and on runs that do not."""

import itertools
import json
import math
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fbagents.agent.protocol import Hello, State, Visit
from fbbase.commandline import run
from fblut.reading import read_lut
from fblut.table import Lut
from fbprof.cli import fbprof
from fbprof.estimate import verdict
from fbprof.estimate.table import estimate
from fbprof.estimate.verdict import is_bimodal
from fbprof.journal.journal import Failed, JournalContent, Session, Start, StateRead, Visited, journal_path
from fbprof.plan.subject import Subject, network, operator
from fbspace.opspec import OpSpec
from fbspace.space import Layer, Space, load_space

Moment = float
"""Where in the run something happens, from 0 to 1."""
SPECS = tuple(OpSpec("conv", 3, 8 * width, 32, 32) for width in range(1, 13))
SPACE = Space("twelve", "", 3, 32, 2, (), (Layer(1, 1, {spec.key(): spec for spec in SPECS}),), {0: ()})
ROUNDS = 80
IDENTITY = {
    "space": "twelve",
    "device": "local",
    "runtime": "litert",
    "precision": "float32",
    "threads": 1,
    "cores": None,
    "runs": 3,
    "dropped": 1,
    "seed": 0,
}


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
    content = JournalContent(Start(identity=IDENTITY, timing="t", started_at="2026-01-01", tool_version="0"))
    hello = {"event": "hello", "protocol": 1, "agent": "a", "runtimes": {"litert": "2"}, "threads": 1, "cores": None}
    content.add(Session(hello=Hello.model_validate({**hello, "clocks": (), "soc": "chip", "system": ""})))
    for subject in subjects[:failed]:
        content.add(Failed(key=subject.key, reason="no such kernel"))
    subjects = subjects[failed:]
    for number in range(rounds):
        for place, index in enumerate(rng.permutation(len(subjects))):
            moment = (number + place / len(subjects)) / rounds
            us = latency_us(subjects[index]) * factor(subjects[index], moment, rng)
            cpu_ns = (1000 * us * np.exp(rng.normal(0, noise, 3))).astype(int)
            visit = {
                "event": "visit",
                "index": 0,
                "model": subjects[index].key,
                "start_ns": 0,
                "wall_ns": [*map(int, cpu_ns + 1_000_000 * (rng.random(3) < preempted))],
                "cpu_ns": [*map(int, cpu_ns)],
                "freq_khz": int(1e6 * clock_ghz(moment)) if clock_ghz else None,
            }
            content.add(Visited(key=subjects[index].key, visit=Visit.model_validate(visit)))
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
    bad = math.floor(verdict.FAILED_SHARE * len(SPECS)) + 1
    warning = assert_warns(recorded(failed=1), "usable", "could not be measured", "see the notes in the table")
    assert warning.startswith("1 of 12 operators could not be measured (no such kernel)")
    assert_warns(recorded(failed=bad), "do not use", "could not be measured", "see the notes in the table")


def test_drift_that_is_large_although_it_was_taken_out() -> None:
    words, remedy = "speed wandered", "close other programs, fix its clocks or bind it with --cores"
    slower = verdict.DRIFT_PERCENT
    assert judged(recorded(factor=square_wave(0.7 * slower)), words) == ("good", [])
    assert_warns(recorded(factor=square_wave(1.5 * slower)), "usable", words, remedy)
    assert_warns(recorded(factor=square_wave(1.5 * verdict.BAD_DRIFT_PERCENT)), "do not use", words, remedy)


def test_throttling_is_becoming_ever_slower() -> None:
    words, remedy = "it throttles", "let it cool"
    slower = verdict.THROTTLED_PERCENT
    assert judged(recorded(factor=ramp(0.7 * slower)), words) == ("good", [])
    assert judged(recorded(factor=square_wave(2 * slower)), words)[1] == []
    assert judged(recorded(factor=lambda s, t, rng: 2 - ramp(3 * slower)(s, t, rng)), words)[1] == []
    warning = assert_warns(recorded(factor=ramp(2 * slower)), "usable", words, remedy)
    assert "°C" not in warning
    hot = recorded(factor=ramp(1.5 * verdict.BAD_THROTTLED_PERCENT), temperature_c=lambda t: 41 + 30 * t)
    assert "from 41 to 71 °C" in assert_warns(hot, "do not use", words, remedy)


def test_preemption_by_other_work() -> None:
    words, remedy = "other work interrupted", "close other programs"
    assert judged(recorded(preempted=0.5 * verdict.PREEMPTED_SHARE), words) == ("good", [])
    warning = assert_warns(recorded(preempted=2 * verdict.PREEMPTED_SHARE), "usable", words, remedy)
    share = float(warning.split()[3])
    assert share == pytest.approx(200 * verdict.PREEMPTED_SHARE, abs=1.5)
    assert_warns(recorded(preempted=1.5 * verdict.BAD_PREEMPTED_SHARE), "do not use", words, remedy)


def two_speeds(operators: int) -> Callable[[Subject, Moment, np.random.Generator], float]:
    keys = [spec.key() for spec in SPECS[:operators]]
    return lambda subject, moment, rng: 1.1 if subject.key in keys and rng.random() < 0.4 else 1.0


def test_operators_with_two_speeds() -> None:
    words, remedy = "have two speeds", "bind the agent to cores of one kind with --cores"
    few = max(math.floor(verdict.BIMODAL_SHARE * len(SPECS)), 1) + 1
    many = math.floor(verdict.BAD_BIMODAL_SHARE * len(SPECS)) + 1
    assert judged(recorded(factor=two_speeds(few - 1)), words) == ("good", [])
    warning = assert_warns(recorded(factor=two_speeds(few)), "usable", words, remedy)
    assert warning.startswith(f"{few} of 12 operators have two speeds, e.g. conv_in3x32x32_out")
    assert_warns(recorded(factor=two_speeds(many)), "do not use", words, remedy)


def test_a_clock_that_wanders() -> None:
    words, remedy = "the clock wandered", "fix the governor"
    assert judged(recorded(clock_ghz=lambda t: 2.0 - 0.7 * verdict.CLOCK_SHARE * 2 * t), words) == ("good", [])
    warning = assert_warns(recorded(clock_ghz=lambda t: 1.5 if 0.5 < t < 0.6 else 2.0), "usable", words, remedy)
    assert "between 1.50 and 2.00 GHz" in warning


def test_cores_that_come_and_go() -> None:
    words, remedy = "cores that the agent may use changed", "keep the device awake"
    assert judged(recorded(cores=lambda t: (0, 1, 2, 3)), words) == ("good", [])
    assert_warns(recorded(cores=lambda t: (0, 1) if t > 0.7 else (0, 1, 2, 3)), "usable", words, remedy)


def test_wide_intervals() -> None:
    """The interval of 8 visits is from the fastest to the slowest; of 3 there is none."""
    words, remedy = "interval of the middle entry is", "measure longer (more --rounds or --max-time)"
    assert judged(recorded(rounds=8, noise=0.3 * verdict.WIDE_PERCENT / 100), words) == ("good", [])
    assert_warns(recorded(rounds=8, noise=2 * verdict.WIDE_PERCENT / 100), "usable", words, remedy)
    assert_warns(recorded(rounds=8, noise=2.5 * verdict.BAD_WIDE_PERCENT / 100), "do not use", words, remedy)
    assert "is not known" in assert_warns(recorded(rounds=3), "usable", words, remedy)


@pytest.mark.parametrize(
    ("error_percent", "level"),
    [
        (0.3 * verdict.NETWORK_PERCENT, "good"),
        (0.5 * (verdict.NETWORK_PERCENT + verdict.BAD_NETWORK_PERCENT), "usable"),
        (3 * verdict.BAD_NETWORK_PERCENT, "do not use"),
    ],
)
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
    content = recorded(
        preempted=2 * verdict.PREEMPTED_SHARE, failed=6, clock_ghz=lambda t: 1.0 + t, cores=lambda t: (0, int(9 * t))
    )
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
    assert not is_bimodal(two[: verdict.BIMODAL_VISITS - 1])
    assert not is_bimodal([100.0, 100 * (1 + 0.9 * verdict.BIMODAL_GAP)] * 30)
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


def device_that(folder: Path, wall_ns: str) -> list[str]:
    """Return the options that measure with the real agent, but for its clocks: 100 µs of CPU, and so much wall time."""
    (folder / "changed.py").write_text(
        "import os, runpy, sys\n"
        "sys.argv = sys.argv[1:]\n"
        "space = runpy.run_path(sys.argv[0], run_name='agent')\n"
        "run = space['Agent'].run\n"
        "def changed(self, number, request):\n"
        "    def reply(**message):\n"
        "        if message['event'] == 'visit':\n"
        "            index = message['index']\n"
        f"            message |= {{'cpu_ns': [100_000] * 3, 'wall_ns': [{wall_ns}] * 3, 'freq_khz': None}}\n"
        "        self.__dict__['answered'](**message)\n"
        "    self.answered, self.reply = self.reply, reply\n"
        "    try:\n"
        "        run(self, number, request)\n"
        "    finally:\n"
        "        self.reply = self.answered\n"
        "space['Agent'].run = changed\n"
        "os._exit(space['main']())\n"
    )
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{folder}/changed.py" "$@"\n')
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    (folder / "board.toml").write_text(f'description = "x"\ntransport = "local"\npython = "{python}"\n')
    return ["measure", "--device", "board.toml", "--space", "tiny.toml", "--calibrate", "0", "--rounds", "10"]


def test_strict_turns_do_not_use_into_exit_1_and_table_and_json_say_why(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupted = device_that(here, "100_000 + 5_000_000 * (index % 2)")
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


def test_strict_is_satisfied_with_a_quiet_run(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(fbprof, [*device_that(here, "100_000"), "-o", "t.csv", "--strict", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == "good"
    lut: Lut = read_lut(here / "t.csv")
    assert (lut.metadata.verdict, lut.metadata.warnings) == ("good", ())
