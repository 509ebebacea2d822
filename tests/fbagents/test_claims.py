"""What an agent claims against what was asked of it, and outputs that are no numbers."""

import json
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from fbagents.agent.client import AgentClient, Planned
from fbagents.agent.cores import check_claims, spelled, too_many_threads
from fbagents.agent.protocol import Hello, Loaded, parse_reply
from fbagents.connect import connect, load_profile
from fbagents.errors import AgentReplyError, DeviceError
from fbagents.native.script import agent_script
from fbagents.posix.process import ProcessChannel
from peers.given import SPEC

HELLO: dict[str, Any] = {
    "event": "hello", "protocol": 2, "agent": "a", "runtimes": {}, "threads": 1, "cores": [7], "clocks": ["wall"],
    "soc": "s", "system": "s", "clusters": [{"cores": [0, 1, 2, 3]}, {"cores": [4, 5, 6]}, {"cores": [7]}],
}  # fmt: skip


def claim(threads: int, asked: str | None, **told: Any) -> None:
    check_claims(Hello.model_validate(HELLO | {"threads": threads} | told), threads, asked)


@pytest.mark.parametrize(
    ("threads", "cores", "bound"),
    [(1, "big", [7]), (1, None, [0]), (3, "middle", [4, 5, 6]), (4, "big,middle", [4, 5, 6, 7]), (1, "4,5", [5])],
)
def test_what_was_asked_for_is_taken(threads: int, cores: str | None, bound: list[int]) -> None:
    claim(threads, cores, cores=bound)
    claim(threads, cores, cores=None)


@pytest.mark.parametrize(
    ("cores", "bound", "message"),
    [
        ("big", [6, 7], r"it is bound to cores 6-7; asked for were 7 \(big\)"),
        ("4,5", [3], "it is bound to cores 3; asked for were 4-5"),
        ("4,5", [], "it is bound to cores none; asked for were 4-5"),
        ("little", [0, 1, 2, 3, 7], r"cores 0-3,7; asked for were 0-3 \(little\)"),
    ],
)
def test_other_cores_than_asked_for_are_refused(cores: str, bound: list[int], message: str) -> None:
    with pytest.raises(DeviceError, match=message):
        claim(1, cores, cores=bound)


def test_other_threads_than_asked_for_are_refused() -> None:
    with pytest.raises(DeviceError, match="it has 64 threads; asked for were 1"):
        check_claims(Hello.model_validate(HELLO | {"threads": 64}), 1, None)


@pytest.mark.parametrize(
    ("threads", "bound", "remedy"),
    [
        (4, [7], "4 threads cannot run side by side on 1 core (7): use --cores 4-7, or --threads 1"),
        (2, [7], "use --cores 4-7, or --threads 1"),
        (5, [4, 5, 6, 7], "use --cores 0-7, or --threads 4"),
        (9, [0, 1, 2], "9 threads cannot run side by side on 3 cores (0-2): use --threads 3"),
    ],
)
def test_more_threads_than_cores_are_refused_with_the_cores_to_take(
    threads: int, bound: list[int], remedy: str
) -> None:
    with pytest.raises(DeviceError) as caught:
        claim(threads, "big" if bound == [7] else None, cores=bound)
    assert remedy in str(caught.value)
    with pytest.raises(DeviceError):
        claim(threads, ",".join(map(str, bound)), cores=bound)


def test_a_replay_has_what_was_recorded() -> None:
    claim(4, "big", recorded_at="2026-11-01")
    assert too_many_threads(1, [0]) is None
    assert spelled([0, 1, 2, 5, 7, 8]) == "0-2,5,7-8"


@pytest.mark.parametrize("total", ["null", "NaN", "Infinity", "-Infinity", "1e999"])
def test_sums_that_are_no_numbers_are_read_and_known_as_such(total: str) -> None:
    line = f'{{"event":"loaded","model":"m","load_ns":1,"outputs":1,"output_sum":{total},"output_abs_sum":1}}'
    loaded = parse_reply(line.encode())
    assert isinstance(loaded, Loaded)
    assert not loaded.is_finite
    again = parse_reply(loaded.model_dump_json().encode())
    assert isinstance(again, Loaded)
    assert not again.is_finite


def test_both_agents_refuse_a_model_that_computes_nan(agent_argv: list[str], tmp_path: Path) -> None:
    """The square root of the test input, half of which is negative."""
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 4, 4]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Sqrt", ["x"], ["y"])], "roots", tensors[:1], tensors[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = tmp_path / "roots.onnx"
    onnx.save(model, str(path))

    class Starting:
        def start(self, options: Sequence[str]) -> ProcessChannel:
            return ProcessChannel([*agent_argv, *options], {"PATH": "/usr/bin:/bin"})

    with AgentClient(Starting()) as agent:
        with pytest.raises(AgentReplyError, match="the model computes NaN or infinity from its inputs"):
            agent.load("m", str(path), "onnxruntime", (1, 3, 4, 4))
        with pytest.raises(AgentReplyError, match="m"):
            agent.unload("m")


def test_an_agent_that_says_nan_has_the_model_unloaded() -> None:
    """As agents of earlier versions do."""
    program = f"""
import json, sys
print({json.dumps(json.dumps(HELLO | {"cores": None}))}, flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    print(asked["op"], file=sys.stderr)
    event = {{"load": "loaded", "unload": "unloaded", "bye": "bye"}}[asked["op"]]
    sums = {{"outputs": 1, "output_sum": float("nan"), "output_abs_sum": 1}}
    print(json.dumps({{"event": event, "id": asked["id"], "model": "m", "load_ns": 1}} | sums), flush=True)
"""

    class Starting:
        def start(self, options: Sequence[str]) -> ProcessChannel:
            return ProcessChannel([sys.executable, "-c", program], {})

    with AgentClient(Starting()) as agent, pytest.raises(AgentReplyError, match="not finite: NaN or infinity"):
        agent.load("m", "path", "litert", (1, 3, 4, 4))


@pytest.mark.parametrize("lost", ["done", "bye"])
def test_a_lost_last_line_costs_neither_minutes_nor_samples(
    lost: str, monkeypatch: pytest.MonkeyPatch, models: dict[str, Path]
) -> None:
    monkeypatch.setattr("fbagents.agent.client.END_TIMEOUT_S", 0.2)
    agent = shlex.join([sys.executable, str(agent_script())])

    class Starting:
        def start(self, options: Sequence[str]) -> ProcessChannel:
            filtered = f'{agent} {shlex.join(options)} | grep --line-buffered -v \'"event":"{lost}"\''
            return ProcessChannel(["sh", "-c", filtered], dict(os.environ))

    with AgentClient(Starting()) as client:
        client.load("m", str(models["litert"]), "litert", SPEC.input_shape)
        for _ in range(2):
            assert len(list(client.run([Planned("m", 2)] * 3))) == 3
            assert client.state().event == "state"


def test_a_done_that_comes_late_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fbagents.agent.client.END_TIMEOUT_S", 0.1)
    program = f"""
import json, sys, time
print({json.dumps(json.dumps(HELLO | {"cores": None}))}, flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    if asked["op"] == "run":
        visit = {{"event": "visit", "id": asked["id"], "index": 0, "model": "m", "start_ns": 1}}
        print(json.dumps(visit | {{"wall_ns": [1], "cpu_ns": [1]}}), flush=True)
        time.sleep(0.4)
        print(json.dumps({{"event": "done", "id": asked["id"], "visits": 1}}), flush=True)
    else:
        print(json.dumps({{"event": asked["op"], "id": asked["id"]}}), flush=True)
"""

    class Starting:
        def start(self, options: Sequence[str]) -> ProcessChannel:
            return ProcessChannel([sys.executable, "-c", program], {})

    with AgentClient(Starting()) as client:
        assert len(list(client.run([Planned("m", 1)]))) == 1
        assert client.state().event == "state"


def test_this_machines_threads_are_bounded_by_its_cores() -> None:
    transport = connect(load_profile("local"))
    with pytest.raises(DeviceError, match="1025 threads cannot run side by side"):
        AgentClient(transport, threads=1025)
