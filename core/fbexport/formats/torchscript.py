"""torchscript: the graph run with torch's own functions, under torch.jit.trace, weights as constants.

The file is not optimised for inference: such a file would not load. Whoever runs it optimises after loading. The
shapes of the inputs, for which TorchScript has no place, are the archive's record `extra/input_shape`: `1x3x224x224`,
or several with commas between them. Several outputs are a tuple, without names.
"""

import inspect
import io
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from fbexport.formats import Format
from fbexport.functions import constants_of, function_of
from fbexport.graph import Graph, Value
from fbexport.quantization.quantized import QuantizedGraph


class TorchScript(Format):
    """TorchScript archives: N, C, H, W → N, C, H, W or N, classes."""

    suffix = ".pt"

    def encode(self, graph: Graph, outputs: Sequence[Value], precision: str, quantized: QuantizedGraph | None) -> bytes:
        """Return a TorchScript archive.

        A function is traced, not the module: torch numbers the classes of traced modules through the whole process, and
        the same network would give other bytes each time.
        """
        steps, constants = [(node, function_of(node)) for node in graph.nodes], constants_of(graph)

        names = [value.name for value in graph.inputs]

        def forward(*inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
            values = dict(zip(names, inputs, strict=True)) | constants
            for node, step in steps:
                values[node.output.name] = step(*(values[value.name] for value in node.inputs))
            made = tuple(values[value.name] for value in outputs)
            return made if len(made) > 1 else made[0]

        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        parameters = [inspect.Parameter(name, kind) for name in (names if len(names) > 1 else ["x"])]
        forward.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]

        with warnings.catch_warnings(), torch.no_grad():
            warnings.filterwarnings("ignore", message=".*torch.jit", category=DeprecationWarning)
            warnings.filterwarnings("ignore", message=".*torch.jit", category=FutureWarning)
            script = torch.jit.trace(  # type: ignore[no-untyped-call]
                forward,
                tuple(torch.zeros(value.shape) for value in graph.inputs),
                check_trace=False,
                _compilation_unit=torch._C.CompilationUnit(),
            )
        shapes = ",".join("x".join(map(str, value.shape)) for value in graph.inputs)
        return _finished(script.save_to_buffer(), shapes.encode())


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
