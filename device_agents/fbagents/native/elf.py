"""Reads what a program or library for Linux asks of others: libraries, their symbol versions, the machine it is for."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fbagents.errors import DeviceError

MACHINES = {62: "x86_64", 183: "aarch64"}
PT_LOAD, PT_DYNAMIC = 1, 2
DT_NEEDED, DT_STRTAB = 1, 5
DT_VERDEF, DT_VERDEFNUM, DT_VERNEED, DT_VERNEEDNUM = 0x6FFFFFFC, 0x6FFFFFFD, 0x6FFFFFFE, 0x6FFFFFFF
WEAK = 2


@dataclass(frozen=True, slots=True)
class Elf:
    """`libraries` are needed; `needs` are (library, symbol version) pairs, `provides` the versions it defines."""

    machine: str
    libraries: tuple[str, ...]
    needs: frozenset[tuple[str, str]]
    provides: frozenset[str]


def read_elf(path: Path) -> Elf:
    """Return what a 64-bit little-endian ELF file needs and provides. Raises DeviceError if it is not one."""
    content = path.read_bytes()
    if content[:6] != b"\x7fELF\x02\x01":
        raise DeviceError(f"{path} is no 64-bit program or library for Linux")
    try:
        return _Reader(content).elf()
    except (struct.error, IndexError, ValueError, KeyError) as error:
        raise DeviceError(f"{path} is a damaged program or library: {error!r}") from error


class _Reader:
    def __init__(self, content: bytes) -> None:
        self._content = content
        (self._machine,) = struct.unpack_from("<H", content, 18)
        (table,) = struct.unpack_from("<Q", content, 32)
        size, count = struct.unpack_from("<HH", content, 54)
        # of each program header: type, offset in the file, address, size in the file
        headers = [struct.unpack_from("<I4xQQ8xQ", content, table + size * index) for index in range(count)]
        self._loaded = [header[1:] for header in headers if header[0] == PT_LOAD]
        self._dynamic: list[tuple[int, int]] = []
        for offset, _, length in (header[1:] for header in headers if header[0] == PT_DYNAMIC):
            self._dynamic = [struct.unpack_from("<qQ", content, at) for at in range(offset, offset + length, 16)]
        self._values = dict(self._dynamic)

    def elf(self) -> Elf:
        libraries = tuple(self._text(value) for tag, value in self._dynamic if tag == DT_NEEDED)
        machine = MACHINES.get(self._machine, f"machine {self._machine}")
        return Elf(machine, libraries, frozenset(self._needs()), frozenset(self._provides()))

    def _needs(self) -> Iterator[tuple[str, str]]:
        for at, (_, count, file, first) in self._chain(DT_VERNEED, DT_VERNEEDNUM, "<HHII", 12):
            entry = at + first
            for _ in range(count):
                flags, name, step = struct.unpack_from("<4xH2xII", self._content, entry)
                if not flags & WEAK:
                    yield self._text(file), self._text(name)
                entry += step

    def _provides(self) -> Iterator[str]:
        for at, (_, _, _, _, _, first) in self._chain(DT_VERDEF, DT_VERDEFNUM, "<HHHHII", 16):
            (name,) = struct.unpack_from("<I", self._content, at + first)
            yield self._text(name)

    def _chain(self, tag: int, count_tag: int, layout: str, next_at: int) -> Iterator[tuple[int, tuple[int, ...]]]:
        """Yield where each record of a chain lies, and its fields."""
        if tag not in self._values:
            return
        at = self._offset(self._values[tag])
        for _ in range(self._values[count_tag]):
            yield at, struct.unpack_from(layout, self._content, at)
            at += struct.unpack_from("<I", self._content, at + next_at)[0]

    def _text(self, at: int) -> str:
        start = self._offset(self._values[DT_STRTAB]) + at
        return self._content[start : self._content.index(b"\0", start)].decode()

    def _offset(self, address: int) -> int:
        """Return where in the file lies what is at an address when loaded."""
        for offset, start, length in self._loaded:
            if start <= address < start + length:
                return int(offset + address - start)
        raise ValueError(f"no segment at {address:#x}")
