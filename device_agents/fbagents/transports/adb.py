"""adb: an Android phone over TCP, by a running adb server, or over USB; docs/devices/adb.md says what it needs."""

from typing import Any

from fbagents.adb.address import Address
from fbagents.adb.connection import AdbConnection
from fbagents.adb.route import Route
from fbagents.adb.wire import connected
from fbagents.android.phone import PhonePreparation
from fbagents.errors import DeviceError, UnreachableError
from fbagents.posix.connection import COMMAND_TIMEOUT_S, Connection
from fbagents.posix.remote import RemoteTransport
from fbagents.profile import PhoneConditions, Profile, check_address
from fbagents.transport import Attached

IDENTITY = "getprop ro.serialno 2>/dev/null; cat /proc/sys/kernel/random/boot_id"
"""A serial alone is not enough, as makers give one to many phones."""


class Adb(RemoteTransport):
    """The phone of a profile's address."""

    has_phone_settings = True

    def __init__(self, profile: Profile) -> None:
        super().__init__(profile, AdbConnection(check_address(profile, Address)), "/data/local/tmp/fbnet-lab")
        self._phone = PhonePreparation(profile.name, profile.phone or PhoneConditions())

    @classmethod
    def named(cls, where: str) -> dict[str, Any]:
        """Return the profile of the attached phone `adb:SERIAL`: the native agent on its big cores."""
        description = f"the attached phone {where}"
        return {"description": description, "agent": "native", "cores": "big", "address": {"serial": where}}

    @classmethod
    def attached(cls) -> list[Attached]:
        """Return the phones of the adb server that answers here, or else those on USB. Raises DeviceError."""
        return Route(Address()).phones()[0]

    @classmethod
    def identity(cls, device: Attached) -> str:
        """Ask a phone of an adb server, which may list it over USB and a network; on USB each is there once."""
        if not device.server:
            return ""
        connection = AdbConnection(Address(serial=device.name))
        try:
            connection.ensure()
            return connection.run(IDENTITY, timeout_s=COMMAND_TIMEOUT_S).stdout.strip()
        except DeviceError:
            return ""
        finally:
            connection.close()

    @classmethod
    def check(cls, profile: Profile, timeout_s: float) -> None:
        """Raise DeviceError unless the phone is there and could be asked; it is not, so that it shows no dialog."""
        route = Route(check_address(profile, Address), tunnel_timeout_s=timeout_s)
        try:
            if (place := route.tcp()) is not None:
                try:
                    connected(*place, timeout_s).close()
                except OSError as error:
                    where = f"{place[0]} port {place[1]}"
                    raise UnreachableError(f"nothing answers at {where}: {error.strerror or error}") from None
                return
            phone = route.find()
        finally:
            route.close()
        if not phone.is_usable:
            raise DeviceError(f"{phone.serial} is {phone.state}: {phone.remedy}")

    def _begin(self, connection: Connection, folder: str) -> None:
        self._phone.begin(connection, folder)

    def _end(self) -> None:
        self._phone.end()
