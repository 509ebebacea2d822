"""Formats: how a network is written as the file that runtimes read; one class in one file each.

docs/extend/format.md shows how one is added. A runtime names its format (`fbexport.runtimes`); a format names none.
"""

import functools
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from fbbase.errors import FbError
from fbbase.plugins import Plugins
from fbexport.errors import ExportError, module_name
from fbexport.runtimes import RUNTIMES

if TYPE_CHECKING:
    from torch import nn

    from fbexport.graph import Graph, Node, Shapes, Value
    from fbexport.quantization.quantized import QuantizedGraph
    from fbexport.quantization.scheme import Ranges

PRECISIONS = ("float32", "float16", "int8")
"""Precisions that models are written in; not every format has each."""


class Format(ABC):
    """Writes networks as files of one kind."""

    suffix: ClassVar[str]
    """Ending of the model file, e.g. `.tflite`; no other format has it."""
    precisions: ClassVar[tuple[str, ...]] = ("float32",)
    """Those that it can be written in."""

    @property
    def name(self) -> str:
        """What messages call it: the name of its file."""
        return type(self).__module__.rpartition(".")[2]

    def write(
        self,
        module: "nn.Module",
        shapes: "Shapes",
        precision: str = "float32",
        ranges: "Ranges | None" = None,
        every_value: bool = False,
    ) -> bytes:
        """Return the model file of an eval-mode module for inputs of these shapes (N, C, H, W); the same bytes always.

        `ranges` are those of an int8 model's values (`fbexport.quantization.calibration`); without them it is only good
        for timing. `every_value` makes an output of every operator's, in order, to compare layer by layer. Raises
        ExportError naming the operator and the module it came from where the format cannot express it.
        """
        from fbexport.quantization.calibration import plausible_ranges
        from fbexport.quantization.quantized import quantize
        from fbexport.trace import trace

        check_precision(precision, self.precisions, self.name)
        graph = trace(module, shapes)
        if precision == "int8" and max(len(graph.inputs), len(graph.outputs)) > 1:
            raise ExportError("int8 is for networks of one input and one output; several are written in float32")
        quantized = quantize(graph, ranges or plausible_ranges(graph)) if precision == "int8" else None
        outputs = [node.output for node in graph.nodes] if every_value else graph.outputs
        try:
            return self.encode(graph, outputs, precision, quantized)
        except UnknownOperatorError as error:
            raise error.with_remedy() from None

    def parts(self, content: bytes) -> Mapping[str, bytes]:
        """Return the files, by suffix, in which others have such a model where they have more than one; else none."""
        return {}

    @abstractmethod
    def encode(
        self, graph: "Graph", outputs: "Sequence[Value]", precision: str, quantized: "QuantizedGraph | None"
    ) -> bytes:
        """Return the model file of a graph, in a precision of `precisions`; `outputs` are the network's, or more.

        `quantized` are the int8 numbers of the graph's values where the precision is int8. Raises `unknown_operator`
        for what the format cannot express.
        """


FORMATS = Plugins("format", "fbexport.formats", base=Format)


@functools.cache
def load_format(name: str) -> Format:
    """Return a format by name. Raises UnknownNameError, or FbError naming a package that is not installed."""
    return FORMATS.load(name)


def format_of(runtime: str) -> str:
    """Return the name of the format that a runtime runs. Raises UnknownNameError that lists the runtimes."""
    return RUNTIMES.find(runtime).format


def format_for(runtime: str, precision: str) -> str:
    """Return the name of the format that a runtime runs, if both have a precision. Raises as `format_of` does.

    Raises ExportError where one has not, or FbError naming the package that the format lacks here.
    """
    found = RUNTIMES.find(runtime)
    written = load_format(found.format).precisions
    known = tuple(each for each in written if each in (found.precisions or written))
    check_precision(precision, known, f"{runtime} (format {found.format})")
    return found.format


def check_precision(precision: str, known: tuple[str, ...], format_name: str) -> None:
    """Raise ExportError for a precision that a format does not write."""
    if precision not in known:
        what = "" if precision in PRECISIONS else ", which no format knows"
        raise ExportError(
            f"{format_name} has no precision {precision!r}{what}; it can be written in {', '.join(known)}"
        )


class UnknownOperatorError(ExportError):
    """An operator of the graph that a format does not write, or not in a precision."""

    def __init__(self, format_name: str, node: "Node", precision: str) -> None:
        self.format_name, self.node, self.precision = format_name, node, precision
        told = (str(getattr(node, each)) for each in ("function", "operation", "mode") if hasattr(node, each))
        what = " ".join([type(node).__name__, *told])
        super().__init__(
            f"format {format_name!r} cannot write operator {what} of {module_name(node.source)} in {precision}"
        )

    def with_remedy(self) -> ExportError:
        """Return the error with the formats that can, each of which is asked."""
        able = [name for name in FORMATS.names() if can_write(name, self.node)]
        if self.format_name in able:
            if self.precision != "float32":
                return ExportError(f"{self}; its files in float32 can")
            able.remove(self.format_name)  # not in this network
        others = f"formats that can: {', '.join(able)}" if able else "no format can"
        return ExportError(f"{self}; {others}. Or add it to fbexport/formats/{self.format_name}.py")


def unknown_operator(format_name: str, node: "Node", precision: str = "float32") -> UnknownOperatorError:
    """Return the error for an operator of the graph that a format does not know, or not in a precision."""
    return UnknownOperatorError(format_name, node, precision)


def can_write(format_name: str, node: "Node") -> bool:
    """Whether a format writes an operator by itself, in float32."""
    import numpy as np  # help lists formats, and must not wait for it

    from fbexport.graph import Constant, Graph

    first = next(each for each in node.inputs if not isinstance(each, Constant))
    others = [
        each if each == first or isinstance(each, Constant)
        else Constant(each.name, each.shape, np.zeros(each.shape, np.float32))
        for each in node.inputs
    ]  # fmt: skip
    graph = Graph((first,), (node.output,), (replace(node, inputs=tuple(others)),))
    try:
        load_format(format_name).encode(graph, [node.output], "float32", None)
    except (FbError, ValueError):
        return False
    return True
