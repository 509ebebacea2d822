"""The contract every agent has to pass, held against a real agent process with real runtimes."""

import importlib.metadata
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import helper

from fbagents.agent.client import AgentClient, Input, Planned
from fbagents.agent.protocol import PROTOCOL
from fbagents.connect import connect, load_profile
from fbagents.errors import AgentLostError, AgentReplyError, AgentTimeoutError, DeviceError
from fbagents.native.script import agent_script
from fbagents.posix.process import ProcessChannel
from fbagents.transport import Transport
from fbexport.export import export_spec
from fbexport.formats import format_of, load_format
from fbexport.runtimes import RUNTIMES, native_libraries
from fbspace.blocks import build_block
from fbspace.opspec import OpSpec
from fbspace.weights import randomize
from peers.given import SPEC
from peers.installed import need
from peers.runs import wait_until
from peers.small_models import onnx_model


@pytest.fixture(params=["local", "local-native"])
def local(request: pytest.FixtureRequest) -> Iterator[Transport]:
    """This machine, with either agent."""
    if request.param == "local-native" and shutil.which("cc") is None:
        pytest.skip("no C compiler cc is on the PATH")
    transport = connect(load_profile(request.param))
    yield transport
    transport.close()


def test_hello_says_what_the_device_can_do(local: Transport) -> None:
    with AgentClient(local) as agent:
        assert {"litert", "onnxruntime"} <= set(agent.hello.runtimes)
        assert agent.hello.runtimes["onnxruntime"] == importlib.metadata.version("onnxruntime")
        assert agent.hello.runtimes["litert"] == importlib.metadata.version("ai-edge-litert")
        if agent.hello.agent.startswith("python"):
            assert agent.hello.runtimes["torch"].startswith(torch.__version__.split("+")[0])
        assert agent.hello.overhead_ns is not None
        assert agent.hello.overhead_ns < 10_000
        assert agent.hello.clocks == ("wall", "thread_cpu")
        assert agent.hello.threads == 1


@pytest.mark.parametrize(
    ("local", "runtime"),
    [
        *(("local", runtime) for runtime in RUNTIMES.names()),
        # to build one from its source takes long: test_phone.py
        *(
            pytest.param("local-native", name, marks=[pytest.mark.full] * (name == "torch"))
            for name, (_, library) in native_libraries().items()
            if library.places
        ),
    ],
    indirect=["local"],
)
def test_a_model_gives_torchs_outputs_and_raw_samples(local: Transport, models: dict[str, Path], runtime: str) -> None:
    need(runtime)
    local.runtimes = (runtime,)
    with AgentClient(local) as agent:
        loaded = agent.load("m", local.push(models[runtime]), runtime, SPEC.input_shape)
        visits = list(agent.run([Planned("m", 5), Planned("m", 2)]))
    expected = torch_output(channels_last=format_of(runtime) == "tflite")
    assert loaded.outputs == expected.size
    assert loaded.output_sum == pytest.approx(expected.sum(), abs=1e-4 * abs(expected).sum())
    assert loaded.output_abs_sum == pytest.approx(abs(expected).sum(), rel=1e-4)
    assert [len(visit.wall_ns) for visit in visits] == [5, 2]
    for visit in visits:
        assert visit.cpu_ns is not None
        assert all(0 < ns < 1_000_000_000 for ns in visit.wall_ns)
        # thread-CPU time is a part of wall time, up to the clocks' own resolution
        assert all(cpu <= wall + 50_000 for cpu, wall in zip(visit.cpu_ns, visit.wall_ns, strict=True))
    assert visits[1].start_ns > visits[0].start_ns


def torch_output(channels_last: bool) -> np.ndarray:
    """Run SPEC in torch on the agent's test input, the generator written out as in docs/devices/agent-protocol.md."""
    state, values = 12345, []
    for _ in range(int(np.prod(SPEC.input_shape))):
        state = (1664525 * state + 1013904223) % 2**32
        values.append((state >> 8) / 2**24 - 0.5)
    x = np.array(values, dtype=np.float32)
    n, c, h, w = SPEC.input_shape
    x = x.reshape(n, h, w, c).transpose(0, 3, 1, 2) if channels_last else x.reshape(n, c, h, w)
    block = randomize(build_block(SPEC), seed=0)
    with torch.no_grad():
        return block(torch.from_numpy(np.ascontiguousarray(x))).numpy().astype(np.float64)


def test_many_models_stay_loaded_and_unload(local: Transport, models: dict[str, Path]) -> None:
    with AgentClient(local) as agent:
        for number in range(20):
            agent.load(f"m{number}", local.push(models["litert"]), "litert", SPEC.input_shape)
        visits = list(agent.run([Planned(f"m{number}", 1) for number in range(20)]))
        assert [visit.model for visit in visits] == [f"m{number}" for number in range(20)]
        agent.unload("m3")
        with pytest.raises(AgentReplyError, match="'m3' is not loaded"):
            list(agent.run([Planned("m3", 1)]))


def test_errors_are_told_in_words_and_the_agent_goes_on(
    local: Transport, models: dict[str, Path], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(b"no model")
    with AgentClient(local) as agent:
        with pytest.raises(AgentReplyError, match=r"broken|TFL3|model"):
            agent.load("m", str(broken), "litert", SPEC.input_shape)
        with pytest.raises(AgentReplyError, match=r"unknown runtime 'tensorrt'; known: (executorch, )?litert"):
            agent.load("m", str(broken), "tensorrt", SPEC.input_shape)
        agent.load("m", local.push(models["onnxruntime"]), "onnxruntime", SPEC.input_shape)
        assert len(list(agent.run([Planned("m", 1)]))) == 1


def test_more_threads_have_no_thread_cpu_time(local: Transport, models: dict[str, Path]) -> None:
    with AgentClient(local, threads=2) as agent:
        assert agent.hello.clocks == ("wall",)
        agent.load("m", local.push(models["litert"]), "litert", SPEC.input_shape)
        (visit,) = agent.run([Planned("m", 3)])
        assert visit.cpu_ns is None


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system binds no process to cores")
def test_the_agent_stays_on_the_cores_it_is_bound_to(local: Transport, models: dict[str, Path]) -> None:
    core = max(os.sched_getaffinity(0))
    with AgentClient(local, cores=str(core)) as agent:
        assert agent.hello.cores == (core,)
        agent.load("m", local.push(models["litert"]), "litert", SPEC.input_shape)
        assert {visit.core for visit in agent.run([Planned("m", 2)] * 5)} == {core}


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system binds no process to cores")
def test_a_core_that_does_not_exist_is_an_error_in_words(local: Transport) -> None:
    with pytest.raises(AgentReplyError, match="cannot bind to cores 1000"):
        AgentClient(local, cores="1000")


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system binds no process to cores")
def test_state_says_which_cores_the_agent_may_use(local: Transport) -> None:
    allowed = sorted(os.sched_getaffinity(0))
    with AgentClient(local) as agent:
        state = agent.state()
        assert state.affinity == tuple(allowed)
        assert state.core in allowed
    with AgentClient(local, cores=str(allowed[-1])) as agent:
        state = agent.state()
        assert state.affinity == tuple(allowed[-1:])
        assert state.core == allowed[-1]


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="this system does not tell its memory")
def test_state_says_how_much_memory_is_available(local: Transport) -> None:
    with AgentClient(local) as agent:
        available = agent.state().memory_available_bytes
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    kibibytes = {name: int(value.split()[0]) for name, _, value in (line.partition(":") for line in lines)}
    assert available is not None
    assert available == pytest.approx(1024 * kibibytes["MemAvailable"], rel=0.3)  # others come and go
    assert available < 1024 * kibibytes["MemTotal"]


@pytest.mark.parametrize("runtime", ["litert", "onnxruntime"])
def test_a_model_takes_about_as_much_memory_as_its_weights(local: Transport, tmp_path: Path, runtime: str) -> None:
    """As they are in the file, as the runtime packs them, or both; the first model brings the runtime itself along."""
    path = tmp_path / f"large{load_format(format_of(runtime)).suffix}"
    large = OpSpec("classifier", 4096, 2000, 1, 1, activation="none")
    path.write_bytes(export_spec(large, format_of(runtime)))
    weights_bytes = 4 * 4096 * 2000
    with AgentClient(local) as agent:
        first, second = (agent.load(name, local.push(path), runtime, large.input_shape) for name in "ab")
    assert first.memory_bytes is not None
    assert second.memory_bytes is not None
    assert 0.9 * weights_bytes < second.memory_bytes < 4 * weights_bytes
    assert first.memory_bytes >= 0.9 * weights_bytes


class Watched:
    """A transport to this machine whose agent's process is known."""

    def __init__(self, local: Transport) -> None:
        self.local = local

    def start(self, options: Sequence[str]) -> ProcessChannel:
        channel = self.local.start(options)
        assert isinstance(channel, ProcessChannel)
        self.channel = channel
        return channel


def test_the_loss_of_the_agent_is_noticed_at_once_with_its_last_words(
    local: Transport, models: dict[str, Path]
) -> None:
    watched = Watched(local)
    agent = AgentClient(watched)
    agent.load("m", local.push(models["litert"]), "litert", SPEC.input_shape)
    visits = agent.run([Planned("m", 1000)] * 1000)
    next(visits)
    os.kill(watched.channel.pid, signal.SIGKILL)
    start = time.monotonic()
    with pytest.raises(AgentLostError, match="killed by signal 9"), agent:
        list(visits)
    assert time.monotonic() - start < 5


def test_a_silent_agent_is_a_time_out() -> None:
    channel = ProcessChannel([sys.executable, "-c", "import time; time.sleep(60)"], dict(os.environ))
    try:
        with pytest.raises(AgentTimeoutError, match=r"within 0\.2 s"):
            channel.receive(0.2)
    finally:
        os.kill(channel.pid, signal.SIGKILL)
        channel.close()


def test_the_agent_ends_when_its_input_ends_and_at_its_deadline(agent_argv: list[str]) -> None:
    ended = subprocess.run(agent_argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=30)
    assert ended.returncode == 0
    assert json.loads(ended.stdout)["event"] == "hello"
    with subprocess.Popen(
        [*agent_argv, "--deadline-s", "0.2"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    ) as process:
        assert process.wait(timeout=10) == 4


ENDLESS = """
import json, os, subprocess, sys
agent = subprocess.Popen(sys.argv[2:], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
agent.stdout.readline()
request = {"id": 1, "op": "load", "model": "m", "path": sys.argv[1], "runtime": "onnxruntime"}
request["inputs"] = [{"name": "x", "shape": [1], "element": "float32"}]
agent.stdin.write(json.dumps(request).encode() + b"\\n")
agent.stdin.flush()
print(agent.pid, flush=True)
agent.wait()
"""


def runs(pid: int) -> bool:
    """Whether a process is there, and more than a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_an_agent_in_a_model_without_end_ends_when_its_host_is_killed(tmp_path: Path) -> None:
    """The Python agent; a phone ends what runs in a connection that is gone."""
    infos = [helper.make_tensor_value_info(n, k, s) for n, k, s in (("i", 7, []), ("go", 9, []), ("a", 1, [1]))]
    ends = [helper.make_tensor_value_info("on", 9, []), helper.make_tensor_value_info("b", 1, [1])]
    nodes = [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Sin", ["a"], ["b"])]
    loop = helper.make_node("Loop", ["", "yes", "x"], ["y"], body=helper.make_graph(nodes, "body", infos, ends))
    yes = helper.make_node("Constant", [], ["yes"], value=helper.make_tensor("v", 9, [], [True]))
    path = tmp_path / "endless.onnx"
    path.write_bytes(onnx_model({"x": ("float32", [1])}, {"y": ("float32", [1])}, [yes, loop]))
    command = [sys.executable, "-c", ENDLESS, str(path), sys.executable, str(agent_script())]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as host:
        assert host.stdout is not None
        pid = int(host.stdout.readline())
        wait_until(lambda: Path(f"/proc/{pid}/maps").read_text().count("onnxruntime"), 30, "the runtime")
        time.sleep(1)  # into the model
        host.kill()
    wait_until(lambda: not runs(pid), 20, "the agent's end")


def test_garbage_and_unknown_requests_are_answered(agent_argv: list[str]) -> None:
    lines = ['{"id": 1, "op": "explode"}', "no json", "[1]", '{"id": 2, "op": "load"}', '{"id": 3, "op": "bye"}']
    done = subprocess.run(agent_argv, input="\n".join(lines) + "\n", capture_output=True, text=True, timeout=30)
    replies = [json.loads(line) for line in done.stdout.splitlines()]
    assert [reply["event"] for reply in replies] == ["hello", "error", "error", "error", "error", "bye"]
    assert "unknown operation 'explode'" in replies[1]["message"]


HELLO = {
    "event": "hello",
    "protocol": PROTOCOL,
    "agent": "native 0.0.1",
    "runtimes": {},
    "threads": 1,
    "cores": None,
    "clocks": [],
    "soc": "",
    "system": "",
}


class Saying:
    """A transport to an agent that says one line."""

    def __init__(self, line: dict[str, Any]) -> None:
        self.program = f"print({json.dumps(json.dumps(line))})"

    def start(self, options: Sequence[str]) -> ProcessChannel:
        self.channel = ProcessChannel([sys.executable, "-c", self.program], dict(os.environ))
        return self.channel


@pytest.mark.parametrize(
    ("hello", "why"),
    [
        (HELLO | {"protocol": PROTOCOL - 1}, f"protocol {PROTOCOL - 1} there, {PROTOCOL} here"),
        ({"event": "hello", "protocol": PROTOCOL - 1, "agent": "native 0.0.1"}, f"protocol {PROTOCOL - 1} there"),
        ({"event": "hello", "agent": "native 0.0.1"}, f"protocol 0 there, {PROTOCOL} here"),
        ({name: value for name, value in HELLO.items() if name not in ("clocks", "soc")}, "no clocks, soc"),
    ],
)
def test_an_agent_older_than_the_host_is_told_to_be_and_what_to_do(hello: dict[str, Any], why: str) -> None:
    with pytest.raises(DeviceError) as caught:
        AgentClient(Saying(hello))
    assert "the agent on the device (native 0.0.1) is older than this host" in str(caught.value)
    assert why in str(caught.value)
    assert "put this host's agent there; fbprof agent build makes it" in str(caught.value)


@pytest.mark.parametrize("more", [{}, {"clocks": {"wall": "ns"}, "cores": "0-7"}])
def test_an_agent_newer_than_the_host_is_told_to_be_and_what_to_do(more: dict[str, Any]) -> None:
    with pytest.raises(DeviceError) as caught:
        AgentClient(Saying(HELLO | more | {"protocol": 99}))
    assert f"(native 0.0.1) is newer than this host (protocol 99 there, {PROTOCOL} here)" in str(caught.value)
    assert "update fbnet-lab on this host" in str(caught.value)


def test_what_an_agent_of_this_version_does_not_tell_is_no_reason_to_refuse_it() -> None:
    saying = Saying(HELLO | {"novelty": 1})
    client = AgentClient(saying)
    assert (client.hello.clusters, client.hello.overhead_ns) == (None, None)
    with pytest.raises(
        DeviceError, match=r"\(native 0.0.1\) is older than this host and knows nothing of a model's inp"
    ):
        client.load("m", "m.onnx", "onnxruntime", (), inputs=[Input("x", (1,), "int32")])
    with pytest.raises(DeviceError, match="put this host's agent there"):
        client.load("m", "m.onnx", "onnxruntime", (1, 3, 8, 8), inputs_path="x.bin")
    saying.channel.close()
