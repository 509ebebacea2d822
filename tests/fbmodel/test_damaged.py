"""Files that are no models, damaged ones, and ones that mean harm: a ModelError or a model comes out, nothing else."""

import contextlib
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from fbmodel.errors import ModelError
from fbmodel.flatbuffer import packed, unpacked
from fbmodel.model import Model, open_model

FORMATS = ("tflite", "onnx", "torchscript", "pte", "ncnn")
RELU = helper.make_node("Relu", ["x"], ["y"])


def looked_through(path: Path) -> None:
    """Ask a model for all that can be asked without running it."""
    model = open_model(path)
    assert isinstance(model.parameters, int | None)
    assert all(isinstance(tensor.name, str) for tensor in (*model.inputs, *model.outputs))
    if model.format not in ("torchscript", "pte", "ncnn"):
        nodes = model.nodes()
        assert isinstance(model.macs, int | None)
        model.part(0, len(nodes) - 1)
        model.part(len(nodes) // 2, len(nodes) // 2)


@pytest.mark.parametrize("format_name", FORMATS)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_bytes(small: Callable[..., Path], format_name: str, tmp_path: Path, data: st.DataObject) -> None:
    whole = small(format_name).read_bytes()
    content = bytearray(whole)
    # Weights are most of a file: half of the damage is done where it says what it is.
    spans = st.integers(0, len(whole) - 1) | st.integers(0, 999) | st.integers(-999, -1)
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(spans)] = data.draw(st.sampled_from((0, 1, 0x7F, 0x80, 0xFF)) | st.integers(0, 255))
    path = tmp_path / small(format_name).name
    path.write_bytes(content[: data.draw(st.just(len(content)) | st.integers(0, len(content)))])
    with contextlib.suppress(ModelError):
        looked_through(path)


@pytest.mark.parametrize("suffix", [".tflite", ".onnx", ".pt", ".pte", ".ncnn"])
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=300))
def test_random_bytes(suffix: str, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / f"model{suffix}"
    starts = {".tflite": b"\x1c\0\0\0TFL3", ".onnx": b"", ".pt": b"PK\x03\x04", ".pte": b"\x30\0\0\0ET12", ".ncnn": b""}
    path.write_bytes(starts[suffix] + content)
    with pytest.raises(ModelError, match=r"model\."):
        looked_through(path)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("none.tflite", None, "model file not found"),
        ("empty.onnx", b"", "is empty"),
        ("text.tflite", b"hello, world", "is no tflite file"),
        ("picture.onnx", b"\x89PNG\r\n\x1a\n" + bytes(40), "no ONNX model|no graph"),
        ("model.bin", b"x", "no suffix of a model file .*.onnx, .pt, .pte, .pth, .tflite"),
        ("model", b"\x1c\0\0\0TFL3", "no suffix of a model file.*its content is tflite: rename it"),
        ("weights.pt", b"\x80\x02}", "is no torchscript file"),
    ],
)
def test_what_is_no_model_file(name: str, content: bytes | None, words: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=words):
        open_model(tmp_path / name)


@pytest.mark.parametrize(
    ("of", "to"), [("tflite", "model.onnx"), ("torchscript", "model.tflite"), ("onnx", "model.pt")]
)
def test_a_file_with_the_suffix_of_another_format(small: Callable[..., Path], of: str, to: str, tmp_path: Path) -> None:
    path = tmp_path / to
    path.write_bytes(small(of).read_bytes())
    with pytest.raises(ModelError, match=r"is no \w+ file" + ("" if of == "onnx" else f": its content is {of}")):
        open_model(path)


def test_weights_are_no_program(tmp_path: Path) -> None:
    import torch

    torch.save({"weight": torch.zeros(3)}, tmp_path / "weights.pt")
    with pytest.raises(ModelError, match="holds weights and no program"):
        open_model(tmp_path / "weights.pt")


def onnx_file(tmp_path: Path, shape: object, nodes: tuple = (RELU,), constants: tuple = (), output: str = "y") -> Path:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", output)]
    graph = helper.make_graph(list(nodes), "g", ends[:1], ends[1:], list(constants))
    path = tmp_path / "model.onnx"
    path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString())
    return path


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ([1, -3], "no dimension is below zero"),
        ([10**9, 10**9], "at most 2\\^31 - 1 are taken"),
        ([1] * 1000, "1000 dimensions"),
    ],
)
def test_shapes_that_no_tensor_has(shape: list[int], words: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=words):
        open_model(onnx_file(tmp_path, shape))


def test_a_shape_that_is_asked_for_and_no_tensor_has(tmp_path: Path) -> None:
    model = open_model(onnx_file(tmp_path, [1, "n"]))
    for size, words in ((10**10, "at most 2"), (0, "sizes are 1 or more"), (-1, "sizes are 1 or more")):
        with pytest.raises(ModelError, match=words):
            model.with_shapes({"x": (1, size)})
    with pytest.raises(ModelError, match=r"has 2 dimensions \(1x\?\), and is asked to have 3"):
        model.with_shapes({"x": (1, 2, 3)})
    with pytest.raises(ModelError, match=r"there is no input 'y'. Inputs: 'x' \(1x\?\)"):
        model.with_shapes({"y": (1, 2)})
    with pytest.raises(ModelError, match="'x' is float32, not int8"):
        model.with_shapes({"x": (1, 2)}, {"x": "int8"})


def test_an_input_of_no_dimension(tmp_path: Path) -> None:
    model = open_model(onnx_file(tmp_path, []))
    assert model.inputs[0].shape == ()
    assert model.with_shapes({"x": ()}) is model
    assert open_model(onnx_file(tmp_path, None)).with_shapes({"x": ()}).inputs[0].shape == ()


def test_nodes_out_of_order(tmp_path: Path) -> None:
    path = onnx_file(tmp_path, [1], (helper.make_node("Relu", ["z"], ["y"], name="first"), RELU))
    with pytest.raises(ModelError, match="node 'first' reads 'z', which nothing before it makes"):
        open_model(path)


def test_weights_in_another_file(tmp_path: Path) -> None:
    weight = TensorProto(name="w", dims=[1], data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    weight.external_data.add(key="location", value="/etc/passwd")
    with pytest.raises(ModelError, match="it keeps 'w' in another file; put all into one"):
        open_model(onnx_file(tmp_path, [1], (helper.make_node("Add", ["x", "w"], ["y"]),), (weight,)))


def test_operators_that_nobody_knows_are_told_where_shapes_are_asked_for(tmp_path: Path) -> None:
    model = open_model(
        onnx_file(
            tmp_path,
            [1],
            (helper.make_node("Nonsense", ["x"], ["z"], domain="x.y"), helper.make_node("Relu", ["z"], ["y"])),
        )
    )
    with pytest.raises(ModelError, match="onnxruntime refuses it: "):
        model.nodes()


def test_functions_that_call_themselves(tmp_path: Path) -> None:
    call, opsets = (
        helper.make_node("F", ["x"], ["y"], domain="own"),
        [helper.make_opsetid(name, 17) for name in ("", "own")],
    )
    function = helper.make_function("own", "F", ["x"], ["y"], [call], opsets)
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    model = helper.make_model(
        helper.make_graph([call], "g", ends[:1], ends[1:]), functions=[function], opset_imports=opsets
    )
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    assert [node.kind for node in open_model(tmp_path / "model.onnx").nodes()] == ["F"]


def changed(small: Callable[..., Path], change: Callable[[object], None], path: Path) -> Model:
    model = unpacked(small("tflite").read_bytes())
    change(model)
    path.write_bytes(packed(model))
    return open_model(path)


def test_tflite_files_that_say_too_much(small: Callable[..., Path], tmp_path: Path) -> None:
    def many_tensors(model: object) -> None:
        model.subgraphs[0].operators[0].inputs = [1000]

    with pytest.raises(ModelError, match="it names number 1000 of a list of"):
        changed(small, many_tensors, tmp_path / "model.tflite")


def test_tflite_files_of_two_graphs_are_neither_counted_nor_cut(small: Callable[..., Path], tmp_path: Path) -> None:
    model = changed(small, lambda model: model.subgraphs.append(model.subgraphs[0]), tmp_path / "model.tflite")
    assert (model.parameters, model.macs) == (None, None)
    with pytest.raises(ModelError, match="the file has 2 graphs, and files of one are cut"):
        model.part(0, 0)
    with pytest.raises(ModelError, match="several graphs"):
        model.with_shapes({"input": (1, 16, 16, 3)})


def test_tflite_states_are_not_cut(small: Callable[..., Path], tmp_path: Path) -> None:
    def state(model: object) -> None:
        graph = model.subgraphs[0]
        graph.tensors[graph.operators[0].outputs[0]].isVariable = True

    model = changed(small, state, tmp_path / "model.tflite")
    with pytest.raises(ModelError, match="keeps a state from one inference to the next"):
        model.part(0, 0)


def test_nodes_that_there_are_not(small: Callable[..., Path]) -> None:
    for first, last in ((0, 8), (-1, 0), (3, 2)):
        with pytest.raises(ModelError, match=rf"has 8 nodes, and no nodes {first} to {last}"):
            open_model(small("tflite")).part(first, last)


def test_a_tflite_file_that_no_other_shape_fits(small: Callable[..., Path]) -> None:
    with pytest.raises(ModelError, match="cannot be set to input=1x32x32x5: "):
        open_model(small("tflite")).with_shapes({"input": (1, 32, 32, 5)})


def test_the_file_is_what_onnx_reads(tmp_path: Path) -> None:
    content = open_model(onnx_file(tmp_path, [1, "n"])).with_shapes({"x": (1, 7)}).content
    model = onnx.load_from_string(content)
    onnx.checker.check_model(model, full_check=True)
    assert [each.dim_value for each in model.graph.output[0].type.tensor_type.shape.dim] == [1, 7]
