"""A real adb server for the tests: the program that adbutils brings, on a port and with a home of its own."""

import contextlib
import functools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from fbagents.adb.keys import make_key
from peers import adbd as peer
from peers.runs import wait_until


@functools.cache
def key_pair() -> tuple[bytes, bytes]:
    """Return a key and its public half, made once: that takes seconds."""
    with tempfile.TemporaryDirectory() as folder:
        make_key(Path(folder) / "adbkey")
        return (Path(folder) / "adbkey").read_bytes(), (Path(folder) / "adbkey.pub").read_bytes()


class AdbServer:
    """A running adb server at 127.0.0.1:`port` that looks for no phones by itself; its key is in `home`."""

    def __init__(self, folder: Path) -> None:
        import adbutils

        self.program = Path(adbutils.__file__).parent / "binaries" / "adb"
        if not self.program.exists():
            raise peer.UnavailableError("adbutils brings no adb program for this machine")
        self.home = folder / "adb-home"
        self.key = self.home / ".android" / "adbkey"
        self.key.parent.mkdir(mode=0o700, parents=True)
        for suffix, content in zip(("", ".pub"), key_pair(), strict=True):
            Path(f"{self.key}{suffix}").write_bytes(content)
        self.key.chmod(0o600)
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port: int = probe.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        self._environment = {
            "HOME": str(self.home),
            "TMPDIR": str(self.home),
            "ADB_USB": "0",
            "ADB_MDNS": "0",
            "ADB_MDNS_AUTO_CONNECT": "",
        }
        self.start()

    def start(self) -> None:
        with (self.home / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [self.program, "-P", str(self.port), "nodaemon", "server"],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_until(self._listens, 10, "the adb server starts")

    def adb(self, *arguments: str) -> str:
        """Run adb with this server; never starts another."""
        argv = [self.program, "-P", str(self.port), *arguments]
        return subprocess.run(
            argv, env=self._environment, capture_output=True, text=True, timeout=30, check=False
        ).stdout

    def attach(self, phone: peer.Adbd, state: str = "device") -> str:
        """Let the server connect to an adbd; return its serial there."""
        serial = f"127.0.0.1:{phone.port}"
        self.adb("connect", serial)
        wait_until(lambda: f"{serial}\t{state}" in self.adb("devices"), 10, f"{serial} is {state}")
        return serial

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.process.pid, number)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()

    def _listens(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False


@contextlib.contextmanager
def adb_server(folder: Path) -> Iterator[AdbServer]:
    """A server that ends with the test. Raises UnavailableError."""
    server = AdbServer(folder)
    try:
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def phones(root: Path, folder: Path, server: AdbServer, count: int = 1) -> Iterator[list[peer.Adbd]]:
    """Phones that know the server's key, not attached yet; `root` holds adbd. Raises UnavailableError."""
    with contextlib.ExitStack() as stack:
        running = []
        for number in range(count):
            home = folder / f"phone{number}"
            home.mkdir()
            shutil.copy(f"{server.key}.pub", home / "adb_keys")
            running.append(peer.Adbd(root, home))
            stack.callback(running[-1].stop)
        yield running
