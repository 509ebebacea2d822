"""Debian's real adbd for the tests: fetched into a cache, run in a network namespace of its own.

adbd listens on every interface and on vsock, and Debian's asks nobody for a key. So it gets a namespace with a loopback
only, a filter that refuses vsock, and a change that makes it ask; one port of this machine's loopback is forwarded into
it. As a program, this file is that cell: `python adbd.py LISTENER_FD PATH ADBD_COMMAND…`.
"""

import contextlib
import ctypes
import fcntl
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

from fbagents.errors import DeviceError
from fbagents.native import debian

SUITE = "trixie"  # adbd 34; the one before is older than the protocol's shell v2
PORT = 5555  # within the namespace
PATH = "/usr/bin:/bin"
NEWNET, SET_NO_NEW_PRIVS, SET_SECCOMP, SET_PDEATHSIG = 0x40000000, 38, 22, 1
AF_VSOCK, SIOCSIFFLAGS, IFF_UP, SYS_SOCKET = 40, 0x8914, 1, 41
LIBC = ctypes.CDLL(None, use_errno=True)


class UnavailableError(Exception):
    """There can be no adbd here; the message says why."""


def prepare() -> Path:
    """Return a folder with adbd and its libraries, fetched once. Raises UnavailableError."""
    if os.getuid() != 0 or os.uname().machine != "x86_64" or sys.platform != "linux":
        raise UnavailableError("needs root on x86-64 Linux, for a network namespace")
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fbnet-lab-tests" / f"adbd-{SUITE}"
    if folder.is_dir():
        return folder
    work = folder.with_name(f"{folder.name}.{os.getpid()}")
    try:
        debian.unpack(["adbd"], SUITE, "amd64", work, closure=True)
        with contextlib.suppress(OSError):  # another run may have been first
            work.rename(folder)
    except DeviceError as error:
        raise UnavailableError(f"adbd cannot be fetched: {error}") from None
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return folder


def demanding(root: Path, folder: Path) -> Path:
    """Return a copy of adbd that asks for a key as phones do, and knows those in the file `adb_keys` where it runs.

    Debian's build sets auth_required = false at start; in the copy that one store does nothing.
    """
    program = (root / "usr/lib/android-sdk/platform-tools/adbd").read_bytes()
    call = rb"\xe8.{4}"
    ignore_sigpipe, auth_required = rb"\xbe\x01\0\0\0\xbf\x0d\0\0\0" + call, rb"\x48\x8d\x05.{4}"
    pattern = rb"(%s%s%s)\xc6\0\0" % (ignore_sigpipe, call * 2, auth_required)
    changed, stores = re.subn(pattern, lambda found: found[1] + b"\x0f\x1f\0", program, flags=re.DOTALL)
    changed, names = re.subn(rb"\0/adb_keys\0", lambda _: b"\0adb_keys\0\0", changed)
    if (stores, names) != (1, 1):
        raise UnavailableError("another build of adbd: where it switches authentication off is not known")
    copy = folder / "adbd"
    copy.write_bytes(changed)
    copy.chmod(0o700)
    return copy


class Adbd:
    """A running adbd at 127.0.0.1:`port` that lets the keys in `folder`/adb_keys in; `path` is its commands' PATH."""

    def __init__(self, root: Path, folder: Path, path: str = PATH) -> None:
        libraries = root / "usr/lib/x86_64-linux-gnu"
        self._argv = [
            str(libraries / "ld-linux-x86-64.so.2"),
            *("--library-path", f"{libraries}:{libraries}/android"),
            str(demanding(root, folder)),
        ]
        self.folder = folder
        self._path = path
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port: int = probe.getsockname()[1]
        self.start()

    def start(self) -> None:
        """Start it, on the same port as before."""
        with socket.create_server(("127.0.0.1", self.port)) as listener:
            fd = listener.fileno()
            self._cell = subprocess.Popen(
                [sys.executable, __file__, str(fd), self._path, *self._argv],
                pass_fds=[fd],
                stdout=subprocess.PIPE,
                cwd=self.folder,
                start_new_session=True,
            )
        assert self._cell.stdout is not None
        line = self._cell.stdout.readline()
        if not line:
            self.stop()
            raise UnavailableError("a network namespace cannot be made here")
        self.pid = int(line)

    def signal(self, number: signal.Signals) -> None:
        """Send adbd itself a signal."""
        os.kill(self.pid, number)

    def stop(self) -> None:
        """End it and what is between it and this machine."""
        self._cell.kill()
        self._cell.wait()
        assert self._cell.stdout is not None
        self._cell.stdout.close()


def cell(listener: socket.socket, path: str, argv: list[str]) -> None:
    """Run adbd apart from every network, and forward connections to it until killed."""
    if LIBC.unshare(NEWNET) != 0:
        sys.exit(f"unshare: {os.strerror(ctypes.get_errno())}")
    with socket.socket() as control:
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", IFF_UP))
    refuse_vsock()
    adbd = subprocess.Popen(
        argv,
        env={"PATH": path, "ADBD_PORT": str(PORT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: LIBC.prctl(SET_PDEATHSIG, signal.SIGKILL),
    )
    for _ in range(200):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", PORT)):
            break
        time.sleep(0.02)
    sys.stdout.write(f"{adbd.pid}\n")
    sys.stdout.flush()
    while True:
        client, _ = listener.accept()
        try:
            server = socket.create_connection(("127.0.0.1", PORT))
        except OSError:
            client.close()
            continue
        for one, other in ((client, server), (server, client)):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=forward, args=(one, other), daemon=True).start()


def forward(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def refuse_vsock() -> None:
    """Let socket(AF_VSOCK, …) fail with EAFNOSUPPORT in this process and its children: no namespace covers it."""
    program = [
        (0x20, 0, 0, 0),  # load the system call's number
        (0x15, 0, 3, SYS_SOCKET),
        (0x20, 0, 0, 16),  # load its first argument
        (0x15, 0, 1, AF_VSOCK),
        (0x06, 0, 0, 0x00050000 | 97),  # errno
        (0x06, 0, 0, 0x7FFF0000),  # allow
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in program))
    fprog = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(program), ctypes.addressof(code)))
    if LIBC.prctl(SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 or LIBC.prctl(SET_SECCOMP, 2, fprog, 0, 0) != 0:
        sys.exit("vsock cannot be refused")
    with contextlib.suppress(OSError):
        socket.socket(AF_VSOCK).close()
        sys.exit("vsock is not refused")


if __name__ == "__main__":
    cell(socket.socket(fileno=int(sys.argv[1])), sys.argv[2], sys.argv[3:])
