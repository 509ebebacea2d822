"""Small ONNX and TFLite files of any inputs, and the agents' test input written out."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper

ELEMENTS = ("float16", "float32", "float64", "int8", "uint8", "int16", "int32", "int64", "bool")
Tensors = Mapping[str, tuple[str, Sequence[int | str]]]
"""Element and shape by name."""


def agent_input(element: str, shape: Sequence[int]) -> NDArray[Any]:
    """Return the test input, the generator as in docs/devices/agent-protocol.md."""
    state, values = 12345, []
    for _ in range(math.prod(shape)):
        state = (1664525 * state + 1013904223) % 2**32
        if element.startswith("float"):
            values.append((state >> 8) / 2**24 - 0.5)
        elif element in ("int8", "uint8"):
            values.append((state >> 24) - (128 if element == "int8" else 0))
        else:
            values.append((state >> 16) - 2**15 if element == "int16" else state >> 31)
    return np.array(values, element).reshape(shape)


def onnx_type(element: str) -> int:
    """Return ONNX's number of an element type."""
    names = {"float32": "FLOAT", "float64": "DOUBLE"}
    return int(getattr(TensorProto, names.get(element, element.upper())))


def onnx_model(inputs: Tensors, outputs: Tensors | list[Any], nodes: Sequence[NodeProto]) -> bytes:
    """Return an ONNX file; `outputs` may be value infos, for those that are no tensors."""
    infos = [helper.make_tensor_value_info(name, onnx_type(kind), shape) for name, (kind, shape) in inputs.items()]
    if not isinstance(outputs, list):
        outputs = [helper.make_tensor_value_info(n, onnx_type(kind), shape) for n, (kind, shape) in outputs.items()]
    graph: GraphProto = helper.make_graph(list(nodes), "small", infos, outputs)
    model: ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def tflite_model(
    inputs: Tensors,
    outputs: Tensors,
    operator: str,
    options: tuple[int, Any] | None = None,
    signature: Sequence[str] = (),
) -> bytes:
    """Return a TFLite file of one operator; its signature may list the inputs otherwise. -1 is a side not fixed."""
    tensors = {**inputs, **outputs}
    names = list(tensors)
    graph = schema.SubGraphT(
        tensors=[
            schema.TensorT(
                shape=[max(int(side), 1) for side in shape],
                shapeSignature=[int(side) for side in shape] if -1 in shape else None,
                type=getattr(schema.TensorType, element.upper()),
                name=name,
                hasRank=True,
            )
            for name, (element, shape) in tensors.items()
        ],
        inputs=list(range(len(inputs))),
        outputs=list(range(len(inputs), len(tensors))),
        operators=[schema.OperatorT(inputs=list(range(len(inputs))), outputs=list(range(len(inputs), len(tensors))))],
    )
    if options:
        graph.operators[0].builtinOptionsType, graph.operators[0].builtinOptions = options
    code = schema.OperatorCodeT(version=1)
    code.builtinCode = getattr(schema.BuiltinOperator, operator)
    code.deprecatedBuiltinCode = min(code.builtinCode, 127)
    model = schema.ModelT(version=3, operatorCodes=[code], subgraphs=[graph], buffers=[schema.BufferT()])
    if signature:
        maps = [
            [schema.TensorMapT(name=f"{n}_of_signature", tensorIndex=names.index(n)) for n in chosen]
            for chosen in (signature, outputs)
        ]
        model.signatureDefs = [schema.SignatureDefT(inputs=maps[0], outputs=maps[1], signatureKey="serving_default")]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def reshape(element: str, shape: Sequence[int]) -> bytes:
    """Return a TFLite file whose output is its input."""
    options = schema.ReshapeOptionsT(newShape=list(shape))
    same = (element, shape)
    return tflite_model({"x": same}, {"y": same}, "RESHAPE", (schema.BuiltinOptions.ReshapeOptions, options))


def identity(runtime: str, element: str, shape: Sequence[int]) -> bytes:
    """Return a file whose output is its input."""
    if runtime == "litert":
        return reshape(element, shape)
    same = (element, shape)
    return onnx_model({"x": same}, {"y": same}, [helper.make_node("Identity", ["x"], ["y"])])


def cast(runtime: str, source: str, result: str) -> bytes:
    """Return a model that turns numbers of one type into another."""
    inputs, outputs = {"x": (source, (1, 4))}, {"y": (result, (1, 4))}
    if runtime == "litert":
        return tflite_model(inputs, outputs, "CAST")
    return onnx_model(inputs, outputs, [helper.make_node("Cast", ["x"], ["y"], to=onnx_type(result))])
