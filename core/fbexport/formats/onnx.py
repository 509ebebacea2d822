"""onnx: written node by node with onnx.helper, NCHW, in an opset that runtimes several years old still load.

float32; and int8, operators between DequantizeLinear and QuantizeLinear that ONNX Runtime fuses into integer kernels.
"""

from collections.abc import Sequence

from fbexport.formats import Format
from fbexport.formats._onnx_float import FloatModel
from fbexport.formats._onnx_int8 import IntegerModel
from fbexport.graph import Graph, Value
from fbexport.quantization.quantized import QuantizedGraph


class Onnx(Format):
    """ONNX models: `input` of N, C, H, W, `output` of the network's shape.

    An int8 model takes and gives uint8, the int8 numbers plus 128.
    """

    suffix = ".onnx"
    precisions = ("float32", "int8")

    def encode(self, graph: Graph, outputs: Sequence[Value], precision: str, quantized: QuantizedGraph | None) -> bytes:
        """Return an ONNX model."""
        model = FloatModel(graph) if quantized is None else IntegerModel(quantized)
        for node in graph.nodes:
            model.add(node)
        content: bytes = model.finish(outputs).SerializeToString(deterministic=True)
        return content
