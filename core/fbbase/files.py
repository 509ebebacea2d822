"""Files are written to the side and moved: a reader sees the old content or the new one, never half of it."""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from fbbase.errors import FbError, StorageError


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

    Missing parent folders are made. Raises StorageError when the disk is full or the folder is not writable.
    """
    path = Path(path)
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            os.fchmod(handle, 0o666 & ~_umask())
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                Path(name).unlink()
            raise


def write_bytes(path: Path, content: bytes) -> None:
    """Replace `path` by `content` in one step."""
    with atomic_write(path) as file:
        file.write(content)


def write_text(path: Path, content: str) -> None:
    """Replace `path` by `content` (UTF-8) in one step."""
    write_bytes(path, content.encode())


def read_text(path: Path, what: str) -> str:
    """Return the text of `path`; `what` names it in the error ("latency table", "architecture file")."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise FbError(f"{what} not found: {path}") from None
    except IsADirectoryError:
        raise FbError(f"{what} expected, but {path} is a folder") from None
    except UnicodeDecodeError as error:
        raise FbError(f"{path} is not a text file: byte {error.start} is not UTF-8") from None
    except OSError as error:
        raise FbError(f"cannot read {what} {path}: {error.strerror}") from error


def file_sha256(path: Path) -> str:
    """Return a file's SHA-256 in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _umask() -> int:
    """Return the process's umask (which can only be read by setting it)."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
