"""Models of any inputs and outputs under both agents: what goes in, what comes out, and which are refused."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray
from onnx import helper

from fbagents.agent.client import AgentClient, Input, Planned
from fbagents.agent.protocol import Loaded
from fbagents.errors import AgentReplyError
from fbagents.native import build as native
from fbagents.native.script import agent_script
from peers.compiler import COMPILER
from peers.small_models import ELEMENTS, agent_input, identity, onnx_model, onnx_type, tflite_model

SHAPE = (2, 3, 4)
ADD = (schema.BuiltinOptions.AddOptions, schema.AddOptionsT())
Written = Callable[[bytes], str]


@pytest.fixture(scope="module", params=["python", "native"])
def agent_argv(request: pytest.FixtureRequest) -> list[str]:
    """How to start either agent on this machine, the native one under sanitizers."""
    if request.param == "python":
        return [sys.executable, str(agent_script())]
    if COMPILER is None:
        pytest.skip("no C compiler is on the PATH")
    if request.param == "torch":  # whose library is compiled for it; not under sanitizers, where it takes minutes
        return [str(native.build(native.host_target())), *native.runtime_options(["torch"])]
    return [str(request.getfixturevalue("sanitized")), *native.runtime_options()]


@pytest.fixture
def written(tmp_path: Path) -> Written:
    """Write a file and return its path."""

    def write(content: bytes) -> str:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.model"
        path.write_bytes(content)
        return str(path)

    return write


def sums(*outputs: NDArray[Any]) -> tuple[int, float, float]:
    values = [output.astype(np.float64) for output in outputs]
    return sum(v.size for v in values), sum(v.sum() for v in values), sum(abs(v).sum() for v in values)


def told(loaded: Loaded) -> tuple[int, float, float]:
    return loaded.outputs, loaded.output_sum, loaded.output_abs_sum


def reference(content: bytes, feeds: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
    """Return the outputs of ONNX Runtime in this process."""
    outputs: list[NDArray[Any]] = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"]).run(
        None, feeds
    )
    return outputs


@pytest.mark.parametrize("runtime", ["litert", "onnxruntime"])
@pytest.mark.parametrize("element", ELEMENTS)
def test_every_element_goes_in_and_comes_out(
    one_agent: AgentClient, written: Written, runtime: str, element: str
) -> None:
    for shape in [(), (5,), SHAPE, (1,) * 6 + (3, 2), (7, 41, 97)]:
        loaded = one_agent.load(
            "m", written(identity(runtime, element, shape)), runtime, (), inputs=[Input("x", shape, element)]
        )
        assert [len(visit.wall_ns) for visit in one_agent.run([Planned("m", 2)])] == [2]
        expected = sums(agent_input(element, shape))
        assert loaded.outputs == expected[0]
        assert (loaded.output_sum, loaded.output_abs_sum) == pytest.approx(expected[1:], rel=1e-12)


def all_elements() -> tuple[bytes, list[Input]]:
    """Return a model that adds an input of every element, the smallest last, and gives them as they are, too."""
    inputs = {f"in_{element}": (element, SHAPE) for element in ELEMENTS}
    nodes = [helper.make_node("Cast", [name], [f"{name}_float"], to=onnx_type("float32")) for name in inputs]
    nodes.append(helper.make_node("Sum", [f"{name}_float" for name in inputs], ["total"]))
    nodes += [helper.make_node("Identity", [name], [f"{name}_again"]) for name in inputs]
    outputs = {"total": ("float32", SHAPE)} | {f"{name}_again": kind for name, kind in inputs.items()}
    return onnx_model(inputs, outputs, nodes), [Input(name, SHAPE, element) for name, (element, _) in inputs.items()]


def test_many_inputs_and_outputs_of_all_elements(one_agent: AgentClient, written: Written) -> None:
    content, inputs = all_elements()
    expected = reference(content, {one.name or "": agent_input(one.element, one.shape) for one in inputs})
    loaded = one_agent.load("m", written(content), "onnxruntime", (), inputs=inputs)
    assert told(loaded) == pytest.approx(sums(*expected), rel=1e-12)
    unnamed = [Input(None, one.shape, one.element) for one in inputs]
    assert told(one_agent.load("m", written(content), "onnxruntime", (), inputs=unnamed)) == told(loaded)
    assert told(one_agent.load("m", written(content), "onnxruntime", ())) == told(loaded)


def test_inputs_come_from_a_file(one_agent: AgentClient, written: Written) -> None:
    content, inputs = all_elements()
    random = np.random.default_rng(0)
    feeds = {}
    for one in inputs:
        whole = random.integers(0, 2 if one.element == "bool" else 100, SHAPE)
        feeds[one.name or ""] = (whole if "int" in one.element else whole / 8).astype(one.element)
    data = b"".join(values.tobytes() for values in feeds.values())
    path = written(content)
    for asked in (inputs, None):
        loaded = one_agent.load("m", path, "onnxruntime", (), inputs=asked, inputs_path=written(data))
        assert told(loaded) == pytest.approx(sums(*reference(content, feeds)), rel=1e-12)
    bad = bytearray(data)
    bad[-1] = 2
    for broken, why in [
        (data[:-1], "the file of inputs ends within input in_bool"),
        (data[:10], "the file of inputs ends within input in_float16"),
        (data + b"\0", "the file of inputs has more bytes than the model's inputs"),
        (bytes(bad), "bytes other than 0 and 1 for input in_bool"),
    ]:
        with pytest.raises(AgentReplyError, match=why):
            one_agent.load("b", path, "onnxruntime", (), inputs=inputs, inputs_path=written(broken))
    with pytest.raises(AgentReplyError, match="No such file"):
        one_agent.load("b", path, "onnxruntime", (), inputs_path="/no/such/file")
    with pytest.raises(AgentReplyError, match="/dev/null is no file"):
        one_agent.load("b", path, "onnxruntime", (), inputs_path="/dev/null")
    assert len(list(one_agent.run([Planned("m", 1)]))) == 1


def test_what_is_asked_for_settles_sides_that_a_file_leaves_open(one_agent: AgentClient, written: Written) -> None:
    open_shape: tuple[int | str, ...] = ("batch", 3, "width")
    nodes = [helper.make_node("Identity", ["x"], ["y"]), helper.make_node("Shape", ["x"], ["shape"])]
    outputs = {"y": ("float32", open_shape), "shape": ("int64", (3,))}
    path = written(onnx_model({"x": ("float32", open_shape)}, outputs, nodes))
    for shape in [(2, 3, 5), (1, 3, 8)]:
        loaded = one_agent.load("m", path, "onnxruntime", (), inputs=[Input("x", shape, "float32")])
        assert told(loaded) == pytest.approx(sums(agent_input("float32", shape), np.array(shape)), rel=1e-12)
        assert len(list(one_agent.run([Planned("m", 3)]))) == 1
    for shape in [(2, 4, 5), (2, 3, 5, 1)]:
        with pytest.raises(AgentReplyError, match=r"input x has the shape .* in the file, .* was asked for"):
            one_agent.load("m", path, "onnxruntime", (), inputs=[Input("x", shape, "float32")])
    with pytest.raises(AgentReplyError, match=r"input x has the shape .*, which is not fixed"):
        one_agent.load("m", path, "onnxruntime", ())


def two_inputs(runtime: str, signature: tuple[str, ...] = ()) -> bytes:
    """Return a model that adds `b` to `a`, two int32."""
    inputs, outputs = {"b": ("int32", (2, 3)), "a": ("int32", (1, 3))}, {"y": ("int32", (2, 3))}
    if runtime == "litert":
        return tflite_model(inputs, outputs, "ADD", ADD, signature)
    return onnx_model(inputs, outputs, [helper.make_node("Add", ["b", "a"], ["y"])])


@pytest.mark.parametrize("runtime", ["litert", "onnxruntime"])
def test_what_a_file_has_otherwise_than_asked_for_is_refused_in_words(
    one_agent: AgentClient, written: Written, runtime: str
) -> None:
    path = written(two_inputs(runtime))
    b, a = Input("b", (2, 3), "int32"), Input("a", (1, 3), "int32")
    for inputs, why in [
        ([b], r"the model has 2 inputs, 1 were asked for"),
        ([], r"the model has 2 inputs, 0 were asked for"),
        ([b, a, a], r"the model has 2 inputs, 3 were asked for"),
        ([b, Input("a", (1, 4), "int32")], r"input a has the shape \[1, 3\] in the file, \[1, 4\] was asked for"),
        ([b, Input(None, (3,), "int32")], r"input a has the shape \[1, 3\] in the file, \[3\] was asked for"),
        ([Input("b", (2, 3), "float32"), a], r"input b has the element int32 in the file, float32 was asked for"),
        ([a, b], r"input b has the name b in the file, a was asked for"),
    ]:
        with pytest.raises(AgentReplyError, match=why):
            one_agent.load("m", path, runtime, (), inputs=inputs)
    expected = agent_input("int32", (2, 3)) + agent_input("int32", (1, 3))
    assert told(one_agent.load("m", path, runtime, (), inputs=[b, a])) == sums(expected)


@pytest.mark.parametrize("signature", [(), ("b", "a"), ("a", "b")])
def test_litert_is_fed_in_the_order_of_the_file(
    one_agent: AgentClient, written: Written, signature: tuple[str, ...]
) -> None:
    b, a = np.arange(6, dtype=np.int32).reshape(2, 3), np.array([[100, 1000, 10000]], np.int32)
    loaded = one_agent.load(
        "m", written(two_inputs("litert", signature)), "litert", (), inputs_path=written(b.tobytes() + a.tobytes())
    )
    assert told(loaded) == sums(a + b)


def test_shapes_of_outputs_that_depend_on_data(one_agent: AgentClient, written: Written) -> None:
    nodes = [
        helper.make_node("NonZero", ["x"], ["where"]),
        helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
        helper.make_node("Size", ["where"], ["count"]),
    ]
    outputs = {"where": ("int64", (2, "n")), "most": ("uint8", ()), "count": ("int64", ())}
    content = onnx_model({"x": ("uint8", (7, 9))}, outputs, nodes)
    loaded = one_agent.load("m", written(content), "onnxruntime", ())
    assert len(list(one_agent.run([Planned("m", 3)] * 2))) == 2
    x = agent_input("uint8", (7, 9))
    where = np.array(np.nonzero(x))
    assert told(loaded) == sums(where, x.max(keepdims=False), np.array(where.size))
    half = np.where(np.arange(63) % 2 == 0, 7, 0).astype(np.uint8)
    loaded = one_agent.load("m", written(content), "onnxruntime", (), inputs_path=written(half.tobytes()))
    where = np.array(np.nonzero(half.reshape(7, 9)))
    assert told(loaded) == sums(where, half.max(), np.array(where.size))


def test_a_branch_decides_what_comes_out(one_agent: AgentClient, written: Written) -> None:
    def branch(name: str, node: Any) -> Any:
        return helper.make_graph(
            [node], name, [], [helper.make_tensor_value_info(f"{name}_y", onnx_type("float32"), None)]
        )

    then = branch("then", helper.make_node("ReduceSum", ["x"], ["then_y"], keepdims=0))
    other = branch("else", helper.make_node("Identity", ["x"], ["else_y"]))
    node = helper.make_node("If", ["c"], ["y"], then_branch=then, else_branch=other)
    output = [helper.make_tensor_value_info("y", onnx_type("float32"), None)]
    content = onnx_model({"c": ("bool", ()), "x": ("float32", (2, 3))}, output, [node])
    x = np.arange(6, dtype=np.float32).reshape(2, 3) - 2
    for condition, expected in [(b"\1", x.sum()), (b"\0", x)]:
        data = written(condition + x.tobytes())
        loaded = one_agent.load("m", written(content), "onnxruntime", (), inputs_path=data)
        assert len(list(one_agent.run([Planned("m", 3)]))) == 1
        assert told(loaded) == sums(np.asarray(expected))


def test_a_tflite_output_whose_shape_depends_on_data(one_agent: AgentClient, written: Written) -> None:
    for sides in [(-1, 1), (2, 1), (4, 1), (0, 1)]:
        content = tflite_model({"x": ("bool", (4,))}, {"y": ("int64", sides)}, "WHERE")
        if one_agent.hello.agent.startswith("native"):
            with pytest.raises(AgentReplyError, match=r"shape of .*output.* depends on the data[:,] use the Pyth"):
                one_agent.load("m", written(content), "litert", ())
            continue
        loaded = one_agent.load("m", written(content), "litert", ())
        assert told(loaded) == sums(np.argwhere(agent_input("bool", (4,))))
        assert len(list(one_agent.run([Planned("m", 3)]))) == 1


@pytest.mark.parametrize("sides", [(), (1,), (9, 9)])
def test_a_tflite_output_may_have_another_shape_than_the_file_says(
    one_agent: AgentClient, written: Written, sides: tuple[int, ...]
) -> None:
    inputs = {"b": ("int32", (2, 3)), "a": ("int32", (1, 3))}
    loaded = one_agent.load("m", written(tflite_model(inputs, {"y": ("int32", sides)}, "ADD", ADD)), "litert", ())
    assert told(loaded) == sums(agent_input("int32", (2, 3)) + agent_input("int32", (1, 3)))
    assert len(list(one_agent.run([Planned("m", 3)]))) == 1


def sequence() -> bytes:
    output = helper.make_tensor_sequence_value_info("y", onnx_type("float32"), None)
    return onnx_model({"x": ("float32", (4,))}, [output], [helper.make_node("SplitToSequence", ["x"], ["y"])])


def strings() -> bytes:
    node = helper.make_node("Cast", ["x"], ["y"], to=onnx_type("string"))
    return onnx_model({"x": ("float32", (4,))}, {"y": ("string", (4,))}, [node])


def many(inputs: int) -> bytes:
    names = [f"x{number}" for number in range(inputs)]
    node = helper.make_node("Sum", names, ["y"])
    return onnx_model(dict.fromkeys(names, ("float32", (3,))), {"y": ("float32", (3,))}, [node])


def test_tensors_that_no_agent_takes_are_refused_in_words(one_agent: AgentClient, written: Written) -> None:
    for content, why in [
        (sequence(), "y of the model is no tensor"),
        (strings(), "a tensor of the model is string, none of float16, float32, float64, int8, uint8, int16"),
        (identity("onnxruntime", "uint64", (4,)), "a tensor of the model is uint64, none of float16"),
        (many(65), "the model has more than 64 inputs or outputs"),
        (identity("onnxruntime", "float32", ("n", 3)), "which is not fixed"),  # type: ignore[arg-type]
        (identity("onnxruntime", "float32", (0, 3)), r"input x has the shape \[0, 3\], which is not fixed"),
        (identity("onnxruntime", "float32", (1,) * 9), "x.* 9 dimensions|more than 8 dimensions"),
        (identity("onnxruntime", "int8", (1 << 20, 1 << 20)), r"values: \[1048576, 1048576\]"),
        (identity("litert", "uint64", (4,)), "a tensor of the model is uint64, none of float16"),
    ]:
        runtime = "litert" if content[4:8] == b"TFL3" else "onnxruntime"
        with pytest.raises(AgentReplyError, match=why):
            one_agent.load("m", written(content), runtime, ())
    expected = agent_input("float32", (3,)) * np.float32(64)
    loaded = one_agent.load("m", written(many(64)), "onnxruntime", ())
    assert told(loaded) == pytest.approx(sums(expected), rel=1e-6)


class TwoInputs(torch.nn.Module):
    def forward(self, x: torch.Tensor, index: torch.Tensor) -> tuple[torch.Tensor, dict[str, list[torch.Tensor]]]:
        rows = x[index]
        return rows, {"both": [rows * 2, index > 0]}


class Number(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, int]:
        return x, 3


class Rate(torch.nn.Module):
    def forward(self, x: torch.Tensor, rate: int, gain: float = 2.0) -> torch.Tensor:
        if rate != 16000:
            raise ValueError(f"a rate of {rate}")
        return x * gain + rate


@pytest.mark.parametrize("agent_argv", ["python", pytest.param("torch", marks=pytest.mark.full)], indirect=True)
def test_torchscript_is_fed_as_asked_for(one_agent: AgentClient, written: Written, tmp_path: Path) -> None:
    for module in (TwoInputs(), Number(), Rate()):
        torch.jit.script(module).save(str(tmp_path / type(module).__name__))
    path = str(tmp_path / "TwoInputs")
    inputs = [Input("x", (2, 3), "float32"), Input(None, (5,), "int64")]
    x, index = agent_input("float32", (2, 3)), agent_input("int64", (5,))
    loaded = one_agent.load("m", path, "torch", (), inputs=inputs)
    assert told(loaded) == pytest.approx(sums(x[index], x[index] * 2, index > 0), rel=1e-12)
    x, index = np.arange(6, dtype=np.float32).reshape(2, 3), np.array([1, 0, 0, 1, 1])
    data = written(x.tobytes() + index.tobytes())
    loaded = one_agent.load("m", path, "torch", (), inputs=inputs, inputs_path=data)
    assert told(loaded) == sums(x[index], x[index] * 2, index > 0)
    with pytest.raises(AgentReplyError, match="the file of inputs ends within input 0"):
        one_agent.load("m", path, "torch", (), inputs=[Input(None, (99, 3), "float32")], inputs_path=data)
    with pytest.raises(AgentReplyError, match="an output of the model is no tensor, it is int"):
        one_agent.load("m", str(tmp_path / "Number"), "torch", (2, 3))
    path, inputs = str(tmp_path / "Rate"), [Input("x", (2, 3), "float32"), Input("rate", (), "int64")]
    data = written(x.tobytes() + np.array(16000).tobytes())
    assert told(one_agent.load("m", path, "torch", (), inputs=inputs, inputs_path=data)) == sums(x * 2 + 16000)
    with pytest.raises(AgentReplyError, match="a rate of 0"):
        one_agent.load("m", path, "torch", (), inputs=inputs)
    with pytest.raises(AgentReplyError, match="rate"):
        one_agent.load("m", path, "torch", (2, 3))


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="this system does not tell the peak of memory")
def test_a_load_tells_its_first_run_and_the_peak_of_memory(agent: AgentClient, written: Written) -> None:
    large = 32 << 20
    nodes = [
        helper.make_node("Tile", ["x", "often"], ["wide"]),
        helper.make_node("Exp", ["wide"], ["same"]),
        helper.make_node("ReduceMax", ["same"], ["y"], keepdims=0),
    ]
    content = onnx_model({"x": ("float32", (1 << 10,)), "often": ("int64", (1,))}, {"y": ("float32", ())}, nodes)
    values = np.zeros(1 << 10, np.float32).tobytes()
    peaks = []
    for often in (1, 1, large >> 12):
        data = written(values + np.array([often]).tobytes())
        loaded = agent.load("m", written(content), "onnxruntime", (), inputs_path=data)
        assert loaded.first_ns is not None
        assert 0 < loaded.first_ns < 60e9
        assert loaded.peak_bytes is not None
        peaks.append(loaded.peak_bytes)
        agent.unload("m")
    assert peaks[1] < large / 4  # the first one brings the runtime along
    assert large <= peaks[2] < 4 * large
