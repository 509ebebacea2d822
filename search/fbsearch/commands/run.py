"""fbsearch run: search the best network under a latency table, train it, and write it down."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fbsearch.settings import Settings

_Command = Callable[..., Any]

if TYPE_CHECKING:
    from fblut.table import Lut
    from fbspace.architecture import Architecture
    from fbspace.space import Space


def _option(name: str, help_text: str) -> Callable[[_Command], _Command]:
    """Return a click option whose default is that of the setting with the same name."""
    default = Settings.__dataclass_fields__[name.removeprefix("--").replace("-", "_")].default
    kind = int if default is None else type(default)
    return click.option(name, type=kind, default=default, show_default=default is not None, help=help_text)


@click.command()
@click.option("--lut", "lut_file", type=click.Path(path_type=Path), required=True, help="Latency table of the device.")
@click.option("--space", help="Search space: a name or a .toml file.  [default: the table's]")
@click.option("--data", default="digits", show_default=True, help="digits, FILE.npz, or a folder of class folders.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Folder of the run.  [default: runs/TABLE]")
@click.option("--fresh", is_flag=True, help="Start over in a folder that holds an earlier search.")
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads.  [default: all cores]")
@click.option("--json", "as_json", is_flag=True, help="Print the architecture as JSON.")
@_option("--strategy", "How candidates are weighted and run; a file of fbsearch/strategies.")
@_option("--cost", "What a network costs; a file of fbsearch/costs.")
@click.option("--target-ms", type=float, help="Latency, by the table, that the network may have at most.")
@click.option(
    "--loss",
    help="How accuracy and cost are weighed; a file of fbsearch/losses.  [default: paper; with --target-ms: target]",
)
@_option("--latency-weight", "λ of the losses target and additive.")
@_option("--alpha", "α of the loss.")
@_option("--beta", "β of the loss.")
@_option("--epochs", "Epochs of the search; the paper's is 90.")
@_option("--warmup", "First epochs, with θ held.  [default: a ninth, as the paper's 10 of 90]")
@_option("--batch", "Images per step; the paper's is 192.")
@_option("--lr", "Learning rate of w, falling to zero in a cosine.")
@_option("--theta-lr", "Learning rate of θ, for tens of θ steps; the paper's is 0.01, for thousands.")
@_option("--temperature", "τ at the start; it falls to exp(-0.045 · 90) of it, as in the paper's 90 epochs.")
@_option("--samples", "Networks drawn from P_θ at the end, to choose from.")
@_option("--train-epochs", "Epochs of the final training from scratch.")
@_option("--train-lr", "Learning rate of the final training, falling to zero in a cosine.")
@_option("--seed", "Seed of everything random.")
@_option("--limit", "Use at most so many training and so many test images.")
@_option("--steps", "End every epoch after so many steps, for a trial.")
def command(
    lut_file: Path,
    space: str | None,
    data: str,
    output: Path | None,
    fresh: bool,
    threads: int | None,
    as_json: bool,
    **options: Any,
) -> None:
    r"""Search the best network for a device, given its latency table.

    A supernet of all candidates is trained with the table's latency in the loss (FBNet, CVPR'19); the network it
    settles on is trained from scratch and tested once on images that were held out. OUTPUT receives arch.json,
    weights.pt, metrics.jsonl and tensorboard/. A run that was interrupted continues when the same command is given
    again. The paper's own schedule is --epochs 90 --batch 192 --theta-lr 0.01.

    \b
    Example:
      fbsearch run --lut local.csv -o runs/first
      fbsearch run --lut s8.csv --target-ms 20 -o runs/s8-20ms
      fbsearch run --lut s8.csv --data imagenet100/ --epochs 90 --batch 192 --theta-lr 0.01 -o runs/s8
      fbsearch run --lut s8.csv --data cifar10.npz --limit 500 --steps 2 --epochs 2 -o runs/trial
    """
    # Threads that spin while they wait make two busy programs on one machine 20 times slower; read when torch loads.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import torch

    from fblut.reading import read_lut
    from fbsearch.pipeline import run_search

    if threads is not None:
        torch.set_num_threads(threads)
    lut = read_lut(lut_file)
    output = output or Path("runs") / lut_file.stem
    options["loss"] = options["loss"] or ("paper" if options["target_ms"] is None else "target")
    settings = Settings(space=space or lut.metadata.space, data=data, **options)
    architecture, searched_space = run_search(lut, str(lut_file), settings, output, fresh)
    if as_json:
        click.echo(json.dumps(architecture.model_dump(mode="json", exclude_none=True), indent=2, ensure_ascii=False))
    else:
        _report(architecture, searched_space, lut, output)
    skips, layers = architecture.provenance["skip_layers"], len(architecture.choices)
    if skips > layers / 2:
        click.echo(
            f"warning: {skips} of {layers} layers are skip. Skip has no weights to learn and looks good early; "
            + ("a higher --target-ms leaves room for more" if settings.target_ms else "--target-ms keeps it from that"),
            err=True,
        )


def _report(architecture: "Architecture", space: "Space", lut: "Lut", output: Path) -> None:
    from fblut.listing import list_layers

    click.echo(list_layers(architecture, space, lut))
    found, predicted = architecture.provenance, architecture.predicted
    assert predicted is not None
    low, high = predicted.ci_low_us, predicted.ci_high_us
    interval = "" if low is None or high is None else f" (95 %: {low:.1f} to {high:.1f})"
    click.echo(
        f"\npredicted latency  {predicted.latency_us:.1f} µs{interval} on {predicted.device} ({predicted.runtime})\n"
        f"{_target(found['settings']['target_ms'], predicted.latency_us)}"
        f"skip layers        {found['skip_layers']} of {len(architecture.choices)}\n"
        f"θ split accuracy   {found['theta_accuracy_percent']:.1f} % with the supernet's weights\n"
        f"training accuracy  {found['training']['train_accuracy_percent']:.1f} % from scratch\n"
        f"test accuracy      {found['test_accuracy_percent']:.1f} % of {found['test_images']} images held out\n"
        f"written            {output / 'arch.json'}, {output / 'weights.pt'}, {output / 'metrics.jsonl'}, "
        f"{output / 'tensorboard'}\n"
        f"next               fbprof verify {output / 'arch.json'} --lut {predicted.lut} --device {predicted.device}"
    )


def _target(target_ms: float | None, latency_us: float) -> str:
    if target_ms is None:
        return ""
    return f"target             {target_ms:g} ms; the network takes {latency_us / target_ms / 10:.1f} % of it\n"
