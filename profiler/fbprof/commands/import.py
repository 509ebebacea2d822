"""fbprof import: a latency table from a public file of blocks."""  # noqa: N999 - the file name is the name of the command

from pathlib import Path

import click


@click.command("import")
@click.argument("blocks", type=click.Path(path_type=Path))
@click.option("--space", required=True, help="Search space of the blocks: a known name or a .toml file.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The table to write.")
@click.option("--device", required=True, help="What they were measured on.")
@click.option("--runtime", default="unknown", show_default=True, help="Runtime they were measured in.")
@click.option("--precision", default="unknown", show_default=True, help="Precision of the models.")
@click.option("--threads", type=click.IntRange(1, 64), help="Threads.  [default: 1, with a warning in the table]")
def command(
    blocks: Path, space: str, output: Path, device: str, runtime: str, precision: str, threads: int | None
) -> None:
    r"""Make a latency table of somebody else's latencies of blocks, each relative to skip at its place.

    BLOCKS is a CSV file with the columns layer_key, h, cin, cout, stride, n_positions, op and delta_ms_vs_skip, and a
    row __constant__ for stem, head and skip in every layer. Nothing is measured: what the file does not say stays
    unknown in the table.

    \b
    Example:
      fbprof import pixel3_blocks.csv --space fbnet-cifar --device pixel-3 -o pixel3.csv
    """
    from fblut.writing import write_lut
    from fbprof.relative_blocks import import_blocks
    from fbspace.space import load_space

    metadata: dict[str, object] = {
        "space": space,
        "device": device,
        "runtime": runtime,
        "runtime_version": "unknown",
        "precision": precision,
        "threads": threads or 1,
    }
    if threads is None:
        metadata["warnings"] = ("the number of threads is not known; 1 stands for it",)
    lut = import_blocks(blocks, load_space(space), metadata)
    write_lut(lut, output)
    operators = sum(row.status == "ok" for row in lut.rows.values())
    click.echo(
        f"{output}: {operators} operators relative to skip, and a fixed cost of {lut.metadata.network_us / 1e3:.3f} ms"
    )
    failed = [f"{key}: {row.notes}" for key, row in lut.rows.items() if row.status == "failed"]
    if failed:
        click.echo(
            f"warning: {len(failed)} operators have no latency, e.g. {failed[0]}; a search needs all of its space",
            err=True,
        )
