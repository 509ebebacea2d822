"""fbprof import: a latency table from a file of latencies that others published."""  # noqa: N999 - the file name is the name of the command

from pathlib import Path
from typing import Any

import click

from fbbase.commandline import echo_beside
from fbprof.commands import _options
from fbprof.imports import IMPORTS, UNITS_US

SHOWN = 5
"""So many entries are named that no operator has."""


@click.command("import")
@click.argument("file", type=_options.PATH)
@_options.measured_elsewhere
@click.option(
    "--format", "format_name", type=click.Choice(IMPORTS.names()), help="Its format.  [default: by its ending]"
)
@click.option("--unit", type=click.Choice(list(UNITS_US)), help="Unit of its latencies, where the format has none.")
@click.option("--device", required=True, help="What they were measured on.")
@click.option("--precision", default="unknown", show_default=True, help="Precision of the models.")
@_options.timing("threads", default=None, help="Threads.  [default: 1, with a warning in the table]")
def command(
    file: Path, space: str, output: Path, format_name: str | None, unit: str | None, threads: int | None, **context: Any
) -> None:
    r"""Make a latency table of somebody else's latencies.

    Formats: blocks (.csv), each relative to skip at its place, as of HW-NAS-Bench; layers (.txt), a line of candidates
    and one of latencies for every layer; ofa (.yaml), the tables of once-for-all; keys (.json), operator keys and
    latencies. Nothing is measured: what the file does not say stays unknown in the table.

    \b
    Example:
      fbprof import pixel3_blocks.csv --space fbnet-cifar --device pixel-3 -o pixel3.csv
      fbprof import speed_cpu.txt --space fbnet --unit us --device cpu -o cpu.csv
    """
    from fblut.writing import write_lut
    from fbprof.borrowed.importing import macs_per_s, read_latencies, table_of
    from fbspace.space import load_space

    metadata = {"space": space, "runtime_version": "unknown", "threads": threads or 1} | context
    if threads is None:
        metadata["warnings"] = ("the number of threads is not known; 1 stands for it",)
    loaded = load_space(space)
    found = read_latencies(file, loaded, format_name, unit)
    lut = table_of(found, file, loaded, metadata)
    write_lut(lut, output)
    operators = sum(row.status == "ok" for row in lut.rows.values())
    cost = f", and a fixed cost of {lut.metadata.network_us / 1e3:.3f} ms" if lut.metadata.network_us else ""
    speed = macs_per_s(found)
    rate = f"; half of the operators do {speed / 1e9:.3g} GMAC/s or more" if speed else ""
    echo_beside(output, f"{output}: {operators} operators, {lut.metadata.timing}{cost}{rate}")
    if found.entries:
        names = list(dict.fromkeys(found.unused))
        unused = f"; unused: {', '.join(names[:SHOWN])}" if names else ""
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        used = found.entries - len(found.unused)
        echo_beside(output, f"{used} of {found.entries} entries of the file were used{unused}{more}")
    failed = [f"{key}: {row.notes}" for key, row in lut.rows.items() if row.status == "failed"]
    if failed:
        click.echo(
            f"warning: {len(failed)} operators have no latency, e.g. {failed[0]}; a search needs all of its space",
            err=True,
        )
