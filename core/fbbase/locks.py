"""Locks: one process at a time writes a file or has a folder; whoever ends, in whatever way, releases what it held."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from fbbase.errors import FbError
from fbbase.files import storage_errors

SCRATCH = "fbprof-"
"""How the folders of runs begin, in the system's folder for temporary files."""
_LOCK, _FILES = ".lock", "files"


class HeldError(FbError):
    """Another process is writing a file."""


def open_locked(path: Path, output: Path | None = None) -> int:
    """Open a file for reading and writing, which no other process may do until the handle is closed; make it if needed.

    `output` is what errors say is written, the file unless given. Raises HeldError where another process holds it,
    StorageError where it cannot be opened.
    """
    while True:
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = _holder(os.fstat(handle).st_ino)
            os.close(handle)
            raise HeldError(f"{holder} is writing {output or path}; wait for it, or choose another output") from None
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), path.stat()):
                return handle
        os.close(handle)  # it was moved away in between


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """Yield a folder for this run's own files, removed at its end, or by the next run where this one was killed."""
    place = Path(tempfile.gettempdir())
    for left in place.glob(f"{SCRATCH}*/{_LOCK}"):
        with contextlib.suppress(OSError), left.open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # refused while its owner lives
            shutil.rmtree(left.parent / _FILES, ignore_errors=True)
            shutil.rmtree(left.parent)
    with tempfile.TemporaryDirectory(prefix=SCRATCH) as folder, (Path(folder) / f"{_LOCK}.new").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        Path(lock.name).rename(Path(folder) / _LOCK)  # nobody finds it before it is held
        files = Path(folder) / _FILES
        files.mkdir()
        try:
            yield files
        finally:
            shutil.rmtree(files, ignore_errors=True)  # the lock goes last: by it a kill's leavings are known


def _holder(inode: int) -> str:
    """Return who holds the lock of a file, as far as the system tells (Linux)."""
    try:
        locks = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
        pid = next(words[4] for words in locks if words[1] == "FLOCK" and words[5].rpartition(":")[2] == str(inode))
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, StopIteration, IndexError):
        return "another process"
    command = " ".join(b" ".join(words).decode(errors="replace").split())
    return f"process {pid} ({command[:100]})"
