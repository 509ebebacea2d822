"""Locks: one process at a time writes a file; whoever ends, in whatever way, releases what it held."""

import fcntl
import os
from pathlib import Path

from fbbase.errors import FbError
from fbbase.files import storage_errors


class HeldError(FbError):
    """Another process is writing a file."""


def open_locked(path: Path) -> int:
    """Open a file for reading and writing, which no other process may do until the handle is closed; make it if needed.

    Raises HeldError where another process holds it, StorageError where it cannot be opened.
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
            raise HeldError(f"{holder} is writing {path}; wait for it, or choose another output") from None
        if path.exists() and os.path.samestat(os.fstat(handle), path.stat()):
            return handle
        os.close(handle)  # it was moved away in between


def _holder(inode: int) -> str:
    """Return who holds the lock of a file, as far as the system tells (Linux)."""
    try:
        locks = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
        pid = next(words[4] for words in locks if words[1] == "FLOCK" and words[5].rpartition(":")[2] == str(inode))
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, StopIteration, IndexError):
        return "another process"
    return f"process {pid} ({' '.join(word.decode(errors='replace') for word in words if word)[:200]})"
