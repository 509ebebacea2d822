"""Writing a table: `#` header lines with the metadata, then one CSV row per operator; same data, same bytes."""

import json
from pathlib import Path

from fbbase.files import write_text
from fblut.table import Lut, Row

MAGIC = "# fbnet-lab latency table 2"
"""First line of every table; the number is the schema's version."""

COLUMNS = (
    "key",
    "kind",
    "in_channels",
    "height",
    "width",
    "out_channels",
    "kernel",
    "stride",
    "expansion",
    "groups",
    "activation",
    "squeeze_excite",
    "latency_us",
    "ci_low_us",
    "ci_high_us",
    "spread_us",
    "samples",
    "preempted",
    "isolated_us",
    "isolated_low_us",
    "isolated_high_us",
    "status",
    "notes",
)


def write_lut(lut: Lut, path: Path) -> None:
    """Write the table in one step: a reader sees the old file or the new one."""
    write_text(path, format_lut(lut))


def format_lut(lut: Lut) -> str:
    """Return the table's text."""
    usual = {"grid_points": None, "origin": "measured"}  # not written: tables were, before there was anything else
    fields = lut.metadata.model_dump(
        exclude={name for name, value in usual.items() if getattr(lut.metadata, name) == value}
    )
    lines = [MAGIC]
    lines += [f"# {name}: {json.dumps(value, ensure_ascii=False)}" for name, value in fields.items()]
    lines.append(",".join(COLUMNS))
    lines += [",".join(map(_quoted, cells(row))) for row in lut.rows.values()]
    return "\n".join(lines) + "\n"


def cells(row: Row) -> list[str]:
    """Return a row's cells as text, in the order of COLUMNS; what is not known is empty."""
    spec = row.spec
    return [
        spec.key(),
        spec.kind,
        str(spec.in_channels),
        str(spec.height),
        str(spec.width),
        str(spec.out_channels),
        str(spec.kernel),
        str(spec.stride),
        f"{spec.expansion:g}",
        str(spec.groups),
        spec.activation,
        str(int(spec.squeeze_excite)),
        *(_microseconds(x) for x in (row.latency_us, row.ci_low_us, row.ci_high_us, row.spread_us)),
        str(row.samples),
        str(row.preempted),
        *(_microseconds(x) for x in (row.isolated_us, row.isolated_low_us, row.isolated_high_us)),
        row.status,
        " ".join(row.notes.split()),
    ]


def _microseconds(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _quoted(cell: str) -> str:
    """Quote a cell that holds a comma, a quote, or the `#` that pandas would take for a comment."""
    return '"' + cell.replace('"', '""') + '"' if any(c in cell for c in ',"#') else cell
