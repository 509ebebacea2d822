"""Phones on USB: transfers carry adb's packets to the real adbd, and what cannot be opened is told with a remedy.

libusb's handle is a stand-in whose transfers go to adbd over TCP: there is no USB here.
"""

import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fbagents.adb.command import Command
from fbagents.adb.keys import signer
from fbagents.adb.link import LinkError, Timeouts
from fbagents.adb.packets import PacketLink
from fbagents.adb.usb import UsbWire, open_usb, usb_phones
from fbagents.errors import DeviceError, UnreachableError
from peers.adb_phone import Phone
from peers.packets import CONNECTED
from peers.unavailable import unavailable

USB_PACKET = 512


def no_dialog() -> None:
    raise AssertionError("no key was asked for")


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

    def close(self) -> None:
        self.socket.close()


def usb_wire(bulk: Bulk) -> UsbWire:
    return UsbWire(bulk, (0x81, 0x01), USB_PACKET, bulk.close)


@pytest.fixture(scope="module")
def usb1() -> Any:
    """libusb, which need not be on every machine."""
    try:
        usb_phones()
    except DeviceError as error:
        unavailable(str(error))
    return sys.modules["usb1"]


def test_usbs_transfers_carry_a_session_with_adbd(usb1: Any, tcp_phone: Phone, adb_key: Path, tmp_path: Path) -> None:
    bulk = Bulk(tcp_phone.adbd.port)
    link = PacketLink(usb_wire(bulk), [signer(adb_key)], Timeouts(), no_dialog)
    content = bytes(range(256)) * 8000
    command = Command(link, f"cat >'{tmp_path}/content'; cat '{tmp_path}/content'; echo err >&2; exit 7".encode())
    arrived = b""
    filling = 2 * USB_PACKET - 5  # with its frame's header it fills two USB packets
    for start in range(0, 10 * filling, filling):
        command.write(content[start : start + filling])
    command.write(content[10 * filling :])
    command.close_input()
    while not command.has_ended:
        assert command.pump(5)
        arrived += command.stdout
        command.stdout.clear()
    assert (arrived == content, bytes(command.stderr), command.exit_code) == (True, b"err\n", 7)
    assert 0 in bulk.transfers
    assert link.is_open()
    tcp_phone.adbd.stop()
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

    def getPortNumberList(self) -> list[int]:  # noqa: N802
        return [1, 4]

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
    assert (found.serial, found.model, found.remedy) == ("R58?[2J", "SM-G950F", "")
    assert found.places == ("usb:3-1.4",)
    with pytest.raises(DeviceError, match=message.replace("R58", "usb:3-1.4")):
        open_usb("usb:3-1.4")
    with pytest.raises(DeviceError, match=message):
        open_usb(found.serial)
    attach("serial")
    [found] = usb_phones()
    assert found.serial == ""
    assert "on USB bus 3, device 9" in found.remedy
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
        usb_phones()
