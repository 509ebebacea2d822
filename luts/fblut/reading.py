"""Reading a table, strictly: every complaint says line, column, what was found and what was expected."""

import csv
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pydantic

from fbbase.errors import FbError
from fbbase.files import read_text
from fbbase.parsing import number, parse_json
from fbbase.plugins import PluginFolder
from fblut.errors import LutError
from fblut.table import LARGEST_US, Lut, Metadata, Origin, Row, Status
from fblut.writing import COLUMNS, MAGIC, WITH_PARAMETERS, cells
from fbspace.blocks import BLOCKS, block_of
from fbspace.opspec import OpSpec

_STATUSES: tuple[Status, ...] = get_args(Status)
_ORIGINS: dict[str, Origin] = {"regression on ": "fitted", "imported from ": "imported"}
"""How the timing of a table begins that was written before tables said their origin."""

PUBLISHED = PluginFolder("latency table (a .csv file, or a published one)", "fblut.published", suffix=".csv")
"""Tables that come with the toolkit, found by name."""


def read_lut(path: Path) -> Lut:
    """Read a table: a file, or a published one by its name (`pixel-3`).

    Raises LutError with line and column where it is malformed, FbError where there is no file and no such name.
    """
    path = Path(path)
    if not path.suffix and len(path.parts) == 1 and not path.exists():
        path = PUBLISHED.path(str(path))
    return parse_lut(read_text(path, "latency table"), str(path))


def parse_lut(text: str, name: str) -> Lut:
    """Parse a table's text; `name` is what errors call it."""
    lines = [each.removesuffix("\r") for each in text.removesuffix("\n").split("\n")]
    header = next((i for i, each in enumerate(lines) if not each.startswith(("#", '"#'))), len(lines))
    told = list(map(_unquoted, lines[:header]))
    if (told or lines)[0] != MAGIC:
        raise LutError(
            f"{name}: line 1: not a latency table of this version: expected {MAGIC!r}, found {lines[0][:60]!r}"
        )
    metadata = _metadata(told[1:], name)
    names = "" if header == len(lines) else lines[header]
    separator = ";" if ";" in names else ","
    columns = tuple(names.split(separator))
    if columns not in (COLUMNS, WITH_PARAMETERS):
        raise LutError(f"{name}: line {header + 1}: expected the column names {','.join(COLUMNS)}")
    rows: dict[str, Row] = {}
    first_seen: dict[str, int] = {}
    reader = csv.reader(lines[header + 1 :], delimiter=separator, strict=True)
    try:
        for record in reader:
            line = header + 1 + reader.line_num
            row = _RowParser(columns, record, f"{name}: line {line}", separator).row()
            key = row.spec.key()
            if key in rows:
                raise LutError(f"{name}: line {line}: operator {key} is already in line {first_seen[key]}")
            rows[key], first_seen[key] = row, line
    except csv.Error as error:
        raise LutError(f"{name}: line {header + 1 + reader.line_num}: {error}") from None
    if not rows:
        raise LutError(f"{name}: the table has no rows")
    return Lut(metadata, rows)


def _unquoted(line: str) -> str:
    """Return a header line as it was before a spreadsheet put it into quotes and gave it cells without content."""
    line = line.rstrip(";,")
    return line[1:-1].replace('""', '"') if line.startswith('"#') and line.endswith('"') else line


def _metadata(lines: list[str], name: str) -> Metadata:
    values: dict[str, Any] = {}
    seen: dict[str, int] = {}
    for line_number, line in enumerate(lines, start=2):
        where = f"{name}: line {line_number}"
        field, colon, value = line.removeprefix("#").strip().partition(": ")
        try:
            values[field] = parse_json(value, "it", LutError)
        except LutError as error:
            found = f"found {line[:200]!r} ({error})"
            raise LutError(f"{where}: expected `# field: value` with a JSON value, {found}") from None
        if not colon or not field.isidentifier():
            raise LutError(f"{where}: {field[:60]!r} is not a field name")
        if seen.setdefault(field, line_number) != line_number:
            raise LutError(f"{where}: header field {field!r} is already in line {seen[field]}; keep one")
    timing = str(values.get("timing"))
    origin = next((origin for words, origin in _ORIGINS.items() if timing.startswith(words)), "measured")
    try:
        return Metadata.model_validate({"origin": origin} | values)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise LutError(f"{name}: header field {where!r}: {first['msg']}") from None


@dataclass(frozen=True, slots=True)
class _RowParser:
    columns: tuple[str, ...]
    record: list[str]
    where: str
    separator: str = ","

    def row(self) -> Row:
        if len(self.record) != len(self.columns):
            comma = "; did a decimal comma become a semicolon?" if self.separator == ";" else ""
            raise LutError(f"{self.where}: {len(self.record)} cells, expected {len(self.columns)}{comma}")
        try:
            spec = OpSpec.from_key(self.cell("key"))
            if spec.parameters and spec.kind in BLOCKS:
                block_of(spec)
        except FbError as error:
            raise self.error("key", str(error)) from None
        status = self.cell("status")
        known = next((known for known in _STATUSES if known == status), None)
        if known is None:
            raise self.error("status", f"expected one of {', '.join(_STATUSES)}, found {status!r}")
        row = Row(
            spec=spec,
            **{column: self.microseconds(column) for column in COLUMNS if column.endswith("_us")},
            samples=self.count("samples"),
            preempted=self.count("preempted"),
            status=known,
            notes=self.cell("notes"),
        )
        self.check_parts(row)
        self.check_interval(row.latency_us, row.ci_low_us, row.ci_high_us, "ci")
        self.check_interval(row.isolated_us, row.isolated_low_us, row.isolated_high_us, "isolated")
        if (row.latency_us is None) == (status == "ok"):
            must = "must" if status == "ok" else "must not"
            raise self.error("latency_us", f"status is {status}, so a latency {must} be here")
        return row

    def cell(self, column: str) -> str:
        return self.record[self.columns.index(column)]

    def error(self, column: str, message: str) -> LutError:
        return LutError(f"{self.where}, column {self.columns.index(column) + 1} ({column}): {message}")

    def microseconds(self, column: str) -> float | None:
        text = self.cell(column)
        if not text:
            return None
        value = number(text.replace(",", ".") if self.separator == ";" else text)
        if value is None:
            comma = "; a decimal comma? write a point" if re.fullmatch(r"[0-9]+,[0-9]+", text) else ""
            raise self.error(column, f"{text[:60]!r} is not a number{comma}")
        if not value <= LARGEST_US or value < 0 or (value == 0 and column != "spread_us"):
            raise self.error(column, f"{text[:60]} is not a time that can be measured; a missing value is left empty")
        return value

    def count(self, column: str) -> int:
        text = self.cell(column)
        if not re.fullmatch("[0-9]{1,18}", text):
            raise self.error(column, f"{text[:60]!r} is not a whole number")
        return int(text)

    def check_interval(self, latency_us: float | None, low: float | None, high: float | None, prefix: str) -> None:
        """An interval has two ends, and the latency lies between them."""
        if (low is None) != (high is None):
            end = "low" if low is None else "high"
            raise self.error(f"{prefix}_{end}_us", "an interval has two ends; one is missing")
        if low is not None and high is not None and not (low <= (latency_us or low) <= high):
            message = f"the latency does not lie in its interval, {low:g} to {high:g} µs"
            raise self.error(f"{prefix}_low_us", message)

    def check_parts(self, row: Row) -> None:
        """The columns that repeat the key must agree with it."""
        expected = cells(row)
        for column in self.columns[1 : self.columns.index("latency_us")]:
            found, key_says = self.cell(column), expected[column]
            found = found.replace(",", ".") if self.separator == ";" else found
            if found != key_says:
                raise self.error(column, f"{found!r} contradicts the key, which says {key_says!r}")
