"""fbsearch sample: draw networks from a finished search, ranked on the validation images."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from fbsearch.jobs.sample_job import Sampled


@click.command()
@click.argument("folder", metavar="RUN", type=click.Path(path_type=Path))
@click.option("-n", "--count", type=click.IntRange(min=1), default=6, show_default=True, help="Networks to draw.")
@click.option("--objective", help="Network's name in a run of several tables or targets.  [default: every one]")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Folder of the files.  [default: RUN/samples]")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Another seed, other networks.")
@click.option("--device", default="auto", show_default=True, help="Where to compute: auto, cpu, cuda or cuda:1.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    folder: Path, count: int, objective: str | None, output: Path | None, seed: int, device: str, as_json: bool
) -> None:
    r"""Draw distinct networks from what a search has learned, and rank them.

    RUN is the folder of a search. Networks are drawn from P_θ (the first is the most probable one), with a target
    among those of 97 to 100 % of it; batch normalisation is estimated anew for each, and they are ranked on the
    validation images with the supernet's weights. The paper trains several from scratch and keeps the best: do that
    with `fbsearch train`. OUTPUT receives one architecture file each, the best first.

    \b
    Example:
      fbsearch sample runs/s8 -n 6
      fbsearch train runs/s8/samples/s8-1.json --data imagenet100/ -o runs/s8-1
    """
    from fbsearch.jobs.sample_job import sample
    from fbsearch.machine.compute import Compute

    sampled = sample(folder, count, objective, output or folder / "samples", seed, Compute.choose(device))
    if as_json:
        click.echo(json.dumps([_record(each) for each in sampled], indent=2, ensure_ascii=False))
        return
    width = max(len(str(each.path)) for each in sampled)
    click.echo(f"{'network':{width}}  {'validation':>10}  {'loss':>7}  {'predicted, µs':>13}  skip")
    for each in sampled:
        click.echo(
            f"{each.path!s:{width}}  {each.candidate.accuracy_percent:8.1f} %  {each.candidate.loss:7.4f}  "
            f"{_latency_us(each):13.1f}  {each.architecture.provenance['skip_layers']}"
        )
    click.echo(
        f"next: fbsearch train {sampled[0].path} --data {sampled[0].architecture.provenance['settings']['data']}"
    )


def _record(sampled: "Sampled") -> dict[str, object]:
    return {
        "path": str(sampled.path),
        "objective": sampled.architecture.provenance["objective"],
        "choices": sampled.candidate.choices,
        "validation_accuracy_percent": sampled.candidate.accuracy_percent,
        "loss": sampled.candidate.loss,
        "predicted_us": _latency_us(sampled),
        "skip_layers": sampled.architecture.provenance["skip_layers"],
    }


def _latency_us(sampled: "Sampled") -> float:
    assert sampled.architecture.predicted is not None
    return sampled.architecture.predicted.latency_us
