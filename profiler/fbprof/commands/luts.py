"""fbprof luts: the tables that come with the toolkit."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fbprof.commands import _complete as complete

if TYPE_CHECKING:
    from fblut.table import Lut

COLUMNS = ("space", "device", "soc", "runtime", "precision", "threads")


@click.command("luts")
@click.argument("names", nargs=-1, metavar="[NAME...]", shell_complete=complete.tables)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def command(names: tuple[str, ...], as_json: bool) -> None:
    r"""List the published tables, or say all that is known of some.

    A name stands for the table wherever a table is asked for. What a table does not say, its source did not say; one
    that was measured elsewhere tells of that device as it was then.

    \b
    Example:
      fbprof luts
      fbprof luts pixel-3
      fbsearch run --lut pixel-3
    """
    from fblut.reading import PUBLISHED, read_lut
    from fblut.views import VIEWS, Section

    tables = {name: read_lut(Path(name)) for name in names or PUBLISHED.names()}
    if as_json:
        listed = {name: _counts(lut) | lut.metadata.model_dump(mode="json") for name, lut in tables.items()}
        click.echo(json.dumps(listed, indent=2, ensure_ascii=False))
        return
    if names:
        sections = [
            Section(name, (), ("", "value"), tuple((key, str(value)) for key, value in _stated(lut).items()))
            for name, lut in tables.items()
        ]
    else:
        rows = tuple(
            (name, *(str(getattr(lut.metadata, c)) for c in COLUMNS), _counts(lut)["operators"], lut.metadata.verdict)
            for name, lut in tables.items()
        )
        columns = ("name", *COLUMNS, "operators", "verdict")
        text = ("use a name in place of a file: fbsearch run --lut NAME; fbprof luts NAME tells where it comes from",)
        sections = [Section("published tables", text, columns, rows)]
    click.echo(VIEWS.load("table").render("", sections, {}).lstrip())


def _counts(lut: "Lut") -> dict[str, int]:
    rows = lut.rows.values()
    return {"operators": sum(row.latency_us is not None for row in rows), "rows": len(lut.rows)}


def _stated(lut: "Lut") -> dict[str, object]:
    """Return the known metadata, with counts and warnings."""
    warnings = "; ".join(lut.metadata.warnings)
    return _counts(lut) | lut.metadata.stated() | ({"warnings": warnings} if warnings else {})
