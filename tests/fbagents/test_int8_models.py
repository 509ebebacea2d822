"""Models from int8 to int8 under both agents: what goes in, and what comes out."""

import math
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from fbagents.agent.client import AgentClient, Planned
from peers.given import SPEC
from peers.qdq import SHAPE, qdq_outputs
from peers.small_models import cast


def int8_input(*shape: int) -> NDArray[np.int8]:
    """Return the agent's test input, the generator written out as in docs/devices/agent-protocol.md."""
    state, values = 12345, []
    for _ in range(math.prod(shape)):
        state = (1664525 * state + 1013904223) % 2**32
        values.append((state >> 24) - 128)
    return np.array(values, np.int8).reshape(shape)


def litert_outputs(path: Path) -> NDArray[np.int64]:
    """Return what LiteRT computes in this process."""
    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    (source,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()
    n, c, h, w = SPEC.input_shape
    interpreter.set_tensor(source["index"], int8_input(n, h, w, c))
    interpreter.invoke()
    outputs: NDArray[np.int64] = interpreter.get_tensor(result["index"]).astype(np.int64)
    return outputs


def test_litert_gets_the_test_input_and_its_outputs_are_summed(
    agent: AgentClient, int8_models: dict[str, Path]
) -> None:
    expected = litert_outputs(int8_models["litert"])
    assert expected.size == 24 * 8 * 8
    assert expected.min() < 0 < expected.max()
    loaded = agent.load("m", str(int8_models["litert"]), "litert", SPEC.input_shape)
    assert [len(visit.wall_ns) for visit in agent.run([Planned("m", 3), Planned("m", 1)])] == [3, 1]
    assert loaded.outputs == expected.size
    assert (loaded.output_sum, loaded.output_abs_sum) == (expected.sum(), abs(expected).sum())


def test_onnx_runtimes_outputs_are_those_of_whole_numbers(agent: AgentClient, int8_models: dict[str, Path]) -> None:
    expected = qdq_outputs(int8_input(*SHAPE))
    assert (expected.min(), expected.max()) == (-128, 127)
    loaded = agent.load("m", str(int8_models["onnxruntime"]), "onnxruntime", SHAPE)
    assert [len(visit.wall_ns) for visit in agent.run([Planned("m", 3), Planned("m", 1)])] == [3, 1]
    assert loaded.outputs == expected.size
    assert (loaded.output_sum, loaded.output_abs_sum) == (expected.sum(), abs(expected).sum())


@pytest.mark.parametrize("runtime", ["litert", "onnxruntime"])
def test_float32_and_int8_go_in_and_come_out_in_every_combination(
    agent: AgentClient, tmp_path: Path, runtime: str
) -> None:
    numbers = int8_input(1, 4).astype(np.int64)
    assert numbers[0].tolist() == [-123, -124, 11, 34]  # s = 87628868, 71072467, 2332836374, 2726892157
    above = numbers + 128  # uint8 is the same byte
    for source, result, expected in [
        ("int8", "float32", numbers),
        ("uint8", "float32", above),
        ("float32", "uint8", 0 * numbers),
        ("float32", "int8", 0 * numbers),
    ]:
        path = tmp_path / f"{source}-{result}"
        path.write_bytes(cast(runtime, source, result))
        loaded = agent.load(path.name, str(path), runtime, (1, 4))
        assert loaded.outputs == 4
        assert (loaded.output_sum, loaded.output_abs_sum) == (expected.sum(), abs(expected).sum())
