"""Measured whole networks as CSV, one line each in the order of measurement: what `fbprof fit` reads."""

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fbbase.files import read_text, write_text
from fbbase.parsing import number
from fbbase.shown import cell, escaped
from fblut.table import LARGEST_US, SMALLEST_US
from fbprof.errors import NetworksError
from fbspace.space import Space

MAGIC = "# fbnet-lab networks 1"
"""First line of files that are written here; files from elsewhere need not have it."""

UNITS_US = {"latency_us": 1.0, "latency_ms": 1000.0}
"""Columns that may hold the latency, with their unit in microseconds."""

_LAYER = re.compile(r"op(0|[1-9][0-9]*)")


@dataclass(frozen=True, slots=True)
class MeasuredNetwork:
    """A network by the candidate chosen in each layer and the head's width, and its latency in microseconds.

    `where` is the file and line it was read from.
    """

    choices: tuple[str, ...]
    head_channels: int
    latency_us: float
    name: str = ""
    where: str = ""


def read_networks(path: Path, space: Space) -> list[MeasuredNetwork]:
    """Read a file. Raises NetworksError with the line of what is wrong, FbError where there is no file."""
    return parse_networks(read_text(Path(path), "networks file"), str(path), space)


def parse_networks(text: str, name: str, space: Space) -> list[MeasuredNetwork]:
    """Parse a file's text; `name` is what errors call it.

    Comment lines above the column names, empty lines and further columns are ignored; without a column head_channels
    the networks have the space's default head. Raises NetworksError.
    """
    lines = text.removeprefix("\ufeff").split("\n")
    above = next((i for i, line in enumerate(lines) if line.strip() and not line.startswith("#")), len(lines))
    separator = ";" if above < len(lines) and lines[above].count(";") > lines[above].count(",") else ","
    reader = csv.reader(io.StringIO("\n".join(lines[above:])), delimiter=separator, strict=True)
    header: _Header | None = None
    networks = []
    line = above + 1
    try:
        for record in reader:
            cells = [each.strip() for each in record]
            if header is None:
                header = _Header(cells, f"{name}: line {line}", space, has_decimal_comma=separator == ";")
            elif cells not in ([], [""]):
                networks.append(header.network(cells, f"{name}: line {line}"))
            line = above + reader.line_num + 1
    except csv.Error as error:
        raise NetworksError(f"{name}: line {line}: {error}; correct the quotes, or write the line again") from None
    if not networks:
        what = "neither column names nor networks" if header is None else "column names, but no networks"
        raise NetworksError(
            f"{name}: the file holds {what}: expected the columns op0 to op{len(space.layers) - 1} and latency_us or "
            "latency_ms, then a line for each measured network"
        )
    return networks


class _Header:
    """The columns of a file, and what its lines are read by."""

    def __init__(self, columns: list[str], where: str, space: Space, has_decimal_comma: bool = False) -> None:
        self.columns, self.space, self.has_decimal_comma = columns, space, has_decimal_comma
        twice = next((name for name in columns if name and columns.count(name) > 1), None)
        if twice is not None:
            first = columns.index(twice)
            second = columns.index(twice, first + 1)
            raise NetworksError(f"{where}: columns {first + 1} and {second + 1} are both called {twice!r}; keep one")
        expected = [f"op{number}" for number in range(len(space.decisions))]
        missing = [name for name in expected if name not in columns]
        beyond = [name for name in columns if _LAYER.fullmatch(name) and name not in expected]
        if missing or beyond:
            what = f"no column {', '.join(missing)}" if missing else f"a column {beyond[0]}"
            raise NetworksError(
                f"{where}: {what}: space {space.name} has {len(expected)} layers, so op0 to {expected[-1]} are "
                "expected, separated by commas; correct the file, or name the space it is of with --space"
            )
        units = [name for name in UNITS_US if name in columns]
        if len(units) != 1:
            found = "both latency_us and latency_ms" if units else "neither latency_us nor latency_ms"
            raise NetworksError(f"{where}: {found} among the columns; name one column so, by its unit")
        self.latency = units[0]
        self.layers = [columns.index(name) for name in expected]

    def network(self, cells: list[str], where: str) -> MeasuredNetwork:
        """Return the network of one line. Raises NetworksError."""
        if len(cells) != len(self.columns):
            raise NetworksError(
                f"{where}: {len(cells)} cells, but {len(self.columns)} columns: the line lacks layers or has too many "
                f"(space {self.space.name} has {len(self.layers)}); complete the line or remove it"
            )
        choices = tuple(
            self._choice(cells, column, where, decision.options)
            for column, decision in zip(self.layers, self.space.decisions, strict=True)
        )
        name = cells[self.columns.index("name")] if "name" in self.columns else ""
        return MeasuredNetwork(choices, self._head(cells, where), self._latency_us(cells, where), name, where)

    def _error(self, where: str, column: int, message: str) -> NetworksError:
        return NetworksError(f"{where}, column {column + 1} ({self.columns[column]}): {message}")

    def _choice(self, cells: list[str], column: int, where: str, candidates: Iterable[str]) -> str:
        name = cells[column]
        if name in candidates:
            return name
        found = f"unknown operator {name[:60]!r}" if name else "no operator"
        known = f"space {self.space.name} has {', '.join(candidates)} here"
        remedy = "correct the name, or name the space it is of with --space"
        raise self._error(where, column, f"{found}; {known}: {remedy}")

    def _head(self, cells: list[str], where: str) -> int:
        if "head_channels" not in self.columns:
            return self.space.head_channels
        column = self.columns.index("head_channels")
        known = {str(channels): channels for channels in self.space.heads}
        if cells[column] not in known:
            message = f"expected a head of space {self.space.name} ({', '.join(known)}), found {cells[column][:60]!r}"
            raise self._error(where, column, f"{message}: correct it, or remove the line")
        return known[cells[column]]

    def _latency_us(self, cells: list[str], where: str) -> float:
        column = self.columns.index(self.latency)
        text = cells[column]
        remedy = "measure the network again, or remove the line"
        if not text:
            raise self._error(where, column, f"no latency; {remedy}")
        latency = number(text.replace(",", ".") if self.has_decimal_comma else text)
        if latency is None:
            raise self._error(where, column, f"{text[:60]!r} is not a number; {remedy}")
        latency_us = latency * UNITS_US[self.latency]
        if not SMALLEST_US <= latency_us <= LARGEST_US:
            raise self._error(where, column, f"a network cannot take {text[:60]} {self.latency[-2:]}; {remedy}")
        return latency_us


def write_networks(
    path: Path,
    space_name: str,
    networks: Sequence[MeasuredNetwork],
    extra: Mapping[str, Sequence[object]] | None = None,
    metadata: Mapping[str, object] | None = None,
) -> None:
    """Write networks, all of one space, in the order they were measured; the same networks give the same bytes.

    `extra` are further columns, a value for each network (floats with three decimals, as `predicted_us`); `metadata`
    goes into comment lines with JSON values. Raises StorageError.
    """
    extra = dict(extra or {})
    head = [f"# {field}: {escaped(json.dumps(value, ensure_ascii=False))}" for field, value in (metadata or {}).items()]
    text = io.StringIO()
    text.write("\n".join([MAGIC, f"# space: {json.dumps(space_name)}", *head]) + "\n")
    writer = csv.writer(text, lineterminator="\n")
    layers = len(networks[0].choices) if networks else 0
    writer.writerow(["name", *(f"op{number}" for number in range(layers)), "head_channels", "latency_us", *extra])
    for network, *values in zip(networks, *extra.values(), strict=True):
        cells = [network.name, *network.choices, network.head_channels, network.latency_us, *values]
        writer.writerow([f"{each:.3f}" if isinstance(each, float) else cell(str(each)) for each in cells])
    write_text(path, text.getvalue())
