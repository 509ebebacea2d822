"""Arrays of others: .npy and .npz files, of which a few bytes may say that they hold petabytes."""

import math
import os
import struct
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np
import numpy.typing as npt

from fbbase.errors import FbError
from fbbase.files import ARRAY_BYTES, check_archive, kind_of, open_regular

Array = npt.NDArray[Any]

DECODING_FAULTS = (
    ArithmeticError, AttributeError, EOFError, LookupError, MemoryError, NotImplementedError, OSError, RecursionError,
    RuntimeError, SyntaxError, TypeError, ValueError, struct.error, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What readers of binary formats raise for bytes that are none: they trip wherever these lead them."""


def read_array(path: Path, what: str, error: type[FbError]) -> Array:
    """Return the array of an .npy file. Raises `error` for what is none; executes nothing, and allocates no more."""
    with open_regular(path, what, ARRAY_BYTES, error) as file:
        try:
            _refuse_other(file, b"\x93NUMPY")
            return _array(file, file.seek(0, os.SEEK_END))
        except DECODING_FAULTS as reason:
            raise error(f"{path} is not an .npy file of numbers: {_why(reason)}") from None


def read_arrays(path: Path, what: str, error: type[FbError]) -> dict[str, Array]:
    """Return the arrays of an .npz file by name. Raises as `read_array` does."""
    with open_regular(path, what, ARRAY_BYTES, error) as file:
        try:
            _refuse_other(file, b"PK")
            check_archive(file)
            found = {}
            with zipfile.ZipFile(file) as archive:
                for member in archive.infolist():
                    name = member.filename.removesuffix(".npy")
                    if name in found:
                        raise ValueError(f"array {name!r:.80} is there twice")
                    with archive.open(member) as content:
                        found[name] = _array(content, member.file_size)
            return found
        except DECODING_FAULTS as reason:
            raise error(f"{path} is not an .npz file of plain arrays: {_why(reason)}") from None


def _refuse_other(file: BinaryIO, magic: bytes) -> None:
    """Raise ValueError that says what a file is that does not begin as it should."""
    head = file.read(16)
    if not head.startswith(magic):
        raise ValueError(f"it is {kind_of(head) or 'of another kind'}" if head else "it is empty")


def _array(file: IO[bytes], size_bytes: int) -> Array:
    """Read an array whose header says no more than there is. Raises ValueError, and what NumPy raises."""
    file.seek(0)
    is_first = np.lib.format.read_magic(file) == (1, 0)
    shape, _, dtype = (np.lib.format.read_array_header_1_0 if is_first else np.lib.format.read_array_header_2_0)(file)
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which could run code and are not read")
    if math.prod(shape) * dtype.itemsize > size_bytes:
        raise ValueError(f"it says that it holds {shape} of {dtype}, and is cut short")
    file.seek(0)
    array: Array = np.lib.format.read_array(file, allow_pickle=False)
    return array


def _why(reason: BaseException) -> str:
    """Return the reason, without a library's advice to trust the file."""
    first = (str(reason).splitlines() or [""])[0]
    if "allow_pickle" in first or isinstance(reason, tokenize.TokenError | SyntaxError | RecursionError | MemoryError):
        return "its header is none that NumPy writes"
    return first[:200] or "it is cut short"
