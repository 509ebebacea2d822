"""What only a real adb server has: states, several phones, its own end, other programs at its port."""

import contextlib
import os
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from fbagents.adb.address import Address
from fbagents.adb.command import Command
from fbagents.adb.connection import AdbConnection
from fbagents.adb.link import LinkError, Timeouts
from fbagents.adb.server import Listed, server_at, usual_server
from fbagents.adb.server_link import ServerLink
from fbagents.agent.client import AgentClient, Planned
from fbagents.connect import connect
from fbagents.discovery import attached_twice
from fbagents.errors import ConnectionLostError, DeviceError, UnreachableError
from peers.adb_phone import IMPATIENT, Phone
from peers.adb_server import AdbServer
from peers.given import SPEC
from peers.runs import wait_until


def opened(timeouts: Timeouts | None = None, **address: object) -> AdbConnection:
    connection = AdbConnection(Address.model_validate(address), timeouts)
    connection.ensure()
    return connection


def test_a_command_too_long_for_the_server_is_told(server_phone: Phone) -> None:
    connection = server_phone.connection()
    with pytest.raises(DeviceError, match="more than an adb server takes: shorten environment"):
        connection.run("exit 3", "x" * 70_000, timeout_s=5)
    assert connection.run("exit 3", "x" * 60_000, timeout_s=5).code == 3
    connection.close()


def test_a_service_that_does_not_exist_is_a_closed_stream(adb_server: AdbServer, server_phone: Phone) -> None:
    link = ServerLink(server_at(adb_server.address), server_phone.serial, Timeouts())
    assert link.open(b"no-such-service").closed
    command = Command(link, b"exit 3")
    while not command.has_ended:
        assert command.pump(5)
    assert command.exit_code == 3
    link.close()
    with pytest.raises(LinkError, match="is closed"):
        link.open(b"shell,v2,raw:true")


def test_a_killed_server_is_noticed_at_once_and_the_next_one_used(
    adb_server: AdbServer, server_phone: Phone, models: dict[str, Path]
) -> None:
    transport = connect(server_phone.profile())
    agent = AgentClient(transport)
    agent.load("m", transport.push(models["litert"]), "litert", SPEC.input_shape)
    threading.Timer(0.3, adb_server.stop).start()
    visits = agent.run([Planned("m", 100_000)])
    start = time.monotonic()
    with pytest.raises(ConnectionLostError, match=r"connection to the phone 127\.0\.0\.1:\d+ .*adb server"), agent:
        list(visits)
    assert time.monotonic() - start < 2
    adb_server.start()
    adb_server.attach(server_phone.adbd)
    with AgentClient(transport) as agent:
        agent.load("m", transport.push(models["litert"]), "litert", SPEC.input_shape)
    transport.close()


def test_a_phone_that_was_away_for_a_moment_while_nobody_spoke_is_noticed(
    adb_server: AdbServer, server_phone: Phone
) -> None:
    connection = server_phone.connection()
    assert connection.ensure() == 1
    server_phone.restart()
    assert connection.ensure() == 2
    adb_server.adb("disconnect")
    with pytest.raises(UnreachableError, match=r"no phone with serial 127\.0\.0\.1:\d+ is attached \(adb server"):
        connection.ensure(patient=False)
    connection.close()


def test_a_phone_that_is_frozen_opens_no_stream(server_phone: Phone) -> None:
    server_phone.adbd.signal(signal.SIGSTOP)
    connection = opened(IMPATIENT)
    with pytest.raises(ConnectionLostError, match="does not open a stream"):
        connection.run("exit", timeout_s=5)
    connection.close()


def test_an_unauthorised_phone_gets_the_sentence_a_person_needs_and_time_to_accept(
    adb_server: AdbServer, server_phone: Phone, capsys: pytest.CaptureFixture[str]
) -> None:
    adb_server.adb("disconnect")
    keys = server_phone.known_keys.read_bytes()
    server_phone.known_keys.unlink()
    server_phone.adbd.stop()
    server_phone.adbd.start()
    serial = adb_server.attach(server_phone.adbd, "unauthorized")
    with pytest.raises(DeviceError, match=r"has not authorised this computer's key .*accept the dialog on the phone"):
        opened(IMPATIENT)
    assert f"{serial} (adb server {adb_server.address}) asks whether it may be used" in capsys.readouterr().err

    def accept() -> None:
        server_phone.known_keys.write_bytes(keys)
        adb_server.adb("disconnect")
        adb_server.adb("connect", serial)

    threading.Timer(0.3, accept).start()
    connection = opened(Timeouts(dialog_s=10))
    assert connection.run("exit 3", timeout_s=5).code == 3
    connection.close()


def test_an_offline_phone_is_told(adb_server: AdbServer, server_phone: Phone) -> None:
    server_phone.adbd.stop()
    wait_until(lambda: f"{server_phone.serial}\toffline" in adb_server.adb("devices"), 5, "offline")
    with pytest.raises(UnreachableError, match="is offline: unlock the phone, and run adb disconnect 127"):
        opened()


@pytest.fixture
def serials(two_phones: list[Phone], adb_server: AdbServer) -> list[str]:
    """The serials of two phones that the server knows."""
    return [adb_server.attach(phone.adbd) for phone in two_phones]


def test_several_phones_are_listed_and_chosen_by_serial_for_good(serials: list[str], adb_server: AdbServer) -> None:
    with pytest.raises(DeviceError, match=r"2 phones are attached .*Choose one with --device adb:SERIAL") as told:
        opened()
    assert all(f"{serial} (model not known, device)" in str(told.value) for serial in serials)
    with pytest.raises(UnreachableError, match=r"no phone with serial R58 is attached .*only 127\.0\.0\.1"):
        opened(serial="R58")
    with pytest.raises(UnreachableError, match="no phone of model Pixel 3 is attached"):
        opened(model="Pixel 3")
    for serial in serials:
        connection = opened(serial=serial)
        assert str(connection) == f"the phone {serial} (adb server {adb_server.address})"
        connection.close()
    adb_server.adb("disconnect", serials[1])
    connection = opened()
    adb_server.adb("connect", serials[1])
    assert connection.ensure() == 1  # another phone's coming is no news
    adb_server.adb("disconnect", serials[0])
    with pytest.raises(UnreachableError, match=f"no phone with serial {serials[0]}"):
        connection.ensure(patient=False)
    connection.close()


def test_one_phone_by_two_ways_is_told_from_two_phones(serials: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Both adbd are of this machine, as a phone's are that answers over USB and a network."""
    assert {phone.serial: other.serial for phone, other in attached_twice().items()} in (
        {serials[1]: serials[0]},
        {serials[0]: serials[1]},
    )
    monkeypatch.setattr("fbagents.transports.adb.IDENTITY", "echo $$")
    assert attached_twice() == {}


def test_two_phones_side_by_side(serials: list[str]) -> None:
    connections = [opened(serial=serial) for serial in serials]
    commands = [connection.command("cat") for connection in connections]
    for text, command in zip((b"one", b"two"), commands, strict=True):
        command.write(text)
        command.close_input()
    for text, command in zip((b"one", b"two"), commands, strict=True):
        while not command.has_ended:
            assert command.pump(5)
        assert (command.exit_code, bytes(command.stdout)) == (0, text)
    for connection in connections:
        connection.close()


def test_without_a_server_nothing_is_started_and_a_person_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fbagents.adb.route.usb_phones", list)
    started = tmp_path / "started"
    (tmp_path / "adb").write_text(f"#!/bin/sh\ntouch {started}\n")
    (tmp_path / "adb").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("ADBUTILS_ADB_PATH", str(tmp_path / "adb"))
    monkeypatch.delenv("ADB_SERVER_SOCKET", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(port))
    start = time.monotonic()
    with pytest.raises(UnreachableError, match=r"no phone is attached \(USB\): is the cable in.*fbprof devices"):
        opened()
    with pytest.raises(UnreachableError, match=rf"no adb server answers at 127\.0\.0\.1:{port} .*adb start-server"):
        opened(server=f"127.0.0.1:{port}")
    assert time.monotonic() - start < 1
    assert not started.exists()


def test_another_program_on_the_servers_port_is_told() -> None:
    for said in (b"SSH-2.0-OpenSSH_9.2\r\n", b"OKAYzzzz", b"OKAY", b"FAIL0007bad\nbad", b""):
        with socket.create_server(("127.0.0.1", 0)) as listener:

            def answer(listener: socket.socket = listener, said: bytes = said) -> None:
                client, _ = listener.accept()
                with client, contextlib.suppress(ConnectionResetError):
                    client.sendall(said)
                    client.recv(100)

            thread = threading.Thread(target=answer, daemon=True)
            thread.start()
            with pytest.raises(UnreachableError, match="no adb server answers at"):
                opened(server=f"127.0.0.1:{listener.getsockname()[1]}")


@pytest.mark.parametrize("news", [b"zzzz", b"ffff" + b"x" * 100_000, b""])
def test_hostile_news_end_the_link(news: bytes) -> None:
    ours, theirs = socket.socketpair()

    class Hostile:
        name = "lab:5037"

        def ask(self, _: str) -> socket.socket:
            return ours

        def listed(self) -> list[Any]:
            return [Listed("R58", "device", "", 1)]

    link = ServerLink(Hostile(), "R58", Timeouts())  # type: ignore[arg-type]
    assert link.is_open()
    theirs.settimeout(0.2)
    for _ in range(3):
        try:
            theirs.sendall(news)
        except OSError:
            break
        if link.broken or not link.is_open():
            break
    theirs.close()
    assert not link.is_open()


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ({}, "127.0.0.1:5037"),
        ({"ANDROID_ADB_SERVER_PORT": "5038"}, "127.0.0.1:5038"),
        ({"ADB_SERVER_SOCKET": "tcp:5039", "ANDROID_ADB_SERVER_PORT": "5038"}, "127.0.0.1:5039"),
        ({"ADB_SERVER_SOCKET": "tcp:lab:5039"}, "lab:5039"),
        ({"ADB_SERVER_SOCKET": "tcp:[::1]:5039"}, "[::1]:5039"),
    ],
)
def test_the_usual_server_is_adbs_own(environment: dict[str, str], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("ADB_SERVER_SOCKET", "ANDROID_ADB_SERVER_PORT", "ANDROID_ADB_SERVER_ADDRESS"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    assert usual_server().name == name


@pytest.mark.parametrize(
    ("variable", "value"),
    [("ADB_SERVER_SOCKET", "localfilesystem:/x"), ("ANDROID_ADB_SERVER_PORT", "x"), ("ADB_SERVER_SOCKET", "tcp:99999")],
)
def test_a_server_that_cannot_be_used_is_told(variable: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ADB_SERVER_SOCKET", raising=False)
    monkeypatch.setenv(variable, value)
    with pytest.raises(DeviceError, match=variable if "99" not in value else "port"):
        usual_server()
