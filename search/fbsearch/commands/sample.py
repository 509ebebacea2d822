"""fbsearch sample: draw networks from a finished search, ranked on the validation images."""

import dataclasses
from pathlib import Path

import click

from fbbase.commandline import Whole
from fbsearch.commands._options import PATH, as_json, device, print_json


@click.command()
@click.argument("folder", metavar="RUN", type=PATH)
@click.option("-n", "--count", type=Whole(min=1), default=6, show_default=True, help="Networks to draw.")
@click.option("--objective", help="Network's name in a run of several tables or targets.  [default: every one]")
@click.option("-o", "--output", type=PATH, help="Folder of the files.  [default: RUN/samples]")
@click.option("--seed", type=Whole(min=0), default=0, show_default=True, help="Another seed, other networks.")
@device
@as_json
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
    from fbspace.architecture import load_architecture

    sampled = sample(folder, count, objective, output or folder / "samples", seed, Compute.choose(device))
    if as_json:
        print_json([dataclasses.asdict(each) for each in sampled])
        return
    width = max(len(each.path) for each in sampled)
    click.echo(f"{'network':{width}}  {'validation':>10}  {'loss':>7}  {'predicted, µs':>13}  skip")
    for each in sampled:
        click.echo(
            f"{each.path:{width}}  {each.validation_accuracy_percent:8.1f} %  {each.loss:7.4f}  "
            f"{each.predicted_us:13.1f}  {each.skip_layers}"
        )
    data = load_architecture(sampled[0].path).provenance["settings"]["data"]
    click.echo(f"next: fbsearch train {sampled[0].path} --data {data}")
