"""The root of every package's error tree; the exit code is part of the error.

FbError                    2  usage or configuration
├── UnknownNameError       2  a name that is none of the known ones
├── CheckError             1  a check was made and failed
├── UndecidedError         4  a check was made, and what it was given cannot tell
├── StorageError           3  a file could not be written (disk full, no permission)
└── PartialError           4  stopped half-way; the same command continues
"""

import difflib
from collections.abc import Iterable
from typing import ClassVar


class FbError(Exception):
    """An error whose message tells a person what happened, where, and what to do next."""

    exit_code: ClassVar[int] = 2


class CheckError(FbError):
    """A check ran and its answer is no."""

    exit_code = 1


class UndecidedError(FbError):
    """A check ran, and what it was given does not tell yes from no."""

    exit_code = 4


class StorageError(FbError):
    """A file could not be written; what was there before is untouched."""

    exit_code = 3


class PartialError(FbError):
    """The work stopped half-way and the same command continues it."""

    exit_code = 4


class UnknownNameError(FbError):
    """A name that is none of the known ones; the message lists them and suggests the nearest."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        hint = suggestion(name, names)
        super().__init__(f"unknown {kind} {name!r}.{hint} Known: {', '.join(names) or 'none'}")


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return ` Did you mean 'x'?` for the nearest known name, and nothing where none is near."""
    nearest = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean {nearest[0]!r}?" if nearest else ""
