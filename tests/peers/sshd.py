"""A real OpenSSH server of the tests' own; nothing of the user's own configuration is used."""

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fbagents.connect import load_profile
from fbagents.profile import Profile

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")

CONFIG = """
ListenAddress 127.0.0.1:{port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
SetEnv {variables}
{more}
"""


class Sshd:
    """A server with its own keys, and the client's files for it; nothing of the user's own configuration is used."""

    def __init__(self, folder: Path, more: str = "", **variables: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.log = folder / "sshd.log"
        for name in ("host_key", "key", "other_key"):
            make_key(folder / name)
        shutil.copy(folder / "key.pub", folder / "authorized_keys")
        (folder / "client_config").write_text("")
        self.trust(folder / "host_key")
        (folder / "home").mkdir()  # bash reads the .bashrc there at every command
        told = " ".join(f"{name}={value}" for name, value in {"HOME": folder / "home", **variables}.items())
        config = CONFIG.format(port=self.port, folder=folder, variables=told, more=more)
        (folder / "sshd_config").write_text(config)
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        self.start()

    def start(self) -> None:
        assert SSHD is not None
        argv = [SSHD, "-D", "-E", str(self.log), "-f", str(self.folder / "sshd_config")]
        self.process = subprocess.Popen(argv, start_new_session=True)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            time.sleep(0.02)
        pytest.fail(f"sshd did not start: {self.log.read_text()}")

    def stop(self) -> None:
        self.signal_sessions(signal.SIGKILL)
        self.process.kill()
        self.process.wait()

    def sessions(self) -> list[int]:
        """Return the processes that serve a connection."""
        return children(self.process.pid)

    def signal_sessions(self, number: signal.Signals) -> None:
        for pid in self.sessions():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def end_clients(self) -> None:
        """End the clients that keep a connection to this server open; the server is not told."""
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                words = path.read_bytes().split(b"\0")
                if b"ControlMaster=yes" in words and str(self.port).encode() in words:
                    os.kill(int(path.parent.name), signal.SIGTERM)

    def logins(self) -> int:
        return self.log.read_text().count("Accepted publickey")

    def trust(self, key: Path) -> None:
        public = key.with_suffix(".pub").read_text()
        (self.folder / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {public}")

    def profile(self, **changes: object) -> Profile:
        address = {
            "host": "127.0.0.1",
            "port": self.port,
            "user": getpass.getuser(),
            "key_file": str(self.folder / "key"),
            "config_file": str(self.folder / "client_config"),
            "known_hosts_file": str(self.folder / "known_hosts"),
        }
        fields = {
            "name": "board",
            "description": "this machine over ssh",
            "transport": "ssh",
            "address": address,
            "folder": str(self.folder / "device"),
            "python": sys.executable,
            "environment": load_profile("local").environment,
        }
        return Profile.model_validate(fields | changes)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def make_key(path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", path.name, "-f", str(path)], check=True)


def children(parent: int) -> list[int]:
    """Return a process's children, as /proc tells."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if stat.read_text().rpartition(")")[2].split()[1] == str(parent):
                found.append(int(stat.parent.name))
    return found
