"""torchscript: the graph run with torch's own functions, under torch.jit.trace, weights as constants.

The file is not optimised for inference: such a file would not load. Whoever runs it optimises after loading. The
shape of the input, for which TorchScript has no place, is the archive's record `extra/input_shape`: `1x3x224x224`.
"""

import io
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from fbexport.errors import ExportError
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
        if len(outputs) > 1:
            raise ExportError("torchscript files have one output; compare layer by layer in another format")
        steps, constants = [(node, function_of(node)) for node in graph.nodes], constants_of(graph)

        def forward(x: Tensor) -> Tensor:
            values = {graph.input.name: x} | constants
            for node, step in steps:
                values[node.output.name] = step(*(values[value.name] for value in node.inputs))
            return values[graph.output.name]

        with warnings.catch_warnings(), torch.no_grad():
            warnings.filterwarnings("ignore", message=".*torch.jit", category=DeprecationWarning)
            warnings.filterwarnings("ignore", message=".*torch.jit", category=FutureWarning)
            script = torch.jit.trace(  # type: ignore[no-untyped-call]
                forward, torch.zeros(graph.input.shape), check_trace=False, _compilation_unit=torch._C.CompilationUnit()
            )
        return _finished(script.save_to_buffer(), "x".join(map(str, graph.input.shape)).encode())


def _finished(archive: bytes, shape: bytes) -> bytes:
    """Add the input's shape, and drop the call stacks that torch stores: they hold paths, and differ by caller."""
    reader, buffer = torch._C.PyTorchFileReader(io.BytesIO(archive)), io.BytesIO()
    writer = torch._C.PyTorchFileWriter(buffer)
    for name in reader.get_all_records():
        if not name.endswith(".debug_pkl") and name not in ("version", "byteorder", ".data/serialization_id"):
            record = reader.get_record(name)
            writer.write_record(name, record, len(record))
    writer.write_record("extra/input_shape", shape, len(shape))
    writer.write_end_of_file()
    return buffer.getvalue()
