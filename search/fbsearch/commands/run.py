"""fbsearch run: search the best network under latency tables, and write it down."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fbsearch.errors import SearchError
from fbsearch.fbnet.settings import PRESETS, Settings

_Command = Callable[..., Any]

if TYPE_CHECKING:
    from fblut.table import Lut
    from fbsearch.jobs.search_job import Found


def _option(name: str, help_text: str) -> Callable[[_Command], _Command]:
    """Return a click option whose default is that of the setting with the same name."""
    default = Settings.__dataclass_fields__[name.removeprefix("--").replace("-", "_")].default
    kind = int if default is None else type(default)
    return click.option(name, type=kind, default=default, show_default=default is not None, help=help_text)


class _Numbers(click.ParamType[tuple[float, ...]]):
    """Numbers separated by commas."""

    name = "ms,ms,…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        """Return the numbers."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(float(part) for part in value.split(","))
        except ValueError:
            self.fail(f"{value!r} is not a list of numbers such as 15,20,25", param, ctx)


@click.command()
@click.option(
    "--lut",
    "lut_files",
    type=click.Path(path_type=Path),
    required=True,
    multiple=True,
    help="Latency table of a device; several times for several devices.",
)
@click.option("--space", help="Search space: a name or a .toml file.  [default: the table's]")
@click.option(
    "--data", default="digits", show_default=True, help="digits, FILE.npz, or a folder; see docs/searching/data.md."
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Folder of the run.  [default: runs/TABLE]")
@click.option("--combine-precisions", is_flag=True, help="Take tables of several precisions, such as int8 and float32.")
@click.option("--fresh", is_flag=True, help="Start over in a folder that holds an earlier search.")
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads.  [default: all cores]")
@click.option("--device", default="auto", show_default=True, help="Where to train: auto, cpu, cuda or cuda:1.")
@click.option("--compile", "compiled", is_flag=True, help="Compile the supernet with torch.compile.")
@click.option("--json", "as_json", is_flag=True, help="Print the architecture as JSON, or all of them and cross table.")
@click.option(
    "--preset",
    type=click.Choice(list(PRESETS)),
    default="paper",
    show_default=True,
    help="Defaults of what is not given: the published recipe, or one of minutes for a small data set.",
)
@_option("--strategy", "How candidates are weighted and run; a file of fbsearch/strategies.")
@_option("--cost", "What a network costs; a file of fbsearch/costs.")
@click.option(
    "--target-ms",
    type=float,
    multiple=True,
    help="Latency, by the table, that the network may have at most; once, or once for each --lut.",
)
@click.option("--target-mmacs", type=float, help="With --cost macs: millions of MACs that it may have at most.")
@click.option("--target-mparams", type=float, help="With --cost params: millions of parameters that it may have.")
@click.option("--targets", type=_Numbers(), help="Several targets from one training, such as 15,20,25.")
@click.option(
    "--loss",
    help="How accuracy and cost are weighed; a file of fbsearch/losses.  [default: paper; with a target: target]",
)
@_option("--latency-weight", "λ of the losses target and additive.")
@_option("--alpha", "α of the loss.")
@_option("--beta", "β of the loss.")
@_option("--epochs", "Epochs of the search.")
@_option("--warmup", "First epochs, with θ held.  [default: a ninth, as the paper's 10 of 90]")
@_option("--batch", "Images per step.")
@_option("--lr", "Learning rate of w, falling to zero in a cosine.")
@_option("--momentum", "Momentum of w.")
@_option("--weight-decay", "Weight decay of w.")
@_option("--theta-lr", "Learning rate of θ (Adam).")
@_option("--theta-weight-decay", "Weight decay of θ.")
@_option("--temperature", "τ at the start.")
@_option("--temperature-decay", "Decay of τ in one of 90 epochs; at the end it is exp(-90 · decay) of the start.")
@_option("--w-start", "Candidates of a layer begin alike, all near skip, or each at random.")
@_option("--w-sampling", "Networks that train w: theta (drawn from P_θ, the paper) or uniform.")
@_option("--skip-delay", "Share of the epochs with θ steps in which skip neither gains nor loses.")
@_option("--w-share", "Share of the images that trains w; the rest trains θ.")
@_option("--validation-share", "Share of the training images that ranks the networks found.")
@_option("--augment", "Augmentation of the images that train w: none, flip, crop, crop-flip, resized-crop.")
@_option("--samples", "Networks drawn from P_θ at the end, to choose from.")
@_option("--evaluations", "Networks that random and evolution judge.")
@_option("--train-epochs", "Epochs of a training from scratch at the end; 0 leaves it to `fbsearch train`.")
@_option("--train-lr", "Learning rate of that training, falling to zero in a cosine.")
@_option("--train-weight-decay", "Weight decay of that training.")
@_option("--amp", "Mixed precision: none, bf16 or fp16.")
@_option("--seed", "Seed of everything random.")
@_option("--limit", "Use at most so many training and so many test images.")
@_option("--steps", "End every epoch after so many steps, for a trial.")
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
    target_ms: tuple[float, ...],
    target_mmacs: float | None,
    target_mparams: float | None,
    targets: tuple[float, ...] | None,
    **options: Any,
) -> None:
    r"""Search the best network for a device, given its latency table.

    A supernet of all candidates is trained with the table's latency in the loss (FBNet, CVPR'19). Defaults are the
    paper's; --preset quick is a search of minutes that also trains and tests the network. Several tables or targets
    share one training of the weights and have one θ and one network each. Started by torchrun, it takes many GPUs or
    hosts (docs/searching/scale.md). OUTPUT receives arch.json (or one
    arch-NAME.json for each network), weights.pt, metrics.jsonl and tensorboard/. A run that was interrupted continues
    when the same command is given again.

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
    from fbsearch.beyond.alike import kinds_apart
    from fbsearch.jobs.search_job import cross_table, run_search
    from fbsearch.machine.compute import Compute
    from fbsearch.machine.process import before_search
    from fbsearch.machine.ranks import EndedElsewhere, Ranks, local_rank
    from fbsearch.strategies import STRATEGIES
    from fbspace.space import load_space

    if threads is not None:
        torch.set_num_threads(threads)
    for name, value in PRESETS[preset].items():
        if context.get_parameter_source(name) is click.core.ParameterSource.DEFAULT:
            options[name] = value
    compute = Compute.choose(device, options["amp"], compiled, local_rank())
    try:
        with Ranks.joined(compute) as ranks:
            with ranks.together():
                luts = {file.stem: read_lut(file) for file in lut_files}
                if len(luts) < len(lut_files):
                    raise SearchError(
                        "two tables have the same file name; rename one, as networks are named after their table"
                    )
                chosen = target_of(options["cost"], target_ms, targets or (), target_mmacs, target_mparams)
                objectives = pair(list(luts), chosen, targets or ())
                with_target = any(target is not None for _, target in objectives)
                options["loss"] = options["loss"] or ("target" if with_target else "paper")
                space = space or next(iter(luts.values())).metadata.space
                settings = Settings(space=space, data=data, objectives=objectives, **options)
                loaded = load_space(space)
                apart = kinds_apart(loaded) if settings.w_start == "alike" else []
                alone = compute.device.type == "cpu" and ranks.world == 1
                before_search(alone and STRATEGIES.find(settings.strategy).one_path, loaded.is_masked)
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
        result: Any = networks[0] if len(found) == 1 else {"architectures": networks, "cross_table_us": table}
        click.echo(json.dumps(result, indent=2, ensure_ascii=False))
    else:
        files = dict(zip(luts, lut_files, strict=True))
        for each in found:
            _report(each, luts[each.table], files[each.table], output)
        if len(found) > 1:
            click.echo(_cross_table(found, table))
    for each in found:
        _warn(each)


def target_of(
    cost: str,
    target_ms: tuple[float, ...],
    targets: tuple[float, ...],
    target_mmacs: float | None,
    target_mparams: float | None,
) -> tuple[float, ...]:
    """Return the targets of single networks that were given. Raises SearchError for one of another cost."""
    numbers = [() if value is None else (value,) for value in (target_mmacs, target_mparams)]
    for needs, option, values in zip(
        ("lut", "lut", "macs", "params"),
        ("--target-ms", "--targets", "--target-mmacs", "--target-mparams"),
        (target_ms, targets, *numbers),
        strict=True,
    ):
        if values and cost != needs:
            raise SearchError(f"{option} goes with --cost {needs}, not with --cost {cost}; leave one of the two away")
    return (*target_ms, *numbers[0], *numbers[1])


def pair(tables: Sequence[str], target_ms: Sequence[float], targets: Sequence[float]) -> tuple[Any, ...]:
    """Return (table, target) for every network to be found. Raises SearchError for options that do not go together."""
    if target_ms and targets:
        raise SearchError("give --target-ms or --targets, not both")
    if len(set(targets)) < len(targets):
        raise SearchError("--targets names a target twice; leave one away")
    if len(target_ms) > 1 and len(target_ms) != len(tables):
        raise SearchError(
            f"--target-ms is given {len(target_ms)} times for {len(tables)} tables: give it once, or once for each "
            "--lut in the same order; several targets for one table are --targets 15,20,25"
        )
    if targets:
        return tuple((table, target) for table in tables for target in targets)
    each: list[float | None] = (
        list(target_ms) if len(target_ms) == len(tables) else [None, *target_ms][-1:] * len(tables)
    )
    return tuple(zip(tables, each, strict=True))


def _report(found: "Found", lut: "Lut", lut_file: Path, output: Path) -> None:
    from fblut.listing import list_layers

    architecture = found.architecture
    provenance, predicted = architecture.provenance, architecture.predicted
    assert predicted is not None
    low, high = predicted.ci_low_us, predicted.ci_high_us
    interval = "" if low is None or high is None else f" (95 %: {low:.1f} to {high:.1f})"
    lines = [
        f"predicted latency    {predicted.latency_us:.1f} µs{interval} on {predicted.device} ({predicted.runtime})",
        f"skip layers          {provenance['skip_layers']} of {len(architecture.choices)}",
        f"validation accuracy  {provenance['validation_accuracy_percent']:.1f} % of {provenance['validation_images']} "
        "images, with the supernet's weights",
    ]
    if provenance["target"] is not None:
        from fbsearch.jobs.search_job import TARGETS

        target, unit = provenance["target"]
        _, factor, words = TARGETS[unit]
        share = 100 * provenance["candidates"][0]["cost"] / target
        lines.insert(1, f"target               {target / factor:g} {words}; the network takes {share:.1f} % of it")
    if "test_accuracy_percent" in provenance:
        lines += [
            f"training accuracy    {provenance['training']['train_accuracy_percent']:.1f} % from scratch",
            f"test accuracy        {provenance['test_accuracy_percent']:.1f} % of {provenance['test_images']} images "
            "held out",
        ]
        next_ = f"fbprof verify {found.path} --lut {lut_file} --device {predicted.device}"
    else:
        next_ = f"fbsearch train {found.path} --data {provenance['settings']['data']}"
    lines += [f"written              {found.path}; all of the run: {output}", f"next                 {next_}"]
    click.echo(f"network for {found.objective}\n\n{list_layers(architecture, lut)}\n\n" + "\n".join(lines) + "\n")


def _cross_table(found: Sequence["Found"], table: dict[str, dict[str, float]]) -> str:
    """Return predicted latencies: a line for each network, a column for each device."""
    devices = list(next(iter(table.values())))
    width = max(len(each.objective) for each in found)
    lines = [f"{'network':{width}}  accuracy  " + "  ".join(f"{f'{name}, ms':>12}" for name in devices)]
    for each in found:
        accuracy = each.architecture.provenance["validation_accuracy_percent"]
        cells = "  ".join(f"{table[each.objective][name] / 1000:{max(12, len(name) + 4)}.4f}" for name in devices)
        lines.append(f"{each.objective:{width}}  {accuracy:6.1f} %  {cells}")
    return "\n".join(lines)


def _warn(found: "Found") -> None:
    """Warn of a network that is mostly skip."""
    provenance = found.architecture.provenance
    skips, layers = provenance["skip_layers"], len(found.architecture.choices)
    if skips > layers / 2:
        cure = "a higher target leaves room for more" if provenance["target"] else "--target-ms keeps it from that"
        click.echo(
            f"warning: {skips} of {layers} layers of the network for {found.objective} are skip. Skip has no weights "
            f"to learn and looks good early; {cure}, and so do --skip-delay and --w-sampling uniform "
            "(docs/searching/skip.md)",
            err=True,
        )
