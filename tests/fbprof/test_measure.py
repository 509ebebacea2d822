"""fbprof measure on this machine with the real agent: the table, resuming, and everything that may go wrong."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from fbagents.connect import load_profile
from fbagents.profile import Profile
from fbbase.commandline import run
from fblut.reading import read_lut
from fblut.table import Lut
from fbprof.cli import fbprof
from fbprof.errors import JournalError, MeasurementError
from fbprof.estimate.table import estimate
from fbprof.journal.journal import Placed, journal_path, read_journal
from fbprof.measure.run import collect
from fbprof.plan.plan import Plan, calibration_networks
from fbprof.plan.subject import is_network_key, network_specs
from fbspace.space import load_space

SPACE = """
description = "two layers"
input = { channels = 3, size = 16 }
classes = 4
head_channels = [16]
stem = [{ kind = "conv", channels = 8, kernel = 3, stride = 2 }]
stages = [{ channels = 8, repeats = 2, stride = 1 }]
[candidates]
k3 = { kind = "ir", kernel = 3, expansion = 2 }
skip = { kind = "skip" }
"""
OPERATORS = 4  # stem, one block, head convolution, classifier; the identity is not measured
NETWORKS = 4  # all there are
ENDLESS = ["--ci", "0.0001", "--rounds", "100000"]


@pytest.fixture
def space(tmp_path: Path) -> str:
    file = tmp_path / "two.toml"
    file.write_text(SPACE)
    return str(file)


def plan_of(space: str, **changes: object) -> Plan:
    fields = {
        "space": space,
        "device": "local",
        "runtime": "litert",
        "precision": "float32",
        "threads": 1,
        "cores": None,
        "rounds": 3,
        "runs": 2,
        "dropped": 1,
        "seed": 0,
        "operators": tuple(load_space(space).operators()),
    }
    return Plan(**(fields | changes))  # type: ignore[arg-type]


def measure(plan: Plan, profile: Profile, journal: Path) -> Lut:
    return estimate(collect(plan, profile, journal), load_space(plan.space))


@pytest.mark.parametrize("runtime", ["litert", "onnxruntime", "torch"])
def test_a_table_has_every_operator_and_says_how_it_was_made(space: str, tmp_path: Path, runtime: str) -> None:
    table = tmp_path / "new folder" / "t.csv"
    code = run(fbprof, ["measure", "--space", space, "--runtime", runtime, "--rounds", "8", "-o", str(table)])
    assert code == 0
    lut = read_lut(table)
    assert list(lut.rows) == [spec.key() for spec in load_space(space).operators()]
    assert lut.missing(load_space(space).operators()) == []
    assert (lut.metadata.runtime, lut.metadata.threads) == (runtime, 1)
    assert lut.metadata.rounds >= 8  # references recur more often
    assert (lut.metadata.runs, lut.metadata.dropped) == (3, 1)
    assert lut.metadata.runtime_version[0].isdigit()
    content = read_journal(journal_path(table))
    assert content is not None
    assert len(content.counts) == OPERATORS + NETWORKS
    assert min(content.counts.values()) == 8
    warm_ups = journal_path(table).read_text().count('"warm_up":true')
    assert warm_ups >= 2 * len(content.counts)  # a visit, and one that is not faster any more
    for row in lut.rows.values():
        assert row.latency_us is not None
        assert row.ci_low_us is not None
        assert row.ci_low_us <= row.latency_us <= row.ci_high_us  # type: ignore[operator]
        assert row.isolated_low_us <= row.isolated_us <= row.isolated_high_us  # type: ignore[operator]


@pytest.mark.parametrize("runtime", ["litert", "onnxruntime"])
def test_an_int8_table_says_which_operators_have_no_integer_kernel(space: str, tmp_path: Path, runtime: str) -> None:
    table = tmp_path / "t.csv"
    command = ["measure", "--space", space, "--runtime", runtime, "--precision", "int8", "--rounds", "8"]
    assert run(fbprof, [*command, "-o", str(table)]) == 0
    lut = read_lut(table)
    assert lut.metadata.precision == "int8"
    keys = [spec.key() for spec in load_space(space).operators()]
    assert {key: row.notes for key, row in lut.rows.items()} == dict.fromkeys(keys, "")
    content = read_journal(journal_path(table))
    assert content is not None
    assert content.fallbacks == dict.fromkeys(keys, ())  # looked at, all of them, and all in integer kernels
    content.add(Placed(key=keys[1], fallbacks=("HARD_SWISH not delegated", "Conv in float")))
    assert estimate(content, load_space(space)).rows[keys[1]].notes == "HARD_SWISH not delegated; Conv in float"
    assert run(fbprof, ["measure", "--space", space, "--runtime", runtime, "-o", str(table)]) == 2  # another precision


def test_a_device_may_have_a_runtime_that_this_host_lacks(
    space: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    plan = plan_of(space, runtime="onnxruntime", precision="int8")
    content = collect(plan, load_profile("local"), tmp_path / "j.jsonl")
    (notes,) = set(content.fallbacks.values())
    missing = "runtime onnxruntime is not installed here: pip install onnxruntime"
    assert notes[0] == f"kernels not looked at: {missing}"
    assert min(content.counts.values()) >= 3


def test_the_same_command_measures_nothing_again_and_more_rounds_continue(space: str, tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    command = ["measure", "--space", space, "-o", str(table)]
    assert run(fbprof, [*command, "--rounds", "3"]) == 0
    journal, content = journal_path(table).read_bytes(), table.read_bytes()
    assert run(fbprof, [*command, "--rounds", "3"]) == 0
    assert journal_path(table).read_bytes() == journal
    assert table.read_bytes() == content
    assert run(fbprof, [*command, "--rounds", "5"]) == 0
    assert journal_path(table).read_bytes().startswith(journal)
    assert read_lut(table).metadata.rounds >= 5


def test_the_table_is_derived_again_from_the_journal_byte_for_byte(
    space: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "t.csv"
    assert run(fbprof, ["measure", "--space", space, "--rounds", "12", "-o", str(table)]) == 0
    journal = str(journal_path(table))
    assert run(fbprof, ["estimate", journal, "-o", str(tmp_path / "again.csv")]) == 0
    assert (tmp_path / "again.csv").read_bytes() == table.read_bytes()
    assert read_lut(table).metadata.drift_range_percent is not None
    assert run(fbprof, ["estimate", journal, "-o", str(tmp_path / "plain.csv"), "--no-drift"]) == 0
    assert read_lut(tmp_path / "plain.csv").metadata.drift_range_percent is None
    assert "not corrected for drift" in capsys.readouterr().out
    assert run(fbprof, ["estimate", str(tmp_path / "none"), "-o", str(tmp_path / "x.csv")]) == 2
    assert "holds no samples" in capsys.readouterr().err


def start_measuring(space: str, table: Path) -> subprocess.Popen[str]:
    argv = [sys.executable, "-m", "fbprof", "measure", "--space", space, *ENDLESS, "-o", str(table)]
    return subprocess.Popen(argv, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def wait_for_visits(table: Path, count: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if journal_path(table).exists() and journal_path(table).read_bytes().count(b'"warm_up":false') >= count:
            return
        time.sleep(0.05)
    pytest.fail("no samples in 60 s")


@pytest.mark.parametrize(
    ("blow", "code", "words"),
    [(signal.SIGKILL, -9, ""), (signal.SIGINT, 130, "the same command continues"), (signal.SIGTERM, -15, "")],
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
    rounds = 2 + min(kept.counts.values())
    finish = ["measure", "--space", space, "--ci", "0.0001", "--rounds", str(rounds), "-o", str(table)]
    deadline = time.monotonic() + 20
    while (result := run(fbprof, finish)) == 2 and time.monotonic() < deadline:
        time.sleep(0.2)  # after SIGKILL the kernel needs a moment to release the lock
    assert result == 0
    after = read_journal(journal_path(table))
    assert after is not None
    assert after.visits[: len(kept.visits)] == kept.visits
    assert len(after.counts) == OPERATORS + NETWORKS
    assert min(after.counts.values()) == rounds
    assert "2 sessions" in read_lut(table).metadata.conditions


@pytest.fixture
def agent_that(python_that: Callable[[str], str]) -> Callable[[str], Profile]:
    """Return a function that gives a profile whose agent is changed by a body."""
    return lambda body: load_profile("local").model_copy(update={"python": python_that(body)})


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


def test_models_stay_within_the_memory_bound_and_take_turns(
    space: str, tmp_path: Path, agent_that: Callable[[str], Profile]
) -> None:
    """A bound of one byte holds one model at a time beside the references, which are all four operators here."""
    networks = calibration_networks(load_space(space), 4, seed=0)
    plan = plan_of(space, networks=networks, rounds=14, memory_bytes=1)
    body = f"""
load, unload, loaded = Agent.load, Agent.unload, set()
def counting_load(self, number, request):
    load(self, number, request)
    loaded.add(request["model"])
    with open({str(tmp_path / "most")!r}, "a") as file:
        file.write(f"{{len(loaded)}}\\n")
def counting_unload(self, number, request):
    unload(self, number, request)
    loaded.remove(request["model"])
Agent.load, Agent.unload = counting_load, counting_unload
"""
    content = collect(plan, agent_that(body), tmp_path / "j.jsonl")
    assert max(map(int, (tmp_path / "most").read_text().split())) == 1
    assert len(content.counts) == OPERATORS + 4
    assert min(content.counts.values()) == 14
    order = [record.key for record in content.visits if is_network_key(record.key)]
    turns = 1 + sum(a != b for a, b in itertools.pairwise(order))
    assert turns > 4  # nothing is measured in one go


def test_operators_and_networks_are_loaded_anew_after_as_many_visits(space: str, tmp_path: Path) -> None:
    networks = calibration_networks(load_space(space), 2, seed=3)
    plan = plan_of(space, networks=networks, rounds=10, reload_visits=5)
    content = collect(plan, load_profile("local"), tmp_path / "j.jsonl")
    visits = Counter(zip((record.key for record in content.visits), content.load_numbers, strict=True))
    assert {(key, load): visits[key, load] for key, load in visits if is_network_key(key)} == {
        (network.key, load): 5 for network in networks for load in (1, 2)
    }
    assert all(content.loads[spec.key()] >= 2 for spec in plan.operators)  # references are visited more often


def test_a_network_is_measured_with_its_operators(space: str, tmp_path: Path) -> None:
    networks = calibration_networks(load_space(space), 2, seed=3)
    content = collect(plan_of(space, networks=networks), load_profile("local"), tmp_path / "j.jsonl")
    keys = [key for key in content.counts if is_network_key(key)]
    assert sorted(keys) == sorted(network.key for network in networks)
    assert [tuple(network_specs(key, load_space(space))) for key in sorted(keys)] == [
        network.specs for network in sorted(networks, key=lambda network: network.key)
    ]


def test_a_journal_of_another_device_is_refused(
    space: str, tmp_path: Path, agent_that: Callable[[str], Profile]
) -> None:
    """The profile's name is the same, the processor that answers is not."""
    collect(plan_of(space), load_profile("local"), tmp_path / "j.jsonl")
    body = "space['main'].__globals__['processor_name'] = lambda: 'Snapdragon 835'"
    with pytest.raises(JournalError, match=r"Snapdragon 835. on this device"):
        collect(plan_of(space, rounds=9), agent_that(body), tmp_path / "j.jsonl")


def test_the_time_limit_ends_the_run_with_what_there_is(space: str, tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    start = time.monotonic()
    assert run(fbprof, ["measure", "--space", space, *ENDLESS, "--max-time", "0.02", "-o", str(table)]) == 0
    assert time.monotonic() - start < 20
    assert len(read_lut(table).rows) == OPERATORS


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
from fbbase.commandline import run
from fbprof.cli import fbprof
from fbprof.measure.run import JournalWriter
appended = 0
append = JournalWriter.append
def limited(self, record):
    global appended
    appended += 1
    if appended == 60:  # models are written by now
        resource.setrlimit(resource.RLIMIT_FSIZE, (16000, 16000))
    append(self, record)
JournalWriter.append = limited
sys.exit(run(fbprof, ["measure", "--space", {space!r}, *{ENDLESS!r}, "-o", {str(table)!r}]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 4, done.stderr
    assert "cannot write" in done.stderr
    assert "the same command continues" in done.stderr
    assert "Traceback" not in done.stderr
    assert not table.exists()
    kept = read_journal(journal_path(table))
    assert kept is not None
    assert kept.visits
    assert run(fbprof, ["measure", "--space", space, "--rounds", "12", "-o", str(table)]) == 0


def test_dry_run_prints_the_plan_and_writes_nothing(
    space: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(tmp_path.iterdir())
    assert run(fbprof, ["measure", "--space", space, "--dry-run", "-o", str(tmp_path / "t.csv")]) == 0
    out = capsys.readouterr().out
    assert "ir_in8x8x8_out8_k3_s1_e2_g1_relu" in out
    assert "estimated time" in out
    assert "t.journal.jsonl" in out
    assert run(fbprof, ["measure", "--space", space, "--dry-run", "--json", "-o", str(tmp_path / "t.csv")]) == 0
    assert json.loads(capsys.readouterr().out)["visits"] == 80 * (OPERATORS + NETWORKS)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--device", "galaxy"], "unknown device 'galaxy'"),
        (["--runtime", "liteRT"], "unknown runtime 'liteRT'. Did you mean 'litert'? Known: litert, onnxruntime, torch"),
        (["--space", "fbnet-tinny"], "unknown space 'fbnet-tinny'. Did you mean 'fbnet-tiny'?"),
        (["--space", "none.toml"], "search space not found: none.toml"),
        (["--precision", "int9"], "litert (format tflite) has no precision 'int9', which no format knows"),
        (["--drop", "3"], "leaves nothing of --runs 3"),
        (["--cores", "x"], "cores are big, middle, little, all, numbers and ranges"),
        (["--threads", "0"], "0 is not in the range"),
    ],
)
def test_bad_input_is_one_clear_message_and_nothing_is_written(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(fbprof, ["measure", *arguments]) in (2, 3)
    stderr = capsys.readouterr().err
    assert message in stderr
    assert "Traceback" not in stderr
    assert list(tmp_path.iterdir()) == []


def test_a_journal_of_another_run_is_refused(space: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["measure", "--space", space, "--rounds", "1", "-o", str(tmp_path / "t.csv")]
    assert run(fbprof, command) == 0
    assert run(fbprof, [*command, "--threads", "2"]) == 2
    assert "threads 1 there, 2 asked for" in capsys.readouterr().err
    assert run(fbprof, [*command, "--threads", "2", "--fresh"]) == 0
    assert read_lut(tmp_path / "t.csv").metadata.threads == 2


def test_onnxruntimes_telemetry_is_off_and_nothing_is_written_outside_our_folders(space: str, tmp_path: Path) -> None:
    """Homes and temporary folders of its own, and no CI variable, which would silence the telemetry by itself."""
    home, temp, work = (tmp_path / name for name in ("home", "tmp", "work"))
    for folder in (home, temp, work):
        folder.mkdir()
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "ORT_DISABLE_TELEMETRY")}
    environment |= {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache"), "TMPDIR": str(temp)}
    argv = [sys.executable, "-m", "fbprof", "measure", "--space", space, "--runtime", "onnxruntime", "--rounds", "2"]
    subprocess.run([*argv, "-o", "t.csv"], cwd=work, env=environment, check=True, capture_output=True, timeout=120)
    assert list(home.rglob("*")) == []
    assert list(temp.rglob("*")) == []
    assert sorted(p.name for p in work.iterdir()) == ["t.csv", "t.journal.jsonl"]


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system binds no process to cores")
def test_a_profiles_cores_are_bound_unless_others_are_asked_for(space: str, tmp_path: Path) -> None:
    allowed = sorted(os.sched_getaffinity(0))
    device, table = tmp_path / "d.toml", tmp_path / "t.csv"
    device.write_text(f'description = "x"\ntransport = "local"\ncores = "{allowed[-1]}"\n')
    command = ["measure", "--device", str(device), "--space", space, "--quick", "--rounds", "1", "-o", str(table)]
    assert run(fbprof, command) == 0
    metadata = read_lut(table).metadata
    assert metadata.cores == str(allowed[-1])
    assert f"cores allowed {allowed[-1]}, agent overhead 0." in metadata.conditions
    mask = ["--cores", hex(1 << allowed[-1])]  # the same core, spelled otherwise: the same run
    assert run(fbprof, [*command, *mask]) == 0
    assert run(fbprof, [*command, "--cores", "all"]) == 2
    assert run(fbprof, [*command, "--cores", "all", "--fresh"]) == 0
    metadata = read_lut(table).metadata
    assert metadata.cores == ",".join(map(str, allowed))
    assert f"cores allowed {metadata.cores} (all), agent overhead 0." in metadata.conditions
