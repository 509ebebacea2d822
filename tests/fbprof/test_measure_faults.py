"""fbprof measure where something goes wrong: a kill, an operator, the agent, the device, the disk."""

import shlex
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fbagents.connect import load_profile
from fbagents.errors import AgentLostError, DeviceError
from fbagents.profile import Profile
from fbbase import progress
from fbbase.commandline import run
from fblut.reading import read_lut
from fblut.table import Lut
from fbprof.cli import fbprof
from fbprof.errors import JournalError, MeasurementError
from fbprof.estimate.table import estimate
from fbprof.journal.journal import journal_path, read_journal
from fbprof.measure.crashes import Crashes
from fbprof.measure.run import collect
from fbprof.plan.plan import Plan
from fbspace.space import load_space
from peers import processes
from peers.processes import PIPE, Python
from peers.runs import asked_for
from plans import ENDLESS, NETWORKS, OPERATORS, plan_of


def measure(plan: Plan, profile: Profile, journal: Path) -> Lut:
    return estimate(collect(plan, profile, journal), load_space(plan.space))


def start_measuring(space: str, table: Path) -> Python:
    argv = ["-m", "fbprof", "measure", "--space", space, *ENDLESS, "-o", str(table)]
    return Python(argv, stderr=PIPE, stdout=PIPE)


def wait_for_visits(table: Path, count: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if journal_path(table).exists() and journal_path(table).read_bytes().count(b'"warm_up":false') >= count:
            return
        time.sleep(0.05)
    pytest.fail("no samples in 60 s")


@pytest.mark.parametrize(
    ("blow", "code", "words"),
    [
        (signal.SIGKILL, -9, ""),
        (signal.SIGINT, 130, "the same command continues"),
        pytest.param(signal.SIGTERM, 4, "stopped by SIGTERM; the same command continues", marks=pytest.mark.full),
        pytest.param(signal.SIGHUP, 4, "visits are kept in", marks=pytest.mark.full),
    ],
)
def test_a_killed_run_continues_where_it_was(
    space: str, tmp_path: Path, blow: signal.Signals, code: int, words: str
) -> None:
    table = tmp_path / "t.csv"
    with start_measuring(space, table) as process:
        wait_for_visits(table, 40)
        process.send_signal(blow)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == code
    assert words in stderr
    assert not table.exists()
    kept = read_journal(journal_path(table))
    assert kept is not None
    rounds = 2 + min(asked_for(kept).values())
    finish = ["measure", "--space", space, "--ci", "0.0001", "--rounds", str(rounds), "-o", str(table)]
    deadline = time.monotonic() + 20
    while (result := run(fbprof, finish)) == 2 and time.monotonic() < deadline:
        time.sleep(0.2)  # after SIGKILL the kernel needs a moment to release the lock
    assert result == 0
    after = read_journal(journal_path(table))
    assert after is not None
    assert after.visits[: len(kept.visits)] == kept.visits
    assert len(asked_for(after)) == OPERATORS + NETWORKS
    assert min(asked_for(after).values()) == rounds
    assert "2 sessions" in read_lut(table).metadata.conditions


def test_an_operator_that_kills_the_agent_is_recorded_and_the_others_go_on(
    space: str, tmp_path: Path, agent_that: Callable[[str], Profile]
) -> None:
    body = """
load = Agent.load
def deadly(self, number, request):
    if request["model"].startswith("ir_"):
        print("out of luck", file=sys.stderr, flush=True)
        os.kill(os.getpid(), 11)
    load(self, number, request)
Agent.load = deadly
"""
    lut = measure(plan_of(space), agent_that(body), tmp_path / "j.jsonl")
    failed = {key: row.notes for key, row in lut.rows.items() if row.status == "failed"}
    assert list(failed) == ["ir_in8x8x8_out8_k3_s1_e2_g1_relu"]
    (reason,) = failed.values()
    assert "killed by signal 11" in reason
    assert reason.endswith("out of luck")
    assert len(lut.missing(plan_of(space).operators)) == 1


def test_an_operator_that_does_not_load_is_recorded_and_the_others_go_on(
    space: str, tmp_path: Path, agent_that: Callable[[str], Profile]
) -> None:
    body = """
load = Agent.load
def refuse(self, number, request):
    if request["model"].startswith("classifier"):
        raise ValueError("no such kernel")
    load(self, number, request)
Agent.load = refuse
"""
    lut = measure(plan_of(space), agent_that(body), tmp_path / "j.jsonl")
    assert [row.notes for row in lut.rows.values() if row.latency_us is None] == [
        "cannot be loaded: ValueError: no such kernel"
    ]


def test_an_agent_lost_once_by_chance_costs_nothing(
    space: str, tmp_path: Path, agent_that: Callable[[str], Profile]
) -> None:
    once = tmp_path / "once"
    body = f"""
run = Agent.run
def unlucky(self, number, request):
    if not os.path.exists({str(once)!r}):
        open({str(once)!r}, "w").close()
        os._exit(9)
    run(self, number, request)
Agent.run = unlucky
"""
    lut = measure(plan_of(space), agent_that(body), tmp_path / "j.jsonl")
    assert lut.missing(plan_of(space).operators) == []
    assert "2 sessions" in lut.metadata.conditions


def test_a_journal_of_another_device_is_refused(
    space: str, tmp_path: Path, agent_that: Callable[[str], Profile]
) -> None:
    """The profile's name is the same, the processor that answers is not."""
    collect(plan_of(space), load_profile("local"), tmp_path / "j.jsonl")
    body = "space['main'].__globals__['processor_name'] = lambda: 'Snapdragon 835'"
    with pytest.raises(JournalError, match=r"Snapdragon 835. on this device"):
        collect(plan_of(space, rounds=9), agent_that(body), tmp_path / "j.jsonl")


def test_nothing_measured_is_an_error_with_the_reason(
    space: str, tmp_path: Path, agent_that: Callable[[str], Profile]
) -> None:
    body = """
def refuse(self, number, request):
    raise MemoryError("none left")
Agent.load = refuse
"""
    with pytest.raises(
        MeasurementError, match="no operator could be measured: cannot be loaded: MemoryError: none left"
    ):
        measure(plan_of(space), agent_that(body), tmp_path / "j.jsonl")


def test_a_runtime_that_the_device_lacks_is_told(
    space: str, tmp_path: Path, python_that: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    python = python_that("del RUNTIMES['litert']")
    profile = tmp_path / "board.toml"
    profile.write_text(f'description = "x"\ntransport = "local"\npython = "{python}"\n')
    code = run(fbprof, ["measure", "--device", str(profile), "--space", space, "-o", str(tmp_path / "t.csv")])
    assert code == 3
    assert "runtime litert is not installed on board; there is: onnxruntime, torch" in capsys.readouterr().err


def test_a_full_disk_keeps_what_was_measured_and_exits_4(space: str, tmp_path: Path) -> None:
    """A real limit of the kernel on the size of files stands in for the disk's end."""
    table = tmp_path / "t.csv"
    code = f"""
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from fbbase import progress
from fbbase.commandline import run
from fbprof.cli import fbprof
from fbprof.measure.run import JournalWriter
appended = 0
append = JournalWriter.append
def limited(self, record):
    global appended
    appended += 1
    if appended == 120:  # models are written by now, and warm
        resource.setrlimit(resource.RLIMIT_FSIZE, (32000, 32000))
    append(self, record)
JournalWriter.append = limited
sys.exit(run(fbprof, ["measure", "--space", {space!r}, *{ENDLESS!r}, "-o", {str(table)!r}]))
"""
    done = processes.run(["-c", code])
    assert done.returncode == 4, done.stderr
    assert "cannot write" in done.stderr
    assert "the same command continues" in done.stderr
    assert "Traceback" not in done.stderr
    assert not table.exists()
    kept = read_journal(journal_path(table))
    assert kept is not None
    assert kept.visits
    assert run(fbprof, ["measure", "--space", space, "--rounds", "12", "-o", str(table)]) == 0


def test_a_runtime_that_needs_python_says_so_where_there_is_none(space: str, tmp_path: Path) -> None:
    python = tmp_path / "python3"
    python.write_text("#!/bin/sh\necho 'sh: python3: not found' >&2\nexit 127\n")
    python.chmod(0o755)
    phone = Profile(name="phone", description="x", transport="local", agent="native", python=str(python))
    with pytest.raises(DeviceError) as told:
        measure(plan_of(space, runtime="torch"), phone, tmp_path / "j.jsonl")
    assert (
        "torch is run by the Python agent, which cannot be started on phone: it needs Python, numpy and torch"
        in str(told.value)
    )
    assert "Without Python there run executorch, litert, " in str(told.value)
    assert "the lighter way is --runtime executorch" in str(told.value)


def test_a_start_that_takes_long_is_told(
    space: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "PLAIN_INTERVAL_S", 1.0)
    slow = tmp_path / "python"
    slow.write_text(f'#!/bin/sh\nsleep 2.5\nexec {shlex.quote(sys.executable)} "$@"\n')
    slow.chmod(0o755)
    board = Profile(name="board", description="x", transport="local", python=str(slow))
    measure(plan_of(space), board, tmp_path / "j.jsonl")
    assert "board: reaching it and starting the agent, 1 s so far\nboard: reaching it" in capsys.readouterr().err


def test_an_operator_that_ran_often_is_not_blamed_for_what_ends_the_agent_now_and_then() -> None:
    """Of eight losses in a run each may fall on the same operator by chance, as where a killer strikes at random."""
    crashes = Crashes()
    for _ in range(3):
        crashes.suspect = "steady"
        assert crashes.blame(AgentLostError("killed"), {"steady": 150}) is None
    crashes.suspect = "new"
    assert crashes.blame(AgentLostError("killed"), {"steady": 150}) is None
    crashes.suspect = "new"
    assert crashes.blame(AgentLostError("killed"), {"steady": 150, "new": 3}) == "new"
