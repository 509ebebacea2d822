"""A phone over TCP against Debian's real adbd: hostile names, what is cut or damaged, keys, and who else may listen."""

import contextlib
import errno
import hashlib
import io
import os
import resource
import shutil
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fbagents.adb.address import Address
from fbagents.adb.connection import AdbConnection
from fbagents.adb.keys import signer
from fbagents.adb.wire import TcpWire
from fbagents.agent.client import AgentClient
from fbagents.agent.pieces import Content
from fbagents.connect import connect
from fbagents.errors import DeviceError, UnreachableError
from fbagents.posix.connection import Connection
from fbagents.posix.scripts import DAMAGED, UPLOAD
from fbbase.commandline import run
from fblut.reading import read_lut
from fbprof.cli import fbprof
from fbprof.plan.plan import REFERENCES
from fbspace.space import load_space
from peers.adb_phone import IMPATIENT, Phone
from peers.given import HOSTILE
from peers.runs import counted, sums, wait_until, write_profile
from peers.sending import check_pieces


def test_benchmark_model_measures_over_adb(tcp_phone: Phone, space: str, tmp_path: Path, benchmark_model: Path) -> None:
    device = write_profile(tmp_path / "phone.toml", tcp_phone.profile(cores="0"))
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
    assert list(tcp_phone.device.iterdir()) == []


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_measuring_over_adb_gives_a_table_and_the_same_outputs(tcp_phone: Phone, space: str, tmp_path: Path) -> None:
    device = write_profile(tmp_path / "phone.toml", tcp_phone.profile())
    tables = {name: tmp_path / f"{Path(name).stem}.csv" for name in (device, "local")}
    for name, table in tables.items():
        assert run(fbprof, ["measure", "--device", name, "--space", space, "--rounds", "4", "-o", str(table)]) == 0
    assert read_lut(tables[device]).missing(load_space(space).operators()) == []
    assert len(sums(tables[device])) == 8 + len(REFERENCES)
    assert sums(tables[device]) == sums(tables["local"])
    assert list(tcp_phone.device.iterdir()) == []


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if at in (1, 3, 4) else pytest.mark.full) for at, n in enumerate(HOSTILE)]
)
def test_hostile_folders_programs_and_values_are_only_names(
    tcp_phone: Phone, name: str, tmp_path: Path, program: Callable[[str, str], Path]
) -> None:
    python, seen = program(name, 'printf %s "$VALUE" >"$SEEN"; exec "$real" "$@"'), tmp_path / "seen"
    model = tmp_path / f"m.{name}"
    model.write_bytes(b"content")
    folder = tcp_phone.device / name / "device"
    profile = tcp_phone.profile(folder=str(folder), python=str(python), environment={"VALUE": name, "SEEN": str(seen)})
    transport = connect(profile)
    remote = Path(transport.push(model))
    with AgentClient(transport):
        assert (remote.read_bytes(), remote.parent.parent) == (b"content", folder)
        assert seen.read_text() == name
    transport.close()
    assert list(folder.iterdir()) == []
    assert not list(tmp_path.rglob("pwned"))
    assert not Path("/pwned").exists()  # where adbd starts its commands


def test_a_truncated_push_is_noticed_sent_again_and_never_under_the_files_name(
    tcp_phone: Phone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
    transport = connect(tcp_phone.profile())
    times = 1
    assert Path(transport.push(model)).read_bytes() == model.read_bytes()
    assert truncated == [(UPLOAD, DAMAGED)]
    times, other = 3, tmp_path / "other.tflite"
    other.write_bytes(b"other")
    with pytest.raises(DeviceError, match=r"other\.tflite arrived damaged .* twice"):
        transport.push(other)
    transport.close()


def test_a_network_is_sent_as_what_its_operators_lack_and_pieces_that_are_damaged_are_sent_again(
    tcp_phone: Phone, tmp_path: Path
) -> None:
    with contextlib.closing(connect(tcp_phone.profile())) as transport:
        check_pieces(transport, tmp_path)


def test_an_agent_that_has_no_room_for_a_file_is_told_and_leaves_nothing(tcp_phone: Phone, tmp_path: Path) -> None:
    model = tmp_path / "m.tflite"
    model.write_bytes(bytes(2_000_000))
    with contextlib.closing(connect(tcp_phone.profile())) as transport, AgentClient(transport) as agent:
        there = set(tcp_phone.device.rglob("*"))
        resource.prlimit(agent_pid(tcp_phone), resource.RLIMIT_FSIZE, (16384, 16384))
        with pytest.raises(DeviceError, match=r"m\.tflite cannot be written to .*device.*File too large.*Make room"):
            transport.send(Content(model), agent.write)
        assert set(tcp_phone.device.rglob("*")) == there


def agent_pid(tcp_phone: Phone) -> int:
    (file,) = tcp_phone.device.rglob("agent.pid")
    return int(file.read_text())


def test_the_same_command_finishes_what_a_killed_adbd_ended(
    tcp_phone: Phone, space: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Connection, "reopen_waits_s", (0.1,))
    device, table = write_profile(tmp_path / "phone.toml", tcp_phone.profile()), tmp_path / "t.csv"
    journal = table.with_suffix(".journal.jsonl")

    def kill() -> None:
        wait_until(lambda: counted(table) >= 60, 30, "measuring")
        tcp_phone.adbd.stop()

    killer = threading.Thread(target=kill)
    killer.start()
    command = ["measure", "--device", device, "--space", space, "--ci", "0.0001", "--rounds", "40", "-o", str(table)]
    assert run(fbprof, command) in (3, 4)
    killer.join()
    assert "no adbd listens there" in capsys.readouterr().err
    kept = journal.read_bytes()
    tcp_phone.start()
    assert run(fbprof, command) == 0
    assert journal.read_bytes().startswith(kept)
    assert read_lut(table).missing(load_space(space).operators()) == []


def test_nothing_listening_a_wrong_name_and_another_protocol_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(DeviceError, match="does not answer: is the phone on"):
            AdbConnection(Address(host="127.0.0.1", port=port), IMPATIENT).ensure()
        server.accept()[0].close()
        for said, message in (
            (b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n", "does not speak adb"),
            (b"STLS" + bytes(4 * 4) + b"\xac\xab\xb3\xac", "wireless debugging, which wants TLS"),
        ):
            threading.Thread(target=answer, args=(server, said), daemon=True).start()
            with pytest.raises(DeviceError, match=message):
                AdbConnection(Address(host="127.0.0.1", port=port), IMPATIENT).ensure()
    start = time.monotonic()
    with pytest.raises(DeviceError, match=rf"port {port}: no adbd listens there.*adb tcpip {port}"):
        AdbConnection(Address(host="127.0.0.1", port=port), IMPATIENT).ensure()
    with pytest.raises(DeviceError, match=r"name nowhere\.invalid is not known here"):
        AdbConnection(Address(host="nowhere.invalid"), IMPATIENT).ensure()
    assert time.monotonic() - start < 5


def test_a_connection_that_is_reset_in_the_handshake_is_out_of_reach(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a phone answers that is starting: it is tried again, as one that does not speak adb is not."""
    monkeypatch.setenv("HOME", str(tmp_path))

    def reset(*sent: object) -> None:
        raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")

    monkeypatch.setattr(TcpWire, "send", reset)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(UnreachableError, match=rf"cannot reach 127.0.0.1 port {port}: Connection reset by peer"):
            AdbConnection(Address(host="127.0.0.1", port=port), IMPATIENT).ensure()


def answer(server: socket.socket, said: bytes) -> None:
    client, _ = server.accept()
    with client:
        client.sendall(said)
        client.recv(1000)


def test_a_phone_that_does_not_know_the_key_asks_for_the_dialog(
    tcp_phone: Phone, capsys: pytest.CaptureFixture[str]
) -> None:
    tcp_phone.known_keys.unlink()
    with pytest.raises(DeviceError, match=r"has not authorised this computer's key .*accept the dialog on the phone"):
        tcp_phone.connection(IMPATIENT)
    assert "accept the dialog on the phone" in capsys.readouterr().err


def test_a_key_that_is_made_is_one_that_adbd_knows(tcp_phone: Phone, capsys: pytest.CaptureFixture[str]) -> None:
    home = Path.home() / ".android"
    shutil.rmtree(home)
    signer(home / "adbkey")
    shutil.copy(home / "adbkey.pub", tcp_phone.known_keys)
    connection = tcp_phone.connection()
    assert connection.run("exit 3", timeout_s=5) == (3, "", "")
    connection.close()
    assert capsys.readouterr().err == ""
