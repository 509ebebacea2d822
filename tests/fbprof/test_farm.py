"""Several devices at once are as good as one after the other, and one's failure is nobody else's."""

import errno
import hashlib
import json
import lzma
import re
import signal
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from fbagents import discovery
from fbagents.agent.pieces import Content
from fbagents.connect import load_profile
from fbagents.transport import Attached
from fbbase.commandline import run
from fbexport.export import export_spec
from fbprof.cli import fbprof
from fbprof.journal.journal import read_journal
from fbprof.measure.models import ModelFiles
from fbprof.plan.plan import Plan, calibration_networks
from fbprof.plan.subject import Subject, operator
from fbspace.space import load_space
from peers.processes import DEVNULL, PIPE, Python

DATA = Path(__file__).parents[1] / "data"
OPTIONS = ["--space", "replay.toml", "--rounds", "6", "--calibrate", "8"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three recorded devices, as fast as possible, in the current folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "replay.toml").write_bytes((DATA / "replay.toml").read_bytes())
    journal = lzma.decompress((DATA / "replay.journal.jsonl.xz").read_bytes())
    for name in "abc":
        (tmp_path / f"{name}.recording.jsonl").write_bytes(journal)
        write_profile(name)
    return tmp_path


def write_profile(name: str, speed: float = 0) -> None:
    address = f'journal = "{name}.recording.jsonl"\nspeed = {speed}\n'
    Path(f"{name}.toml").write_text(f'description = "x"\ntransport = "replay"\n[address]\n{address}')


def measure(*names: str, options: list[str] = OPTIONS) -> int:
    return run(fbprof, ["measure", *(word for name in names for word in ("--device", f"{name}.toml")), *options])


def without_times(path: Path) -> str:
    """A table or journal without what tells when it was made."""
    return re.sub(r'"started_at":"[^"]*"', "", path.read_text(encoding="utf-8"))


def test_tables_and_journals_are_those_of_single_runs(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in "abc":
        assert measure(name, options=[*OPTIONS, "-o", f"single/{name}.csv"]) == 0
    assert measure("a", "b", "c", options=[*OPTIONS, "-o", "many"]) == 0
    for name in "abc":
        for file in (f"{name}.csv", f"{name}.journal.jsonl"):
            assert without_times(here / "many" / file) == without_times(here / "single" / file)
    out = capsys.readouterr().out.splitlines()
    told = [line.split(":")[0] for line in out if "operators on" in line]
    assert sorted(told[-3:]) == [f"many/{name}.csv" for name in "abc"]


def test_without_a_folder_tables_go_to_the_current_one_and_json_is_a_list(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert measure("a", "b", options=[*OPTIONS, "--json"]) == 0
    assert [entry["table"] for entry in json.loads(capsys.readouterr().out)] == ["a.csv", "b.csv"]
    assert (here / "a.csv").exists()
    assert (here / "b.journal.jsonl").exists()


def test_a_dry_run_tells_of_every_device_and_writes_nothing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(here.iterdir())
    assert measure("a", "b", options=[*OPTIONS, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "on a, litert" in out
    assert "on b, litert" in out
    assert sorted(here.iterdir()) == before


def unreachable_profile(here: Path) -> None:
    """A board that nobody answers for: a port of this machine that is bound, and not listened at."""
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    port = bound.getsockname()[1]
    bound.close()
    known_hosts = here / "known_hosts"
    known_hosts.touch()
    address = f'host = "127.0.0.1"\nport = {port}\nconfig_file = "/dev/null"\nknown_hosts_file = "{known_hosts}"\n'
    (here / "board.toml").write_text(f'description = "x"\ntransport = "ssh"\n[address]\n{address}')


def test_a_device_that_cannot_be_reached_leaves_the_others_whole(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unreachable_profile(here)
    assert measure("a", "board", "b") == 4
    error = capsys.readouterr().err
    assert re.search(r"^board: error: .*127\.0\.0\.1", error, re.M)
    assert "1 of 3 devices failed: board. The same command measures what is missing" in error
    assert not (here / "board.csv").exists()
    for name in "ab":
        assert measure(name, options=[*OPTIONS, "-o", f"single/{name}.csv"]) == 0
        assert without_times(here / f"{name}.csv") == without_times(here / f"single/{name}.csv")


def test_an_agent_that_dies_leaves_the_others_whole(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dying = here / "python"
    dying.write_text("#!/bin/sh\necho out of luck >&2\nexit 7\n")
    dying.chmod(0o755)
    (here / "dying.toml").write_text(f'description = "x"\ntransport = "local"\npython = "{dying}"\n')
    assert measure("dying", "a", "b", options=[*OPTIONS, "--json"]) == 4
    captured = capsys.readouterr()
    assert re.search(r"^dying: error: the agent ended with 7: out of luck", captured.err, re.M)
    summaries = json.loads(captured.out)
    assert [entry["device"] for entry in summaries] == ["dying", "a", "b"]
    assert summaries[0]["error"].startswith("the agent ended with 7")
    assert summaries[1]["operators"] == summaries[2]["operators"] == 10
    assert (here / "a.csv").exists()
    assert (here / "b.csv").exists()


def test_where_no_device_can_be_measured_the_exit_code_is_3(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert measure("a", "b", options=[*OPTIONS, "--threads", "2"]) == 3
    error = capsys.readouterr().err
    assert "2 of 2 devices failed: a, b" in error
    assert error.count("the recording was made with --threads 1") == 2


def test_a_journal_of_another_run_stops_only_its_own_device(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert measure("a", options=["--space", "replay.toml", "--rounds", "1", "--calibrate", "0", "--seed", "5"]) == 0
    assert measure("a", "b") == 4
    assert "a: error: a.journal.jsonl belongs to another run (seed 5 there, 0 asked for)" in capsys.readouterr().err
    assert (here / "b.csv").exists()


@pytest.mark.parametrize(
    ("devices", "options", "message"),
    [
        (["a.toml", "a.toml"], [], "two devices are called a, and would write the same table and journal"),
        (["a.toml", "named.toml"], [], "two devices are called a"),
        (["a.toml", "twin.toml"], [], "a and twin are the same device"),
        (["local", "local-native"], [], "local and local-native are the same device"),
        (["a.toml", "b.toml"], ["-o", "t.csv"], "t.csv is not a folder: 2 devices write a table each"),
        (["a.toml", "b.toml"], ["-o", "a.recording.jsonl"], "is not a folder"),
        (["a.toml", "none"], [], "unknown device 'none'"),
    ],
)
def test_bad_input_is_one_message_before_anything_is_done(
    here: Path, devices: list[str], options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "twin.toml").write_text((here / "a.toml").read_text())
    (here / "named.toml").write_text('name = "a"\n' + (here / "b.toml").read_text())
    before = sorted(here.rglob("*"))
    arguments = [word for device in devices for word in ("--device", device)]
    assert run(fbprof, ["measure", *arguments, *OPTIONS, *options]) == 2
    assert message in capsys.readouterr().err
    assert sorted(here.rglob("*")) == before


def counted_visits(name: str) -> int:
    journal = Path(f"{name}.journal.jsonl")
    return journal.read_bytes().count(b'"warm_up":false') if journal.exists() else 0


def start_slow(rounds: int, *names: str, also: str | None = None) -> Python:
    """Start a run whose devices take their time, 20 s or longer, and wait for their first visits."""
    for name in names:
        write_profile(name, speed=0.02)
    files = [*(f"{name}.toml" for name in names), *([also] if also else [])]
    devices = [word for file in files for word in ("--device", file)]
    argv = ["-m", "fbprof", "measure", *devices, "--space", "replay.toml", "--calibrate", "8"]
    argv += ["--rounds", str(rounds)]
    process = Python(argv, stderr=PIPE, stdout=PIPE)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if all(counted_visits(name) >= 20 for name in names):
            return process
        time.sleep(0.05)
    process.kill()
    pytest.fail(f"no samples in 60 s: {process.communicate()}")


def test_ctrl_c_ends_every_device_in_order_and_the_same_command_continues(here: Path) -> None:
    with start_slow(60, "a", "b", "c") as process:
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "stopping after this step; Ctrl-C again stops at once" in stderr
    kept = {}
    for name in "abc":
        kept[name] = read_journal(here / f"{name}.journal.jsonl")
        assert f"{len(kept[name].visits)} visits are kept in {name}.journal.jsonl" in stderr  # type: ignore[union-attr]
        assert not (here / f"{name}.csv").exists()
        write_profile(name)
    rounds = max(20, *(max(content.counts.values()) for content in kept.values()))  # type: ignore[union-attr]
    options = ["--space", "replay.toml", "--calibrate", "8", "--rounds", str(rounds)]
    assert measure("a", "b", "c", options=options) == 0
    for name in "abc":
        after = read_journal(here / f"{name}.journal.jsonl")
        assert after is not None
        assert len(after.sessions) == 2
        assert after.visits[: len(kept[name].visits)] == kept[name].visits  # type: ignore[union-attr]
        assert min(after.counts.values()) == rounds


def test_a_device_that_has_its_table_is_told_while_others_measure(here: Path) -> None:
    write_profile("b", speed=0.02)
    argv = ["-m", "fbprof", "measure", "--device", "b.toml", "--device", "a.toml", *OPTIONS]
    with Python(argv, stdout=PIPE, stderr=DEVNULL) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("a.csv: 10 of 10 operators on a ")
        assert process.poll() is None
        assert not (here / "b.csv").exists()
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=30)
    assert "next: " in rest
    assert "b.csv" not in rest
    assert process.returncode == 130


def test_a_result_that_cannot_be_printed_leaves_the_other_devices_alone(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("fbprof.report.summary.print_summary", refuse)
    assert measure("a", "b", "c") == 3
    assert all((here / f"{name}.csv").exists() for name in "abc")


def test_a_second_ctrl_c_waits_for_nobody(here: Path) -> None:
    """The third device never says hello, so that nothing that waits for its step would end within a minute."""
    silent = here / "python"
    silent.write_text("#!/bin/sh\nexec cat >/dev/null\n")  # it ends when the host is gone
    silent.chmod(0o755)
    (here / "silent.toml").write_text(f'description = "x"\ntransport = "local"\npython = "{silent}"\n')
    with start_slow(60, "a", "b", also="silent.toml") as process:
        assert process.stderr is not None
        process.send_signal(signal.SIGINT)
        lines = iter(process.stderr.readline, "")
        assert any("Ctrl-C again stops at once" in line for line in lines)
        kept = [next(line for line in lines if "are kept in" in line) for _ in "ab"]
        assert sorted(re.findall(r"kept in (.)\.journal", "".join(kept))) == ["a", "b"]
        assert process.poll() is None
        start = time.monotonic()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert time.monotonic() - start < 15
    assert process.returncode in (130, -signal.SIGINT)  # a shell tells 130 of both


@pytest.mark.full  # test_measure_faults.py kills
def test_a_kill_loses_nothing(here: Path) -> None:
    with start_slow(60, "a", "b", "c") as process:
        process.kill()
        process.communicate(timeout=20)
    for name in "abc":
        content = read_journal(here / f"{name}.journal.jsonl")
        assert content is not None
        assert len(content.visits) >= 20


def plan_of(space: str, networks: int) -> Plan:
    loaded = load_space(space)
    return Plan(
        space=space,
        device="d",
        runtime="litert",
        precision="float32",
        threads=1,
        cores=None,
        runs=3,
        dropped=1,
        seed=0,
        operators=tuple(loaded.operators()),
        networks=calibration_networks(loaded, networks, seed=0),
    )


def test_model_files_are_written_once_for_all_threads_and_networks_do_not_pile_up(here: Path) -> None:
    plan = plan_of("replay.toml", networks=15)
    written: list[str] = []
    problems: list[BaseException] = []
    folders: set[Path] = set()

    class Counting(Subject):
        def export(self, format_name: str, precision: str, seed: int) -> bytes:
            written.append(self.key)
            return super().export(format_name, precision, seed)

    subjects = [Counting(subject.key, subject.specs) for subject in plan.subjects]

    def use(files: ModelFiles, together: threading.Barrier) -> None:
        try:
            for subject in subjects:
                together.wait(30)
                with files.opened(subject) as content:
                    assert content.path.stat().st_size > 0
                    folders.add(content.path.parent)
        except BaseException as error:
            problems.append(error)
            together.abort()

    with ModelFiles(plan) as files:
        together = threading.Barrier(8)
        threads = [threading.Thread(target=use, args=(files, together)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (folder,) = folders
        with files.opened(operator(plan.operators[0])) as content:
            assert content.path.read_bytes() == export_spec(plan.operators[0], "tflite")
        left = len(list(folder.glob("*.tflite")))
    assert problems == []
    assert sorted(written) == sorted(subject.key for subject in plan.subjects)
    assert left == len(plan.operators) + 10
    assert not folder.exists()


def test_what_devices_that_get_copies_need_to_know_is_found_out_before_they_ask(here: Path) -> None:
    plan = plan_of("replay.toml", networks=0)
    with ModelFiles(plan) as files:
        files.are_copied = True
        with files.opened(operator(plan.operators[0])) as content:
            assert "known" in vars(content)
            data = content.path.read_bytes()
            digest, stretches = content.known
    assert digest == hashlib.sha256(data).hexdigest()
    assert sum(stretch.length for stretch in stretches) == len(data)


def test_a_bug_in_one_device_is_told_after_the_others_finished(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fbagents.transports import replay

    def broken(self: object, content: Content, write: object) -> str:
        if threading.current_thread().name == "b":
            raise ZeroDivisionError
        return str(content.path)

    monkeypatch.setattr(replay.Replay, "send", broken)
    with pytest.raises(ZeroDivisionError):
        measure("a", "b", "c")
    assert (here / "a.csv").exists()
    assert (here / "c.csv").exists()
    assert not (here / "b.csv").exists()


def test_no_thread_is_left_behind(here: Path) -> None:
    before = set(threading.enumerate())
    assert measure("a", "b") == 0
    assert set(threading.enumerate()) <= before


def test_all_means_the_attached_phones_and_names_those_left_out(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is attached is asked of an adb server in tests/fbagents; here recordings stand in for phones."""
    locked = Attached("adb:4f2a", "4f2a", "Pixel_3", "unauthorized", "server", remedy="accept the dialog on the phone")
    monkeypatch.setattr(discovery, "attached", lambda: [locked])
    monkeypatch.setattr(discovery, "attached_twice", dict)
    monkeypatch.setattr(discovery, "attached_profiles", lambda: [load_profile(f"{name}.toml") for name in "ab"])
    assert run(fbprof, ["measure", "--all", *OPTIONS]) == 0
    assert sorted(path.name for path in here.glob("?.csv")) == ["a.csv", "b.csv"]
    assert "4f2a (Pixel 3, unauthorized) is left out: accept the dialog" in capsys.readouterr().err.replace("_", " ")
    assert run(fbprof, ["measure", "--all", "--device", "c.toml", *OPTIONS, "--json"]) == 0
    assert [entry["device"] for entry in json.loads(capsys.readouterr().out)] == ["c", "a", "b"]
    twice = {Attached("b.toml", "10.0.0.2:5555", "Pixel_3", "device", "server"): replace(locked, state="device")}
    monkeypatch.setattr(discovery, "attached_twice", lambda: twice)
    assert run(fbprof, ["measure", "--all", *OPTIONS, "--json"]) == 0
    captured = capsys.readouterr()
    assert "10.0.0.2:5555 (Pixel_3, device) is left out: it is the same phone as 4f2a (Pixel_3, device)" in captured.err
    assert json.loads(captured.out)["device"] == "a"
    monkeypatch.setattr(discovery, "attached_profiles", list)
    assert run(fbprof, ["measure", "--all", *OPTIONS]) == 3
    assert "no phone that can be measured is attached" in capsys.readouterr().err
