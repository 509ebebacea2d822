"""Which nodes are timed together, on graphs written for it; and that each group is a part which runs."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from fbmodel.errors import ModelError
from fbmodel.model import Model, open_model
from fbmodel.parts import separable
from peers.running import RUN, chained, numbers_for

node = helper.make_node
DRAW = np.random.default_rng(0)
CONSTANTS = {
    "w": DRAW.normal(size=(4, 4, 3, 3)).astype(np.float32),
    "three": np.array(3, np.float32),
    "zero": np.array(0, np.float32),
    "six": np.array(6, np.float32),
    "bias": DRAW.normal(size=(4, 1, 1)).astype(np.float32),
    "ones": np.ones(4, np.float32),
    "matrix": DRAW.normal(size=(8, 4)).astype(np.float32),
    "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
    "scale": np.array(0.1, np.float32),
    "point": np.array(3, np.uint8),
    "last": np.array([-1]),
    "two": np.array([2]),
    "exponent": np.array(2, np.float32),
    "start": np.array([0]),
}
CONV = node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1])
HARD_SWISH = [
    node("Add", ["c", "three"], ["s"]),
    node("Clip", ["s", "zero", "six"], ["k"]),
    node("Mul", ["c", "k"], ["m"]),
    node("Div", ["m", "six"], ["y"]),
]
NORM = node("BatchNormalization", ["c", "ones", "ones", "ones", "ones"], ["n"])


def model_of(tmp_path: Path, nodes: Sequence[NodeProto], outputs: Sequence[str] = ("y",), kind: int = 1) -> Model:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 8, 8])
    ends = [helper.make_tensor_value_info(name, kind, None) for name in outputs]
    used = {name for each in nodes for name in each.input}
    constants = [numpy_helper.from_array(array, name) for name, array in CONSTANTS.items() if name in used]
    made = helper.make_model(
        helper.make_graph(nodes, "g", [value], ends, constants),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    path = tmp_path / "model.onnx"
    path.write_bytes(made.SerializeToString())
    return open_model(path)


def kinds(model: Model) -> list[str]:
    nodes = model.nodes()
    return [" ".join(nodes[number].kind for number in group) for group in separable(model)]


def check_parts(model: Model) -> None:
    """Compare what the parts compute with what the whole does."""
    given = numbers_for(model)
    found = chained(model, given)
    for name, expected in RUN["onnx"](model.content, given).items():
        np.testing.assert_allclose(found[name], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ([CONV, node("Relu", ["c"], ["y"])], ["Conv Relu"]),
        ([CONV, NORM, node("Relu", ["n"], ["y"])], ["Conv BatchNormalization Relu"]),
        ([CONV, *HARD_SWISH], ["Conv Add Clip Mul Div"]),
        ([CONV, node("Sigmoid", ["c"], ["s"]), node("Mul", ["c", "s"], ["y"])], ["Conv Sigmoid Mul"]),
        ([CONV, node("Add", ["c", "bias"], ["a"]), node("Relu", ["a"], ["y"])], ["Conv Add Relu"]),
        ([CONV, node("Add", ["c", "x"], ["y"])], ["Conv", "Add"]),  # with another activation
        ([CONV, node("Relu", ["c"], ["r"]), node("Add", ["c", "r"], ["y"])], ["Conv Relu Add"]),
        (
            [
                CONV,
                node("Relu", ["c"], ["r"]),
                node("MaxPool", ["c"], ["p"], kernel_shape=[1, 1]),
                node("Add", ["p", "r"], ["y"]),
            ],
            ["Conv", "Relu", "MaxPool", "Add"],
        ),
        ([node("Pad", ["x", "pads"], ["p"]), node("Conv", ["p", "w"], ["y"])], ["Pad Conv"]),
        ([node("MatMul", ["x", "matrix"], ["a"]), node("Relu", ["a"], ["y"])], ["MatMul Relu"]),
        ([node("Relu", ["x"], ["a"]), node("Clip", ["a", "zero", "six"], ["y"])], ["Relu", "Clip"]),
    ],
)
def test_groups(nodes: Sequence[NodeProto], expected: list[str], tmp_path: Path) -> None:
    model = model_of(tmp_path, nodes)
    assert kinds(model) == expected
    check_parts(model)


def test_a_normalisation_that_an_exporter_took_apart_is_one_kernel(tmp_path: Path) -> None:
    nodes = [
        node("ReduceMean", ["x"], ["mean"], axes=[-1]),
        node("Sub", ["x", "mean"], ["d"]),
        node("Pow", ["d", "exponent"], ["square"]),
        node("ReduceMean", ["square"], ["v"], axes=[-1]),
        node("Add", ["v", "six"], ["e"]),
        node("Sqrt", ["e"], ["s"]),
        node("Div", ["d", "s"], ["n"]),
        node("Mul", ["n", "three"], ["m"]),
        node("Add", ["m", "bias"], ["y"]),
    ]
    model = model_of(tmp_path, nodes)
    assert [len(group) for group in separable(model)] == [9]
    check_parts(model)
    assert len(separable(model_of(tmp_path, nodes, ("y", "n")))) == 9


def test_what_is_an_output_of_the_model_does_not_vanish_in_a_group(tmp_path: Path) -> None:
    model = model_of(tmp_path, [CONV, node("Relu", ["c"], ["y"])], ("c", "y"))
    assert kinds(model) == ["Conv", "Relu"]
    check_parts(model)


def test_a_rounding_belongs_to_what_it_rounds(tmp_path: Path) -> None:
    scheme = ["scale", "point"]
    nodes = [
        node("QuantizeLinear", ["x", *scheme], ["q"]),
        node("DequantizeLinear", ["q", *scheme], ["d"]),
        node("Conv", ["d", "w"], ["c"]),
        node("Relu", ["c"], ["r"]),
        node("QuantizeLinear", ["r", *scheme], ["rq"]),
        node("DequantizeLinear", ["rq", *scheme], ["rd"]),
        node("GlobalAveragePool", ["rd"], ["p"]),
        node("Add", ["rd", "p"], ["a"]),
        node("QuantizeLinear", ["a", *scheme], ["aq"]),
        node("DequantizeLinear", ["aq", *scheme], ["y"]),
    ]
    model = model_of(tmp_path, nodes)
    assert kinds(model) == [
        "QuantizeLinear",
        "Conv Relu QuantizeLinear",
        "GlobalAveragePool",
        "Add QuantizeLinear",
        "DequantizeLinear",  # the model's output
    ]
    assert model.nodes()[1].inputs == ("q",)
    assert model.nodes()[5].inputs == ("rq", "p")
    check_parts(model)


def test_what_hangs_on_constants_and_shapes_alone_is_no_node_and_goes_along(tmp_path: Path) -> None:
    nodes = [
        node("Shape", ["x"], ["shape"]),
        node("Slice", ["shape", "start", "two"], ["front"]),
        node("Concat", ["front", "last"], ["wanted"], axis=0),
        node("Relu", ["x"], ["r"]),
        node("Reshape", ["r", "wanted"], ["flat"]),
        node("Transpose", ["matrix"], ["t"]),
        node("Exp", ["flat"], ["y"]),
        node("Neg", ["t"], ["unused"]),
    ]
    model = model_of(tmp_path, nodes)
    assert kinds(model) == ["Relu", "Reshape", "Exp"]
    assert [each.inputs for each in model.nodes()] == [("x",), ("r",), ("flat",)]
    part = onnx.load_from_string(model.part(1, 1))
    assert [each.name for each in part.graph.input] == ["r"]
    assert [numpy_helper.to_array(each).tolist() for each in part.graph.initializer if each.name == "shape"] == [
        [1, 4, 8, 8]
    ]
    check_parts(model)


def test_nodes_stay_together_where_a_shape_hangs_on_the_numbers(tmp_path: Path) -> None:
    nodes = [
        node("Relu", ["x"], ["r"]),
        node("NonZero", ["r"], ["where"]),
        node("Transpose", ["where"], ["turned"]),
        node("GatherND", ["r", "turned"], ["picked"]),
        node("ReduceSum", ["picked"], ["sum"], keepdims=0),
        node("Mul", ["r", "sum"], ["y"]),
    ]
    model = model_of(tmp_path, nodes)
    assert kinds(model) == ["Relu", "NonZero Transpose GatherND ReduceSum", "Mul"]
    with pytest.raises(ModelError, match="node 'turned' cannot be cut out: the shape of 'where' is known only when"):
        model.part(2, 2)
    check_parts(model)


def test_nodes_stay_together_where_a_sequence_lies_between(tmp_path: Path) -> None:
    nodes = [
        node("Relu", ["x"], ["r"]),
        node("SplitToSequence", ["r"], ["list"], axis=1),
        node("ConcatFromSequence", ["list"], ["whole"], axis=2),
        node("Exp", ["whole"], ["y"]),
    ]
    model = model_of(tmp_path, nodes)
    assert kinds(model) == ["Relu", "SplitToSequence ConcatFromSequence", "Exp"]
    check_parts(model)


def test_control_flow_stays_inside_of_its_node_with_what_it_takes_from_outside(tmp_path: Path) -> None:
    def body(kind: str) -> onnx.GraphProto:
        output = helper.make_tensor_value_info(f"{kind}_out", TensorProto.FLOAT, None)
        return helper.make_graph([node(kind, ["c", "bias"], [f"{kind}_out"])], kind, [], [output])

    nodes = [
        CONV,
        node("ReduceMean", ["x"], ["mean"], keepdims=0),
        node("Less", ["mean", "zero"], ["less"]),
        node("If", ["less"], ["branch"], then_branch=body("Add"), else_branch=body("Sub")),
        node("Relu", ["branch"], ["y"]),
    ]
    model = model_of(tmp_path, [*nodes[:3], node("Add", ["x", "bias"], ["kept"]), *nodes[3:]], ("y", "kept"))
    assert kinds(model) == ["Conv", "ReduceMean", "Less", "Add", "If", "Relu"]
    assert model.nodes()[4].inputs == ("less", "c")
    assert (model.nodes()[4].macs, model.macs) == (None, None)
    check_parts(model)
