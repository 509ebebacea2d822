"""Errors of fbmodel: a model file that cannot be read, set to shapes or cut, exit code 2."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from fbbase.arrays import DECODING_FAULTS
from fbbase.errors import FbError


class ModelError(FbError):
    """A model file that is none, or cannot be what is asked of it; the message names the file and what is wrong."""


@contextlib.contextmanager
def decoding(path: Path, what: str, *faults: type[Exception]) -> Iterator[None]:
    """Tell as a ModelError what reading a damaged file trips over; `faults` are those of the reader's own library."""
    caught: tuple[type[Exception], ...] = (*DECODING_FAULTS, *faults)
    try:
        yield
    except caught as reason:
        first = (str(reason).strip().splitlines() or [""])[0][:200]
        raise ModelError(f"{path} is no {what}, or a damaged one: {first or type(reason).__name__}") from None


@contextlib.contextmanager
def named(path: Path) -> Iterator[None]:
    """Put the file's name before what is wrong with it."""
    try:
        yield
    except ModelError as error:
        text = str(error)
        raise ModelError(text if text.startswith(str(path)) else f"{path}: {text}") from None
