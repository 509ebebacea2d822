"""fbprof report: a table, its measurement and a search, or results of fbprof profile, as one page to look at."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from fbbase.commandline import echo_beside, options_of_plugins
from fbbase.errors import FbError
from fbbase.files import read_text, write_text
from fbbase.parsing import number
from fbprof.charts import CHARTS
from fbprof.commands import _complete as complete
from fbprof.commands._options import PATH


@click.command("report")
@click.argument("table", metavar="TABLE|RESULT", shell_complete=complete.tables, type=PATH)
@click.argument("others", nargs=-1, metavar="[OTHER...]", shell_complete=complete.tables, type=PATH)
@click.option("--run", "run_folder", type=PATH, help="Folder of a search, to be shown as well.")
@click.option("--validation", type=PATH, help="Networks that fbprof validate wrote with -o.")
@options_of_plugins(CHARTS)
@click.option("-o", "--output", type=PATH, help="The page.  [default: that name with .html]")
def command(
    table: Path,
    others: tuple[Path, ...],
    run_folder: Path | None,
    validation: Path | None,
    output: Path | None,
    **of_charts: Any,
) -> None:
    r"""Write a report of a latency table, or of results of fbprof profile: one HTML file that needs no network.

    Of a RESULT.json it says first how long the model takes, whether that can be trusted, which layers are dearest and
    what to do next; then everything else, and other results in comparison.

    Of a table it shows latency by layer and candidate, how exactly operators are known, the drift, noise and conditions
    of the run where its journal lies beside the table, other tables in comparison, networks predicted and measured, and
    of a search θ over time, the networks compared, and the one found, with its accuracies (accuracy.jsonl of fbsearch
    eval -o) beside the latencies that tables of the same precision predict.

    \b
    Example:
      fbprof report s8.csv -o s8.html
      fbprof report s8.csv iphonex.csv --run runs/s8 -o report.html
      fbprof report galaxy-s8.detector.json -o detector.html
    """
    from fbprof.models.result import is_result

    output = output or Path(f"{table.stem}.html")
    are_results = [is_result(each) for each in (table, *others)]
    if any(are_results):
        if not all(are_results):
            raise FbError(
                "a report is of tables or of results of fbprof profile (.json), not of both: make one of each"
            )
        if run_folder is not None or validation is not None or any(value is not None for value in of_charts.values()):
            raise FbError(
                "--run, --validation and the options of charts are for tables; this is a result of fbprof profile"
            )
        _report_results((table, *others), output)
        return
    from fblut.check import known_space
    from fblut.compare import compare
    from fblut.reading import read_lut
    from fbprof.charts import Reported, every_chart
    from fbprof.journal.journal import journal_path, read_measured
    from fbprof.report.page import page
    from fbprof.report.table_answer import table_answer
    from fbspace.architecture import load_architecture

    lut = read_lut(table)
    space = known_space(lut.metadata)
    tables = {str(other): read_lut(other) for other in others}
    comparisons = {name: compare(lut, other, space) for name, other in tables.items()}
    networks = () if validation is None else _networks(validation)
    journal = read_measured(journal_path(table))
    reported = Reported(table.stem, lut, space, journal, tables, comparisons, networks, run_folder)
    charts = every_chart(reported, {name: value for name, value in of_charts.items() if value is not None})
    title = f"{lut.metadata.device}: latencies of {lut.metadata.space}"
    arch = None if run_folder is None else run_folder / "arch.json"
    network = load_architecture(str(arch)) if arch is not None and arch.exists() else None
    answer = table_answer(lut, table, space, network)
    text = page(title, lut, answer, charts, {Path(name).stem: result for name, result in comparisons.items()})
    write_text(output, text)
    echo_beside(output, f"{output}: {len(charts)} charts, {len(text.encode()) / 1e6:.1f} MB; open it in a browser")


def _report_results(paths: Sequence[Path], output: Path) -> None:
    """Write the report of results of fbprof profile. Raises FbError where one is none."""
    from fbprof.models.result import read_result
    from fbprof.report.models_page import models_page

    results = {str(path): read_result(path) for path in paths}
    text = models_page(results)
    write_text(output, text)
    models = sum(len(each.models) for each in results.values())
    echo_beside(
        output,
        f"{output}: {models} model{'s' * (models != 1)}, {len(text.encode()) / 1e3:.0f} kB; open it in a browser",
    )


def _networks(path: Path) -> list[tuple[str, float, float]]:
    """Return the networks in a file, predicted and measured in milliseconds. Raises FbError where it has none."""
    from fblut.table import LARGEST_US, SMALLEST_US

    lines = [line for line in read_text(path, "file of networks").splitlines() if not line.startswith("#")]
    remedy = "write it with fbprof validate -o"
    found = []
    try:
        for row in csv.DictReader(lines, strict=True):
            times = [us for column in ("predicted_us", "latency_us") if (us := number(row[column] or "")) is not None]
            if len(times) < 2 or not SMALLEST_US <= min(times) <= max(times) <= LARGEST_US:
                raise FbError(f"{path}: network {row['name']!r:.80} lacks a prediction or a latency: {remedy}")
            found.append((row["name"], times[0] / 1e3, times[1] / 1e3))
    except (KeyError, csv.Error) as error:
        raise FbError(f"{path} has no predictions ({error}): {remedy}") from None
    if not found:
        raise FbError(f"{path} has no networks")
    return found
