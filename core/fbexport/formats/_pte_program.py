"""An ExecuTorch program of one method that is one call of the XNNPACK delegate (executorch/schema/program.fbs)."""

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fbexport.formats._pte_tables import Fields, Tables

_FLOAT = 6
_TENSOR, _DELEGATE_CALL = 5, 2
_SEGMENT = 1
_SEGMENT_ALIGNMENT = 128
_TENSOR_ALIGNMENT = 64
_HEADER_BYTES = 32


@dataclass(frozen=True, slots=True)
class End:
    """A float32 tensor that goes in or comes out: its sizes, and its dimensions as they lie in memory."""

    shape: tuple[int, ...]
    order: tuple[int, ...]


def program(
    inputs: Sequence[End], outputs: Sequence[End], delegate: bytes, named: Sequence[tuple[str, bytes]]
) -> bytes:
    """Return a .pte file; `named` are constants that the delegate asks the program for by name."""
    # The first is for constants, and without one runtimes refuse the file.
    segments = [bytes(16), delegate, *(content for _, content in named)]
    offsets, size = _laid_out([len(segment) for segment in segments], _SEGMENT_ALIGNMENT)
    tables = Tables()
    fields: Fields = {
        1: tables.parts([_plan(tables, inputs, outputs)]),
        2: tables.parts(),
        3: tables.parts(),
        4: tables.parts(
            [
                tables.table({0: ("Uint64", offset), 1: ("Uint64", len(segment))})
                for offset, segment in zip(offsets, segments, strict=True)
            ]
        ),
        5: tables.table({1: tables.numbers([0], np.uint64)}),
        7: tables.parts(
            [tables.table({0: tables.text(key), 1: ("Uint32", at)}) for at, (key, _) in enumerate(named, start=2)]
        ),
    }
    plain = tables.finish(tables.table(fields), b"ET12")
    # The header stands within the flatbuffer, after its identifier, so that the root is as much farther away.
    root = struct.unpack_from("<I", plain)[0] + _HEADER_BYTES
    program_size = len(plain) + _HEADER_BYTES
    base = _up(program_size, _SEGMENT_ALIGNMENT)
    file = bytearray(base + size)
    struct.pack_into("<I4s4sIQQQ", file, 0, root, b"ET12", b"eh00", _HEADER_BYTES, program_size, base, size)
    file[8 + _HEADER_BYTES : program_size] = plain[8:]
    for offset, segment in zip(offsets, segments, strict=True):
        file[base + offset : base + offset + len(segment)] = segment
    return bytes(file)


def _plan(tables: Tables, inputs: Sequence[End], outputs: Sequence[End]) -> int:
    ends = [*inputs, *outputs]
    offsets, size = _laid_out([4 * math.prod(end.shape) for end in ends], _TENSOR_ALIGNMENT)
    values = [_tensor(tables, end, offset) for end, offset in zip(ends, offsets, strict=True)]
    numbers = range(len(ends))
    call = tables.table({1: tables.numbers(numbers, np.int32)})
    chain: Fields = {0: tables.parts(), 1: tables.parts(), 2: tables.parts([tables.union(_DELEGATE_CALL, call)])}
    where = tables.table({0: ("Int8", _SEGMENT), 1: ("Uint32", 1)})
    delegate: Fields = {0: tables.text("XnnpackBackend"), 1: where, 2: tables.parts()}
    fields: Fields = {
        0: tables.text("forward"),
        2: tables.parts(values),
        3: tables.numbers(numbers[: len(inputs)], np.int32),
        4: tables.numbers(numbers[len(inputs) :], np.int32),
        5: tables.parts([tables.table(chain)]),
        6: tables.parts(),
        7: tables.parts([tables.table(delegate)]),
        # Kernels read a little beyond their tensors.
        8: tables.numbers([0, size + _TENSOR_ALIGNMENT], np.int64),
    }
    return tables.table(fields)


def _tensor(tables: Tables, end: End, offset: int) -> int:
    place: Fields = {0: ("Uint32", 1), 1: ("Uint32", offset & 0xFFFFFFFF), 2: ("Uint32", offset >> 32)}
    fields: Fields = {
        0: ("Int8", _FLOAT),
        2: tables.numbers(end.shape, np.int32),
        3: tables.numbers(end.order, np.uint8),
        6: tables.table(place),
    }
    return tables.union(_TENSOR, tables.table(fields))


def _laid_out(sizes: Sequence[int], alignment: int) -> tuple[list[int], int]:
    """Return where things of these sizes lie one after the other, and where the last ends."""
    offsets, end = [], 0
    for size in sizes:
        offsets.append(_up(end, alignment))
        end = offsets[-1] + size
    return offsets, end


def _up(number: int, alignment: int) -> int:
    return -(-number // alignment) * alignment
