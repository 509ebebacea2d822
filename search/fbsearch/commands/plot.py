"""fbsearch plot: pictures of a finished or a running search, or of one network."""

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fbsearch.commands._options import PATH, one_of
from fbsearch.errors import SearchError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DOTS_PER_INCH = 150


@click.command()
@click.argument("sources", metavar="RUN", nargs=-1, required=True)
@click.option("-o", "--output", type=PATH, help="Folder of the pictures.  [default: RUN/plots]")
@one_of("--format", ["png", "svg"], "Kind of file.")
@click.option("--json", "as_json", is_flag=True, help="Print the files written as JSON, by picture.")
def command(sources: tuple[str, ...], output: Path | None, format: str, as_json: bool) -> None:
    r"""Draw what a search did and found.

    RUN is the folder of a search, finished or running: θ over the epochs (theta), learning curves (curves), and once
    it has ended accuracy against cost (tradeoff) and the networks found (network). RUN may also be an architecture
    file or a published network, or several to compare: only they are drawn, into plots/ beside the first.
    docs/searching/plot.md says how to read the pictures.

    \b
    Example:
      fbsearch plot runs/first
      fbsearch plot runs/s8 --format svg -o figures/
      fbsearch plot fbnet-s8 fbnet-iphonex
    """
    from fbbase.files import write_bytes

    try:
        from matplotlib import rc_context
    except ImportError as error:
        raise SearchError(
            f"drawing needs matplotlib, which does not load ({error}): pip install 'fbnet-lab[report]'"
        ) from None

    first = Path(sources[0])
    folder = output or (first if first.is_dir() else first.parent) / "plots"
    files = {}
    # An SVG has the same bytes every time, and its words stay words.
    words = rc_context({"font.sans-serif": ["DejaVu Sans"], "font.size": 8, "axes.titlesize": 9})
    with words, rc_context({"svg.hashsalt": "fbsearch", "svg.fonttype": "none"}):
        for name, figure in _figures(sources).items():
            content = io.BytesIO()
            undated = {"Date": None} if format == "svg" else {}
            figure.savefig(content, format=format, dpi=DOTS_PER_INCH, metadata=undated)
            files[name] = str(folder / f"{name}.{format}")
            write_bytes(folder / f"{name}.{format}", content.getvalue())
    click.echo(json.dumps(files, indent=2, ensure_ascii=False) if as_json else "\n".join(files.values()))


def _figures(sources: tuple[str, ...]) -> dict[str, "Figure"]:
    """Return the pictures by file name. Raises SearchError where there is nothing to draw."""
    from fbsearch.plots.epochs import plot_curves, plot_theta
    from fbsearch.plots.network import plot_networks
    from fbsearch.plots.run import read_run
    from fbsearch.plots.tradeoff import plot_tradeoff
    from fbspace.architecture import ZOO, load_architecture

    if len(sources) > 1 or not Path(sources[0]).is_dir():
        for source in sources:
            if Path(source).is_dir():
                raise SearchError(f"{source} is a folder, which is drawn alone; to compare, give its arch.json")
            if not source.endswith(".json") and source not in ZOO:
                known = ", ".join(ZOO.names())
                raise SearchError(f"{source} is no folder, no architecture file and no published network ({known})")
        found = {source.removesuffix(".json"): load_architecture(source) for source in sources}
        folders = {source.removesuffix(".json"): Path(source).parent for source in sources}
        return {Path(sources[0]).stem if len(found) == 1 else "networks": plot_networks(found, folders)}
    run = read_run(Path(sources[0]))
    several = len(run.objectives) > 1
    figures = {f"theta-{name}" if several else "theta": plot_theta(run, name) for name in run.objectives}
    figures["curves"] = plot_curves(run)
    if run.ranked:
        figures["tradeoff"] = plot_tradeoff(run)
    if run.networks:
        figures["network"] = plot_networks(run.networks, dict.fromkeys(run.networks, Path(sources[0])))
    else:
        click.echo("tradeoff and network are drawn once the search has ended and its arch.json is there", err=True)
    return figures
