"""fbsearch run: search the best network under latency tables, and write it down."""

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from fbbase.commandline import options_from, options_of_plugins
from fbbase.options import Option, options_of
from fbbase.plugins import PluginFolder
from fbsearch.commands._options import PATH, device, numbers, one_of, print_json, threads
from fbsearch.errors import SearchError
from fbsearch.fbnet.settings import PRESETS, Settings

COSTS = PluginFolder("cost", "fbsearch.costs")
OWN = (PluginFolder("strategy", "fbsearch.strategies"), COSTS, PluginFolder("loss", "fbsearch.losses"))
"""Kinds of plug-ins with options of their own. They are read without importing torch, which help must not wait for."""
UNITS = COSTS.declared("unit") | COSTS.declared("target_unit")
"""The unit in which each cost takes a target."""
MOST = "that the network may take at most; once, or once for each --lut."
TARGETS = [
    Option(flag.strip("-").replace("-", "_"), float, None, f"With --cost {cost}: {UNITS.get(cost, 'what')} {MOST}")
    for cost, flag in COSTS.declared("target_option").items()
] + [Option("target", float, None, f"With any --cost: {', '.join(f'{UNITS[cost]} ({cost})' for cost in UNITS)} {MOST}")]


@click.command("run")
@click.option(
    "--lut",
    "lut_files",
    type=PATH,
    required=True,
    multiple=True,
    help="Latency table of a device, a file or a published name; once for each device.",
)
@click.option("--space", help="Search space: a name or a .toml file.  [default: the table's]")
@click.option("--data", default="digits", show_default=True, help="digits or a path; see docs/searching/data.md.")
@click.option("-o", "--output", type=PATH, help="Folder of the run.  [default: runs/TABLE]")
@click.option("--combine-precisions", is_flag=True, help="Take tables of several precisions, such as int8 and float32.")
@click.option("--fresh", is_flag=True, help="Start over in a folder that holds an earlier search.")
@threads
@device
@click.option("--compile", "compiled", is_flag=True, help="Compile the supernet with torch.compile.")
@click.option("--json", "as_json", is_flag=True, help="Print the architecture as JSON; of several, all and a table.")
@one_of(
    "--preset",
    PRESETS,
    "Defaults of what is not given: FBNet's, but for what keeps skip from taking over; the paper to the letter; "
    "or a search of minutes for a small data set.",
)
@options_from(TARGETS, multiple=True)
@click.option("--targets", metavar="X,X,…", callback=numbers, help="Several targets from one training: 15,20,25.")
@options_from(options_of(Settings), in_range=False)
@options_of_plugins(*OWN, in_range=False)
@click.pass_context
def command(
    context: click.Context,
    /,
    lut_files: tuple[Path, ...],
    space: str | None,
    data: str,
    output: Path | None,
    combine_precisions: bool,
    fresh: bool,
    threads: int | None,
    device: str,
    compiled: bool,
    as_json: bool,
    preset: str,
    targets: tuple[float, ...] | None,
    **options: Any,
) -> None:
    r"""Search the best network for a device, given its latency table.

    A supernet of all candidates is trained with the table's latency in the loss (FBNet, CVPR'19). Defaults are the
    paper's but for three things, without which skip takes over; --preset paper is the paper to the letter, and --preset
    quick a search of minutes that also trains and tests the network. Several tables or targets share one training of
    the weights and have one θ and one network each. Started by torchrun, it takes many GPUs or hosts
    (docs/searching/scale.md). OUTPUT receives arch.json (or one arch-NAME.json for each network), weights.pt,
    metrics.jsonl and tensorboard/. A run that was interrupted continues when the same command is given again.

    \b
    Example:
      fbsearch run --lut local.csv --preset quick -o runs/first
      fbsearch run --lut s8.csv --target-ms 20 --data imagenet100/ -o runs/s8-20ms
      fbsearch run --lut s8.csv --targets 15,20,25 --data imagenet100/ -o runs/s8-front
      fbsearch run --lut s8.csv --lut iphonex.csv --target-ms 20 --target-ms 15 --data imagenet100/ -o runs/both
      fbsearch run --lut s8.csv --data cifar10.npz --limit 500 --steps 2 --epochs 2 -o runs/trial
    """
    import torch

    from fblut.reading import read_lut
    from fblut.speed import all_at_one_speed
    from fbsearch.beyond.alike import kinds_apart
    from fbsearch.jobs.report import describe_devices, describe_network, skip_warning
    from fbsearch.jobs.search_job import cross_table, run_search
    from fbsearch.jobs.targets import objectives_of
    from fbsearch.machine.compute import Compute
    from fbsearch.machine.process import before_search
    from fbsearch.machine.ranks import EndedElsewhere, Ranks, local_rank
    from fbsearch.strategies import STRATEGIES
    from fbspace.space import load_space

    if threads is not None:
        torch.set_num_threads(threads)
    given = {target.flag: options.pop(target.name) for target in TARGETS}
    own = {name: value for kind in OWN for name in kind.options() if (value := options.pop(name)) is not None}
    for name, value in PRESETS[preset].items():
        if context.get_parameter_source(name) is ParameterSource.DEFAULT:
            options[name] = value
    compute = Compute.choose(device, options["amp"], compiled, local_rank())
    try:
        with Ranks.joined(compute) as ranks:
            with ranks.together():
                luts, moved = all_at_one_speed({file.stem: read_lut(file) for file in lut_files})
                if len(luts) < len(lut_files):
                    raise SearchError(
                        "two tables have the same file name; rename one, as networks are named after their table"
                    )
                objectives = objectives_of(options["cost"], list(luts), given, targets or ())
                space = space or next(iter(luts.values())).metadata.space
                settings = Settings(space, data, objectives, options=own, **options)
                loaded = load_space(space)
                apart = kinds_apart(loaded) if settings.w_start == "alike" else []
                alone = compute.device.type == "cpu" and ranks.world == 1
                before_search(alone and STRATEGIES.find(settings.strategy).one_path, loaded.is_masked)
            for name, lut in luts.items() if ranks.is_first else ():
                if lut.metadata.verdict == "do not use":
                    why = "; ".join(lut.metadata.warnings) or "it does not say why"
                    click.echo(f"warning: table {name} says of itself: do not use ({why}); measure it again", err=True)
            for words in moved if ranks.is_first else ():
                click.echo(f"note: {words}", err=True)
            if apart and ranks.is_first:
                note = "begin at random, not alike: their blocks have no start (docs/extend/block.md)"
                click.echo(f"note: candidates of kind {', '.join(apart)} {note}", err=True)
            output = output or Path("runs") / "-".join(luts)
            found = run_search(luts, settings, output, fresh, compute, ranks, combine_precisions)
    except EndedElsewhere as ended:
        context.exit(ended.exit_code)
    if not ranks.is_first:
        return
    table = cross_table(found, luts)
    if as_json:
        networks = [each.architecture.model_dump(mode="json", exclude_none=True) for each in found]
        print_json(networks[0] if len(found) == 1 else {"architectures": networks, "cross_table_us": table})
    else:
        files = dict(zip(luts, lut_files, strict=True))
        for each in found:
            click.echo(describe_network(each, luts[each.goal.table], files[each.goal.table], output))
        if len(found) > 1:
            click.echo(describe_devices(found, table))
    for warning in filter(None, map(skip_warning, found)):
        click.echo(warning, err=True)
