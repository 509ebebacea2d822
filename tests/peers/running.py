"""Models of others run in their runtimes, whole and part by part: what the tests of cutting compare."""

from collections.abc import Mapping

import numpy as np

from fbmodel.model import Model
from fbmodel.parts import separable


def numbers_for(model: Model, seed: int = 0) -> dict[str, np.ndarray]:
    """Return an array for each input of a model, whose shapes are fixed."""
    draw = np.random.default_rng(seed)
    found = {}
    for tensor in model.inputs:
        kind = np.dtype(tensor.element)
        if kind.kind == "f":
            numbers = draw.uniform(-1, 1, tensor.shape)
        elif kind.kind == "b":
            numbers = draw.integers(0, 2, tensor.shape)
        else:
            numbers = draw.integers(0, 100, tensor.shape)
        found[tensor.name] = np.asarray(numbers).astype(kind)
    return found


def run_onnx(content: bytes, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_outputs()]
    assert {each.name for each in session.get_inputs()} <= set(feeds)
    fed = {each.name: feeds[each.name] for each in session.get_inputs()}
    return dict(zip(names, session.run(names, fed), strict=True))


def interpreter_of(content: bytes, delegates: bool = True, resized: Mapping[str, tuple[int, ...]] | None = None):
    """Return a LiteRT interpreter with its tensors, as every delegate or none runs them."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    kind = OpResolverType.AUTO if delegates else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    made = Interpreter(model_content=content, num_threads=1, experimental_op_resolver_type=kind)
    for each in made.get_input_details():
        if resized and each["name"] in resized:
            made.resize_tensor_input(each["index"], resized[each["name"]], strict=False)
    made.allocate_tensors()
    return made


def invoke(interpreter, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    for each in interpreter.get_input_details():
        interpreter.set_tensor(each["index"], feeds[each["name"]])
    interpreter.invoke()
    return {each["name"]: interpreter.get_tensor(each["index"]) for each in interpreter.get_output_details()}


def run_tflite(content: bytes, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return invoke(interpreter_of(content), feeds)


RUN = {"onnx": run_onnx, "tflite": run_tflite}


def chained(model: Model, feeds: Mapping[str, np.ndarray], groups: list[range] | None = None) -> dict[str, np.ndarray]:
    """Return the outputs of a model whose parts run one after the other, each on what the earlier ones gave."""
    values = dict(feeds)
    for group in separable(model) if groups is None else groups:
        values |= RUN[model.format](model.part(group[0], group[-1]), values)
    return {tensor.name: values[tensor.name] for tensor in model.outputs if tensor.name in values}
