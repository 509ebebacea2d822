"""Phones by a real adb server in front of Debian's real adbd: streams, choice, states, and whatever goes away."""

import os
import resource
import signal
import socket
import stat
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import adb_server as servers
import adbd as peer
import pytest
from common import HOSTILE, SPACE, SPEC, wait_until, write_profile
from unavailable import unavailable

from fbagents.adb import open as _adb_open
from fbagents.adb import server as _adb_server
from fbagents.adb.address import Address
from fbagents.adb.connection import AdbConnection
from fbagents.adb.link import LinkError, Shell
from fbagents.adb.phones import Attached, choose, is_model
from fbagents.adb.route import banner_model
from fbagents.adb.server import ServerLink, server_at, usual_server
from fbagents.agent.client import AgentClient, Planned
from fbagents.errors import ConnectionLostError, DeviceError, UnreachableError
from fbagents.posix.remote import DAMAGED
from fbagents.profile import Profile, check_address
from fbagents.transports import Transport, connect
from fbbase.commandline import run
from fblut.reading import read_lut
from fbprof.cli import fbprof
from fbspace.space import load_space


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[servers.AdbServer]:
    """A server, which is the usual one."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("ADB_SERVER_SOCKET", raising=False)
    try:
        with servers.adb_server(tmp_path) as server:
            monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(server.port))
            yield server
    except peer.UnavailableError as error:
        unavailable(f"no adb server: {error}")


@pytest.fixture
def phone(server: servers.AdbServer, tmp_path: Path) -> Iterator[peer.Adbd]:
    """A phone that the server knows."""
    try:
        with servers.phones(tmp_path, server) as (phone,):
            server.attach(phone)
            yield phone
    except peer.UnavailableError as error:
        unavailable(f"no adbd: {error}")


@pytest.fixture
def two_phones(server: servers.AdbServer, tmp_path: Path) -> Iterator[list[str]]:
    """The serials of two phones that the server knows."""
    try:
        with servers.phones(tmp_path, server, 2) as both:
            yield [server.attach(phone) for phone in both]
    except peer.UnavailableError as error:
        unavailable(f"no adbd: {error}")


@pytest.fixture
def no_usb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fbagents.adb.route.usb", list)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Notice silence sooner."""
    monkeypatch.setattr(_adb_server, "QUIET_S", 0.2)
    monkeypatch.setattr(_adb_server, "ANSWER_TIMEOUT_S", 0.5)


def profile(folder: Path, **address: object) -> Profile:
    fields = {"name": "phone", "description": "adbd behind an adb server", "transport": "adb", "address": address}
    return Profile.model_validate(fields | {"folder": str(folder / "device"), "python": sys.executable})


def opened(**address: object) -> AdbConnection:
    connection = AdbConnection(Address.model_validate(address))
    connection.ensure()
    return connection


def link_to(server: servers.AdbServer, phone: peer.Adbd) -> ServerLink:
    return ServerLink(server_at(server.address), f"127.0.0.1:{phone.port}")


def test_the_agents_contract_holds_and_outputs_are_as_on_this_machine(
    phone: peer.Adbd, local: Transport, models: dict[str, Path], tmp_path: Path
) -> None:
    sums = []
    for transport in (connect(profile(tmp_path)), local):
        with AgentClient(transport, cores="0") as agent:
            loaded = agent.load("m", transport.push(models["litert"]), "litert", SPEC.input_shape)
            visits = list(agent.run([Planned("m", 5), Planned("m", 2)]))
            assert [(len(visit.wall_ns), visit.core) for visit in visits] == [(5, 0), (2, 0)]
        sums.append((loaded.outputs, loaded.output_sum, loaded.output_abs_sum))
        transport.close()
    assert sums[0] == sums[1]
    assert list((tmp_path / "device").iterdir()) == []


def test_measuring_goes_on_by_itself_after_the_phone_went_and_came(phone: peer.Adbd, tmp_path: Path) -> None:
    (tmp_path / "two.toml").write_text(SPACE)
    device, table = write_profile(tmp_path / "phone.toml", profile(tmp_path)), tmp_path / "t.csv"
    journal = table.with_suffix(".journal.jsonl")

    def restart() -> None:
        wait_until(lambda: journal.exists() and journal.read_bytes().count(b'"warm_up":false') >= 60, 30, "measuring")
        phone.stop()
        phone.start()

    restarter = threading.Thread(target=restart)
    restarter.start()
    command = ["measure", "--device", device, "--space", str(tmp_path / "two.toml"), "--ci", "0.0001"]
    assert run(fbprof, [*command, "--rounds", "40", "-o", str(table)]) == 0
    restarter.join()
    assert read_lut(table).missing(load_space(str(tmp_path / "two.toml")).operators()) == []
    assert all(row.status != "failed" for row in read_lut(table).rows.values())
    assert list((tmp_path / "device").iterdir()) == []


def test_a_command_has_an_exit_code_its_outputs_apart_and_exactly_its_arguments(phone: peer.Adbd) -> None:
    connection = opened()
    shell = connection.shell("cat; echo err >&2; exit 7")
    shell.write(b"a\r\nb\xff")
    shell.close_input()
    while not shell.has_ended:
        assert shell.pump(5)
    assert (shell.exit_code, bytes(shell.stdout), bytes(shell.stderr)) == (7, b"a\r\nb\xff", b"err\n")
    assert connection.run("kill -9 $$", timeout_s=5)[0] == 137
    shell = connection.shell('for word; do printf "%s\\0" "$word"; done', *HOSTILE, "", "\udcff")
    while not shell.has_ended:
        assert shell.pump(5)
    assert bytes(shell.stdout) == "".join(f"{word}\0" for word in [*HOSTILE, ""]).encode() + b"\xff\0"
    connection.close()


def test_a_command_too_long_for_the_server_is_told(phone: peer.Adbd) -> None:
    connection = opened()
    with pytest.raises(DeviceError, match="more than an adb server takes: shorten environment"):
        connection.run("exit 3", "x" * 70_000, timeout_s=5)
    assert connection.run("exit 3", "x" * 60_000, timeout_s=5).code == 3
    connection.close()


def test_a_command_that_floods_takes_no_memory_and_does_not_block_another(phone: peer.Adbd) -> None:
    connection = opened()
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


def test_files_arrive_whole_and_private(phone: peer.Adbd, tmp_path: Path) -> None:
    model = tmp_path / "m.tflite"
    model.write_bytes(os.urandom(7_000_001))
    transport = connect(profile(tmp_path))
    remote = Path(transport.push(model))
    assert remote.read_bytes() == model.read_bytes()
    assert stat.S_IMODE(remote.stat().st_mode) == 0o600
    transport.close()
    assert list((tmp_path / "device").iterdir()) == []


def test_a_command_that_ends_before_it_has_read_its_input_tells_its_exit_code(phone: peer.Adbd, tmp_path: Path) -> None:
    resource.prlimit(phone.pid, resource.RLIMIT_FSIZE, (16384, 16384))
    model = tmp_path / "m.tflite"
    model.write_bytes(bytes(8_000_000))
    transport = connect(profile(tmp_path))
    with pytest.raises(DeviceError, match=r"m\.tflite cannot be written to"):
        transport.push(model)
    transport.close()
    connection = opened()
    with model.open("rb") as file:
        done = connection.run(f"head -c 10 >/dev/null; exit {DAMAGED}", stdin=file, timeout_s=20)
    assert done.code == DAMAGED
    connection.close()


def test_a_service_that_does_not_exist_is_a_closed_stream(server: servers.AdbServer, phone: peer.Adbd) -> None:
    link = link_to(server, phone)
    assert link.open(b"no-such-service").closed
    shell = Shell(link, b"exit 3")
    while not shell.has_ended:
        assert shell.pump(5)
    assert shell.exit_code == 3
    link.close()
    with pytest.raises(LinkError, match="is closed"):
        link.open(b"shell,v2,raw:true")


def test_a_killed_server_is_noticed_at_once_and_the_next_one_used(
    server: servers.AdbServer, phone: peer.Adbd, models: dict[str, Path], tmp_path: Path
) -> None:
    transport = connect(profile(tmp_path))
    agent = AgentClient(transport)
    agent.load("m", transport.push(models["litert"]), "litert", SPEC.input_shape)
    threading.Timer(0.3, server.stop).start()
    visits = agent.run([Planned("m", 100_000)])
    start = time.monotonic()
    with pytest.raises(ConnectionLostError, match=r"connection to the phone 127\.0\.0\.1:\d+ .*adb server"):
        list(visits)
    assert time.monotonic() - start < 2
    agent._channel.close()
    server.start()
    server.attach(phone)
    with AgentClient(transport) as agent:
        agent.load("m", transport.push(models["litert"]), "litert", SPEC.input_shape)
    transport.close()


def test_a_phone_that_leaves_is_noticed_at_once(
    server: servers.AdbServer, phone: peer.Adbd, models: dict[str, Path], tmp_path: Path
) -> None:
    transport = connect(profile(tmp_path))
    agent = AgentClient(transport)
    agent.load("m", transport.push(models["litert"]), "litert", SPEC.input_shape)
    threading.Timer(0.3, phone.stop).start()
    start = time.monotonic()
    with pytest.raises(ConnectionLostError, match=r"was lost: the phone is (offline|no longer attached)"):
        list(agent.run([Planned("m", 100_000)]))
    assert time.monotonic() - start < 2
    agent._channel.close()
    transport.close()


def test_a_phone_that_was_away_for_a_moment_while_nobody_spoke_is_noticed(
    server: servers.AdbServer, phone: peer.Adbd
) -> None:
    connection = opened()
    assert connection.ensure() == 1
    phone.stop()
    phone.start()
    server.attach(phone)
    assert connection.ensure() == 2
    server.adb("disconnect")
    with pytest.raises(UnreachableError, match=r"no phone with serial 127\.0\.0\.1:\d+ is attached \(adb server"):
        connection.ensure(patient=False)
    connection.close()


@pytest.mark.usefixtures("quick")
def test_a_frozen_phone_is_noticed_within_seconds_and_a_busy_one_is_not_one(phone: peer.Adbd) -> None:
    connection = opened()
    assert connection.run("sleep 1; exit 6", timeout_s=10) == (6, "", "")  # asked meanwhile
    shell = connection.shell("sleep 60")
    phone.signal(signal.SIGSTOP)
    start = time.monotonic()
    with pytest.raises(LinkError, match="adbd has not answered"):
        shell.pump(60)
    assert time.monotonic() - start < 3
    with pytest.raises(ConnectionLostError, match="does not open a stream"):
        opened().run("exit", timeout_s=5)
    connection.close()


def test_how_long_a_frozen_phone_may_be_silent() -> None:
    assert _adb_server.QUIET_S + _adb_server.ANSWER_TIMEOUT_S <= 10


@pytest.mark.usefixtures("quick")
def test_a_phone_that_freezes_while_it_is_sent_something_is_noticed(phone: peer.Adbd, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(bytes(50_000_000))
    connection = opened()
    phone.signal(signal.SIGSTOP)
    start = time.monotonic()
    with (tmp_path / "big").open("rb") as file, pytest.raises(ConnectionLostError, match=r"not open|not answered"):
        connection.run("cat >/dev/null", stdin=file, timeout_s=60)
    assert time.monotonic() - start < 5
    connection.close()


def test_an_unauthorised_phone_gets_the_sentence_a_person_needs_and_time_to_accept(
    server: servers.AdbServer, phone: peer.Adbd, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_adb_open, "DIALOG_TIMEOUT_S", 0.5)
    server.adb("disconnect")
    known = phone._folder / "adb_keys"
    keys = known.read_bytes()
    known.unlink()
    phone.stop()
    phone.start()
    serial = server.attach(phone, "unauthorized")
    with pytest.raises(DeviceError, match=r"has not authorised this computer's key .*accept the dialog on the phone"):
        opened()
    assert f"{serial} (adb server {server.address}) asks whether it may be used" in capsys.readouterr().err
    monkeypatch.setattr(_adb_open, "DIALOG_TIMEOUT_S", 10)

    def accept() -> None:
        known.write_bytes(keys)
        server.adb("disconnect")
        server.adb("connect", serial)

    threading.Timer(0.3, accept).start()
    connection = opened()
    assert connection.run("exit 3", timeout_s=5).code == 3
    connection.close()


def test_an_offline_phone_is_told(server: servers.AdbServer, phone: peer.Adbd) -> None:
    serial = f"127.0.0.1:{phone.port}"
    phone.stop()
    wait_until(lambda: f"{serial}\toffline" in server.adb("devices"), 5, "offline")
    with pytest.raises(UnreachableError, match="is offline: unlock the phone, pull the cable"):
        opened()


def test_several_phones_are_listed_and_chosen_by_serial_for_good(
    two_phones: list[str], server: servers.AdbServer
) -> None:
    with pytest.raises(DeviceError, match=r"2 phones are attached .*Choose one with --device adb:SERIAL") as told:
        opened()
    assert all(f"{serial} (model not known, device)" in str(told.value) for serial in two_phones)
    with pytest.raises(UnreachableError, match=r"no phone with serial R58 is attached .*only 127\.0\.0\.1"):
        opened(serial="R58")
    with pytest.raises(UnreachableError, match="no phone of model Pixel 3 is attached"):
        opened(model="Pixel 3")
    for serial in two_phones:
        connection = opened(serial=serial)
        assert str(connection) == f"the phone {serial} (adb server {server.address})"
        connection.close()
    server.adb("disconnect", two_phones[1])
    connection = opened()
    server.adb("connect", two_phones[1])
    assert connection.ensure() == 1  # another phone's coming is no news
    server.adb("disconnect", two_phones[0])
    with pytest.raises(UnreachableError, match=f"no phone with serial {two_phones[0]}"):
        connection.ensure(patient=False)
    connection.close()


def test_two_phones_side_by_side(two_phones: list[str]) -> None:
    connections = [opened(serial=serial) for serial in two_phones]
    shells = [connection.shell("cat") for connection in connections]
    for text, shell in zip((b"one", b"two"), shells, strict=True):
        shell.write(text)
        shell.close_input()
    for text, shell in zip((b"one", b"two"), shells, strict=True):
        while not shell.has_ended:
            assert shell.pump(5)
        assert (shell.exit_code, bytes(shell.stdout)) == (0, text)
    for connection in connections:
        connection.close()


@pytest.mark.usefixtures("no_usb")
def test_without_a_server_nothing_is_started_and_a_person_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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


def test_another_program_on_the_servers_port_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for said in (b"SSH-2.0-OpenSSH_9.2\r\n", b"OKAYzzzz", b"OKAY", b"FAIL0003bad", b""):
        with socket.create_server(("127.0.0.1", 0)) as listener:

            def answer(listener: socket.socket = listener, said: bytes = said) -> None:
                for _ in range(2):
                    client, _ = listener.accept()
                    with client:
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
            return [_adb_server.Listed("R58", "device", "", 1)]

    link = ServerLink(Hostile(), "R58")  # type: ignore[arg-type]
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


@pytest.mark.parametrize(
    ("model", "pattern", "same"),
    [
        ("SM_G950F", "SM-G950*", True),
        ("SM-G950U1", "SM-G950*", True),
        ("SM_G955F", "SM-G950*", False),
        ("Pixel_3", "Pixel 3", True),
        ("Pixel_3_XL", "Pixel 3", False),
        ("", "Pixel 3", False),
        ("Pixel_3", "[P]ixel_3", False),
    ],
)
def test_models_match_as_adb_shows_them(model: str, pattern: str, same: bool) -> None:
    assert is_model(model, pattern) is same


def test_a_phone_is_chosen_by_model() -> None:
    """Debian's adbd tells no model, so the server's list is made up here."""
    phones = [Attached("a", "SM_G950F", "device", "server"), Attached("b", "Pixel_3", "device", "server")]
    assert choose(phones, None, "SM-G950*", "here").serial == "a"
    twins = [*phones, Attached("c", "SM_G950F", "unauthorized", "server")]
    with pytest.raises(DeviceError, match=r"2 phones of model SM-G950\* are attached \(here\): a .* c .*adb:a"):
        choose(twins, None, "SM-G950*", "here")
    assert choose(twins, "c", None, "here").serial == "c"


def test_the_model_that_a_phone_tells_in_its_banner() -> None:
    banner = b"device::ro.product.name=dreamlte;ro.product.model=SM-G950F;ro.product.device=dreamlte;features=shell_v2"
    assert banner_model(banner) == "SM-G950F"
    assert banner_model(b"device::ro.product.model=\x1b[2J;") == "?[2J"
    assert banner_model(b"device::features=shell_v2") == ""


def test_a_servers_profile_is_checked_like_any_other(tmp_path: Path) -> None:
    address = check_address(profile(tmp_path, server="lab:5037", model="Pixel 3"), Address)
    assert str(address) == "the phone of model Pixel 3 (adb server lab:5037)"
    assert str(Address()) == "the attached phone"
    assert str(Address(serial="R58", tunnel="me@lab1")) == "the phone R58 (me@lab1)"
