"""fbprof estimate: derive a table again from the raw samples of a run."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from fbbase.commandline import echo_beside
from fbprof.commands import _options

if TYPE_CHECKING:
    from fblut.table import At


@click.command("estimate")
@click.argument("journal", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The table to write.")
@click.option("--no-drift", is_flag=True, help="Do not correct for the device's drift, for comparison.")
@_options.at
def command(journal: Path, output: Path, no_drift: bool, at: "At") -> None:
    r"""Derive a latency table again from the raw samples that fbprof measure kept.

    The same journal gives the same table, byte for byte. Nothing is measured; a run that was interrupted gives a table
    of what it had reached. --at peak gives the device's fastest moments of that run, --at sustained-so-far its end.

    \b
    Example:
      fbprof estimate s8.journal.jsonl -o s8.csv
      fbprof estimate s8.journal.jsonl -o s8-no-drift.csv --no-drift
      fbprof compare s8-no-drift.csv s8.csv
    """
    from fblut.writing import write_lut
    from fbprof.errors import JournalError
    from fbprof.estimate.table import estimate
    from fbprof.journal.journal import read_measured
    from fbspace.architecture import load_space_of

    content = read_measured(journal)
    if content is None or not content.visits:
        raise JournalError(f"{journal} holds no samples; fbprof measure writes them beside its table")
    lut = estimate(content, load_space_of(content.start.identity["space"]), correct_drift=not no_drift, at=at)
    write_lut(lut, output)
    measured = sum(row.latency_us is not None for row in lut.rows.values())
    drift = lut.metadata.drift_range_percent
    corrected = f"drift of {drift:.1f} % taken out" if drift is not None else "not corrected for drift"
    visits = len(content.visits)
    echo_beside(output, f"{output}: {measured} of {len(lut.rows)} operators from {visits} visits, {corrected}")
    echo_beside(output, "\n  - ".join([f"verdict: {lut.metadata.verdict}", *lut.metadata.warnings]))
