"""fbprof export: write a network as a model file."""

import json
from pathlib import Path

import click


@click.command(short_help="Write a network as a model file (TFLite, ONNX, TorchScript).")
@click.argument("arch")
@click.option("--format", "format_name", required=True, metavar="NAME", help="tflite, onnx or torchscript.")
@click.option("--weights", type=click.Path(path_type=Path), help="Trained weights; random ones without it.")
@click.option("--precision", default="float32", show_default=True, help="Precision of the numbers in the model.")
@click.option("--seed", default=0, show_default=True, help="Seed of the random weights.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File to write. [default: the network's name, in this folder]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(
    arch: str,
    format_name: str,
    weights: Path | None,
    precision: str,
    seed: int,
    output: Path | None,
    as_json: bool,
) -> None:
    r"""Write a network as a model file.

    ARCH is an architecture file (.json) or the name of a published network.

    \b
    Example:
      fbprof export fbnet-c --format tflite
      fbprof export runs/search/arch.json --weights runs/train/weights.pt --format onnx -o net.onnx
    """
    from fbbase.files import write_bytes
    from fbexport.export import export_network
    from fbexport.formats import load_format
    from fbspace.architecture import load_architecture
    from fbspace.network import count
    from fbspace.weights import load_network

    suffix = load_format(format_name).SUFFIX
    architecture = load_architecture(arch)
    content = export_network(architecture, format_name, precision, weights, seed)
    complexity = count(load_network(architecture, weights), architecture.load_space().input_shape)
    path = output or Path(architecture.name.replace("/", "-") + suffix)
    write_bytes(path, content)
    result = {
        "file": str(path),
        "size_bytes": len(content),
        "format": format_name,
        "precision": precision,
        "macs": complexity.macs,
        "parameters": complexity.parameters,
    }
    if as_json:
        click.echo(json.dumps(result))
    else:
        click.echo(
            f"{path}  {len(content) / 1e6:.1f} MB  "
            f"({complexity.macs / 1e6:.1f} M multiply-accumulates, {complexity.parameters / 1e6:.2f} M parameters)"
        )
