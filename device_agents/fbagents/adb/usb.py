"""Phones on this machine's USB, and the wire to one of them, found and opened by adb-shell without an adb server."""

import math
import time
from collections.abc import Callable, Iterator
from typing import Any

from fbagents.adb.address import BLOCKED, ON_USB, UDEV_RULE, seen, told_apart
from fbagents.errors import DeviceError, UnreachableError
from fbagents.transport import Attached

SLICE_S = 0.5
"""libusb waits at most so long at once, so that Ctrl-C is heard."""
DRAIN_S = 0.05
MOST_LEFT_OVER = 100


def usb_phones() -> list[Attached]:
    """Return the phones on USB whose debugging is on. Raises DeviceError where USB cannot be used at all."""
    return told_apart([phone for phone, _ in _found()])


def open_usb(name: str) -> "UsbWire":
    """Open the wire to the phone of this serial number, or at this place (`usb:PATH`).

    Raises UnreachableError where it is not attached, DeviceError where it is and cannot be used.
    """
    obstacles = []
    for phone, transport in _found():
        if name in (phone.serial, *phone.places):
            return _opened(transport, f"the phone {name}")
        if not phone.serial:
            obstacles.append(phone.remedy)
    raise UnreachableError(
        f"no phone {name} on USB with USB debugging on: is the cable in, the phone unlocked, and USB debugging "
        "switched on in its developer options?" + "".join(f" {obstacle}" for obstacle in obstacles)
    )


class UsbWire:
    """One phone's two bulk endpoints.

    A header and its payload are transfers of their own, and one that fills its last USB packet is followed by an empty
    one, as adbd expects. adbd itself sends no empty ones, so never more is asked for than the rest of a transfer,
    rounded up to whole USB packets.
    """

    def __init__(
        self, handle: Any, endpoints: tuple[int, int], usb_packet_bytes: int, close: Callable[[], object]
    ) -> None:
        """Take over libusb's open handle of a phone, and drop what an earlier connection left in the phone.

        `endpoints` are those that are read from and written to.
        """
        self._handle, (self._from, self._to) = handle, endpoints
        self._usb_packet_bytes, self._close = usb_packet_bytes, close
        self._arrived = b""
        for _ in range(MOST_LEFT_OVER):
            if not self.has_data(DRAIN_S):
                break
            self._arrived = b""

    def has_data(self, timeout_s: float) -> bool:
        """Wait until a packet begins to arrive."""
        if not self._arrived:
            self._arrived = self._receive(self._usb_packet_bytes, timeout_s)
        return bool(self._arrived)

    def read(self, size_bytes: int, timeout_s: float) -> bytes:
        """Return what has come. Raises TimeoutError, and ConnectionResetError where the phone is gone."""
        if not self._arrived:
            whole = -(-size_bytes // self._usb_packet_bytes) * self._usb_packet_bytes
            self._arrived = self._receive(whole, timeout_s)
        if not self._arrived:
            raise TimeoutError("the phone sends nothing over USB")
        data, self._arrived = self._arrived[:size_bytes], self._arrived[size_bytes:]
        return data

    def send(self, header: bytes, payload: bytes, timeout_s: float) -> None:
        """Send both. Raises TimeoutError, and ConnectionResetError where the phone is gone."""
        for transfer in (header, payload) if payload else (header,):
            self._transfer(transfer, timeout_s)
            if len(transfer) % self._usb_packet_bytes == 0:
                self._transfer(b"", timeout_s)

    def close(self) -> None:
        """Let the phone go."""
        self._close()

    def _receive(self, size_bytes: int, timeout_s: float) -> bytes:
        """Return what came within the time, which may be nothing."""
        import usb1

        deadline = time.monotonic() + timeout_s
        while True:
            # libusb takes 0 for no limit at all
            slice_s = min(max(deadline - time.monotonic(), 0.001), SLICE_S)
            try:
                data = bytes(self._handle.bulkRead(self._from, size_bytes, math.ceil(slice_s * 1e3)))
            except usb1.USBErrorTimeout as error:
                data = bytes(error.received)
            except usb1.USBError as error:
                raise _gone(error) from None
            if data or time.monotonic() >= deadline:
                return data

    def _transfer(self, data: bytes, timeout_s: float) -> None:
        import usb1

        try:
            sent = self._handle.bulkWrite(self._to, data, int(timeout_s * 1e3))
        except usb1.USBErrorTimeout:
            raise TimeoutError("the phone takes nothing over USB") from None
        except usb1.USBError as error:
            raise _gone(error) from None
        if sent != len(data):
            raise ConnectionResetError(f"USB took {sent} of {len(data)} bytes")


def _found() -> Iterator[tuple[Attached, Any]]:
    """Yield each phone with adb-shell's transport to it."""
    try:
        import usb1
        from adb_shell.transport.usb_transport import UsbTransport
    except ImportError:
        raise DeviceError("phones on USB need libusb1 for Python: pip install 'fbnet-lab[adb]'") from None
    except OSError:
        raise DeviceError(
            "phones on USB need the library libusb 1.0: apt install libusb-1.0-0, or brew install libusb"
        ) from None
    except Exception as error:  # libusb's own, when its context is opened
        raise DeviceError(f"USB cannot be used here: {error}") from None
    try:
        for transport in UsbTransport.find_all_adb_devices():
            yield _described(transport), transport
    except usb1.USBError as error:
        raise DeviceError(f"USB cannot be used here: {error}") from None


def _described(transport: Any) -> Attached:
    import usb1

    device = transport._device
    try:
        place = f"usb:{device.getBusNumber()}-{'.'.join(map(str, device.getPortNumberList()))}"  # as adb has it
        serial, product = (printable(text) for text in (device.getSerialNumber(), device.getProduct()))
        return seen(serial, product, ON_USB, "usb", places=[place])
    except usb1.USBError as error:
        where = f"the phone on USB bus {device.getBusNumber()}, device {device.getDeviceAddress()},"
        return seen("", "", BLOCKED, "usb", obstacle=str(_refused(error, where)))


def _opened(transport: Any, phone: str) -> UsbWire:
    import usb1

    try:
        transport.connect()
        sizes = [endpoint.getMaxPacketSize() for endpoint in transport._setting.iterEndpoints()]
        # Not by adb-shell's own bulk_read: that asks the phone for its serial number at every time-out.
        endpoints = transport._read_endpoint, transport._write_endpoint
        return UsbWire(transport._transport, endpoints, max(sizes), transport.close)
    except (usb1.USBError, OSError) as error:
        transport.close()
        raise _refused(error, phone) from None


def _refused(error: Exception, phone: str) -> DeviceError:
    """Say why a phone cannot be opened, and what to do."""
    import usb1

    if isinstance(error, usb1.USBErrorBusy):
        return DeviceError(
            f"{phone} is held by another program, most likely an adb server: adb kill-server ends it; or reach the "
            "phone through that server"
        )
    if isinstance(error, usb1.USBErrorAccess):
        return DeviceError(f"{phone} may not be opened by this user, {UDEV_RULE}")
    if isinstance(error, usb1.USBErrorNoDevice):
        return UnreachableError(f"{phone} left USB: is the cable in?")
    return DeviceError(f"{phone} cannot be opened over USB: {error}; plug it in again")


def _gone(error: Exception) -> ConnectionResetError:
    import usb1

    if isinstance(error, usb1.USBErrorNoDevice):
        return ConnectionResetError("the phone left USB: the cable was pulled, or the phone restarts")
    return ConnectionResetError(f"USB failed: {error}")


def printable(text: str | None) -> str:
    """Return what a device calls itself, without what could steer a terminal."""
    return "".join(c if c.isprintable() else "?" for c in text or "")[:100]
