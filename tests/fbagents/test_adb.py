"""Phones over adb against Debian's real adbd, over TCP and by a real adb server: what holds either way."""

import contextlib
import os
import resource
import shutil
import signal
import stat
import threading
import time
from pathlib import Path

import pytest

from fbagents.adb.link import LinkError, Timeouts
from fbagents.agent.client import AgentClient, Planned
from fbagents.agent.pieces import Content
from fbagents.connect import connect
from fbagents.errors import AgentLostError, AgentReplyError, AgentTimeoutError, ConnectionLostError, DeviceError
from fbagents.posix.scripts import DAMAGED
from fbagents.transport import Transport
from fbbase.commandline import run
from fblut.reading import read_lut
from fbprof.cli import fbprof
from fbprof.journal.journal import read_journal
from fbspace.space import load_space
from peers.adb_phone import IMPATIENT, Phone
from peers.given import HOSTILE, SPEC
from peers.runs import asked_for, counted, wait_until, write_profile
from peers.sending import loaded_sums

OVER_TCP = pytest.mark.parametrize("adb_phone", ["tcp", pytest.param("server", marks=pytest.mark.full)], indirect=True)
"""What `make test` holds by one of both ways; test_adb_server.py has what is the server's own."""


def test_the_agents_contract_holds_and_outputs_are_as_on_this_machine(
    adb_phone: Phone, local: Transport, models: dict[str, Path]
) -> None:
    transport = connect(adb_phone.profile())
    with AgentClient(transport, cores="0") as agent:
        assert {"litert", "onnxruntime", "torch"} <= set(agent.hello.runtimes)
        for name in ("litert", "onnxruntime"):
            agent.load(name, transport.push(models[name]), name, SPEC.input_shape)
        visits = list(agent.run([Planned("litert", 5), Planned("onnxruntime", 2)]))
        assert [(visit.model, len(visit.wall_ns), visit.core) for visit in visits] == [
            ("litert", 5, 0),
            ("onnxruntime", 2, 0),
        ]
        assert agent.state().affinity == (0,)
        agent.unload("litert")
        with pytest.raises(AgentReplyError, match="'litert' is not loaded"):
            list(agent.run([Planned("litert", 1)]))
    assert loaded_sums(transport, models["litert"], "litert") == loaded_sums(local, models["litert"], "litert")
    transport.close()
    assert list(adb_phone.device.iterdir()) == []


def test_a_command_has_an_exit_code_and_its_two_outputs_apart(adb_phone: Phone) -> None:
    connection = adb_phone.connection()
    command = connection.command("cat; echo err >&2; exit 7")
    command.write(b"a\r\nb\xff")
    command.close_input()
    while not command.has_ended:
        assert command.pump(5)
    assert (command.exit_code, bytes(command.stdout), bytes(command.stderr)) == (7, b"a\r\nb\xff", b"err\n")
    assert connection.run("kill -9 $$", timeout_s=5)[0] == 137
    with pytest.raises(AgentTimeoutError, match="did not finish a command within 0 s"):
        connection.run("sleep 60", timeout_s=0.2)
    assert connection.run("exit 3", timeout_s=5) == (3, "", "")
    connection.close()


def test_a_command_sees_exactly_the_arguments(adb_phone: Phone) -> None:
    connection = adb_phone.connection()
    command = connection.command('for word; do printf "%s\\0" "$word"; done', *HOSTILE, "", "\udcff")
    while not command.has_ended:
        assert command.pump(5)
    assert bytes(command.stdout) == "".join(f"{word}\0" for word in [*HOSTILE, ""]).encode() + b"\xff\0"
    connection.close()


@OVER_TCP
def test_a_command_that_floods_takes_no_memory_and_does_not_block_another(adb_phone: Phone) -> None:
    connection = adb_phone.connection()
    command = connection.command("head -c 30000000 /dev/zero; exit 5")
    assert connection.run("sleep 0.2; exit 4", timeout_s=10) == (4, "", "")
    assert sum(map(len, command.stream.received)) <= 1 << 20
    arrived = 0
    while not command.has_ended:
        assert command.pump(5)
        arrived += len(command.stdout)
        command.stdout.clear()
    assert (arrived, command.exit_code) == (30_000_000, 5)
    connection.close()


def test_files_are_private_named_by_hash_written_once_and_repaired(adb_phone: Phone, tmp_path: Path) -> None:
    model = tmp_path / "m.tflite"
    model.write_bytes(os.urandom(7_000_001))
    transport = connect(adb_phone.profile())
    remote = Path(transport.push(model))
    assert remote.read_bytes() == model.read_bytes()
    inode = remote.stat().st_ino
    assert transport.push(model) == str(remote)
    for path in adb_phone.device.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    adb_phone.restart()
    assert transport.push(model) == str(remote)
    assert remote.stat().st_ino == inode  # there and whole
    adb_phone.adbd.stop()
    os.truncate(remote, 1000)
    adb_phone.start()
    assert transport.push(model) == str(remote)
    assert remote.read_bytes() == model.read_bytes()
    transport.close()
    assert list(adb_phone.device.iterdir()) == []


@OVER_TCP
def test_pieces_that_are_gone_after_a_restart_are_sent_again(adb_phone: Phone, tmp_path: Path) -> None:
    model = tmp_path / "m.tflite"
    model.write_bytes(os.urandom(300_000))
    with contextlib.closing(connect(adb_phone.profile())) as transport:
        with AgentClient(transport) as agent:
            remote = Path(transport.send(Content(model), agent.write))
        adb_phone.restart()
        with AgentClient(transport) as agent:
            assert transport.send(Content(model), agent.write) == str(remote)
            assert remote.read_bytes() == model.read_bytes()
        adb_phone.adbd.stop()
        shutil.rmtree(remote.parent)
        adb_phone.start()
        with AgentClient(transport) as agent:
            assert transport.send(Content(model), agent.write) == str(remote)
        assert remote.read_bytes() == model.read_bytes()


def test_a_full_disk_on_the_phone_is_told_and_leaves_nothing(adb_phone: Phone, tmp_path: Path) -> None:
    """A limit of the kernel on the size of files stands in for the disk's end."""
    resource.prlimit(adb_phone.adbd.pid, resource.RLIMIT_FSIZE, (16384, 16384))
    model = tmp_path / "m.tflite"
    model.write_bytes(bytes(8_000_000))
    transport = connect(adb_phone.profile())
    with pytest.raises(DeviceError, match=r"m\.tflite cannot be written to .*device.*File"):
        transport.push(model)
    assert [path for path in adb_phone.device.rglob("*") if path.is_file()] == []
    transport.close()


def test_a_command_that_ends_before_it_has_read_its_input_tells_its_exit_code(adb_phone: Phone, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(bytes(8_000_000))
    connection = adb_phone.connection()
    with (tmp_path / "big").open("rb") as file:
        done = connection.run(f"head -c 10 >/dev/null; exit {DAMAGED}", stdin=file, timeout_s=20)
    assert done.code == DAMAGED
    connection.close()


def test_a_phone_that_goes_in_a_visit_is_noticed_at_once(adb_phone: Phone, models: dict[str, Path]) -> None:
    with contextlib.closing(connect(adb_phone.profile())) as transport:
        agent = AgentClient(transport)
        agent.load("m", transport.push(models["litert"]), "litert", SPEC.input_shape)
        visits = agent.run([Planned("m", 100_000)])
        threading.Timer(0.3, adb_phone.adbd.signal, [signal.SIGKILL]).start()
        start = time.monotonic()
        with pytest.raises(ConnectionLostError) as lost, agent:
            list(visits)
        assert time.monotonic() - start < 2
    assert f"the connection to {adb_phone.name}" in str(lost.value)
    assert "was lost: " in str(lost.value)
    if adb_phone.server is not None:
        assert str(lost.value).endswith(("the phone is offline", "the phone is no longer attached"))


def test_a_frozen_phone_is_noticed_and_a_busy_one_is_not_one(adb_phone: Phone) -> None:
    connection = adb_phone.connection(IMPATIENT)
    assert connection.run("sleep 1; exit 6", timeout_s=10) == (6, "", "")  # asked meanwhile
    command = connection.command("sleep 60")
    adb_phone.adbd.signal(signal.SIGSTOP)
    start = time.monotonic()
    with pytest.raises(LinkError, match="adbd has not answered for 1 s"):
        command.pump(60)
    assert time.monotonic() - start < 3
    connection.close()


@OVER_TCP
def test_a_phone_that_freezes_while_it_is_sent_something_is_noticed(adb_phone: Phone, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(bytes(50_000_000))
    connection = adb_phone.connection(IMPATIENT)
    adb_phone.adbd.signal(signal.SIGSTOP)
    start = time.monotonic()
    with (tmp_path / "big").open("rb") as file, pytest.raises(ConnectionLostError, match=r"not open|not answered"):
        connection.run("cat >/dev/null", stdin=file, timeout_s=60)
    assert time.monotonic() - start < 5
    connection.close()


def test_how_long_a_frozen_phone_may_be_silent() -> None:
    assert Timeouts().quiet_s + Timeouts().answer_s == 9


@OVER_TCP
def test_measuring_goes_on_by_itself_after_the_phone_went_and_came(
    adb_phone: Phone, space: str, tmp_path: Path
) -> None:
    device, table = write_profile(tmp_path / "phone.toml", adb_phone.profile()), tmp_path / "t.csv"

    def restart() -> None:
        wait_until(lambda: counted(table) >= 60, 30, "measuring")
        adb_phone.adbd.signal(signal.SIGKILL)
        adb_phone.adbd.stop()
        time.sleep(0.5)
        adb_phone.adbd.start()

    restarter = threading.Thread(target=restart)
    restarter.start()
    command = ["measure", "--device", device, "--space", space, "--ci", "0.0001", "--rounds", "40", "-o", str(table)]
    assert run(fbprof, command) == 0
    restarter.join()
    lut = read_lut(table)
    assert lut.missing(load_space(space).operators()) == []
    assert all(row.status != "failed" for row in lut.rows.values())
    content = read_journal(table.with_suffix(".journal.jsonl"))
    assert content is not None
    assert (len(content.sessions), content.failed, min(asked_for(content).values())) == (2, {}, 40)
    assert list(adb_phone.device.iterdir()) == []


@OVER_TCP
def test_an_agent_that_dies_is_told_with_signal_and_last_words(adb_phone: Phone, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.touch(0o755)
    for script, message in (
        ("echo out of it >&2; kill -9 $$", "was killed by signal 9, as .* memory runs out: out of it"),
        ("echo no numpy >&2; exit 3", "ended with 3: no numpy"),
        ("head -c 9000000 /dev/zero", "sends a line without an end"),
    ):
        python.write_text(f"#!/bin/sh\n{script}\n")
        with (
            contextlib.closing(connect(adb_phone.profile(python=str(python)))) as transport,
            pytest.raises(AgentLostError, match=message),
        ):
            AgentClient(transport)
    with (
        contextlib.closing(connect(adb_phone.profile(python="/no/python"))) as transport,
        pytest.raises(AgentLostError) as told,
    ):
        AgentClient(transport)
    assert f"cannot be run on {adb_phone.name}" in str(told.value)
    assert "set python or program in the profile" in str(told.value)
    python.write_text("#!/bin/sh\nprintf '\\377\\001garbage\\n'; sleep 9\n")
    with (
        contextlib.closing(connect(adb_phone.profile(python=str(python)))) as transport,
        pytest.raises(AgentReplyError, match=r"not a reply.*\\xff\\x01garbage"),
    ):
        AgentClient(transport)
