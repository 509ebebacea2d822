"""Pieces: which parts of a file are on a device already, as parts of files that were sent before.

An operator has the same weights alone and in every network, so most of a network is there before it is sent. Content is
cut where it says so itself, behind a mark of two bytes, and not at fixed offsets: the same weights give the same cuts
wherever in a file they lie. Nothing here has to be trusted: the agent compares the hash of what it puts together.
"""

import functools
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

MARK = re.compile(rb"\x5e[\x00-\x0f]")
"""It occurs in random float32 weights every 6.6 kB: rare enough to be quick, and what lies between two tensors and has
to be sent with their ends stays small."""
MAX_PIECES = 10_000
"""What an agent takes (docs/devices/agent-protocol.md)."""


class Stretch(NamedTuple):
    """Content between two marks: its length, and a hash to look it up by."""

    length: int
    hash: int


class Piece(NamedTuple):
    """So many bytes of a file on the device from an offset on; without a path, of the file that is sent."""

    path: str | None
    offset: int
    length: int


class Write(Protocol):
    """What a running agent offers: see AgentClient.write."""

    def __call__(self, path: str, sha256: str, pieces: Sequence[Piece], following: bytes) -> None:
        """Write a file there. Raises AgentReplyError where it cannot be written, or has not this hash."""


class Content:
    """A file that may be sent; whoever asks first finds out its hash and stretches, for all devices."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @functools.cached_property
    def known(self) -> tuple[str, list[Stretch]]:
        """The file's SHA-256 and its stretches in order."""
        data = self.path.read_bytes()
        return hashlib.sha256(data).hexdigest(), cut(data)

    def sent(self, pieces: Sequence[Piece]) -> bytes:
        """Return what has to be sent of the file: the content of the pieces that are nowhere else."""
        parts = []
        with self.path.open("rb") as file:
            for piece in pieces:
                if piece.path is None:
                    file.seek(piece.offset)
                    parts.append(file.read(piece.length))
        return b"".join(parts)


def cut(data: bytes) -> list[Stretch]:
    """Cut content behind its marks."""
    ends = [mark.end() for mark in MARK.finditer(data)]
    if not ends or ends[-1] < len(data):
        ends.append(len(data))
    view = memoryview(data)
    return [Stretch(end - start, hash(view[start:end])) for start, end in zip([0, *ends], ends, strict=False)]


class Places:
    """Where on a device the content lies that was sent to it."""

    def __init__(self) -> None:
        self._places: dict[Stretch, tuple[str, int]] = {}

    def pieces(self, stretches: Sequence[Stretch]) -> list[Piece]:
        """Return a file as pieces of what is there, and of what has to be sent."""
        pieces: list[Piece] = []
        start = 0
        for stretch in stretches:
            path, offset = self._places.get(stretch, (None, start))
            last = pieces[-1] if pieces else None
            if last and last.path == path and last.offset + last.length == offset:
                pieces[-1] = Piece(path, last.offset, last.length + stretch.length)
            else:
                pieces.append(Piece(path, offset, stretch.length))
            start += stretch.length
        return pieces if len(pieces) <= MAX_PIECES else [Piece(None, 0, start)]

    def add(self, path: str, stretches: Sequence[Stretch]) -> None:
        """Remember a file that was sent."""
        start = 0
        for stretch in stretches:
            self._places.setdefault(stretch, (path, start))
            start += stretch.length

    def forget(self) -> None:
        """Forget everything: something there is not as it was."""
        self._places.clear()
