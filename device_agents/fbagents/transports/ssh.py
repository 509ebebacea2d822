"""ssh: a board, phone or server reached by the OpenSSH client; docs/devices/ssh.md says what it needs."""

from typing import Any

from fbagents.posix.openssh import Address, OpenSsh
from fbagents.posix.remote import RemoteTransport
from fbagents.profile import Profile, check_address


class Ssh(RemoteTransport):
    """The host of a profile's address."""

    def __init__(self, profile: Profile) -> None:
        super().__init__(profile, OpenSsh(check_address(profile, Address)), ".cache/fbnet-lab")

    @classmethod
    def named(cls, where: str) -> dict[str, Any]:
        """Return the profile of `ssh:[USER@]HOST`: the native agent there."""
        user, _, host = where.rpartition("@")
        address = {"host": host} | ({"user": user} if user else {})
        return {"description": f"{where} over ssh", "agent": "native", "address": address}

    @classmethod
    def check(cls, profile: Profile, timeout_s: float) -> None:
        """Log in and out again. Raises DeviceError."""
        connection = OpenSsh(check_address(profile, Address), timeout_s)
        try:
            connection.ensure(patient=False)
        finally:
            connection.close()
