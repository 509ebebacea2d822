"""blocks: a CSV file of blocks, each relative to skip at its place (HW-NAS-Bench, by way of HELP)."""

import csv
import io
import re
from collections.abc import Iterator, Mapping

from fblut.errors import LutError
from fbprof.imports import Imported, Importer, number_of
from fbspace.blocks import block_of
from fbspace.opspec import OpSpec
from fbspace.space import Space

COLUMNS = ("layer_key", "h", "cin", "cout", "stride", "n_positions", "op", "delta_ms_vs_skip")
CONSTANT = "__constant__"
"""How the layer key of the row begins that holds what every network costs: stem, head, skip in every layer."""
RELATIVE = "relative to skip"

_Shape = tuple[int, int, int, int]
"""Height, channels in and out, stride of a place in the network."""


class Blocks(Importer):
    """Blocks of a network, each relative to skip at its place."""

    suffixes = (".csv",)
    has_unit = True

    def read(self, text: str, name: str, space: Space, unit_us: float) -> Imported:
        """Read a file of blocks; a network's sum is the constant and its deltas. Raises LutError with the line."""
        constant_us, delta_us = parse_blocks(text, name, space)
        parts = [*space.stem, *space.heads[space.head_channels]]
        parts += [spec for layer in space.layers for spec in layer.candidates.values() if block_of(spec).leaves_out]
        fixed = dict.fromkeys(parts, "part of every network's fixed cost")
        notes = dict.fromkeys(delta_us, RELATIVE)
        return Imported(delta_us, RELATIVE, constant_us, fixed, notes, entries=len(delta_us) + 1)


def parse_blocks(text: str, name: str, space: Space) -> tuple[float, dict[OpSpec, float]]:
    """Return the constant and each operator beyond skip at its place, in microseconds. Raises LutError."""
    places = _places(space, name)
    constant_us: float | None = None
    delta_us: dict[OpSpec, float] = {}
    for where, cells in _records(text, name):
        cell = cells["delta_ms_vs_skip"]
        remedy = "correct it or remove the line"
        latency_us = 1000 * number_of(cell, f"{where}: delta_ms_vs_skip {cell[:60]!r} is not a number; {remedy}")
        if cells["layer_key"].startswith(CONSTANT):
            if constant_us is not None:
                raise LutError(f"{where}: a second {CONSTANT} row; keep one")
            constant_us = latency_us
            continue
        spec = _spec(cells, where, space, places)
        if spec in delta_us:
            raise LutError(f"{where}: {cells['op']} of this place a second time; keep one")
        delta_us[spec] = latency_us
    if constant_us is None:
        raise LutError(f"{name}: no {CONSTANT} row, which holds what stem, head and skip in every layer cost; add it")
    return constant_us, delta_us


def _places(space: Space, name: str) -> dict[_Shape, tuple[dict[str, OpSpec], int]]:
    """Return the candidates of every distinct place of a space, and how many layers are such a place."""
    found: dict[_Shape, tuple[dict[str, OpSpec], int]] = {}
    for layer in space.layers:
        skip = next((spec for spec in layer.candidates.values() if block_of(spec).leaves_out), None)
        if skip is None:
            raise LutError(
                f"{name}: latencies are relative to skip, but layer {layer.index} of space {space.name} has none; "
                "name the space it is of with --space"
            )
        shape = skip.height, skip.in_channels, skip.out_channels, skip.stride
        _, layers = found.get(shape, ({}, 0))
        found[shape] = layer.candidates, layers + 1
    return found


def _records(text: str, name: str) -> Iterator[tuple[str, dict[str, str]]]:
    is_excel = text.partition("\n")[0].rstrip(";") == ";".join(COLUMNS)
    if is_excel:  # a comma is decimal then, as nothing else has one
        text = re.sub(r"(?<=[0-9]),(?=[0-9]+;*$)", ".", text, flags=re.MULTILINE)
    reader = csv.reader(io.StringIO(text), delimiter=";" if is_excel else ",", strict=True)
    try:
        if tuple(next(reader, [])) != COLUMNS:
            raise LutError(f"{name}: line 1: expected the column names {','.join(COLUMNS)}")
        for record in reader:
            where = f"{name}: line {reader.line_num}"
            if not record:
                continue
            if len(record) != len(COLUMNS):
                raise LutError(f"{where}: {len(record)} cells, expected {len(COLUMNS)}; complete or remove the line")
            yield where, dict(zip(COLUMNS, record, strict=True))
    except csv.Error as error:
        raise LutError(f"{name}: line {reader.line_num}: {error}; correct the quotes") from None


def _spec(
    cells: Mapping[str, str], where: str, space: Space, places: Mapping[_Shape, tuple[dict[str, OpSpec], int]]
) -> OpSpec:
    numbers = []
    for column in ("h", "cin", "cout", "stride", "n_positions"):
        if not re.fullmatch("[0-9]{1,9}", cells[column]):
            raise LutError(f"{where}: {column} {cells[column][:60]!r} is not a whole number; correct it")
        numbers.append(int(cells[column]))
    height, channels, out_channels, stride, positions = numbers
    place = f"{channels}x{height}x{height} to {out_channels} channels with stride {stride}"
    remedy = "correct it, or name the space it is of with --space"
    candidates, layers = places.get((height, channels, out_channels, stride), ({}, 0))
    if positions != layers:
        raise LutError(f"{where}: {positions} layers from {place}, but space {space.name} has {layers}; {remedy}")
    spec = candidates.get(cells["op"])
    if spec is None or block_of(spec).leaves_out:
        known = ", ".join(name for name, candidate in candidates.items() if not block_of(candidate).leaves_out)
        raise LutError(f"{where}: op {cells['op'][:60]!r}, expected one of {known} from {place}; {remedy}")
    return spec
