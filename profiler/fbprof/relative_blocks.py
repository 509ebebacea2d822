"""Relative blocks: a latency table from somebody else's file of blocks, each relative to skip at its place."""

import csv
import hashlib
import io
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from fbbase import __version__
from fbbase.files import read_text
from fblut.check import IMPORTED
from fblut.errors import LutError
from fblut.table import Lut, Metadata, Row
from fbspace.opspec import OpSpec
from fbspace.space import Space

COLUMNS = ("layer_key", "h", "cin", "cout", "stride", "n_positions", "op", "delta_ms_vs_skip")
CONSTANT = "__constant__"
"""How the layer key of the row begins that holds what every network costs: stem, head, skip in every layer."""
SMALLEST_US = 0.001
"""The last decimal of a table; it knows no latency of 0."""

_Shape = tuple[int, int, int, int]
"""Height, channels in and out, stride of a place in the network."""


@dataclass(frozen=True, slots=True)
class RelativeBlocks:
    """What a file says, in microseconds: the constant, and each operator beyond skip at its place."""

    constant_us: float
    delta_us: dict[OpSpec, float]


def import_blocks(path: Path, space: Space, metadata: Mapping[str, object]) -> Lut:
    """Return the table of a file; any network's sum is the file's constant and its deltas.

    `metadata` says what it was measured on: space, device, runtime, runtime_version, precision, threads; the table
    tells that it was imported, and from which file. An operator that is not in the file, or not slower than skip,
    gets a failed row. Raises LutError with the line of what is wrong, FbError where there is no file.
    """
    path = Path(path)
    blocks = parse_blocks(read_text(path, "block file"), str(path), space)
    described = Metadata.model_validate(
        {
            **metadata,
            "timing": f"{IMPORTED} {path.name}, relative to skip",
            "tool_version": __version__,
            "network_us": round(blocks.constant_us, 3),
            "imported_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
    )
    space.refuse_masks("fbprof import")
    fixed = {*space.stem, *space.heads[space.head_channels]}
    fixed.update(spec for layer in space.layers for spec in layer.candidates.values() if spec.kind == "skip")
    return Lut(described, {spec.key(): _row(spec, blocks, fixed) for spec in space.operators()})


def parse_blocks(text: str, name: str, space: Space) -> RelativeBlocks:
    """Parse a file's text for a space; `name` is what errors call it. Raises LutError."""
    places = _places(space, name)
    constant_us: float | None = None
    delta_us: dict[OpSpec, float] = {}
    for where, cells in _records(text, name):
        latency_us = 1000 * _number(cells, where)
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
    return RelativeBlocks(constant_us, delta_us)


def _places(space: Space, name: str) -> dict[_Shape, tuple[dict[str, OpSpec], int]]:
    """Return the candidates of every distinct place of a space, and how many layers are such a place."""
    shapes = []
    found = {}
    for layer in space.layers:
        skip = next((spec for spec in layer.candidates.values() if spec.kind == "skip"), None)
        if skip is None:
            raise LutError(
                f"{name}: latencies are relative to skip, but layer {layer.index} of space {space.name} has none; "
                "name the space it is of with --space"
            )
        shape = skip.height, skip.in_channels, skip.out_channels, skip.stride
        shapes.append(shape)
        found[shape] = layer.candidates
    counts = Counter(shapes)
    return {shape: (candidates, counts[shape]) for shape, candidates in found.items()}


def _records(text: str, name: str) -> Iterator[tuple[str, dict[str, str]]]:
    reader = csv.reader(io.StringIO(text.removeprefix("\ufeff")), strict=True)
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


def _number(cells: Mapping[str, str], where: str) -> float:
    text = cells["delta_ms_vs_skip"]
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise LutError(f"{where}: delta_ms_vs_skip {text[:60]!r} is not a number; correct it or remove the line")
    return value


def _spec(
    cells: Mapping[str, str], where: str, space: Space, places: Mapping[_Shape, tuple[dict[str, OpSpec], int]]
) -> OpSpec:
    numbers = []
    for column in ("h", "cin", "cout", "stride", "n_positions"):
        if not (cells[column].isascii() and cells[column].isdigit()):
            raise LutError(f"{where}: {column} {cells[column][:60]!r} is not a whole number; correct it")
        numbers.append(int(cells[column]))
    height, channels, out_channels, stride, positions = numbers
    place = f"{channels}x{height}x{height} to {out_channels} channels with stride {stride}"
    remedy = "correct it, or name the space it is of with --space"
    candidates, layers = places.get((height, channels, out_channels, stride), ({}, 0))
    if positions != layers:
        raise LutError(f"{where}: {positions} layers from {place}, but space {space.name} has {layers}; {remedy}")
    spec = candidates.get(cells["op"])
    if spec is None or spec.kind == "skip":
        known = ", ".join(name for name, candidate in candidates.items() if candidate.kind != "skip")
        raise LutError(f"{where}: op {cells['op'][:60]!r}, expected one of {known} from {place}; {remedy}")
    return spec


def _row(spec: OpSpec, blocks: RelativeBlocks, fixed: set[OpSpec]) -> Row:
    if spec in fixed:
        return Row(spec, None, status="fixed", notes="part of every network's fixed cost")
    latency_us = blocks.delta_us.get(spec)
    if latency_us is None:
        return Row(spec, None, status="failed", notes="not in the imported file")
    if latency_us < SMALLEST_US:
        notes = f"not slower than skip in the imported file ({latency_us:.3f} µs); a table holds latencies above 0"
        return Row(spec, None, status="failed", notes=notes)
    return Row(spec, latency_us, notes="relative to skip")
