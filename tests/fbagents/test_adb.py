"""The adb transport against Debian's real adbd: outputs, shell v2, hostile names, keys, and connections that break."""

import contextlib
import hashlib
import io
import os
import resource
import shutil
import signal
import socket
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import adbd as peer
import pytest
from common import HOSTILE, SPACE, SPEC, check_pieces, counted, loaded_sums, sums, wait_until, write_profile
from unavailable import unavailable

from fbagents.adb import open as _adb_open
from fbagents.adb.address import Address
from fbagents.adb.connection import AdbConnection
from fbagents.adb.keys import signer
from fbagents.adb.link import LinkError
from fbagents.agent.client import AgentClient, Planned
from fbagents.agent.pieces import Content
from fbagents.errors import AgentLostError, AgentReplyError, AgentTimeoutError, DeviceError
from fbagents.posix import remote as _remote
from fbagents.posix.remote import DAMAGED, UPLOAD
from fbagents.profile import Profile, check_address, load_profile
from fbagents.transports import Transport, connect
from fbbase.commandline import run
from fblut.reading import read_lut
from fbprof.cli import fbprof
from fbprof.journal.journal import read_journal
from fbspace.space import load_space


@pytest.fixture(scope="session")
def root() -> Path:
    try:
        return peer.prepare()
    except peer.UnavailableError as error:
        unavailable(f"no adbd: {error}")


@pytest.fixture(scope="session")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    key = tmp_path_factory.mktemp("key") / "adbkey"
    signer(key)
    return key


@pytest.fixture
def phone(root: Path, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator["Phone"]:
    """A phone that knows this user's key."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    shutil.copytree(key.parent, tmp_path / "home" / ".android")
    try:
        phone = Phone(root, tmp_path)
    except peer.UnavailableError as error:
        unavailable(f"no adbd: {error}")
    shutil.copy(f"{key}.pub", phone.known_keys)
    yield phone
    phone.stop()


class Phone(peer.Adbd):  # type: ignore[name-defined,misc]
    """adbd, and the profile by which it is reached."""

    def __init__(self, root: Path, folder: Path) -> None:
        super().__init__(root, folder)
        self.device = folder / "device"
        self.known_keys = folder / "adb_keys"

    def profile(self, **changes: object) -> Profile:
        fields = {
            "name": "phone",
            "description": "adbd on this machine",
            "transport": "adb",
            "address": {"host": "127.0.0.1", "port": self.port},
            "folder": str(self.device),
            "python": sys.executable,
            "environment": load_profile("local").environment,
        }
        return Profile.model_validate(fields | changes)

    def connection(self) -> AdbConnection:
        connection = AdbConnection(check_address(self.profile(), Address))
        connection.ensure()
        return connection


@pytest.fixture
def space(tmp_path: Path) -> str:
    file = tmp_path / "two.toml"
    file.write_text(SPACE)
    return str(file)


def test_the_agents_contract_holds_and_outputs_are_as_on_this_machine(
    phone: Phone, local: Transport, models: dict[str, Path]
) -> None:
    transport = connect(phone.profile())
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
    assert list(phone.device.iterdir()) == []


def test_benchmark_model_measures_over_adb(phone: Phone, space: str, tmp_path: Path, benchmark_model: Path) -> None:
    device = write_profile(tmp_path / "phone.toml", phone.profile(cores="0"))
    command = ["measure", "--device", device, "--space", space, "--agent", "benchmark_model", "--calibrate", "0"]
    command += ["--binary", str(benchmark_model), "--rounds", "1", "-o", str(tmp_path / "t.csv")]
    arguments = "--warmup_runs=1 --warmup_min_secs=0 --num_runs=5 --min_secs=0 --use_gpu=true"
    assert run(fbprof, [*command, "--binary-args", arguments]) == 0
    lut = read_lut(tmp_path / "t.csv")
    assert lut.missing(load_space(space).operators()) == []
    assert lut.metadata.agent == f"benchmark_model sha256:{sha256(benchmark_model)[:12]} {arguments}"
    assert lut.metadata.cores == "0"
    assert {row.notes for row in lut.rows.values()} == {"GPU delegate: not told"}
    assert lut.metadata.verdict == "do not use"  # the stand-in has no GPU
    assert list(phone.device.iterdir()) == []


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_measuring_over_adb_gives_a_table_and_the_same_outputs(phone: Phone, space: str, tmp_path: Path) -> None:
    device = write_profile(tmp_path / "phone.toml", phone.profile())
    tables = {name: tmp_path / f"{Path(name).stem}.csv" for name in (device, "local")}
    for name, table in tables.items():
        assert run(fbprof, ["measure", "--device", name, "--space", space, "--rounds", "4", "-o", str(table)]) == 0
    assert read_lut(tables[device]).missing(load_space(space).operators()) == []
    assert len(sums(tables[device])) == 8
    assert sums(tables[device]) == sums(tables["local"])
    assert list(phone.device.iterdir()) == []


def test_a_command_has_an_exit_code_and_its_two_outputs_apart(phone: Phone) -> None:
    connection = phone.connection()
    shell = connection.shell("cat; echo err >&2; exit 7")
    shell.write(b"a\r\nb\xff")
    shell.close_input()
    while not shell.has_ended:
        assert shell.pump(5)
    assert (shell.exit_code, bytes(shell.stdout), bytes(shell.stderr)) == (7, b"a\r\nb\xff", b"err\n")
    assert connection.run("kill -9 $$", timeout_s=5)[0] == 137
    with pytest.raises(AgentTimeoutError, match="did not finish a command within 0 s"):
        connection.run("sleep 60", timeout_s=0.2)
    assert connection.run("exit 3", timeout_s=5) == (3, "", "")
    connection.close()


def test_a_command_sees_exactly_the_arguments(phone: Phone) -> None:
    connection = phone.connection()
    shell = connection.shell('for word; do printf "%s\\0" "$word"; done', *HOSTILE, "")
    while not shell.has_ended:
        assert shell.pump(5)
    assert bytes(shell.stdout) == "".join(f"{word}\0" for word in [*HOSTILE, ""]).encode()
    connection.close()


def test_a_command_that_floods_takes_no_memory_and_does_not_block_another(phone: Phone) -> None:
    connection = phone.connection()
    shell = connection.shell("head -c 30000000 /dev/zero; exit 5")
    assert connection.run("sleep 0.2; exit 4", timeout_s=10) == (4, "", "")
    assert sum(map(len, shell._stream.received)) <= 1 << 20
    arrived = 0
    while not shell.has_ended:
        assert shell.pump(5)
        arrived += len(shell.stdout)
        shell.stdout.clear()
    assert (arrived, shell.exit_code) == (30_000_000, 5)
    connection.close()


@pytest.fixture
def program(tmp_path: Path) -> Callable[[str, str], Path]:
    """Write a shell script that stands for the device's Python; `$real` is this one."""

    def write(name: str, script: str) -> Path:
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\nreal='{sys.executable}'\n{script}\n")
        path.chmod(0o755)
        return path

    return write


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_folders_programs_and_values_are_only_names(
    phone: Phone, name: str, tmp_path: Path, program: Callable[[str, str], Path]
) -> None:
    python, seen = program(name, 'printf %s "$VALUE" >"$SEEN"; exec "$real" "$@"'), tmp_path / "seen"
    model = tmp_path / f"m.{name}"
    model.write_bytes(b"content")
    folder = phone.device / name / "device"
    profile = phone.profile(folder=str(folder), python=str(python), environment={"VALUE": name, "SEEN": str(seen)})
    transport = connect(profile)
    remote = Path(transport.push(model))
    with AgentClient(transport):
        assert (remote.read_bytes(), remote.parent.parent) == (b"content", folder)
        assert seen.read_text() == name
    transport.close()
    assert list(folder.iterdir()) == []
    assert not list(tmp_path.rglob("pwned"))
    assert not Path("/pwned").exists()  # where adbd starts its commands


def test_files_are_private_named_by_hash_written_once_and_repaired(phone: Phone, tmp_path: Path) -> None:
    model = tmp_path / "m.tflite"
    model.write_bytes(os.urandom(3_000_001))
    transport = connect(phone.profile())
    remote = Path(transport.push(model))
    assert remote.read_bytes() == model.read_bytes()
    inode = remote.stat().st_ino
    assert transport.push(model) == str(remote)
    for path in phone.device.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    phone.stop()
    phone.start()
    assert transport.push(model) == str(remote)
    assert remote.stat().st_ino == inode  # there and whole
    phone.stop()
    os.truncate(remote, 1000)
    phone.start()
    assert transport.push(model) == str(remote)
    assert remote.read_bytes() == model.read_bytes()
    transport.close()
    assert list(phone.device.iterdir()) == []


def test_a_truncated_push_is_noticed_sent_again_and_never_under_the_files_name(
    phone: Phone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "m.tflite"
    model.write_bytes(os.urandom(100_000))
    whole, truncated = AdbConnection.run, []

    def losing(self: AdbConnection, script: str, *arguments: str, stdin: Any = None, timeout_s: float) -> Any:
        if stdin and len(truncated) < times:
            stdin = io.BytesIO(stdin.read()[:-1])
            done = whole(self, script, *arguments, stdin=stdin, timeout_s=timeout_s)
            truncated.append((script, done.code))
            assert not Path(arguments[0]).exists()
            return done
        return whole(self, script, *arguments, stdin=stdin, timeout_s=timeout_s)

    monkeypatch.setattr(AdbConnection, "run", losing)
    transport = connect(phone.profile())
    times = 1
    assert Path(transport.push(model)).read_bytes() == model.read_bytes()
    assert truncated == [(UPLOAD, DAMAGED)]
    times, other = 3, tmp_path / "other.tflite"
    other.write_bytes(b"other")
    with pytest.raises(DeviceError, match=r"other\.tflite arrived damaged .* twice"):
        transport.push(other)
    transport.close()


def test_a_network_is_sent_as_what_its_operators_lack_and_pieces_that_are_damaged_are_sent_again(
    phone: Phone, tmp_path: Path
) -> None:
    with contextlib.closing(connect(phone.profile())) as transport:
        check_pieces(transport, tmp_path)


def test_pieces_that_are_gone_after_a_restart_are_sent_again(phone: Phone, tmp_path: Path) -> None:
    model = tmp_path / "m.tflite"
    model.write_bytes(os.urandom(300_000))
    with contextlib.closing(connect(phone.profile())) as transport:
        with AgentClient(transport) as agent:
            remote = Path(transport.send(Content(model), agent.write))
        phone.stop()
        phone.start()
        with AgentClient(transport) as agent:
            assert transport.send(Content(model), agent.write) == str(remote)
            assert remote.read_bytes() == model.read_bytes()
        phone.stop()
        shutil.rmtree(remote.parent)
        phone.start()
        with AgentClient(transport) as agent:
            assert transport.send(Content(model), agent.write) == str(remote)
        assert remote.read_bytes() == model.read_bytes()


def test_an_agent_that_has_no_room_for_a_file_is_told_and_leaves_nothing(phone: Phone, tmp_path: Path) -> None:
    model = tmp_path / "m.tflite"
    model.write_bytes(bytes(2_000_000))
    with contextlib.closing(connect(phone.profile())) as transport, AgentClient(transport) as agent:
        there = set(phone.device.rglob("*"))
        resource.prlimit(agent_pid(phone), resource.RLIMIT_FSIZE, (16384, 16384))
        with pytest.raises(DeviceError, match=r"m\.tflite cannot be written to .*device.*File too large.*Make room"):
            transport.send(Content(model), agent.write)
        assert set(phone.device.rglob("*")) == there


def agent_pid(phone: Phone) -> int:
    (file,) = phone.device.rglob("agent.pid")
    return int(file.read_text())


def test_a_full_disk_on_the_phone_is_told_and_leaves_nothing(phone: Phone, tmp_path: Path) -> None:
    """A limit of the kernel on the size of files stands in for the disk's end."""
    resource.prlimit(phone.pid, resource.RLIMIT_FSIZE, (16384, 16384))
    model = tmp_path / "m.tflite"
    model.write_bytes(bytes(2_000_000))
    transport = connect(phone.profile())
    with pytest.raises(DeviceError, match=r"m\.tflite cannot be written to .*device.*File"):
        transport.push(model)
    assert [path for path in phone.device.rglob("*") if path.is_file()] == []
    transport.close()


def test_an_agent_that_dies_is_told_with_signal_and_last_words(
    phone: Phone, program: Callable[[str, str], Path]
) -> None:
    for script, message in (
        ("echo out of it >&2; kill -9 $$", "was killed by signal 9, as .* memory runs out: out of it"),
        ("echo no numpy >&2; exit 3", "ended with 3: no numpy"),
        ("head -c 9000000 /dev/zero", "sends a line without an end"),
    ):
        transport = connect(phone.profile(python=str(program("python", script))))
        with pytest.raises(AgentLostError, match=message):
            AgentClient(transport)
        transport.close()
    transport = connect(phone.profile(python="/no/python"))
    with pytest.raises(
        AgentLostError, match=r"cannot be run on 127\.0\.0\.1 port .*set python or program in the profile"
    ):
        AgentClient(transport)
    transport.close()
    transport = connect(phone.profile(python=str(program("python", "printf '\\377\\001garbage\\n'; sleep 9"))))
    with pytest.raises(AgentReplyError, match=r"not a reply.*\\xff\\x01garbage"):
        AgentClient(transport)
    transport.close()


def test_adbd_killed_in_a_visit_is_noticed_at_once(phone: Phone, models: dict[str, Path]) -> None:
    transport = connect(phone.profile())
    agent = AgentClient(transport)
    agent.load("m", transport.push(models["litert"]), "litert", SPEC.input_shape)
    visits = agent.run([Planned("m", 100_000)])
    threading.Timer(0.3, phone.signal, [signal.SIGKILL]).start()
    start = time.monotonic()
    with pytest.raises(AgentLostError, match=r"connection to 127\.0\.0\.1 port \d+ was lost"):
        list(visits)
    assert time.monotonic() - start < 2
    agent._channel.close()
    transport.close()


def test_a_frozen_adbd_is_noticed_within_seconds_and_a_busy_agent_is_not_one(
    phone: Phone, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = phone.connection()
    with monkeypatch.context() as patch:
        patch.setattr("fbagents.adb.link.QUIET_S", 0.2)
        assert connection.run("sleep 1; exit 6", timeout_s=10) == (6, "", "")  # asked five times meanwhile
    shell = connection.shell("sleep 60")
    phone.signal(signal.SIGSTOP)
    start = time.monotonic()
    with pytest.raises(LinkError, match="has not answered for 9 s"):
        shell.pump(60)
    assert time.monotonic() - start < 11
    connection.close()


def test_a_run_goes_on_by_itself_when_adbd_is_back(phone: Phone, space: str, tmp_path: Path) -> None:
    device, table = write_profile(tmp_path / "phone.toml", phone.profile()), tmp_path / "t.csv"

    def restart() -> None:
        wait_until(lambda: counted(table) >= 60, 30, "measuring")
        phone.signal(signal.SIGKILL)
        phone.stop()
        time.sleep(0.5)
        phone.start()

    restarter = threading.Thread(target=restart)
    restarter.start()
    command = ["measure", "--device", device, "--space", space, "--ci", "0.0001", "--rounds", "40", "-o", str(table)]
    assert run(fbprof, command) == 0
    restarter.join()
    assert read_lut(table).missing(load_space(space).operators()) == []
    content = read_journal(table.with_suffix(".journal.jsonl"))
    assert content is not None
    assert (len(content.sessions), content.failed, min(content.counts.values())) == (2, {}, 40)
    assert list(phone.device.iterdir()) == []


def test_the_same_command_finishes_what_a_killed_adbd_ended(
    phone: Phone, space: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_remote, "REOPEN_WAITS_S", (0.1,))
    device, table = write_profile(tmp_path / "phone.toml", phone.profile()), tmp_path / "t.csv"
    journal = table.with_suffix(".journal.jsonl")

    def kill() -> None:
        wait_until(lambda: counted(table) >= 60, 30, "measuring")
        phone.stop()

    killer = threading.Thread(target=kill)
    killer.start()
    command = ["measure", "--device", device, "--space", space, "--ci", "0.0001", "--rounds", "40", "-o", str(table)]
    assert run(fbprof, command) in (3, 4)
    killer.join()
    assert "no adbd listens there" in capsys.readouterr().err
    kept = journal.read_bytes()
    phone.start()
    assert run(fbprof, command) == 0
    assert journal.read_bytes().startswith(kept)
    assert read_lut(table).missing(load_space(space).operators()) == []


def test_nothing_listening_a_wrong_name_and_another_protocol_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("fbagents.adb.link.HANDSHAKE_TIMEOUT_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(DeviceError, match="does not answer: is the phone on"):
            AdbConnection(Address(host="127.0.0.1", port=port)).ensure()
        server.accept()[0].close()
        for said, message in (
            (b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n", "does not speak adb"),
            (b"STLS" + bytes(4 * 4) + b"\xac\xab\xb3\xac", "wireless debugging, which wants TLS"),
        ):
            threading.Thread(target=answer, args=(server, said), daemon=True).start()
            with pytest.raises(DeviceError, match=message):
                AdbConnection(Address(host="127.0.0.1", port=port)).ensure()
    start = time.monotonic()
    with pytest.raises(DeviceError, match=rf"port {port}: no adbd listens there.*adb tcpip {port}"):
        AdbConnection(Address(host="127.0.0.1", port=port)).ensure()
    with pytest.raises(DeviceError, match=r"name nowhere\.invalid is not known here"):
        AdbConnection(Address(host="nowhere.invalid")).ensure()
    assert time.monotonic() - start < 5


def answer(server: socket.socket, said: bytes) -> None:
    client, _ = server.accept()
    with client:
        client.sendall(said)
        client.recv(1000)


def test_a_phone_that_does_not_know_the_key_asks_for_the_dialog(
    phone: Phone, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_adb_open, "DIALOG_TIMEOUT_S", 0.5)
    phone.known_keys.unlink()
    with pytest.raises(DeviceError, match=r"has not authorised this computer's key .*accept the dialog on the phone"):
        phone.connection()
    assert "accept the dialog on the phone" in capsys.readouterr().err


def test_a_key_that_is_made_is_one_that_adbd_knows(phone: Phone, capsys: pytest.CaptureFixture[str]) -> None:
    home = Path.home() / ".android"
    shutil.rmtree(home)
    signer(home / "adbkey")
    shutil.copy(home / "adbkey.pub", phone.known_keys)
    connection = phone.connection()
    assert connection.run("exit 3", timeout_s=5) == (3, "", "")
    connection.close()
    assert capsys.readouterr().err == ""
