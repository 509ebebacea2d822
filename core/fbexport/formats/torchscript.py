"""torchscript: the graph run with torch's own functions, under torch.jit.trace, weights as constants.

The file is not optimised for inference: such a file would not load. Whoever runs it optimises after loading. The
shapes of the inputs, for which TorchScript has no place, are the archive's record `extra/input_shape`: `1x3x224x224`,
or several with commas between them. Several outputs are a tuple, without names.
"""

import copy
import inspect
import io
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fbexport.errors import ExportError
from fbexport.formats import Format
from fbexport.functions import constants_of, function_of
from fbexport.graph import Graph, Shape, Shapes, Value, shapes_of
from fbexport.quantization.quantized import QuantizedGraph
from fbexport.quantization.scheme import Ranges
from fbexport.trace import input_names


class TorchScript(Format):
    """TorchScript archives: N, C, H, W → N, C, H, W or N, classes; of any module that torch traces, in float32."""

    suffix = ".pt"

    def write(
        self,
        module: nn.Module,
        shapes: Shapes,
        precision: str = "float32",
        ranges: Ranges | None = None,
        every_value: bool = False,
    ) -> bytes:
        """Return a TorchScript archive. What our tracer does not follow, torch's own does, but for `every_value`."""
        try:
            return super().write(module, shapes, precision, ranges, every_value)
        except ExportError as error:
            if precision not in self.precisions or every_value or any(each.training for each in module.modules()):
                raise
            first = error
        own = copy.deepcopy(module).requires_grad_(False)
        try:
            return _traced(lambda *inputs: own(*inputs), input_names(module), shapes_of(shapes))
        except Exception as error:  # whatever a tracer trips over, in code of others
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ExportError(f"{first}; nor can torch.jit.trace: {reason:.300}") from None

    def encode(self, graph: Graph, outputs: Sequence[Value], precision: str, quantized: QuantizedGraph | None) -> bytes:
        """Return a TorchScript archive."""
        steps, constants = [(node, function_of(node)) for node in graph.nodes], constants_of(graph)
        names = [value.name for value in graph.inputs]

        def forward(*inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
            values = dict(zip(names, inputs, strict=True)) | constants
            for node, step in steps:
                values[node.output.name] = step(*(values[value.name] for value in node.inputs))
            made = tuple(values[value.name] for value in outputs)
            return made if len(made) > 1 else made[0]

        return _traced(forward, names, [value.shape for value in graph.inputs])


def _traced(forward: Callable[..., Any], names: Sequence[str], shapes: Sequence[Shape]) -> bytes:
    """Return the archive of a function, whose arguments get the names where there are several.

    A function is traced, not a module: torch numbers the classes of traced modules through the whole process, and the
    same network would give other bytes each time.
    """
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    called = [*names, *(f"input_{at}" for at in range(len(names), len(shapes)))][: len(shapes)]
    parameters = [inspect.Parameter(name, kind) for name in (called if len(shapes) > 1 else ["x"])]
    forward.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    with warnings.catch_warnings(), torch.no_grad():
        warnings.filterwarnings("ignore", message=".*torch.jit", category=DeprecationWarning)
        warnings.filterwarnings("ignore", message=".*torch.jit", category=FutureWarning)
        warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)  # type: ignore[attr-defined]
        script = torch.jit.trace(  # type: ignore[no-untyped-call]
            forward, tuple(map(torch.zeros, shapes)), check_trace=False, _compilation_unit=torch._C.CompilationUnit()
        )
    told = ",".join("x".join(map(str, shape)) for shape in shapes)
    return _finished(script.save_to_buffer(), told.encode())


def _finished(archive: bytes, shapes: bytes) -> bytes:
    """Add the inputs' shapes, and drop the call stacks that torch stores: they hold paths, and differ by caller."""
    reader, buffer = torch._C.PyTorchFileReader(io.BytesIO(archive)), io.BytesIO()
    writer = torch._C.PyTorchFileWriter(buffer)
    for name in reader.get_all_records():
        if not name.endswith(".debug_pkl") and name not in ("version", "byteorder", ".data/serialization_id"):
            record = reader.get_record(name)
            writer.write_record(name, record, len(record))
    writer.write_record("extra/input_shape", shapes, len(shapes))
    writer.write_end_of_file()
    return buffer.getvalue()
