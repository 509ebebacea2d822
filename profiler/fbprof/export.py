"""Export: an operator or a whole network as a model file; the same arguments give the same bytes."""

from pathlib import Path

from fbprof.errors import ExportError
from fbprof.formats import load_format
from fbspace.architecture import Architecture
from fbspace.blocks import build_block
from fbspace.opspec import OpSpec
from fbspace.weights import load_network, randomize


def export_spec(spec: OpSpec, format_name: str, precision: str = "float32", seed: int = 0) -> bytes:
    """Return the model file of one operator with random weights.

    Raises ExportError where the format cannot express it, UnknownNameError for a format or block there is not.
    """
    if spec.is_identity:
        raise ExportError(f"{spec.key()} is an identity: it costs nothing and has no model file")
    model_format = load_format(format_name)
    module = randomize(build_block(spec), seed)
    try:
        return model_format.write(module, spec.input_shape, precision)
    except ExportError as error:
        raise ExportError(f"{spec.key()}: {error}") from None


def export_network(
    architecture: Architecture,
    format_name: str,
    precision: str = "float32",
    weights: Path | None = None,
    seed: int = 0,
) -> bytes:
    """Return the model file of a network, with the weights of a file or random ones.

    Raises ExportError where the format cannot express it, UnknownNameError for a format there is not, FbError where
    the weights do not fit.
    """
    model_format = load_format(format_name)
    space = architecture.load_space()
    network = load_network(architecture, weights, space, seed)
    try:
        return model_format.write(network, space.input_shape, precision)
    except ExportError as error:
        raise ExportError(f"network {architecture.name!r}: {error}") from None
