"""Other people's models: what their parts compute one after the other, at which shapes they run, what they say."""

import functools

import numpy as np
import onnx
import pytest

from fbmodel.errors import ModelError
from fbmodel.model import Model, open_model
from fbmodel.parts import separable
from peers.models import ONNX, OTHERS, SILERO_BOTH_RATES, TFLITE, TORCHSCRIPT, Other, model_of_others
from peers.running import RUN, chained, interpreter_of, invoke, numbers_for

SAMPLE = ("pp-ocr-cls", "silero-opset-15", "nudenet", "face-front", "face-sparse", "iris-landmark")
"""What `make test` takes apart; `make test-full` all of them."""


@functools.cache
def fixed(name: str) -> Model:
    """Return a model set to its shapes; its nodes and what they give are found once for all tests."""
    return open_model(model_of_others(OTHERS[name].file)).with_shapes(OTHERS[name].shapes)


def feeds(model: Model, other: Other) -> dict[str, np.ndarray]:
    return numbers_for(model) | {name: np.array(number) for name, number in other.numbers.items()}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in SAMPLE else pytest.mark.full) for n in (*ONNX, *TFLITE)]
)
def test_the_parts_compute_what_the_whole_does(name: str) -> None:
    model = fixed(name)
    groups = separable(model)
    if model.format == "onnx":
        for group in groups:
            onnx.checker.check_model(onnx.load_from_string(model.part(group[0], group[-1])), full_check=True)
    assert [number for group in groups for number in group] == list(range(len(model.nodes())))
    given = feeds(model, OTHERS[name])
    whole = RUN[model.format](model.content, given)
    found = chained(model, given, groups)
    assert set(found) == set(whole)
    for output, expected in whole.items():
        assert found[output].dtype == expected.dtype
        np.testing.assert_allclose(found[output], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ONNX)
def test_what_is_said_of_an_onnx_model_is_what_onnxruntime_gives(name: str) -> None:
    model = fixed(name)
    given = feeds(model, OTHERS[name])
    whole = RUN["onnx"](open_model(model.path).content, given)  # the file as it was, given arrays of these shapes
    assert {each.name: (each.shape, each.element) for each in model.outputs} == {
        output: (value.shape, value.dtype.name) for output, value in whole.items()
    }
    again = RUN["onnx"](model.content, given)
    for output, expected in whole.items():
        np.testing.assert_allclose(again[output], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["pp-ocr-cls", "silero-opset-15", "iris-landmark"])
def test_nodes_one_by_one_compute_what_the_whole_does(name: str) -> None:
    model = fixed(name)
    given = feeds(model, OTHERS[name])
    found = chained(model, given, [range(number, number + 1) for number in range(len(model.nodes()))])
    for output, expected in RUN[model.format](model.content, given).items():
        np.testing.assert_allclose(found[output], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["pp-ocr-rec", "face-front"])
def test_a_model_cut_in_three_computes_what_the_whole_does(name: str) -> None:
    model = fixed(name)
    given, count = feeds(model, OTHERS[name]), len(model.nodes())
    found = chained(model, given, [range(count // 3), range(count // 3, count // 2), range(count // 2, count)])
    for output, expected in RUN[model.format](model.content, given).items():
        np.testing.assert_allclose(found[output], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        pytest.param("basic-pitch-tflite", (2, 43844, 1), marks=pytest.mark.full),
        ("face-back", (1, 128, 128, 3)),
        pytest.param("face-landmark", (1, 256, 256, 3), marks=pytest.mark.full),
        ("iris-landmark", (3, 64, 64, 3)),
    ],
)
def test_a_tflite_file_set_to_a_shape_gives_what_the_resized_interpreter_gives(
    name: str, shape: tuple[int, ...]
) -> None:
    whole = open_model(model_of_others(OTHERS[name].file))
    model = whole.with_shapes({whole.inputs[0].name: shape})
    assert open_model_of(model).inputs[0].shape == shape
    given = numbers_for(model)
    expected = invoke(interpreter_of(whole.content, delegates=False, resized={whole.inputs[0].name: shape}), given)
    found = RUN["tflite"](model.content, given)  # with XNNPACK
    assert {each.name: each.shape for each in model.outputs} == {key: value.shape for key, value in expected.items()}
    for output, value in expected.items():
        np.testing.assert_allclose(found[output], value, rtol=1e-4, atol=2e-4)


def open_model_of(model: Model) -> Model:
    """Return what the content of a model is when it is read again."""
    return type(model)(model.path, model.content)


def test_a_part_has_the_numbers_of_dimensions_and_types_of_the_whole() -> None:
    model = fixed("nudenet")
    nodes = model.nodes()
    first = separable(model)[0]
    part = type(model)(model.path, model.part(first[0], first[-1]))
    assert [each.name for each in part.inputs] == ["images"]
    assert part.outputs[0].shape == nodes[first[-1]].output_shape
    assert part.outputs[0].element == "float32"
    assert nodes[0].kind == "Conv"
    assert [node.kind for node in nodes[first[0] : first[-1] + 1]] == ["Conv", "Sigmoid", "Mul"]  # SiLU


def test_a_dynamic_model_is_refused_dimension_by_dimension() -> None:
    model = open_model(model_of_others(OTHERS["pp-ocr-det"].file))
    with pytest.raises(ModelError, match=r"dimensions 0 .*, 2 .*, 3 .* are open: give --shape x=\?x3x\?x\?"):
        model.with_shapes({})
    with pytest.raises(ModelError, match="dimension 1 is fixed at 3 in the file and is asked to be 4"):
        model.with_shapes({"x": (1, 4, 32, 32)})
    with pytest.raises(ModelError, match="are open"):
        model.part(0, 0)


def test_dimensions_that_share_a_name_get_one_size() -> None:
    model = open_model(model_of_others(OTHERS["silero-opset-15"].file))
    assert model.with_shapes({"input": (1, 576)}).inputs[1].shape == (2, 1, 128)
    with pytest.raises(ModelError, match=r"dimension 1 \(batch\) is 3, and 1 in input 'input'"):
        model.with_shapes({"input": (1, 576), "state": (2, 3, 128)})


def test_a_file_that_no_fixed_shape_fits_is_refused_with_what_onnxruntime_says() -> None:
    model = open_model(model_of_others(SILERO_BOTH_RATES))
    with pytest.raises(ModelError, match=r"cannot be set to input=1x576, state=2x1x128: .*LSTM"):
        model.with_shapes({"input": (1, 576), "state": (2, 1, 128)})


def test_a_torchscript_file_says_its_arguments_and_takes_their_shapes() -> None:
    import torch

    other = TORCHSCRIPT["silero"]
    model = open_model(model_of_others(other.file))
    assert [(each.name, each.shape, each.element) for each in model.inputs] == [
        ("x", None, "float32"),
        ("sr", (), "int64"),
    ]
    module = torch.jit.load(str(model.path))
    assert model.parameters == sum(each.numel() for each in module.parameters() if each.numel() > 1)
    assert model.macs is None
    with pytest.raises(ModelError, match="the file does not say its shape"):
        model.with_shapes({})
    shaped = model.with_shapes({"x": (1, 512)}, {"x": "float16"})
    assert [each.shape for each in shaped.inputs] == [(1, 512), ()]
    assert shaped.inputs[0].element == "float16"
    assert shaped.content == model.content
    with pytest.raises(ModelError, match="--layers takes TFLite and ONNX files"):
        separable(shaped)
