"""Files: others' are read only where they are regular and no larger than their kind is; ours are never half written.

What is written goes to the side and is moved: a reader sees the old content or the new one.
"""

import contextlib
import fcntl
import glob
import hashlib
import io
import os
import stat
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from fbbase.errors import FbError, StorageError

STDOUT = Path("-")
"""What an output is called that goes to stdout."""

TEXT_BYTES = 64 << 20
"""No text file that is read whole is larger: tables, networks, lines of metrics."""
ARRAY_BYTES = 64 << 30
"""No file of weights or images is larger."""
UNPACKED = 200
"""What is packed may unpack to so many times its size: more is a bomb, and beyond SLACK_BYTES it is refused."""
SLACK_BYTES = 64 << 20

LEFT_S = 60
"""A file that nobody holds may have been made a moment ago and be locked in the next."""

_KINDS = {
    b"PAR1": "a Parquet file",
    b"PK": "a zip archive",
    b"\x93NUMPY": "an .npy file of one array",
    b"\x1f\x8b": "packed by gzip",
    b"\xfd7zXZ": "packed by xz",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"\x89HDF": "an HDF5 file",
    b"%PDF": "a PDF",
}
"""What a file is by its first bytes."""


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's refusal to write `path` into a `StorageError`."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from error


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Open a file beside `path` for writing; on success sync it and move it to `path`, on failure remove it.

    Missing parent folders are made. A link is followed: what it leads to is replaced. What is no regular file, such as
    a device or a pipe, is written into, and `-` is stdout. Raises StorageError when the disk is full or the folder is
    not writable.
    """
    path = Path(path)
    if path == STDOUT:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    with storage_errors(path):
        try:
            target = Path(os.path.realpath(path))
        except ValueError as error:
            raise StorageError(f"cannot write {str(path)!r}, which is no file name: {error}") from None
        if target.exists() and not target.is_file():
            with target.open("wb") as file:
                yield file
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        prefix = f".{target.name[:50]}."
        _remove_left(target.parent, prefix)
        handle, name = tempfile.mkstemp(prefix=prefix, dir=target.parent)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            os.fchmod(handle, 0o666 & ~_umask())
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(target)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                Path(name).unlink()
            raise


def _remove_left(folder: Path, prefix: str) -> None:
    """Remove what killed processes left of files that they wrote: nobody holds its lock, and it is not just begun."""
    for left in folder.glob(f"{glob.escape(prefix)}????????"):
        with contextlib.suppress(OSError), left.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if time.time() - left.stat().st_mtime > LEFT_S:
                left.unlink()


def write_bytes(path: Path, content: bytes) -> None:
    """Replace `path` by `content` in one step."""
    with atomic_write(path) as file:
        file.write(content)


def write_text(path: Path, content: str) -> None:
    """Replace `path` by `content` (UTF-8) in one step."""
    write_bytes(path, content.encode(errors="backslashreplace"))


def is_stream(path: Path) -> bool:
    """Whether an output is stdout, a device or a pipe: it holds nothing, and no other file can lie beside it."""
    with storage_errors(path):
        return path == STDOUT or (path.exists() and not path.is_file() and not path.is_dir())


def is_one_file(output: Any, given: str | Path) -> bool:
    """Whether what is to be written is a file that was given, by whatever names."""
    try:
        return os.path.isfile(given) and os.path.samefile(output, given)  # noqa: PTH113, PTH121 - names of any kind
    except (OSError, ValueError):
        return False


def refuse_stream(path: Path) -> None:
    """Raise FbError for an output beside which a journal is to lie, and which is no file."""
    if is_stream(path):
        raise FbError(f"-o {path} is no file, and a journal is kept beside the output: name one")


@contextlib.contextmanager
def open_regular(path: Path, what: str, most_bytes: int, error: type[FbError] = FbError) -> Iterator[BinaryIO]:
    """Open a file that somebody gave; `what` names it in the error ("latency table", "architecture file").

    Raises `error` where there is none, where it is no regular file, which might never end, or larger than its kind is.
    """
    try:
        if Path(path).is_dir():
            raise error(f"{what} expected, but {path} is a folder")
        file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    except FileNotFoundError:
        raise error(f"{what} not found: {path}") from None
    except OSError as reason:
        raise error(f"cannot read {what} {path}: {reason.strerror}") from reason
    except ValueError as reason:
        raise error(f"{what} not found: {str(path)!r} is no file name: {reason}") from None
    with file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise error(f"{what} expected, but {path} is no regular file: copy what it gives into one")
        if status.st_size > most_bytes:
            size_mb = f"{status.st_size / 1e6:.0f} MB, at most {most_bytes / 1e6:.0f} MB are read"
            raise error(f"{path} is too large for a {what}: {size_mb}")
        try:
            yield file
        except OSError as reason:
            raise error(f"cannot read {what} {path}: {reason.strerror or reason}") from reason


def read_bytes(path: Path, what: str, most_bytes: int = TEXT_BYTES, error: type[FbError] = FbError) -> bytes:
    """Return the content of a file. Raises as `open_regular` does."""
    with open_regular(path, what, most_bytes, error) as file:
        content = file.read(most_bytes + 1)
        if len(content) > most_bytes:
            raise error(f"{path} is too large for a {what}: at most {most_bytes / 1e6:.0f} MB are read")
        return content


def read_text(path: Path, what: str, most_bytes: int = TEXT_BYTES, error: type[FbError] = FbError) -> str:
    """Return the text of a file, without a byte-order mark, its lines ended by newlines. Raises as `read_bytes` does.

    Raises `error` for what is not UTF-8, too, and says what it is.
    """
    content = read_bytes(path, what, most_bytes, error)
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise error(f"{path} is not a text file in UTF-8 but in UTF-16: save it as UTF-8")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as reason:
        found = kind_of(content)
        is_kind = f": it is {found}" if found else f": byte {reason.start} is not UTF-8"
        raise error(f"{path} is not a text file{is_kind}") from None
    return io.StringIO(text, newline=None).read()


def kind_of(head: bytes) -> str:
    """Return what a file is by its first bytes, e.g. `a Parquet file`; empty where they do not tell."""
    return next((kind for magic, kind in _KINDS.items() if head.startswith(magic)), "")


def check_archive(file: BinaryIO) -> list[str]:
    """Check every member of a zip archive: its checksum, and that it does not unpack to far more than the file holds.

    Return their names; the file is at its beginning then. Raises zipfile.BadZipFile that names the member, and what
    unpacking raises.
    """
    size_bytes = file.seek(0, os.SEEK_END)
    with zipfile.ZipFile(file) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > UNPACKED * size_bytes + SLACK_BYTES:
            raise zipfile.BadZipFile(
                f"it unpacks to {unpacked / 1e6:.0f} MB, {unpacked / size_bytes:.0f} times its size"
            )
        damaged, names = archive.testzip(), archive.namelist()
    if damaged is not None:
        raise zipfile.BadZipFile(f"{damaged} is damaged: its checksum is another")
    file.seek(0)
    return names


def file_sha256(path: Path) -> str:
    """Return a file's SHA-256 in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _umask() -> int:
    """Return the process's umask (which can only be read by setting it)."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
