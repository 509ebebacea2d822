"""fbsearch train: train a network, from scratch or from given weights, and write it down."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fbbase.commandline import options_from
from fbbase.options import options_of
from fbsearch.commands._options import PATH, amp, as_json, device, numbers, one_of, print_json, threads
from fbsearch.training.recipe import PRESETS, Recipe, make_recipe

if TYPE_CHECKING:
    from fbsearch.training.train import Training
    from fbspace.architecture import Architecture


@click.command(short_help="Train a network and write its weights.")
@click.argument("arch")
@click.option("--data", default="digits", show_default=True, help="Images: a name, a file or a folder; as for run.")
@click.option("-o", "--output", type=PATH, help="Folder.  [default: runs/NAME-trained]")
@click.option("--init", type=PATH, help="Weights to begin with, instead of random ones.")
@one_of("--precision", ["float32", "int8"], "int8 fine-tunes --init to the rounding of int8.")
@one_of("--preset", PRESETS, "A recipe, which the options below change; paper is FBNet's to the letter.")
@options_from(options_of(Recipe), in_range=False, default=None, show_default=False)
@click.option("--milestones", callback=numbers, help="Shares of --epochs where steps divide --lr by 10.  [¼, ½, ¾]")
@device
@amp
@click.option("--compile", "compile_network", is_flag=True, help="Compile the network; minutes at first, faster after.")
@threads
@click.option("--fresh", is_flag=True, help="Start over in a folder that holds an earlier training.")
@as_json
def command(
    arch: str,
    data: str,
    output: Path | None,
    init: Path | None,
    precision: str,
    preset: str,
    device: str,
    amp: str,
    compile_network: bool,
    threads: int | None,
    fresh: bool,
    as_json: bool,
    **recipe: Any,
) -> None:
    r"""Train a network on all training images; a share of them is held out for validation after every epoch.

    ARCH is an architecture file or a published network (fbsearch zoo). OUTPUT receives weights.pt, arch.json (the
    network and how it was trained), metrics.jsonl and tensorboard/. The test images are left to fbsearch eval.

    A training that was stopped (Ctrl-C, SIGTERM, a crash) goes on when the same command is given again, on the CPU to
    the same bits. Ctrl-C and SIGTERM (exit code 4) write a checkpoint first.

    Options that are not given are the preset's. paper is FBNet's final training on ImageNet: SGD at 0.1, a tenth of
    it from epochs 90, 180 and 270 of 360 on each, batch 256, momentum 0.9, weight decay 4e-5. int8 is for --precision
    int8: a few epochs at a small rate, batch normalisation folded into the weights, values and weights rounded as an
    int8 model rounds them; ranges.json beside the weights is what that model is then made with.

    \b
    Example:
      fbsearch train runs/first/arch.json -o runs/first-trained
      fbsearch train fbnet-a --data imagenet/ --preset paper --augment resized-crop --amp bf16 -o runs/fbnet-a
      fbsearch train arch.json --data cifar10.npz --epochs 100 --mixup 0.2 --label-smoothing 0.1 --ema 0.999
      fbsearch train arch.json --data cifar10.npz --optimizer adamw --warmup 2
      fbsearch train arch.json --data cifar10.npz --precision int8 --preset int8 --init weights.pt -o runs/int8
      fbsearch train arch.json --data cifar10.npz --limit 500 --steps 2 --epochs 2 -o runs/trial
    """
    import torch

    from fbsearch.errors import SearchError
    from fbsearch.jobs.train_job import train_network
    from fbsearch.machine.compute import Compute
    from fbsearch.machine.ranks import world_size
    from fbspace.architecture import load_architecture

    if world_size() > 1:
        raise SearchError("fbsearch train runs in one process, on one GPU; start it without torchrun")
    compute = Compute.choose(device, amp, compile_network)
    if threads is not None:
        torch.set_num_threads(threads)
    architecture = load_architecture(arch)
    output = output or Path("runs") / f"{architecture.name.replace('/', '-')}-trained"
    chosen = make_recipe(preset, **recipe)
    written, trained = train_network(architecture, data, chosen, output, compute, init, fresh, precision)
    if as_json:
        about = {
            "architecture": str(output / "arch.json"),
            "weights": str(output / "weights.pt"),
            "train_accuracy_percent": trained.train_accuracy_percent,
            "validation": dataclasses.asdict(trained.validation),
            "seconds": trained.seconds,
            "waited_s": trained.waited_s,
            "training": written.provenance["training"],
        }
        print_json(about)
    else:
        _print(written, trained, Path(arch), output, data, precision)


def _print(
    architecture: "Architecture", trained: "Training", source: Path, output: Path, data: str, precision: str
) -> None:
    from fbexport.runtimes import DEFAULT
    from fbsearch.jobs.search_job import TABLES

    validation, record = trained.validation, architecture.provenance["training"]
    table = architecture.predicted.lut if architecture.predicted else "TABLE"
    kept = source.parent / TABLES / f"{table}.csv"
    file, weights = output / "arch.json", output / "weights.pt"
    runtime = "" if precision == "float32" else f" --precision {precision} --runtime {DEFAULT}"
    waited_percent = 100 * trained.waited_s / trained.seconds if trained.seconds else 0.0
    is_known = architecture.predicted is None or architecture.predicted.runtime != "unknown"
    verify = f"\n                     fbprof verify {file} --lut {kept if kept.exists() else table}" if is_known else ""
    click.echo(
        f"training accuracy    {trained.train_accuracy_percent:.1f} % in the last of {record['recipe']['epochs']} "
        f"epochs over {record['train_images']} images\n"
        f"validation accuracy  {validation.top1_percent:.1f} % of {validation.images} images held out, "
        f"cross-entropy {validation.cross_entropy:.3f}\n"
        f"time                 {trained.seconds:.1f} s, {waited_percent:.0f} % of it waiting for images\n"
        f"written              {file}, {weights}, {output / 'metrics.jsonl'}, {output / 'tensorboard'}\n"
        f"next                 fbsearch eval {file} --weights {weights} --data {data}{runtime}{verify}"
    )
