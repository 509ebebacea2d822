"""fbprof export: write a network as a model file."""

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path

import click

from fbexport.formats import FORMATS, Format
from fbprof.commands import _options

FILE = click.Path(path_type=Path, dir_okay=False)
CALIBRATION_BATCH = 64
REPORTED_IMAGES = 8


@click.command(short_help="Write a network as a model file (TFLite, ONNX, ExecuTorch, TorchScript, ncnn).")
@click.argument("arch")
@click.option("--format", "format_name", required=True, metavar="NAME", help=f"{FORMATS.listed()}.")
@click.option("--weights", type=_options.PATH, help="Trained weights; random ones without it.")
@click.option("--precision", default="float32", show_default=True, help="Precision of the numbers in the model.")
@click.option("--ranges", type=_options.PATH, help="Of int8: the file of fbsearch train or eval --ranges.")
@click.option(
    "--calibration",
    type=_options.PATH,
    help="Of int8, in place of --ranges: images N, C, H, W as the network gets them (.npy).",
)
@click.option(
    "--calibrate-by",
    default="least-noise",
    show_default=True,
    help="min-max, percentile, mse, or that of them with the least noise.",
)
@click.option("--report", is_flag=True, help="Run it here and tell every layer's noise beside float32.")
@click.option("--seed", default=0, show_default=True, help="Seed of the random weights.")
@click.option("--shape", "shapes", multiple=True, metavar="[NAME=]1x3x224x224", help="Of an input of file.py:function.")
@click.option("-o", "--output", type=FILE, help="File to write. [default: the network's name, in this folder]")
@_options.as_json
def command(
    arch: str,
    format_name: str,
    weights: Path | None,
    precision: str,
    ranges: Path | None,
    calibration: Path | None,
    calibrate_by: str,
    report: bool,
    seed: int,
    shapes: tuple[str, ...],
    output: Path | None,
    as_json: bool,
) -> None:
    r"""Write a network as a model file.

    ARCH is an architecture file (.json), the name of a published network, or file.py:function, a function of your own
    that returns an nn.Module and the shapes of its inputs.

    int8 is integer from input to output. Of trained weights it needs the range of every value: --ranges, or images with
    --calibration. With --report the file is run in its runtime here, and every layer's output is held against float32:
    10 lg of the signal's power over that of the noise, in decibels.

    \b
    Example:
      fbprof export fbnet-c --format tflite
      fbprof export runs/search/arch.json --weights runs/train/weights.pt --format onnx -o net.onnx
      fbprof export fbnet-c --format tflite --precision int8 --report
      fbprof export net.py:detector --format tflite --shape 1x3x320x320
    """
    if (ranges or calibration) and precision != "int8":
        raise click.UsageError("--ranges and --calibration are of --precision int8")
    if ranges and calibration:
        raise click.UsageError("give --ranges or --calibration, not both")
    if ranges and weights is None:
        raise click.UsageError("--ranges are those of trained weights: name these with --weights")
    if ".py:" in arch:
        if weights or calibration or report:
            raise click.UsageError("--weights, --calibration and --report are not of a file.py:function")
        _export_own(arch, format_name, precision, shapes, output, as_json)
        return
    if report and format_name == "torchscript":
        raise click.UsageError(
            "--report looks at every layer, which TorchScript files do not give: take another format"
        )
    if shapes:
        raise click.UsageError(f"--shape is of a file.py:function; network {arch} has the size of its space")
    click.echo(f"exporting {arch} …", err=True)  # torch alone takes seconds to be imported

    import torch

    from fbexport.export import export_network
    from fbexport.formats import load_format
    from fbexport.noise import calibrated, layer_noise
    from fbexport.quantization.files import read_images, read_ranges
    from fbexport.runtimes import prepare_process
    from fbexport.trace import trace
    from fbspace.architecture import load_architecture
    from fbspace.network import count
    from fbspace.weights import load_network

    prepare_process()
    model_format = load_format(format_name)
    architecture = load_architecture(arch)
    space = architecture.load_space()
    network = load_network(architecture, weights, space, seed)
    found, origin = (read_ranges(ranges, weights), f"ranges of {ranges}") if ranges and weights else (None, "")
    images = torch.randn(space.input_shape, generator=torch.Generator().manual_seed(seed))
    if calibration:
        images = read_images(calibration, space.input_shape)
        batches = torch.split(images, CALIBRATION_BATCH)
        calibration_found = calibrated(trace(network, space.input_shape), batches, calibrate_by)
        found, origin = calibration_found.ranges, str(calibration_found)
    elif precision == "int8" and found is None:
        origin = "random weights, and ranges of one image of random numbers: for timing, no measure of accuracy"
    content = export_network(architecture, format_name, precision, weights, seed, found)
    layers = layer_noise(network, images[:REPORTED_IMAGES], format_name, precision, found) if report else []
    complexity = count(network, space.input_shape)  # takes its weights away
    path = output or Path(architecture.name.replace("/", "-") + model_format.suffix)
    parts = _write(path, content, model_format, [each for each in (arch, weights, ranges, calibration) if each])
    result = {"file": str(path), "size_bytes": len(content), "format": format_name, "precision": precision}
    result |= {"parts": parts} if parts else {}
    result |= {"ranges": origin} if origin else {}
    result |= {"macs": complexity.macs, "parameters": complexity.parameters}
    if as_json:
        as_dicts = [dataclasses.asdict(layer) for layer in layers]
        click.echo(json.dumps(result | {"layers": as_dicts} if report else result))
    else:
        for layer in layers:
            ratio = "      -   " if layer.snr_db is None else f"{layer.snr_db:7.1f} dB"
            click.echo(f"{ratio}  {layer.operator:10} {layer.module}")
        click.echo(
            f"{path}  {len(content) / 1e6:.1f} MB  "
            f"({complexity.macs / 1e6:.1f} M multiply-accumulates, {complexity.parameters / 1e6:.2f} M parameters)"
        )
        if parts:
            click.echo(f"the same as {' and '.join(parts)}")
        if origin:
            click.echo(f"int8: {origin}")
    if report and ranges:
        click.echo(
            "warning: the noise is that of an image of random numbers, which ranges of real images clip; "
            "--calibration IMAGES in place of --ranges tells that of these images",
            err=True,
        )


def _write(path: Path, content: bytes, model_format: Format, read: Iterable[Path | str]) -> list[str]:
    """Write a model file and the files in which others have it; return these. Raises FbError for one that is read."""
    from fbbase.errors import FbError
    from fbbase.files import is_one_file, is_stream, write_bytes

    stem, parts = str(path).removesuffix(model_format.suffix), {}
    if not is_stream(path):
        parts = {f"{stem}{suffix}": part for suffix, part in model_format.parts(content).items()}
    for name in parts:
        if any(is_one_file(name, given) for given in read):
            raise FbError(f"{name} comes to lie beside {path}, and is read, too: it would be lost; name another -o")
    write_bytes(path, content)
    for name, part in parts.items():
        write_bytes(Path(name), part)
    return list(parts)


def _export_own(
    name: str, format_name: str, precision: str, shapes: tuple[str, ...], path: Path | None, as_json: bool
) -> None:
    from fbexport.formats import load_format
    from fbprof.models.named import export_own, parse_shape

    content, module, _, left = export_own(name, format_name, precision, list(map(parse_shape, shapes)))
    if left:
        raise click.UsageError(f"--shape {left[0].name}: {name} has no input of that name")
    file, _, function = name.rpartition(":")
    path = path or Path(function + load_format(format_name).suffix)
    parts = _write(path, content, load_format(format_name), [file])
    parameters = sum(each.numel() for each in module.parameters())
    result = {"file": str(path), "size_bytes": len(content), "format": format_name, "precision": precision}
    result |= {"parts": parts} if parts else {}
    if as_json:
        click.echo(json.dumps(result | {"parameters": parameters}))
    else:
        click.echo(f"{path}  {len(content) / 1e6:.1f} MB  ({parameters / 1e6:.2f} M parameters)")
