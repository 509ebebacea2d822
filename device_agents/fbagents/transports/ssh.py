"""ssh: a board, phone or server reached by the OpenSSH client; docs/devices/ssh.md says what it needs."""

from fbagents.posix.openssh import Address, OpenSsh
from fbagents.posix.remote import RemoteTransport
from fbagents.profile import Profile, check_address

DEFAULT_FOLDER = ".cache/fbnet-lab"


def connect(profile: Profile) -> RemoteTransport:
    """Return a transport to the host of the profile's address. Raises ProfileError; nothing is sent yet."""
    address = check_address(profile, Address)
    return RemoteTransport(profile, OpenSsh(address), DEFAULT_FOLDER)


def check(profile: Profile, timeout_s: float) -> None:
    """Log in and out again. Raises DeviceError."""
    connection = OpenSsh(check_address(profile, Address), timeout_s)
    try:
        connection.ensure(patient=False)
    finally:
        connection.close()
