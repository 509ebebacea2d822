"""Imported: a latency table from a file of latencies that others published, in any of the known formats."""

import hashlib
import math
from collections.abc import Callable, Mapping
from pathlib import Path

from fbbase import __version__
from fbbase.errors import FbError
from fbbase.files import read_text
from fblut.errors import LutError
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
    module = IMPORTS.module(format_name)
    if module.HAS_UNIT and unit is not None:
        raise FbError(f"a file of {format_name} says its unit itself; leave --unit away")
    if not module.HAS_UNIT and unit is None:
        raise FbError(f"a file of {format_name} does not say its unit; say it with --unit ({', '.join(UNITS_US)})")
    space.refuse_masks("fbprof import")
    text = read_text(path, "file of latencies")
    found: Imported = module.read(text, str(path), space, UNITS_US[unit or "us"])
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
    formats = {name: IMPORTS.module(name).SUFFIXES for name in IMPORTS.names()}
    for name, suffixes in formats.items():
        if path.suffix.lower() in suffixes:
            return name
    known = ", ".join(f"{name} ({', '.join(suffixes)})" for name, suffixes in formats.items())
    raise FbError(f"{path}: the ending does not tell the format; name it with --format: {known}")


def look_up(
    latencies: Mapping[str, float], keys_of: Callable[[OpSpec], list[str]], space: Space, name: str
) -> dict[OpSpec, float]:
    """Return the latencies of a space's operators from a file of keys. Raises LutError where it has none of them."""
    wanted = {spec: keys_of(spec) for spec in space.operators()}
    found = {spec: latencies[key] for spec, keys in wanted.items() for key in keys if key in latencies}
    if not found:
        example = next((keys[0] for keys in wanted.values() if keys), "none")
        first = next(iter(latencies), "nothing")
        raise LutError(
            f"{name}: it has no operator of space {space.name}: looked for keys such as {example!r}, and found "
            f"{len(latencies)}, such as {first!r}; name the space it is of with --space"
        )
    return found


def finite(text: str) -> float | None:
    """Return the number that a cell holds, None where it holds none, or none that is finite."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


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
