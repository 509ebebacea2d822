"""Types and shapes of everything in an ONNX graph: by ONNX's inference, and what that leaves open by a trial run."""

import contextlib
from collections.abc import Iterable

from onnx import ModelProto, TensorProto, checker, helper, shape_inference

from fbmodel.formats._onnx_graph import ELEMENTS, OnnxGraph, tensor_of
from fbmodel.tensors import Tensor
from fbmodel.trial import try_out

_SMALL_BYTES = 4096
"""Larger constants are no shapes, and inference needs none of their numbers."""


def types_of(graph: OnnxGraph) -> dict[str, Tensor]:
    """Return the tensors of a graph by name: those whose type is known, with what is known of their shape.

    Where all inputs are fixed, the model is run if inference leaves the shape of a node's output open. Raises
    TrialError where ONNX Runtime refuses it.
    """
    found = {value.name: tensor for value in graph.graph.value_info if (tensor := tensor_of(value))}
    found |= _inferred(graph)
    if all(found[value.name].is_fixed for value in graph.inputs if value.name in found):
        left = _left_open(graph, found)
        if left:
            found |= _tried(graph, left)
    return found


def _inferred(graph: OnnxGraph) -> dict[str, Tensor]:
    """Return what ONNX's shape inference says; what the file says of values in between is not believed."""
    skeleton = ModelProto()
    skeleton.CopyFrom(_without_graph(graph.model))
    made = skeleton.graph
    made.name = graph.graph.name
    made.node.extend(graph.graph.node)
    made.input.extend(graph.graph.input)
    made.output.extend(graph.graph.output)
    made.sparse_initializer.extend(graph.graph.sparse_initializer)
    for each in graph.graph.initializer:
        is_small = each.ByteSize() <= _SMALL_BYTES
        made.initializer.append(
            each if is_small else TensorProto(name=each.name, dims=each.dims, data_type=each.data_type)
        )
    # what is refused here a runtime refuses in better words
    with contextlib.suppress(RuntimeError, ValueError, checker.ValidationError, shape_inference.InferenceError):
        made = shape_inference.infer_shapes(skeleton, data_prop=True).graph
    values = (*made.value_info, *made.output, *made.input)
    found = {value.name: tensor for value in values if (tensor := tensor_of(value))}
    for each in graph.graph.initializer:
        found[each.name] = Tensor(each.name, tuple(each.dims), ELEMENTS[each.data_type])
    return found


def _without_graph(model: ModelProto) -> ModelProto:
    """Return all of a model but its graph."""
    made = ModelProto(ir_version=model.ir_version)
    made.opset_import.extend(model.opset_import)
    made.functions.extend(model.functions)
    return made


def _left_open(graph: OnnxGraph, types: dict[str, Tensor]) -> list[str]:
    """Return the names of activations whose shape is not known."""
    made = (
        name for number in sorted(graph.live(graph.folded(types))) for name in graph.graph.node[number].output if name
    )
    return [name for name in made if name not in types or not types[name].is_fixed]


def _tried(graph: OnnxGraph, names: Iterable[str]) -> dict[str, Tensor]:
    """Return what a run tells of some names. Raises TrialError where ONNX Runtime refuses the model."""
    model = ModelProto()
    model.CopyFrom(graph.model)
    del model.graph.output[:]
    model.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    inputs = [tensor_of(value) for value in graph.inputs]
    fed = {each.name: (tuple(size or 0 for size in each.shape or ()), each.element) for each in inputs if each}
    answer = try_out("onnxruntime", model.SerializeToString(), fed)
    return {name: Tensor(name, tuple(shape), element) for name, (element, shape) in answer.items()}
