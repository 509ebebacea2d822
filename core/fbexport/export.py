"""Export: an operator or a whole network as a model file; the same arguments give the same bytes."""

import functools
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from fbexport.errors import ExportError
from fbexport.formats import load_format
from fbexport.graph import Shapes, shapes_of
from fbexport.quantization.scheme import Ranges
from fbexport.trace import input_names
from fbspace.architecture import Architecture
from fbspace.blocks import build_block, is_identity
from fbspace.opspec import OpSpec
from fbspace.weights import load_network, randomize


def export_spec(spec: OpSpec, format_name: str, precision: str = "float32", seed: int = 0) -> bytes:
    """Return the model file of one operator with random weights.

    Raises ExportError where the format cannot express it, UnknownNameError for a format or block there is not.
    """
    if is_identity(spec):
        raise ExportError(f"{spec.key()} is an identity: it costs nothing and has no model file")
    try:
        return load_format(format_name).write(_random_block(spec, seed), spec.input_shape, precision)
    except ExportError as error:
        raise ExportError(f"{spec.key()}: {error}") from None


def export_chain(specs: Sequence[OpSpec], format_name: str, precision: str = "float32", seed: int = 0) -> bytes:
    """Return the model file of operators one after the other, each with the weights it has alone.

    Raises ExportError where the format cannot express it, UnknownNameError for a format or block there is not.
    """
    chain = nn.Sequential(*(_random_block(spec, seed) for spec in specs)).eval()
    try:
        return load_format(format_name).write(chain, specs[0].input_shape, precision)
    except ExportError as error:
        raise ExportError(f"a network of {len(specs)} operators: {error}") from None


@functools.lru_cache(maxsize=1024)
def _random_block(spec: OpSpec, seed: int) -> nn.Module:
    """Return an operator's block; networks of the same operators share it."""
    return randomize(build_block(spec), seed)


def export_module(module: nn.Module, shapes: Shapes, format_name: str, precision: str = "float32") -> bytes:
    """Return the model file of anybody's module: by the tracer of this project, or else ONNX by torch's exporter.

    `shapes` is that of its input, or one for each. Torch's exporter writes float32. Raises ExportError where none of
    both can.
    """
    try:
        return load_format(format_name).write(module.eval(), shapes, precision)
    except ExportError as error:
        if precision != "float32" or format_name == "torchscript":
            raise
        if format_name != "onnx":
            others = "; torch's own exporter may write it as ONNX (onnxruntime), and --runtime torch runs any module"
            raise ExportError(f"{error}{others}") from None
        first = error
    try:
        return _onnx_by_torch(module.eval(), tuple(map(torch.zeros, shapes_of(shapes))))
    except Exception as error:  # whatever a tracer trips over, in code of others
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ExportError(
            f"{first}; nor can torch's exporter: {reason:.300}; --runtime torch runs any module"
        ) from None


def _onnx_by_torch(module: nn.Module, examples: tuple[torch.Tensor, ...]) -> bytes:
    names = input_names(module)[: len(examples)] if len(examples) > 1 else ["input"]
    with warnings.catch_warnings(), tempfile.NamedTemporaryFile() as file:
        warnings.simplefilter("ignore")  # deprecated: its successor needs another package, and seconds a model
        torch.onnx.export(module, examples, file.name, dynamo=False, input_names=names)
        return file.read()


def export_network(
    architecture: Architecture,
    format_name: str,
    precision: str = "float32",
    weights: Path | None = None,
    seed: int = 0,
    ranges: Ranges | None = None,
) -> bytes:
    """Return the model file of a network, with the weights of a file or random ones.

    `ranges` are those of an int8 model's values; only random weights do without. Raises ExportError where the format
    cannot express it, UnknownNameError for a format there is not, FbError where the weights do not fit.
    """
    model_format = load_format(format_name)
    space = architecture.load_space()
    network = load_network(architecture, weights, space, seed)
    if precision == "int8" and weights is not None and ranges is None:
        raise ExportError("int8 needs the ranges of a trained network's values: give images or a file of ranges")
    try:
        return model_format.write(network, space.input_shape, precision, ranges)
    except ExportError as error:
        raise ExportError(f"network {architecture.name!r}: {error}") from None
