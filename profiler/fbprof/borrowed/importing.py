"""Importing: a latency table from a file of latencies that others published, in any of the known formats."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from fbbase import __version__
from fbbase.errors import FbError
from fbbase.files import read_text
from fblut.table import SMALLEST_US, Lut, Metadata, Row
from fbprof.imports import IMPORTS, UNITS_US, Imported
from fbspace.opspec import OpSpec
from fbspace.space import Space


def import_table(
    path: Path, space: Space, metadata: Mapping[str, object], format_name: str | None = None, unit: str | None = None
) -> Lut:
    """Return the table of a file, in a format by name or by the file's ending.

    `metadata` says what it was measured on: space, device, runtime, runtime_version, precision, threads; the table
    tells that it was imported, and from which file. An operator that is not in the file, or has no latency above 0,
    gets a failed row. Raises LutError with the place of what is wrong, FbError where there is no file or no unit.
    """
    path = Path(path)
    format_name = format_name or format_of(path)
    importer = IMPORTS.load(format_name)
    if importer.has_unit and unit is not None:
        raise FbError(f"a file of {format_name} says its unit itself; leave --unit away")
    if not importer.has_unit and unit is None:
        raise FbError(f"a file of {format_name} does not say its unit; say it with --unit ({', '.join(UNITS_US)})")
    space.refuse_masks("fbprof import")
    text = read_text(path, "file of latencies")
    found = importer.read(text, str(path), space, UNITS_US[unit or "us"])
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
    return Lut(described, {spec.key(): _row(spec, found) for spec in space.operators()})


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
    if latency_us < SMALLEST_US:
        notes = f"{latency_us:.3f} µs in the imported file ({found.how}); a table holds latencies above 0"
        return Row(spec, None, status="failed", notes=notes)
    return Row(spec, latency_us, notes=found.notes.get(spec, ""))
