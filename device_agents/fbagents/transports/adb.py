"""adb: an Android phone over TCP, by a running adb server, or over USB; docs/devices/adb.md says what it needs."""

import socket

from fbagents.adb.address import Address
from fbagents.adb.connection import AdbConnection
from fbagents.adb.phones import Attached
from fbagents.adb.route import Route, usb
from fbagents.android.phone import PhonePreparation
from fbagents.errors import DeviceError, UnreachableError
from fbagents.posix.remote import RemoteTransport
from fbagents.profile import PhoneConditions, Profile, check_address

DEFAULT_FOLDER = "/data/local/tmp/fbnet-lab"


def connect(profile: Profile) -> RemoteTransport:
    """Return a transport to the phone of the profile's address. Raises ProfileError; nothing is sent yet."""
    address = check_address(profile, Address)
    preparation = PhonePreparation(profile.name, profile.phone or PhoneConditions())
    return RemoteTransport(profile, AdbConnection(address), DEFAULT_FOLDER, preparation)


def attached() -> list[Attached]:
    """Return the phones of the adb server that answers here, or else those on USB. Raises DeviceError."""
    server = Route(Address()).server()
    return usb() if server is None else server.phones()


def check(profile: Profile, timeout_s: float) -> None:
    """Raise DeviceError unless the phone is there and could be asked; it is not, so that it shows no dialog."""
    address = check_address(profile, Address)
    if address.host is not None:
        try:
            socket.create_connection((address.host, address.port), timeout=timeout_s).close()
        except OSError as error:
            raise UnreachableError(f"nothing answers at {address}: {error.strerror or error}") from None
        return
    route = Route(address, timeout_s)
    try:
        phone = route.find()
    finally:
        route.close()
    if not phone.is_usable:
        raise DeviceError(f"{phone.serial} is {phone.state}: {phone.remedy}")
