"""Phones that a plain serial does not name: serials with blanks, none, or that of several, and phones on the network.

The server is a stand-in that answers with listings as `adb devices -l` prints them.
"""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fbagents import discovery
from fbagents.adb.address import Address, choose, network_place, seen, told_apart
from fbagents.adb.link import LinkError, Timeouts
from fbagents.adb.route import Route
from fbagents.adb.server import Server, server_at
from fbagents.adb.server_link import ServerLink
from fbagents.connect import load_profile
from fbagents.errors import DeviceError, UnreachableError
from fbbase.commandline import run
from fbprof.cli import fbprof
from peers import processes

TWINS = (
    "0123456789ABCDEF       device usb:1-1.4.1 product:xyz model:A80 device:xyz transport_id:56\n"
    "0123456789ABCDEF       device usb:1-1.4.2 product:xyz model:A80 device:xyz transport_id:57\n"
)
BLANK = "adb-ZY22MGW35T-Z3uXXq (2)._adb-tls-connect._tcp"


class StandIn:
    """Answers `host:devices-l` with a listing, and `host:track-devices` with what it is told to say."""

    def __init__(self, listing: str) -> None:
        self.listing = listing
        self.trackers: list[socket.socket] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.server: Server = server_at(f"127.0.0.1:{self.port}")
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                size = connection.recv(4)
                service = connection.recv(int(size, 16)) if size else b""
                if service:
                    connection.sendall(b"OKAY")
                if service == b"host:devices-l":
                    connection.sendall(b"%04x" % len(self.listing.encode()) + self.listing.encode())
                if service == b"host:track-devices":
                    self.trackers.append(connection)
                else:
                    connection.close()

    def say(self, news: str) -> None:
        self.trackers[-1].sendall(b"%04x" % len(news.encode()) + news.encode())

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def adb(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], StandIn]]:
    servers: list[StandIn] = []

    def start(listing: str) -> StandIn:
        servers.append(StandIn(listing))
        monkeypatch.delenv("ADB_SERVER_SOCKET", raising=False)
        monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(servers[-1].port))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.mark.parametrize(
    ("line", "serial", "state", "model", "device"),
    [
        (f"{BLANK} device product:v model:edge_60 transport_id:7", BLANK, "device", "edge_60", f"adb:{BLANK}"),
        ("(no serial number)     device usb:1-2 model:A80 transport_id:3", "", "device", "A80", "adb:usb:1-2"),
        ("(no serial number)     offline transport_id:3", "", "offline", "", "adb:transport:3"),
        ("009d1 no permissions (rules?); see [http://x/z] usb:1-3", "009d1", "no permissions", "", "adb:009d1"),
        ("emulator-5612          host features:shell_2", "emulator-5612", "host", "", "adb:emulator-5612"),
        ("R58M123ABC             dozing usb:1-1.2 transport_id:1", "R58M123ABC", "dozing", "", "adb:R58M123ABC"),
        ("device                 device transport_id:1", "device", "device", "", "adb:device"),
        ("10.0.0.2:5555          authorizing transport_id:4", "10.0.0.2:5555", "authorizing", "", "adb:10.0.0.2:5555"),
    ],
)  # fmt: skip
def test_a_line_is_split_as_adb_prints_it(
    line: str, serial: str, state: str, model: str, device: str, adb: Callable[[str], StandIn]
) -> None:
    (phone,) = adb(line).server.phones()
    assert (phone.serial, phone.state, phone.model, phone.device) == (serial, state, model, device)


def test_two_phones_of_one_serial_are_named_by_their_places(
    adb: Callable[[str], StandIn], capsys: pytest.CaptureFixture[str]
) -> None:
    adb(TWINS)
    assert [phone.device for phone in discovery.attached()] == ["adb:usb:1-1.4.1", "adb:usb:1-1.4.2"]
    assert [profile.name for profile in discovery.attached_profiles()] == ["adb-usb-1-1.4.1", "adb-usb-1-1.4.2"]
    assert run(fbprof, ["devices"]) == 0
    assert "fbprof measure --device adb:usb:1-1.4.2\n" in capsys.readouterr().out
    assert discovery.reachable(load_profile("adb:transport:57")) is None
    assert discovery.reachable(load_profile("adb:usb:1-1.4.2")) is None
    told = discovery.reachable(load_profile("adb:0123456789ABCDEF"))
    assert told is not None
    assert "2 phones with serial 0123456789ABCDEF are attached" in told
    assert "0123456789ABCDEF at usb:1-1.4.1 (A80, device)" in told
    assert "Choose one with --device adb:usb:PATH or adb:transport:ID, as in --device adb:usb:1-1.4.1" in told
    assert "no phone at transport:58 is attached" in str(discovery.reachable(load_profile("adb:transport:58")))


def test_a_phone_on_the_network_has_no_cable_to_pull() -> None:
    remedies = [seen(serial, "", "offline", "server").remedy for serial in ("R58M", "10.0.0.2:5555", BLANK)]
    assert remedies == [
        "unlock the phone, and pull the cable and plug it in again",
        "unlock the phone, and run adb disconnect 10.0.0.2:5555 and then adb connect 10.0.0.2:5555",
        f"unlock the phone, and run adb disconnect '{BLANK}' and then adb connect '{BLANK}'",
    ]
    assert "cable" not in seen("10.0.0.2:5555", "", "unauthorized", "server").remedy
    assert "plug" not in seen("10.0.0.2:5555", "", "recovery", "server").remedy


def test_a_name_with_a_blank_can_be_typed_as_it_is_shown(
    adb: Callable[[str], StandIn], capsys: pytest.CaptureFixture[str]
) -> None:
    adb(f"{BLANK} device transport_id:7\n")
    assert run(fbprof, ["devices"]) == 0
    assert f"fbprof measure --device 'adb:{BLANK}'\n" in capsys.readouterr().out
    assert discovery.reachable(load_profile(f"adb:{BLANK}")) is None


def test_news_of_a_phone_of_the_same_serial_are_not_taken_for_this_one(adb: Callable[[str], StandIn]) -> None:
    stand_in = adb(TWINS)
    link = ServerLink(stand_in.server, "usb:1-1.4.2", Timeouts())
    stand_in.say("0123456789ABCDEF\toffline\n0123456789ABCDEF\tdevice\n")
    stand_in.listing = TWINS.replace("device usb:1-1.4.1", "offline usb:1-1.4.1")
    assert link.is_open()
    stand_in.listing = TWINS.splitlines()[0] + "\n"
    stand_in.say("0123456789ABCDEF\tdevice\n")
    assert not link.is_open()
    with pytest.raises(LinkError):
        ServerLink(stand_in.server, "transport:57", Timeouts())


def test_phones_on_usb_of_one_serial_are_told_apart_too() -> None:
    phones = [seen("X", "", "on USB", "usb", places=[f"usb:1-{port}"]) for port in (1, 2)]
    assert [phone.device for phone in told_apart(phones)] == ["adb:usb:1-1", "adb:usb:1-2"]
    assert told_apart(phones[:1]) == phones[:1]
    assert choose(told_apart(phones), "usb:1-2", None, "USB").places == ("usb:1-2",)


@pytest.mark.parametrize(
    ("serial", "place"),
    [
        ("192.168.1.20:5555", ("192.168.1.20", 5555)),
        ("[::1]:5555", ("::1", 5555)),
        ("phone.local:37571", ("phone.local", 37571)),
        ("transport:56", None),
        ("usb:1-1.4", None),
        ("R58M123ABC", None),
        ("a:0", None),
        (None, None),
    ],
)
def test_a_serial_that_is_a_place_in_the_network(serial: str | None, place: tuple[str, int] | None) -> None:
    assert network_place(serial) == place


def test_a_phone_on_the_network_needs_no_server_and_no_cable(
    adb: Callable[[str], StandIn], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", "1")
    with socket.create_server(("127.0.0.1", 0)) as phone:
        name = f"127.0.0.1:{phone.getsockname()[1]}"
        assert Route(Address(serial=name)).tcp() == ("127.0.0.1", phone.getsockname()[1])
        assert discovery.reachable(load_profile(f"adb:{name}")) is None
    assert "nothing answers at 127.0.0.1 port" in str(discovery.reachable(load_profile(f"adb:{name}")))
    adb("")
    with pytest.raises(UnreachableError) as told:
        Route(Address(serial=name)).find()
    assert f"once adb connect {name} was run" in str(told.value)
    assert "cable" not in str(told.value)


WITHOUT = """
import sys
class Without:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("adb_shell", "usb1"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Without())
from fbprof.cli import main
sys.exit(main())
"""


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["devices"], 0),
        pytest.param(["measure", "--all", "--space", "two.toml"], 3, marks=pytest.mark.full),
        (["measure", "--device", "adb:127.0.0.1:1", "--space", "two.toml"], 3),
    ],
)
def test_without_the_packages_of_adb_one_line_names_the_extra(
    command: list[str], code: int, space: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", "1")
    with socket.create_server(("127.0.0.1", 0)) as phone:
        command = [word.replace("127.0.0.1:1", f"127.0.0.1:{phone.getsockname()[1]}") for word in command]
        argv = ["-c", WITHOUT, *command]
        done = processes.run(argv, cwd=Path(space).parent)
    said = done.stdout + done.stderr
    assert done.returncode == code, said
    assert "pip install 'fbnet-lab[adb]'" in said
    assert "Traceback" not in said


def test_several_phones_are_several_also_where_none_has_a_name() -> None:
    phones = [seen("", "", "blocked", "usb", obstacle="x")] * 2
    with pytest.raises(DeviceError, match="2 phones are attached"):
        choose(told_apart(phones), None, None, "USB")
