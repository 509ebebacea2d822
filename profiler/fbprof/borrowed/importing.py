"""Importing: a latency table from a file of latencies that others published, in any of the known formats."""

import hashlib
import math
import statistics
from collections.abc import Mapping
from pathlib import Path

import pydantic

from fbbase import __version__
from fbbase.errors import FbError
from fbbase.files import read_text
from fblut.errors import LutError
from fblut.table import LARGEST_US, SMALLEST_US, Lut, Metadata, Row
from fbprof.imports import IMPORTS, UNITS_US, Imported
from fbspace.blocks import block_of
from fbspace.opspec import OpSpec
from fbspace.space import Space

FILE_BYTES = 4 << 20
"""Files of latencies have some hundred lines; YAML of more takes a minute to read."""
SLOWEST, FASTEST = 1e6, 1e15
"""Multiply-accumulates a second beyond which a unit is wrong."""


def import_table(
    path: Path, space: Space, metadata: Mapping[str, object], format_name: str | None = None, unit: str | None = None
) -> Lut:
    """Return the table of a file. Raises as `read_latencies` does."""
    return table_of(read_latencies(path, space, format_name, unit), path, space, metadata)


def read_latencies(path: Path, space: Space, format_name: str | None = None, unit: str | None = None) -> Imported:
    """Return what a file says of a space's operators, in a format by name or by the file's ending.

    Raises LutError with the place of what is wrong, and for a unit that no device can have; FbError where there is no
    file or no unit.
    """
    path = Path(path)
    format_name = format_name or format_of(path)
    importer = IMPORTS.load(format_name)
    if importer.has_unit and unit is not None:
        raise FbError(f"a file of {format_name} says its unit itself; leave --unit away")
    if not importer.has_unit and unit is None:
        raise FbError(f"a file of {format_name} does not say its unit; say it with --unit ({', '.join(UNITS_US)})")
    space.refuse_masks("fbprof import")
    text = read_text(path, "file of latencies", FILE_BYTES)
    found = importer.read(text, str(path), space, UNITS_US[unit or "us"])
    speed = macs_per_s(found)
    if speed is not None and not SLOWEST <= speed <= FASTEST:
        limit = f"no device does over {FASTEST:.0e}" if speed > FASTEST else f"none of use does under {SLOWEST:.0e}"
        said = f"--unit {unit} is" if unit else "its latencies are"
        raise LutError(
            f"{path}: {said} wrong: half of its operators do {speed:.1e} multiply-accumulates a second; {limit}"
        )
    return found


def table_of(found: Imported, path: Path, space: Space, metadata: Mapping[str, object]) -> Lut:
    """Return the table of what a file says.

    `metadata` says what it was measured on: space, device, runtime, runtime_version, precision, threads; the table
    tells that it was imported, and from which file. An operator that is not in the file, or has no latency above 0,
    gets a failed row.
    """
    try:
        described = Metadata.model_validate(
            {
                **metadata,
                "origin": "imported",
                "timing": f"imported from {path.name}, {found.how}",
                "tool_version": __version__,
                "network_us": round(found.network_us, 3),
                "imported_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                "warnings": (*metadata.get("warnings", ()), *found.warnings),  # type: ignore[misc]
            }
        )
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        raise LutError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    return Lut(described, {spec.key(): _row(spec, found) for spec in space.operators()})


def macs_per_s(found: Imported) -> float | None:
    """Return how many multiply-accumulates a second half of the operators do not reach; None where it has no times.

    They are counted roughly, as of an inverted residual, which needs no torch: units are wrong by a thousand.
    """
    speeds = [_about_macs(spec) / latency_us * 1e6 for spec, latency_us in found.latency_us.items() if latency_us > 0]
    return statistics.median(speeds) if speeds else None


def _about_macs(spec: OpSpec) -> float:
    pixels_in, pixels_out = spec.height * spec.width, math.prod(block_of(spec).output_size(spec))
    if not block_of(spec).expands:
        return pixels_out * spec.in_channels * spec.out_channels * spec.kernel**2 / spec.groups
    middle = spec.in_channels * spec.expansion
    project = pixels_in * spec.in_channels + pixels_out * spec.out_channels
    return middle * (project / spec.groups + pixels_out * spec.kernel**2)


def format_of(path: Path) -> str:
    """Return the format that a file's ending stands for. Raises FbError where it stands for none."""
    formats = {name: IMPORTS.find(name).suffixes for name in IMPORTS.names()}
    for name, suffixes in formats.items():
        if path.suffix.lower() in suffixes:
            return name
    known = ", ".join(f"{name} ({', '.join(suffixes)})" for name, suffixes in formats.items())
    raise FbError(f"{path}: the ending does not tell the format; name it with --format: {known}")


def _row(spec: OpSpec, found: Imported) -> Row:
    if spec in found.fixed:
        return Row(spec, None, status="fixed", notes=found.fixed[spec])
    latency_us = found.latency_us.get(spec)
    if latency_us is None:
        return Row(spec, None, status="failed", notes="not in the imported file")
    if latency_us > LARGEST_US:
        raise LutError(f"{spec.key()}: {latency_us:.3g} µs are no time of an operator; correct it, or --unit")
    if latency_us < SMALLEST_US:
        notes = f"it has {latency_us:.3f} µs in the imported file ({found.how}); a table holds latencies above 0"
        return Row(spec, None, status="failed", notes=notes)
    return Row(spec, latency_us, notes=found.notes.get(spec, ""))
