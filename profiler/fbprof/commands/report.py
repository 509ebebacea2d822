"""fbprof report: a table, its measurement and a search, as one page to look at."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from fbprof import complete

if TYPE_CHECKING:
    from fbprof.charts import Chart


@click.command("report")
@click.argument("table", shell_complete=complete.tables, type=click.Path(path_type=Path))
@click.argument(
    "others", nargs=-1, metavar="[OTHER...]", shell_complete=complete.tables, type=click.Path(path_type=Path)
)
@click.option("--run", "run_folder", type=click.Path(path_type=Path), help="Folder of a search, to be shown as well.")
@click.option("--validation", type=click.Path(path_type=Path), help="Networks that fbprof validate wrote with -o.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The page.  [default: TABLE.html]")
def command(
    table: Path, others: tuple[Path, ...], run_folder: Path | None, validation: Path | None, output: Path | None
) -> None:
    r"""Write a report of a latency table: one HTML file that needs no network.

    It shows latency by layer and candidate, how exactly operators are known, the drift, noise and conditions of the run
    where its journal lies beside the table, other tables in comparison, networks predicted and measured, and of a
    search θ over time, the networks compared, and the one found.

    \b
    Example:
      fbprof report s8.csv -o s8.html
      fbprof report s8.csv iphonex.csv --run runs/s8 -o report.html
    """
    from fbbase.files import write_text
    from fblut.check import known_space
    from fblut.compare import compare
    from fblut.reading import read_lut
    from fbprof.charts import measuring, pairs, search
    from fbprof.charts import table as of_table
    from fbprof.journal import read_journal
    from fbprof.measure import journal_path
    from fbprof.page import page

    lut = read_lut(table)
    space = known_space(lut.metadata)
    charts = of_table.charts_of(lut, space)
    if validation is not None:
        charts.append(_validation(validation))
    comparisons = {str(other): compare(lut, read_lut(other), space) for other in others}
    for number, (other, result) in enumerate(comparisons.items(), start=1):
        charts.append(pairs.comparison(str(table), other, result, number))
    if run_folder is not None:
        charts += search.charts_of(run_folder, lut)
    journal = read_journal(journal_path(table))
    if journal is not None:
        charts += measuring.charts_of(journal)
    title = f"{lut.metadata.device}: latencies of {lut.metadata.space}"
    output = output or Path(f"{table.stem}.html")
    text = page(title, lut, charts, {Path(name).stem: result for name, result in comparisons.items()})
    write_text(output, text)
    click.echo(f"{output}: {len(charts)} charts, {len(text.encode()) / 1e6:.1f} MB; open it in a browser")


def _validation(path: Path) -> "Chart":
    """Return the chart of the networks in a file of fbprof validate. Raises FbError where it has no predictions."""
    import csv

    from fbbase.errors import FbError
    from fbbase.files import read_text
    from fbprof.charts import pairs

    lines = [line for line in read_text(path, "file of networks").splitlines() if not line.startswith("#")]
    rows = list(csv.DictReader(lines))
    try:
        predicted, measured = ([float(row[key]) / 1e3 for row in rows] for key in ("predicted_us", "latency_us"))
        names = [row["name"] for row in rows]
    except (KeyError, ValueError) as error:
        raise FbError(f"{path} has no predictions ({error}): write it with fbprof validate -o") from None
    if not measured:
        raise FbError(f"{path} has no networks")
    return pairs.validation(predicted, measured, names)
