"""One file per model format; each has SUFFIX, RUNTIMES and `write(module, input_shape, precision) -> bytes`."""

from typing import TYPE_CHECKING, Protocol, cast

from fbbase.plugins import PluginFolder

if TYPE_CHECKING:
    from torch import nn

FORMATS = PluginFolder("format", "fbprof.formats")
PRECISIONS = ("float32",)
"""Precisions a model can be written in. int8 and float16 are to follow; the parameter is already everywhere."""


class Format(Protocol):
    """What a module in this folder provides."""

    SUFFIX: str
    """Ending of the model file, e.g. `.tflite`."""
    RUNTIMES: tuple[str, ...]
    """Runtimes of the agent that run such a file, e.g. `("litert",)`."""

    def write(self, module: "nn.Module", input_shape: tuple[int, int, int, int], precision: str) -> bytes:
        """Return the model file of an eval-mode module for one input of N, C, H, W.

        Raises ExportError naming the operator and the module it came from where the format cannot express it.
        """
        ...


def load_format(name: str) -> Format:
    """Return a format by name. Raises UnknownNameError."""
    return cast(Format, FORMATS.load(name))
