"""One file per model format; each has SUFFIX, RUNTIMES, PRECISIONS and `write`."""

import contextlib
from typing import TYPE_CHECKING, Protocol, cast

from fbbase.errors import FbError, UnknownNameError
from fbbase.plugins import PluginFolder
from fbexport.errors import ExportError, module_name

if TYPE_CHECKING:
    from torch import nn

    from fbexport.graph import Node
    from fbexport.quantization.calibration import Ranges

FORMATS = PluginFolder("format", "fbexport.formats")
PRECISIONS = ("float32", "float16", "int8")
"""Precisions that models are written in; not every format has each."""


class Format(Protocol):
    """What a module in this folder provides."""

    SUFFIX: str
    """Ending of the model file, e.g. `.tflite`."""
    RUNTIMES: tuple[str, ...]
    """Runtimes of the agent that run such a file, e.g. `("litert",)`."""

    PRECISIONS: tuple[str, ...]
    """Precisions that it can be written in, e.g. `("float32", "int8")`."""

    def write(
        self,
        module: "nn.Module",
        input_shape: tuple[int, int, int, int],
        precision: str,
        ranges: "Ranges | None" = None,
        every_value: bool = False,
    ) -> bytes:
        """Return the model file of an eval-mode module for one input of N, C, H, W; the same bytes every time.

        `ranges` are those of an int8 model's values (`fbexport.quantization.calibration`); without them it is only good
        for timing. `every_value` makes an output of every operator's, in order, to compare layer by layer. Raises
        ExportError naming the operator and the module it came from where the format cannot express it.
        """
        ...


def load_format(name: str) -> Format:
    """Return a format by name. Raises UnknownNameError, or FbError naming a package that is not installed."""
    return cast(Format, FORMATS.module(name))


def runtimes() -> list[str]:
    """Return the runtimes of all formats that are installed here."""
    found: list[str] = []
    for name in FORMATS.names():
        with contextlib.suppress(FbError):  # a package is not installed: the other formats work without it
            found += load_format(name).RUNTIMES
    return found


def format_of(runtime: str) -> str:
    """Return the name of the format that a runtime runs.

    Raises UnknownNameError that lists the runtimes, or FbError naming the package that a format lacks here.
    """
    known: list[str] = []
    unavailable: FbError | None = None
    for name in FORMATS.names():
        try:
            of_format = load_format(name).RUNTIMES
        except FbError as error:  # a package is not installed: the other formats work without it
            unavailable = error
            continue
        if runtime in of_format:
            return name
        known += of_format
    raise unavailable or UnknownNameError("runtime", runtime, known)


def format_for(runtime: str, precision: str) -> str:
    """Return the name of the format that a runtime runs, if that is written in a precision. Raises as `format_of` does.

    Raises ExportError where it is not.
    """
    name = format_of(runtime)
    check_precision(precision, load_format(name).PRECISIONS, f"{runtime} (format {name})")
    return name


def check_precision(precision: str, known: tuple[str, ...], format_name: str) -> None:
    """Raise ExportError for a precision that a format does not write."""
    if precision not in known:
        what = "" if precision in PRECISIONS else ", which no format knows"
        raise ExportError(f"{format_name} has no precision {precision!r}{what}; it is written in {', '.join(known)}")


def unknown_operator(format_name: str, node: "Node") -> ExportError:
    """Return the error for an operator of the graph that a format does not know."""
    return ExportError(
        f"format {format_name!r} cannot write operator {type(node).__name__} of {module_name(node.source)}; "
        f"choose another format, or add the operator to fbexport/formats/{format_name}.py"
    )
