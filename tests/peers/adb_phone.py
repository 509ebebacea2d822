"""A phone over adb: a real adbd, and the way to it, over TCP or by an adb server."""

import sys

from fbagents.adb.address import Address
from fbagents.adb.connection import AdbConnection
from fbagents.adb.link import Timeouts
from fbagents.connect import load_profile
from fbagents.profile import Profile, check_address
from peers.adb_server import AdbServer
from peers.adbd import Adbd

IMPATIENT = Timeouts(quiet_s=0.2, answer_s=0.5, handshake_s=1.0, dialog_s=0.5)
"""For tests of what is silent for longer than a phone may be."""


class Phone:
    """adbd, the folder that it gets things into, and the profile by which it is reached; `name` is in messages."""

    def __init__(self, adbd: Adbd, server: AdbServer | None = None) -> None:
        self.adbd, self.server = adbd, server
        self.device = adbd.folder / "device"
        self.known_keys = adbd.folder / "adb_keys"
        self.serial = f"127.0.0.1:{adbd.port}"
        self.name = f"127.0.0.1 port {adbd.port}" if server is None else f"the phone {self.serial} (adb server"

    def profile(self, **changes: object) -> Profile:
        """Return the profile by which it is reached, with the Python agent."""
        address = {"host": "127.0.0.1", "port": self.adbd.port} if self.server is None else {}
        fields = {
            "name": "phone",
            "description": "adbd on this machine",
            "transport": "adb",
            "address": address,
            "folder": str(self.device),
            "python": sys.executable,
            "environment": load_profile("local").environment,
        }
        return Profile.model_validate(fields | changes)

    def connection(self, timeouts: Timeouts | None = None) -> AdbConnection:
        """Connect to it."""
        connection = AdbConnection(check_address(self.profile(), Address), timeouts)
        connection.ensure()
        return connection

    def restart(self) -> None:
        """Let adbd end and start again; the server sees it go and come."""
        self.adbd.stop()
        self.start()

    def start(self) -> None:
        """Start adbd again where it was stopped."""
        self.adbd.start()
        if self.server is not None:
            self.server.attach(self.adbd)
