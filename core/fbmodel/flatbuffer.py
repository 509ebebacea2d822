"""TFLite's flatbuffer by the schema classes of ai-edge-litert: unpacked with care, and packed as the schema demands."""

from typing import Any

import flatbuffers
from ai_edge_litert import schema_py_generated

IDENTIFIER = b"TFL3"
schema: Any = schema_py_generated
"""The schema's classes, which have no types."""


class AlignedBuffer(schema_py_generated.BufferT):  # type: ignore[misc]  # it has no types
    """Data aligned to 16 bytes, as the schema demands and its generated Python classes forget."""

    def Pack(self, builder: Any) -> Any:  # noqa: N802  # the base class's name
        """Write the buffer."""
        if self.data is not None:
            builder.Prep(16, len(self.data))
        return super().Pack(builder)


def packed(model: Any) -> bytes:
    """Return a model of the schema's classes as a file; its data is that of `AlignedBuffer`s."""
    data = sum(len(buffer.data) for buffer in model.buffers if buffer.data is not None)
    builder = flatbuffers.Builder(data + 1024 * sum(len(graph.tensors) for graph in model.subgraphs) + 1024)
    builder.Finish(model.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())


def unpacked(content: bytes) -> Any:
    """Return a file as a model of the schema's classes; their arrays lie in `content`.

    Raises ValueError for one that would unpack to more than it holds, and what the library trips over.
    """
    root = schema.Model.GetRootAs(content, 0)
    _check_size(root, content)
    model = schema.ModelT.InitFromObj(root)
    model.buffers = [AlignedBuffer(each.data, each.offset, each.size) for each in model.buffers or ()]
    return model


def _check_size(root: Any, content: bytes) -> None:
    """Raise ValueError where tables stand in lists so often, or names are so long, that they cannot all lie there."""
    lists = [root.OperatorCodesLength(), root.BuffersLength(), root.MetadataLength(), root.SignatureDefsLength()]
    lists.append(root.SubgraphsLength())
    left_bytes = len(content) - 4 * sum(lists)
    for at in range(root.SubgraphsLength() if left_bytes >= 0 else 0):
        graph = root.Subgraphs(at)
        left_bytes -= 4 * (graph.TensorsLength() + graph.OperatorsLength())
        for number in range(graph.TensorsLength() if left_bytes >= 0 else 0):
            left_bytes -= len(graph.Tensors(number).Name() or b"")
            if left_bytes < 0:
                break
    if left_bytes < 0:
        raise ValueError("it says that it holds more than its size")
