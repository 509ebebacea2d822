"""What arrives over adb is parsed with bounds, old devices get checksums, USB's transfers carry the same packets."""

import shutil
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import adbd as peer
import pytest
from hypothesis import given
from hypothesis import strategies as st
from unavailable import unavailable

from fbagents.adb import usb as _adb_usb
from fbagents.adb.keys import signer
from fbagents.adb.link import MAX_PACKET_BYTES, Link, LinkError, Shell
from fbagents.adb.usb import UsbWire, open_usb, usb_phones
from fbagents.adb.wire import TcpWire
from fbagents.errors import DeviceError, UnreachableError

COMMANDS = [b"CNXN", b"AUTH", b"OPEN", b"OKAY", b"WRTE", b"CLSE", b"STLS", b"SYNC"]
USB_PACKET = 512


def packet(command: bytes, first: int, second: int, data: bytes = b"", checksum: int = 0) -> bytes:
    """Write a packet as Android's protocol.txt has it."""
    word = struct.unpack("<I", command)[0]
    return struct.pack("<6I", word, first, second, len(data), checksum, word ^ 0xFFFFFFFF) + data


CONNECTED = packet(b"CNXN", 0x01000001, 1 << 20, b"device::")


class Recorded:
    """A wire on which a device's bytes lie ready; then it is silent, or closed."""

    def __init__(self, data: bytes, silent: bool = True) -> None:
        self.left, self.silent, self.sent, self.most = data, silent, b"", 0

    def has_data(self, timeout_s: float) -> bool:
        return bool(self.left) or not self.silent

    def read(self, size_bytes: int, timeout_s: float) -> bytes:
        self.most = max(self.most, size_bytes)
        data, self.left = self.left[:size_bytes], self.left[size_bytes:]
        if not data:
            raise TimeoutError("silent") if self.silent else ConnectionResetError("closed")
        return data

    def send(self, header: bytes, payload: bytes, timeout_s: float) -> None:
        self.sent += header + payload

    def close(self) -> None:
        self.left = b""


def no_dialog() -> None:
    raise AssertionError("no key was asked for")


def linked(wire: Any) -> Link:
    return Link(wire, [], 1, no_dialog)


packets = st.builds(
    packet,
    st.sampled_from(COMMANDS),
    st.integers(0, 3),
    st.integers(0, 3),
    st.one_of(
        st.binary(max_size=40),
        st.builds(lambda kind, d: struct.pack("<BI", kind, len(d)) + d, st.integers(0, 5), st.binary(max_size=20)),
    ),
    st.sampled_from([0, 1]),
)
noise = st.builds(b"".join, st.lists(st.one_of(packets, packets, packets, st.binary(max_size=60)), max_size=30))


@given(noise, st.booleans())
def test_a_handshake_ends_whatever_arrives(data: bytes, silent: bool) -> None:
    wire = Recorded(data, silent)
    try:
        linked(wire)
    except (LinkError, OSError):
        assert wire.left == b""  # closed
    assert wire.most <= MAX_PACKET_BYTES


@given(noise, st.booleans())
def test_a_shell_ends_whatever_arrives(data: bytes, silent: bool) -> None:
    wire = Recorded(CONNECTED + packet(b"OKAY", 7, 1) + data, silent)
    try:
        shell = Shell(linked(wire), b"true")
        shell.write(b"x")
        while not shell.has_ended and shell.pump(0.05):
            pass
        shell.end()
        assert len(shell.stdout) + len(shell.stderr) <= len(data)
    except LinkError:
        assert wire.left == b""
    assert wire.most <= MAX_PACKET_BYTES


@given(st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=50)), max_size=8), st.integers(0, 255), st.data())
def test_frames_are_found_however_packets_cut_them(
    frames: list[tuple[int, bytes]], code: int, data: st.DataObject
) -> None:
    stream = b"".join(struct.pack("<BI", kind, len(text)) + text for kind, text in [*frames, (3, bytes([code]))])
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    parts = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    wire = Recorded(CONNECTED + packet(b"OKAY", 7, 1) + b"".join(packet(b"WRTE", 7, 1, part) for part in parts))
    shell = Shell(linked(wire), b"true")
    while not shell.has_ended:
        assert shell.pump(0.05)
    assert bytes(shell.stdout) == b"".join(text for kind, text in frames if kind == 1)
    assert bytes(shell.stderr) == b"".join(text for kind, text in frames if kind == 2)
    assert shell.exit_code == code


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (struct.pack("<6I", 0x45545257, 7, 1, 0, 0, 0), "no adb packet"),  # magic
        (struct.pack("<6I", 0x45545257, 7, 1, (1 << 20) + 1, 0, 0x45545257 ^ 0xFFFFFFFF), "no adb packet"),
        (b"\xff" * 24, "no adb packet"),
        (packet(b"WRTE", 7, 1, struct.pack("<BI", 1, 0xFFFFFFFF)), "not shell v2"),
        (packet(b"WRTE", 7, 1, bytes(5))[:-1], "silent"),
        (packet(b"WRTE", 7, 2, bytes(5)) * 1000, "not answered"),  # streams that nobody opened
    ],
)
def test_what_is_not_adb_closes_the_connection(data: bytes, message: str) -> None:
    wire = Recorded(CONNECTED + packet(b"OKAY", 7, 1) + data)
    link = linked(wire)

    def use() -> None:
        shell = Shell(link, b"true")
        shell.write(b"x")
        while shell.pump(0.05):
            pass
        shell.write(b"y")

    with pytest.raises(LinkError, match=message):
        use()
    assert link.broken


def test_a_device_that_sends_without_waiting_is_cut_off() -> None:
    link = linked(Recorded(CONNECTED + packet(b"OKAY", 7, 1) + packet(b"WRTE", 7, 1, bytes(1 << 20)) * 40))
    stream = link.open(b"shell,v2,raw:true")
    for _ in range(16):
        assert link.pump(0)
    with pytest.raises(LinkError, match="without waiting"):
        link.pump(0)
    assert sum(map(len, stream.received)) <= 16 << 20


class Endless(Recorded):
    """A device that sends and sends."""

    def read(self, size_bytes: int, timeout_s: float) -> bytes:
        if len(self.left) < size_bytes:
            self.left += packet(b"OKAY", 9, 9) * 100
        return super().read(size_bytes, timeout_s)


def test_an_endless_device_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HANDSHAKE_TIMEOUT_S", "ANSWER_TIMEOUT_S", "WRITE_TIMEOUT_S"):
        monkeypatch.setattr(f"fbagents.adb.link.{name}", 0.1)
    start = time.monotonic()
    with pytest.raises(TimeoutError):
        linked(Endless(packet(b"OKAY", 9, 9)))
    assert not linked(Endless(CONNECTED, silent=False)).is_open()
    with pytest.raises(LinkError, match="does not open a stream"):
        linked(Endless(CONNECTED, silent=False)).open(b"shell:")
    shell = Shell(linked(Endless(CONNECTED + packet(b"OKAY", 7, 1), silent=False)), b"true")
    assert not shell.pump(0.1)
    shell.write(b"x")
    with pytest.raises(LinkError, match="not been read"):
        shell.write(b"y")
    assert time.monotonic() - start < 5


def test_an_old_device_gets_checksums_and_is_held_to_them() -> None:
    banner, line = b"device::", struct.pack("<BI", 1, 2) + b"ok"
    old = packet(b"CNXN", 0x01000000, 4096, banner, sum(banner)) + packet(b"OKAY", 7, 1)
    wire = Recorded(old + packet(b"WRTE", 7, 1, line, sum(line)) + packet(b"WRTE", 7, 1, line, 1))
    link = linked(wire)
    shell = Shell(link, b"true")
    assert packet(b"OPEN", 1, 0, b"shell,v2,raw:true\0", sum(b"shell,v2,raw:true\0")) in wire.sent
    assert shell.chunk_bytes == 4096 - 5
    assert shell.pump(0.05)
    assert shell.stdout == b"ok"
    with pytest.raises(LinkError, match="damaged"):
        shell.pump(0.05)


def test_a_new_device_gets_none() -> None:
    wire = Recorded(CONNECTED + packet(b"OKAY", 7, 1))
    Shell(linked(wire), b"true")
    assert wire.sent.endswith(packet(b"OPEN", 1, 0, b"shell,v2,raw:true\0"))


def test_a_tcp_wire_sends_all_in_order_and_notices_the_end() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        wire = TcpWire("127.0.0.1", server.getsockname()[1])
        wire._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        device, _ = server.accept()
        header, payload = bytes(range(24)), bytes(range(250)) * 4000
        sender = threading.Thread(target=wire.send, args=(header, payload, 10))
        sender.start()
        arrived = b""
        while len(arrived) < 24 + len(payload):
            arrived += device.recv(1 << 16)
        sender.join()
        assert arrived == header + payload
        with pytest.raises(TimeoutError):  # nobody reads
            wire.send(header, payload * 20, 0.1)
        assert not wire.has_data(0)
        device.close()
        assert wire.has_data(1)
        with pytest.raises(ConnectionResetError):
            wire.read(24, 1)
        wire.close()
        wire.close()


# USB: adb-shell's transport over a stand-in for libusb's handle, which carries transfers to the real adbd over TCP.


class Bulk:
    """Two bulk endpoints with USB's habits: transfers in whole packets, time-outs that keep what came, no padding."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.transfers: list[int] = []
        self._payload, self._needs_empty = 0, False
        self._incoming, self._partial, self._in_payload = b"", b"", 0

    def bulkWrite(self, endpoint: int, data: bytes, timeout: int) -> int:  # noqa: N802
        import usb1

        assert timeout > 0
        expected = 0 if self._needs_empty else self._payload or 24
        assert len(data) == expected, f"a transfer of {len(data)} bytes where adbd expects {expected}"
        self.transfers.append(len(data))
        self._needs_empty = len(data) > 0 and len(data) % USB_PACKET == 0
        if len(data) > 0:
            self._payload = struct.unpack_from("<I", data, 12)[0] if not self._payload else 0
        try:
            self.socket.sendall(data)
        except OSError:
            raise usb1.USBErrorNoDevice from None
        return len(data)

    def bulkRead(self, endpoint: int, length: int, timeout: int) -> bytearray:  # noqa: N802
        import usb1

        assert timeout > 0
        self.socket.settimeout(timeout / 1e3)
        got = bytearray()
        while len(got) < length:
            try:
                if not self._incoming:
                    self._incoming = self._next_transfer()
            except TimeoutError:
                error = usb1.USBErrorTimeout()
                error.received, error.transferred = got, len(got)
                raise error from None
            except OSError:
                raise usb1.USBErrorNoDevice from None
            part, self._incoming = self._incoming[:USB_PACKET], self._incoming[USB_PACKET:]
            if len(part) > length - len(got):
                raise usb1.USBErrorOverflow
            got += part
            if len(part) < USB_PACKET:
                break
        return got

    def _next_transfer(self) -> bytes:
        size = self._in_payload or 24
        while len(self._partial) < size:
            data = self.socket.recv(size - len(self._partial))
            if not data:
                raise ConnectionResetError
            self._partial += data
        data, self._partial = self._partial, b""
        self._in_payload = struct.unpack_from("<I", data, 12)[0] if not self._in_payload else 0
        return data

    def releaseInterface(self, number: int) -> None:  # noqa: N802
        pass

    def close(self) -> None:
        self.socket.close()


def usb_wire(bulk: Bulk) -> UsbWire:
    from adb_shell.transport.usb_transport import UsbTransport

    transport = UsbTransport.__new__(UsbTransport)
    transport._transport, transport._interface_number = bulk, 0
    transport._read_endpoint, transport._write_endpoint = 0x81, 0x01
    transport._usb_info, transport._device = "stand-in", None
    return UsbWire(transport, USB_PACKET)


@pytest.fixture(scope="module")
def usb1() -> Any:
    """libusb, which need not be on every machine."""
    try:
        usb_phones()
    except DeviceError as error:
        unavailable(str(error))
    return sys.modules["usb1"]


@pytest.fixture
def phone(tmp_path: Path) -> Iterator[Any]:
    try:
        phone = peer.Adbd(peer.prepare(), tmp_path)
    except peer.UnavailableError as error:
        unavailable(f"no adbd: {error}")
    signer(tmp_path / "adbkey")
    shutil.copy(tmp_path / "adbkey.pub", tmp_path / "adb_keys")
    yield phone
    phone.stop()


def test_usbs_transfers_carry_a_session_with_adbd(usb1: Any, phone: Any, tmp_path: Path) -> None:
    bulk = Bulk(phone.port)
    link = Link(usb_wire(bulk), [signer(tmp_path / "adbkey")], 5, no_dialog)
    content = bytes(range(256)) * 8000
    shell = Shell(link, f"cat >'{tmp_path}/content'; cat '{tmp_path}/content'; echo err >&2; exit 7".encode())
    arrived = b""
    filling = 2 * USB_PACKET - 5  # with its frame's header it fills two USB packets
    for start in range(0, 10 * filling, filling):
        shell.write(content[start : start + filling])
    shell.write(content[10 * filling :])
    shell.close_input()
    while not shell.has_ended:
        assert shell.pump(5)
        arrived += shell.stdout
        shell.stdout.clear()
    assert (arrived == content, bytes(shell.stderr), shell.exit_code) == (True, b"err\n", 7)
    assert 0 in bulk.transfers
    assert link.is_open()
    phone.stop()
    with pytest.raises(LinkError, match="left USB: the cable was pulled"):
        all(link.pump(5) for _ in range(9))  # what adbd had sent before comes first


class Scripted(Bulk):
    """Endpoints that give what is written down: bytes, or an error."""

    def __init__(self, *script: bytes | Exception) -> None:
        self.script, self.lengths = list(script), []

    def bulkRead(self, endpoint: int, length: int, timeout: int) -> bytearray:  # noqa: N802
        self.lengths.append(length)
        step = self.script.pop(0)
        if isinstance(step, Exception):
            time.sleep(timeout / 1e3)  # as long as libusb waits
            raise step
        return bytearray(step)


def timed_out(usb1: Any, received: bytes) -> Exception:
    error: Exception = usb1.USBErrorTimeout()
    error.received = received  # type: ignore[attr-defined]
    return error


def test_usb_keeps_what_came_before_a_time_out_and_drops_what_an_earlier_connection_left(usb1: Any) -> None:
    silent = timed_out(usb1, b"")
    bulk = Scripted(b"left over", silent, silent, timed_out(usb1, CONNECTED[:24]), b"", CONNECTED[24:])
    wire = usb_wire(bulk)
    assert not wire.has_data(0)
    assert wire.has_data(0.01)
    assert wire.read(20, 1) + wire.read(100, 1) == CONNECTED[:24]
    assert wire.read(1024 - 24, 1) == CONNECTED[24:]
    assert bulk.lengths == [512, 512, 512, 512, 1024, 1024]


def test_this_machines_libusb_is_asked(usb1: Any) -> None:
    assert isinstance(usb_phones(), list)
    with pytest.raises(UnreachableError, match=r"no phone no-such-serial on USB .*is the cable in"):
        open_usb("no-such-serial")


class Device:
    """What libusb tells of a phone."""

    def __init__(self, fails_at: str, error: Exception) -> None:
        self.fails_at, self.error = fails_at, error

    def getSerialNumber(self) -> str:  # noqa: N802
        if self.fails_at == "serial":
            raise self.error
        return "R58\x1b[2J"

    def getProduct(self) -> str:  # noqa: N802
        return "SM-G950F"

    def getBusNumber(self) -> int:  # noqa: N802
        return 3

    def getDeviceAddress(self) -> int:  # noqa: N802
        return 9

    def open(self) -> Any:
        raise self.error


class Setting:
    def iterEndpoints(self) -> Iterator[Any]:  # noqa: N802
        for address in (0x81, 0x01):
            yield type("Endpoint", (), {"getAddress": lambda _, a=address: a, "getMaxPacketSize": lambda _: 512})()

    def getNumber(self) -> int:  # noqa: N802
        return 0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("USBErrorBusy", "the phone R58.*held by another program, most likely an adb server: adb kill-server"),
        ("USBErrorAccess", "udev rule: .*android-sdk-platform-tools-common.*plugdev"),
        ("USBErrorNoDevice", "left USB: is the cable in"),
        ("USBErrorIO", "cannot be opened over USB.*plug it in again"),
    ],
)
def test_a_phone_that_cannot_be_opened_is_told_with_a_remedy(
    usb1: Any, name: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from adb_shell.transport.usb_transport import UsbTransport

    def attach(fails_at: str) -> None:
        device = Device(fails_at, getattr(usb1, name)())
        found: Callable[[], list[Any]] = lambda: [UsbTransport(device, Setting())]  # noqa: E731
        monkeypatch.setattr(UsbTransport, "find_all_adb_devices", found)

    attach("open")
    [found] = usb_phones()
    assert (found.serial, found.product, found.obstacle) == ("R58?[2J", "SM-G950F", "")
    with pytest.raises(DeviceError, match=message):
        open_usb(found.serial)
    attach("serial")
    [found] = usb_phones()
    assert found.serial == ""
    assert "on USB bus 3, device 9" in found.obstacle
    with pytest.raises(UnreachableError, match=r"no phone R58 .*the phone on USB bus 3, device 9"):
        open_usb("R58")


def test_a_machine_without_libusb_is_told_what_to_install(usb1: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    module = "adb_shell.transport.usb_transport"
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(DeviceError, match=r"pip install 'fbnet-lab\[adb\]'"):
        usb_phones()
    monkeypatch.delitem(sys.modules, module)

    def missing(self: object) -> None:
        raise OSError(2, "cannot find a suitable libusb-1.0")

    monkeypatch.setattr(usb1.USBContext, "open", missing)
    with pytest.raises(DeviceError, match=r"apt install libusb-1\.0-0"):
        _adb_usb.usb_phones()
