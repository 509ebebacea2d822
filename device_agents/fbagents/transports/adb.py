"""adb: an Android phone over TCP, by an adb server that runs already, or over USB; docs/adb.md says what it needs."""

from fbagents.phone import PhonePreparation
from fbagents.profile import PhoneConditions, Profile, check_address
from fbagents.transports._adb_address import Address
from fbagents.transports._adb_device import AdbConnection
from fbagents.transports._remote import RemoteTransport

DEFAULT_FOLDER = "/data/local/tmp/fbnet-lab"


def connect(profile: Profile) -> RemoteTransport:
    """Return a transport to the phone of the profile's address. Raises ProfileError; nothing is sent yet."""
    address = check_address(profile, Address)
    preparation = PhonePreparation(profile.name, profile.phone or PhoneConditions())
    return RemoteTransport(profile, AdbConnection(address), DEFAULT_FOLDER, preparation)
