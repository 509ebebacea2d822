"""Real peers for the tests of transports: an OpenSSH server of the test's own, and an emulated arm64 phone."""

import contextlib
import getpass
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fbagents.errors import DeviceError
from fbagents.profile import Profile, load_profile

sys.path.insert(0, str(Path(__file__).parent))
import phone
from unavailable import unavailable

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
{more}
"""


class Sshd:
    """A server with its own keys, and the client's files for it; nothing of the user's own configuration is used."""

    def __init__(self, folder: Path, more: str = "") -> None:
        self.folder = folder
        self.port = free_port()
        self.log = folder / "sshd.log"
        for name in ("host_key", "key", "other_key"):
            make_key(folder / name)
        shutil.copy(folder / "key.pub", folder / "authorized_keys")
        (folder / "client_config").write_text("")
        self.trust(folder / "host_key")
        (folder / "sshd_config").write_text(CONFIG.format(port=self.port, folder=folder, more=more))
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


@pytest.fixture
def new_sshd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Sshd]]:
    """Start servers; lines of sshd_config may be added."""
    if SSHD is None or shutil.which("ssh") is None:
        unavailable("needs OpenSSH's server and client: apt install openssh-server openssh-client")
    if not Path("/proc/self/stat").exists():
        unavailable("needs /proc to find the server's processes")
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    servers: list[Sshd] = []

    def new(more: str = "") -> Sshd:
        folder = tmp_path / f"sshd{len(servers)}"
        folder.mkdir()
        servers.append(Sshd(folder, more))
        return servers[-1]

    yield new
    for server in servers:
        server.stop()


@pytest.fixture
def sshd(new_sshd: Callable[..., Sshd]) -> Sshd:
    return new_sshd()


@pytest.fixture(scope="session")
def emulated_phone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[phone.Phone]:
    """The one phone of all tests, running; a test that breaks it repairs it."""
    try:
        image = phone.prepare()
    except DeviceError as error:
        unavailable(f"no emulated phone: {error}")
    device = phone.Phone(image, tmp_path_factory.mktemp("phone"))
    yield device
    device.stop()


@pytest.fixture
def program(tmp_path: Path) -> Callable[[str, str], Path]:
    """Write an executable shell script."""

    def write(name: str, body: str) -> Path:
        path = tmp_path / "programs" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\nreal={shlex.quote(sys.executable)}\n{body}\n")
        path.chmod(0o755)
        return path

    return write
