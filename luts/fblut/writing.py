"""Writing a table: `#` header lines with the metadata, then one CSV row per operator; same data, same bytes."""

import json
from pathlib import Path

from fbbase.files import write_text
from fbbase.shown import cell, escaped
from fblut.table import Lut, Row

MAGIC = "# fbnet-lab latency table 2"
"""First line of every table; the number is the schema's version."""

COLUMNS = (
    "key", "kind", "in_channels", "height", "width", "out_channels", "kernel", "stride", "expansion", "groups",
    "activation", "squeeze_excite", "latency_us", "ci_low_us", "ci_high_us", "spread_us", "samples", "preempted",
    "isolated_us", "isolated_low_us", "isolated_high_us", "status", "notes",
)  # fmt: skip
WITH_PARAMETERS = (*COLUMNS[:12], "parameters", *COLUMNS[12:])
"""The columns where blocks have parameters of their own that are not at their default."""


def write_lut(lut: Lut, path: Path) -> None:
    """Write the table in one step: a reader sees the old file or the new one."""
    write_text(path, format_lut(lut))


def format_lut(lut: Lut) -> str:
    """Return the table's text."""
    usual: dict[str, object] = {"grid_points": None, "origin": "measured", "at": "mean"}
    usual |= {"device_model": None, "reference_us": None, "reference_error_percent": None, "speed_error_percent": None}
    usual |= {"runtime_options": None, "small_reference_us": None, "small_reference_error_percent": None}
    # not written: tables were, before there was anything else
    unsaid = {name for name, value in usual.items() if getattr(lut.metadata, name) == value}
    fields = lut.metadata.model_dump(exclude=unsaid)
    lines = [MAGIC]
    lines += [f"# {name}: {escaped(json.dumps(value, ensure_ascii=False))}" for name, value in fields.items()]
    columns = WITH_PARAMETERS if any(row.spec.parameters for row in lut.rows.values()) else COLUMNS
    lines.append(",".join(columns))
    lines += [",".join(_quoted(texts[c]) for c in columns) for texts in map(cells, lut.rows.values())]
    return "\n".join(lines) + "\n"


def cells(row: Row) -> dict[str, str]:
    """Return a row's cells as text by column; what is not known is empty."""
    spec = row.spec
    found = {"key": spec.key(), "expansion": f"{spec.expansion:g}", "squeeze_excite": str(int(spec.squeeze_excite))}
    found |= {"parameters": " ".join(spec.own), "notes": cell(row.notes)}
    for column in COLUMNS:
        if column not in found:
            value = getattr(spec if hasattr(spec, column) else row, column)
            found[column] = _microseconds(value) if column.endswith("_us") else str(value)
    return found


def _microseconds(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _quoted(text: str) -> str:
    """Quote a cell that holds a comma, a quote, or the `#` that pandas would take for a comment."""
    return '"' + text.replace('"', '""') + '"' if any(c in text for c in ',"#') else text
