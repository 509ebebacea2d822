"""What may go wrong on the way to a board, against a real OpenSSH server whose sessions are killed and frozen."""

import contextlib
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fbagents.agent.client import AgentClient, Planned
from fbagents.agent.protocol import PROTOCOL
from fbagents.connect import connect, load_profile
from fbagents.errors import AgentLostError, AgentReplyError, AgentTimeoutError, DeviceError
from fbagents.posix.connection import Connection
from fbagents.profile import Profile
from fbagents.transport import Transport
from fbbase.commandline import run
from fblut.reading import read_lut
from fbprof.cli import fbprof
from fbprof.journal.journal import JournalContent, read_journal
from fbprof.plan.plan import REFERENCES
from fbspace.space import load_space
from peers.given import SPEC
from peers.processes import DEVNULL, Python
from peers.runs import asked_for, counted, sums, wait_until, write_profile


@contextlib.contextmanager
def connected(profile: Profile) -> Iterator[Transport]:
    transport = connect(profile)
    try:
        yield transport
    finally:
        transport.close()


def is_running(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def agent_pid(sshd: Any) -> int:
    return int(next((sshd.folder / "device").glob("*/agent.pid")).read_text())


def journal_of(table: Path) -> JournalContent:
    content = read_journal(table.with_suffix(".journal.jsonl"))
    assert content is not None
    return content


def test_measuring_over_ssh_gives_a_table_and_the_same_outputs(sshd: Any, space: str, tmp_path: Path) -> None:
    board = write_profile(tmp_path / "board.toml", sshd.profile())
    tables = {device: tmp_path / f"{name}.csv" for name, device in (("there", board), ("here", "local"))}
    for device, table in tables.items():
        command = ["measure", "--device", device, "--space", space, "--rounds", "4", "-o", str(table)]
        assert run(fbprof, command) == 0
    assert read_lut(tables[board]).missing(load_space(space).operators()) == []
    assert len(sums(tables[board])) == 8 + len(REFERENCES)
    assert sums(tables[board]) == sums(tables["local"])
    assert sshd.logins() == 1
    assert list((sshd.folder / "device").iterdir()) == []


def test_a_cut_connection_is_made_again_and_the_table_is_complete(sshd: Any, space: str, tmp_path: Path) -> None:
    """The server's session is killed while the agent is at work."""
    board, table = write_profile(tmp_path / "board.toml", sshd.profile()), tmp_path / "t.csv"

    def cut() -> None:
        wait_until(lambda: counted(table) >= 60, 30, "measuring")
        sshd.signal_sessions(signal.SIGKILL)

    cutter = threading.Thread(target=cut)
    cutter.start()
    command = ["measure", "--device", board, "--space", space, "--ci", "0.0001", "--rounds", "80", "-o", str(table)]
    assert run(fbprof, command) == 0
    cutter.join()
    assert read_lut(table).missing(load_space(space).operators()) == []
    content = journal_of(table)
    assert (len(content.sessions), content.failed) == (2, {})
    assert min(asked_for(content).values()) == 80
    assert sshd.logins() in (2, 3)  # a command that comes before the client notices logs in for itself
    assert list((sshd.folder / "device").iterdir()) == []


@pytest.mark.parametrize("moment", ["load", pytest.param("state", marks=pytest.mark.full)])
def test_no_operator_is_blamed_for_a_connection_that_breaks_twice_at_the_same_place(
    sshd: Any, space: str, tmp_path: Path, program: Callable[[str, str], Path], moment: str
) -> None:
    """The agent itself kills the server's session that it runs in, its grandparent."""
    (tmp_path / "changed.py").write_text(f"""
import os, runpy, sys, time
sys.argv = sys.argv[1:]
space = runpy.run_path(sys.argv[0], run_name="agent")
Agent = space["Agent"]
whole = Agent.{moment}
def cutting(self, number, request):
    for n in range(2):
        if self.models and not os.path.exists({str(tmp_path)!r} + f"/cut{{n}}"):
            open({str(tmp_path)!r} + f"/cut{{n}}", "w").close()
            with open(f"/proc/{{os.getppid()}}/stat") as stat:
                os.kill(int(stat.read().rpartition(")")[2].split()[1]), 9)
            time.sleep(60)
    whole(self, number, request)
Agent.{moment} = cutting
os._exit(space["main"]())
""")
    python = program("python", f'exec "$real" {tmp_path}/changed.py "$@"')
    board, table = write_profile(tmp_path / "board.toml", sshd.profile(python=str(python))), tmp_path / "t.csv"
    assert run(fbprof, ["measure", "--device", board, "--space", space, "--rounds", "4", "-o", str(table)]) == 0
    assert sorted(path.name for path in tmp_path.glob("cut?")) == ["cut0", "cut1"]
    assert read_lut(table).missing(load_space(space).operators()) == []
    assert (len(journal_of(table).sessions), journal_of(table).failed) == (3, {})


@pytest.mark.full  # test_adb.py freezes a phone
def test_a_frozen_server_is_noticed_within_seconds(sshd: Any, models: dict[str, Path]) -> None:
    with connected(sshd.profile()) as transport:
        agent = AgentClient(transport)
        agent.load("m", transport.push(models["litert"]), "litert", SPEC.input_shape)
        visits = agent.run([Planned("m", 1000)] * 1000)
        next(visits)
        sshd.signal_sessions(signal.SIGSTOP)
        start = time.monotonic()
        with pytest.raises(AgentLostError, match=r"connection to .* was lost: .*not responding"), agent:
            list(visits)
        assert time.monotonic() - start < 15
        with AgentClient(transport) as second:  # by another connection, and the old agent is ended
            assert second.hello.protocol == PROTOCOL
        sshd.signal_sessions(signal.SIGKILL)


def test_an_agent_that_a_broken_connection_left_behind_is_ended_by_the_next(sshd: Any) -> None:
    """A server that does not notice keeps the agent's input open."""
    with connected(sshd.profile()) as transport:
        channel = transport.start(["--threads", "1"])
        channel.receive(60)
        left = agent_pid(sshd)
        sshd.signal_sessions(signal.SIGSTOP)
        sshd.end_clients()
        channel.close()
        assert is_running(left)
        with AgentClient(transport):
            assert agent_pid(sshd) != left
            wait_until(lambda: not is_running(left), 2, "the end of the old agent")
        sshd.signal_sessions(signal.SIGKILL)


def test_an_agent_killed_on_the_device_is_told_from_a_cut_connection(sshd: Any, models: dict[str, Path]) -> None:
    with connected(sshd.profile()) as transport:
        agent = AgentClient(transport)
        agent.load("m", transport.push(models["litert"]), "litert", SPEC.input_shape)
        visits = agent.run([Planned("m", 1000)] * 1000)
        next(visits)
        os.kill(agent_pid(sshd), signal.SIGKILL)
        killed = "was killed by signal 9, as the system does when memory runs out"
        with pytest.raises(AgentLostError, match=killed), agent:
            list(visits)


def test_the_agent_on_the_device_ends_when_the_host_is_killed(sshd: Any, space: str, tmp_path: Path) -> None:
    board, table = write_profile(tmp_path / "board.toml", sshd.profile()), tmp_path / "t.csv"
    argv = ["-m", "fbprof", "measure", "--device", board, "--space", space, "--ci", "0.0001"]
    argv += ["--rounds", "100000", "-o", str(table)]
    with (
        tempfile.TemporaryDirectory(dir="/tmp") as temporary,  # what a killed host leaves behind
        Python(argv, stderr=DEVNULL, env=os.environ | {"TMPDIR": temporary}) as host,
    ):
        try:
            wait_until(lambda: counted(table) >= 20, 60, "measuring")
            pid = agent_pid(sshd)
            assert is_running(pid)
        finally:
            host.kill()
    wait_until(lambda: not is_running(pid), 5, "the agent's end")
    sshd.signal_sessions(signal.SIGKILL)


def test_a_server_that_comes_back_is_waited_for(sshd: Any, tmp_path: Path) -> None:
    model = tmp_path / "m.tflite"
    model.write_bytes(b"content")
    with connected(sshd.profile()) as transport:
        remote = transport.push(model)
        sshd.stop()
        back = threading.Timer(0.8, sshd.start)
        back.start()
        Path(remote).unlink()  # as a board does that loses its temporary files when it starts
        assert transport.push(model) == remote
        assert Path(remote).read_bytes() == b"content"
        back.join()


def test_a_server_that_stays_away_is_an_error_after_a_few_tries(sshd: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Connection, "reopen_waits_s", (0.1, 0.1))
    with connected(sshd.profile()) as transport:
        with AgentClient(transport):
            pass
        sshd.stop()
        with pytest.raises(DeviceError, match="no SSH server listens there"):
            AgentClient(transport)


def path_with(program: Callable[[str, str], Path], name: str, body: str) -> str:
    return f"{program(name, body).parent}:/usr/bin:/bin"


def test_a_truncated_push_is_sent_again(
    new_sshd: Callable[..., Any], program: Callable[[str, str], Path], tmp_path: Path
) -> None:
    once = tmp_path / "once"
    sshd = new_sshd(PATH=path_with(program, "cat", f'[ -e {once} ] && exec /bin/cat "$@"; : >{once}; head -c 1000'))
    model = tmp_path / "m.tflite"
    model.write_bytes(os.urandom(50_000))
    with connected(sshd.profile()) as transport:
        assert Path(transport.push(model)).read_bytes() == model.read_bytes()
        assert once.exists()


def test_a_push_that_is_always_truncated_is_an_error(
    new_sshd: Callable[..., Any], program: Callable[[str, str], Path], tmp_path: Path
) -> None:
    sshd = new_sshd(PATH=path_with(program, "cat", "head -c 1000"))
    model = tmp_path / "m.tflite"
    model.write_bytes(os.urandom(50_000))
    with (
        connected(sshd.profile()) as transport,
        pytest.raises(DeviceError, match=r"m\.tflite arrived damaged on .* twice"),
    ):
        transport.push(model)
    assert list((sshd.folder / "device").iterdir()) == []


def test_a_full_disk_on_the_device_is_told_and_leaves_nothing(new_sshd: Callable[..., Any], tmp_path: Path) -> None:
    """A limit of the kernel on the size of files stands in for the disk's end."""
    sshd = new_sshd('ForceCommand ulimit -f 16; eval "$SSH_ORIGINAL_COMMAND"')
    model = tmp_path / "m.tflite"
    model.write_bytes(bytes(200_000))
    with connected(sshd.profile()) as transport:
        with pytest.raises(DeviceError, match=r"m\.tflite cannot be written to .*device.*File"):
            transport.push(model)
        assert [path for path in (sshd.folder / "device").rglob("*") if path.is_file()] == []


def test_a_folder_that_cannot_be_made_is_told(sshd: Any) -> None:
    with (
        connected(sshd.profile(folder="/dev/null/x")) as transport,
        pytest.raises(DeviceError, match=r"cannot make a folder in '/dev/null/x' on .*Not a directory"),
    ):
        AgentClient(transport)


def test_a_board_without_python_is_told(sshd: Any) -> None:
    with (
        connected(sshd.profile(python="python9")) as transport,
        pytest.raises(AgentLostError, match=r"python9.*not found.*set python or program in the profile"),
    ):
        AgentClient(transport)


def test_a_board_without_a_runtime_is_told(
    sshd: Any, space: str, tmp_path: Path, program: Callable[[str, str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    python = program("python", 'exec "$real" -S "$@"')  # without the folder of installed packages
    board = write_profile(tmp_path / "board.toml", sshd.profile(python=str(python)))
    assert run(fbprof, ["measure", "--device", board, "--space", space, "-o", str(tmp_path / "t.csv")]) == 3
    assert "runtime litert is not installed on board; there is: none" in capsys.readouterr().err


def test_binary_garbage_is_an_error_that_shows_it(sshd: Any, program: Callable[[str, str], Path]) -> None:
    noise = program("python", "printf '\\377\\000\\033[31mnoise\\n'; exec sleep 60")
    with (
        connected(sshd.profile(python=str(noise))) as transport,
        pytest.raises(AgentReplyError, match=r"not a reply .*\\\\xff\\x00\\x1b\[31mnoise"),
    ):
        AgentClient(transport)


def test_noise_without_end_is_bounded(sshd: Any, program: Callable[[str, str], Path]) -> None:
    noise = program("python", "exec tr '\\n' x </dev/zero")
    with connected(sshd.profile(python=str(noise))) as transport, pytest.raises(AgentLostError):
        AgentClient(transport)
    wait_until(lambda: not sshd.sessions(), 5, "the end of the session")


def test_a_command_that_hangs_on_the_device_is_a_time_out(
    new_sshd: Callable[..., Any], program: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fbagents.posix.remote.COMMAND_TIMEOUT_S", 0.5)
    sshd = new_sshd(PATH=path_with(program, "mkdir", "exec sleep 60"))
    with (
        connected(sshd.profile()) as transport,
        pytest.raises(AgentTimeoutError, match="did not finish a command within"),
    ):
        transport.start([])


def test_a_machine_without_the_client_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    profile = load_profile("raspberry-pi-4")
    with connected(profile) as transport, pytest.raises(DeviceError, match="install openssh-client"):
        transport.start([])
