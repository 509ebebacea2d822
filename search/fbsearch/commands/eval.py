"""fbsearch eval: the accuracy of a trained network on images that it was not trained on."""

import json
from pathlib import Path

import click

from fbbase.commandline import Whole
from fbexport.runtimes import RUNTIMES, prepare_process
from fbsearch.commands._options import PATH, amp, as_json, device, one_of, print_json, threads

RUNTIME_BATCH = 32
"""Images at a time in a runtime, which keeps memory for all values at once."""


@click.command(short_help="Measure a trained network's accuracy on held-out images.")
@click.argument("arch")
@click.option("--weights", "--checkpoint", type=PATH, required=True, help="The trained weights.")
@click.option("--data", help="Images: a name, a file or a folder, as for train.  [default: the training's]")
@one_of("--split", ["test", "validation"], "Which of the images held out.")
@click.option("--limit", type=Whole(2), help="Use at most so many test images.")
@click.option("--batch", type=Whole(1), default=256, show_default=True, help="Images at a time.")
@device
@amp
@click.option("--runtime", help=f"Evaluate the model file in this runtime: {RUNTIMES.listed()}.")
@click.option("--precision", default="float32", show_default=True, help="Of the model file: float32, float16, int8.")
@click.option("--ranges", type=PATH, help="Of int8: read, or calibrated and written.  [default: beside the weights]")
@click.option(
    "--calibrate-by",
    default="least-noise",
    show_default=True,
    help="min-max, percentile, mse, or that of them with the least noise.",
)
@click.option("--calibration-images", type=Whole(1), default=256, show_default=True, help="Training images for ranges.")
@threads
@click.option("-o", "--output", type=PATH, help="Add the result to this file: accuracy.jsonl, for fbprof report --run.")
@as_json
def command(
    arch: str,
    weights: Path,
    data: str | None,
    split: str,
    limit: int | None,
    batch: int,
    device: str,
    amp: str,
    runtime: str | None,
    precision: str,
    ranges: Path | None,
    calibrate_by: str,
    calibration_images: int,
    threads: int | None,
    output: Path | None,
    as_json: bool,
) -> None:
    r"""Measure a trained network's accuracy and cross-entropy on images that it was not trained on.

    ARCH is the arch.json that fbsearch train or run wrote beside the weights: it says which images took part in the
    training and how images were normalised, so that the same is done here, whatever --limit is. DATA without test
    images of its own is split as in the training. Of at least ten classes the top-5 accuracy is given too.

    With --runtime the network is written as a model file and run in that runtime on this machine: what a phone will
    compute, not a simulation of it. int8 needs the range of every value: those that fine-tuning left beside the weights
    (fbsearch train --precision int8), or of --calibration-images that the network was trained with.

    \b
    Example:
      fbsearch eval runs/first-trained/arch.json --weights runs/first-trained/weights.pt --data cifar10.npz
      fbsearch eval arch.json --weights weights.pt --data cifar10.npz --split validation --json
      fbsearch eval arch.json --weights weights.pt --data cifar10.npz --precision int8 --runtime litert
    """
    import dataclasses

    import torch
    from torch import nn

    from fbbase.files import is_stream, read_text, write_text
    from fbsearch.errors import SearchError
    from fbsearch.machine.compute import Compute
    from fbsearch.training.evaluate import evaluate
    from fbsearch.training.quantized import in_runtime, ranges_for
    from fbsearch.training.record import check_classes, held_out
    from fbspace.architecture import load_architecture
    from fbspace.weights import load_network

    if precision != "float32" and runtime is None:
        raise SearchError(f"--precision {precision} is a runtime's: name one with --runtime ({RUNTIMES.listed()})")
    if runtime is not None and amp != "none":
        raise SearchError("--amp is torch's own mixed precision; a runtime has --precision")
    prepare_process()
    compute = Compute.choose("cpu" if runtime else device, amp)
    if threads is not None:
        torch.set_num_threads(threads)
    architecture = load_architecture(arch)
    network = load_network(architecture, weights)
    images, chosen = held_out(architecture, data, split, limit, compute.device)
    check_classes(network, images)
    evaluated: nn.Module = network
    how = "torch"
    if runtime is not None:
        found, how = None, f"{runtime}, {precision}"
        if precision == "int8":
            found, origin = ranges_for(network, images, weights, ranges, calibration_images, calibrate_by, seed=0)
            how += f", {origin}"
        batch = min(batch, RUNTIME_BATCH)
        evaluated = in_runtime(network, images, runtime, precision, found, batch, threads or 1)
        compute = Compute()
    result = evaluate(compute.place(evaluated), images, chosen, batch, compute)
    about = {
        "architecture": arch,
        "weights": str(weights),
        "data": images.name,
        "split": split,
        "runtime": runtime or "torch",
        "precision": precision,
        "computed_by": how,
        **dataclasses.asdict(result),
    }
    if output is not None:
        before = read_text(output, "accuracies") if output.exists() and not is_stream(output) else ""
        write_text(output, before + json.dumps(about, ensure_ascii=False) + "\n")
    if as_json:
        print_json(about)
        return
    click.echo(f"top-1 accuracy  {result.top1_percent:.2f} % of {result.images} {split} images ({how})")
    if result.top5_percent is not None:
        click.echo(f"top-5 accuracy  {result.top5_percent:.2f} %")
    click.echo(f"cross-entropy   {result.cross_entropy:.4f}")
