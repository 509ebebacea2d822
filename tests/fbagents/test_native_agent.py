"""The native agent beside the contract: under sanitizers it survives whatever a host sends."""

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fbagents.agent.client import AgentClient, Planned
from fbagents.agent.protocol import MAX_LINE_BYTES, parse_reply
from fbagents.connect import connect, load_profile
from fbagents.errors import AgentReplyError
from fbagents.native import build as native
from fbagents.posix.process import ProcessChannel
from fbagents.transport import Transport
from peers.compiler import needs_compiler
from peers.small_models import identity

NAMES = ['"', "\\", "a\nb\tc", "é😀", "", "\x00", "\x7f", "a" * 1000]


@contextlib.contextmanager
def started(argv: list[str]) -> Iterator[ProcessChannel]:
    """Start an agent, swallow its hello, and see to it that it ended without a word of a sanitizer."""
    channel = ProcessChannel(argv, dict(os.environ))
    try:
        channel.receive(30)
        yield channel
    finally:
        channel.close()
    assert channel.exit_code == 0


def ask(channel: ProcessChannel, **request: Any) -> dict[str, Any]:
    """Send a request and return its first reply."""
    channel.send(json.dumps(request).encode())
    reply: dict[str, Any] = json.loads(channel.receive(30))
    return reply


@needs_compiler
def test_both_runtimes_under_sanitizers(sanitized: Path, models: dict[str, Path], int8_models: dict[str, Path]) -> None:
    with started([str(sanitized), *native.runtime_options()]) as channel:
        for runtime, outputs in (("litert", 24 * 8 * 8), ("onnxruntime", 8 * 8 * 8)):
            loaded = ask(channel, id=0, op="load", model="8", path=str(int8_models[runtime]), runtime=runtime)
            assert loaded["outputs"] == outputs
            assert ask(channel, id=0, op="unload", model="8")["event"] == "unloaded"
        for turn in range(2):  # the second load replaces the first
            for runtime in ("litert", "onnxruntime"):
                loaded = ask(channel, id=turn, op="load", model=runtime, path=str(models[runtime]), runtime=runtime)
                assert loaded["outputs"] == 24 * 8 * 8
                broken = ask(channel, id=9, op="load", model="b", path=str(models["torch"]), runtime=runtime)
                assert broken["event"] == "error"
        visits = [{"model": runtime, "runs": 3} for runtime in ("litert", "onnxruntime")] * 3
        assert ask(channel, id=3, op="run", schedule=visits)["event"] == "visit"
        rest = [json.loads(channel.receive(30))["event"] for _ in range(6)]
        assert rest == ["visit"] * 5 + ["done"]
        for runtime in ("litert", "onnxruntime"):
            assert ask(channel, id=4, op="unload", model=runtime)["event"] == "unloaded"
            assert "is not loaded" in ask(channel, id=5, op="unload", model=runtime)["message"]


@needs_compiler
@pytest.mark.parametrize(
    "max_khz",
    [
        pytest.param({}, marks=pytest.mark.full),
        pytest.param({0: "5"}, marks=pytest.mark.full),
        {0: "1", 1: "2", 7: "3", 1023: "2"},
        {0: "9" * 30, 1: "-1", 2: "x"},
    ],
)
def test_every_form_of_cores_under_sanitizers(sanitized: Path, tmp_path: Path, max_khz: dict[int, str]) -> None:
    for core, khz in max_khz.items():
        folder = tmp_path / f"devices/system/cpu/cpu{core}/cpufreq"
        folder.mkdir(parents=True)
        (folder / "cpuinfo_max_freq").write_text(khz)
    good = [
        "big",
        "middle",
        "little",
        "all",
        "big,little",
        "0",
        "0x1,middle",
        "0-1023",
        "0," * 9999 + "0",
        "0x1",
        "0x" + "f" * 256,
    ]
    bad = [
        "",
        ",",
        "big,",
        "-",
        "0x",
        "0x0",
        "0x" + "f" * 257,
        "0-1024",
        "1-0",
        "9" * 99,
        "0" * 9999 + "g",
        "é\x7f%n%s" * 99,
    ]
    for text in [*good, *bad]:
        done = subprocess.run(
            [sanitized, "--sys", tmp_path, "--cores", text], stdin=subprocess.DEVNULL, capture_output=True, timeout=30
        )
        reply = parse_reply(done.stdout.splitlines()[0])
        assert (reply.event, done.returncode, done.stderr) in (("hello", 0, b""), ("error", 3, b"")), text
        assert text not in bad or reply.event == "error", text


@needs_compiler
def test_names_of_any_characters_come_back_as_they_were(sanitized: Path, models: dict[str, Path]) -> None:
    with started([str(sanitized), *native.runtime_options()]) as channel:
        for name in NAMES:
            loaded = ask(channel, id=1, op="load", model=name, path=str(models["litert"]), runtime="litert")
            assert loaded["model"] == name
        channel.send(json.dumps({"op": "run", "schedule": [{"model": name, "runs": 1} for name in NAMES]}).encode())
        assert [json.loads(channel.receive(30))["model"] for _ in NAMES] == NAMES


@needs_compiler
def test_the_test_input_and_both_agents_agree(models: dict[str, Path], local: Transport) -> None:
    with started([str(native.build(native.host_target())), *native.runtime_options()]) as channel:
        for runtime in ("litert", "onnxruntime"):
            path = str(models[runtime])
            here = ask(channel, id=1, op="load", model="m", path=path, runtime=runtime)
            with AgentClient(local) as other:
                there = other.load("m", path, runtime, (1, 16, 16, 16))
            assert here["output_sum"] == pytest.approx(there.output_sum, abs=1e-9 * there.output_abs_sum)


REQUESTS = [
    b'{"id":1,"op":"state"}',
    b'{"id":2,"op":"load","model":"m","path":"/dev/null","runtime":"litert","input_shape":[1,2]}',
    b'{"id":3,"op":"run","schedule":[{"model":"m\\u00e9\\ud83d\\ude00","runs":1e0},{"model":"m","runs":-0.5}]}',
    b'{"id":4,"op":"unload","model":"m"}',
]
json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
keys = st.sampled_from(["id", "op", "model", "path", "runtime", "schedule", "runs", "pieces", "sha256"])
words = st.sampled_from(["write", "load", "run", "unload", "state", "litert", "onnxruntime", "/dev", "/dev/null", "m"])
requests = st.dictionaries(keys, words | st.integers() | json_values, max_size=7)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A good request that is cut, or of which a few bytes are others."""
    line = bytearray(draw(st.sampled_from(REQUESTS)))
    for _ in range(draw(st.integers(0, 3))):
        line[draw(st.integers(0, len(line) - 1))] = draw(st.integers(0, 255))
    return bytes(line[: draw(st.integers(1, len(line)))])


lines = st.binary(max_size=80) | mutated() | json_values.map(json.dumps).map(str.encode)
lines |= requests.map(json.dumps).map(str.encode)


@pytest.fixture(scope="module")
def fuzzed(sanitized: Path) -> Iterator[ProcessChannel]:
    with started([str(sanitized), *native.runtime_options()]) as channel:
        yield channel


@needs_compiler
@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(line=lines)
def test_every_line_is_answered_by_replies_and_hurts_nobody(fuzzed: ProcessChannel, line: bytes) -> None:
    line = line.replace(b"\n", b" ").replace(b'"bye"', b'"BYE"')
    fuzzed.send(line)
    fuzzed.send(b'{"id":777777,"op":"unload","model":"no such model"}')
    for answers in range(3):
        reply = parse_reply(fuzzed.receive(30))
        if reply.id == 777777 and answers > 0:
            return
    pytest.fail(f"too many answers to {line!r}")


sides = st.lists(st.sampled_from([1, 4, 0, -1, 0.5, 1 << 40, 1e300, None, "1"]), max_size=10) | json_values
asked = st.fixed_dictionaries(
    {"shape": st.just([1, 4]) | sides, "element": st.sampled_from(["int8", "float32", "x" * 3000, None])},
    optional={"name": st.sampled_from(["x", "y", "a\0b", "x" * 3000, "", 5, None])},
)


@needs_compiler
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    inputs=st.lists(asked, max_size=3) | json_values,
    values=st.binary(max_size=20) | st.sampled_from([b"1234", None]),
    runtime=st.sampled_from(["litert", "onnxruntime"]),
)
def test_whatever_inputs_are_asked_for_the_next_request_is_answered(
    fuzzed: ProcessChannel, tmp_path: Path, inputs: object, values: bytes | None, runtime: str
) -> None:
    (tmp_path / "model").write_bytes(identity(runtime, "int8", (1, 4)))
    (tmp_path / "values").write_bytes(values or b"")
    request: dict[str, Any] = {"op": "load", "model": "i", "path": str(tmp_path / "model"), "runtime": runtime}
    request |= {"inputs": inputs} | ({"inputs_path": str(tmp_path / "values")} if values is not None else {})
    loaded = ask(fuzzed, id=1, **request)
    if loaded["event"] == "loaded":
        assert inputs is None or [(one["shape"], one["element"]) for one in inputs] == [([1, 4], "int8")]  # type: ignore[attr-defined]
        assert values is None or len(values) == 4
    assert ask(fuzzed, id=2, op="state")["event"] == "state"


other = st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5)
numbers = st.integers(-2, 40) | st.sampled_from([1 << 40, (1 << 40) + 1, 1 << 62, -1 << 62, 0.5, 1e300])
paths = st.sampled_from(["THERE", "THERE/", "/dev/zero", "/no/file", "", "/", "a\0b", "x" * 5000]) | other
pieces = st.lists(numbers | st.lists(paths | numbers, max_size=4) | other, max_size=6) | other
good = st.lists(st.integers(0, 9) | st.tuples(st.just("THERE"), st.integers(0, 20), st.integers(0, 20)), max_size=6)


def joined(pieces: object, following: bytes) -> bytes:
    """Join pieces as far as they are any."""
    content = b""
    for piece in pieces if isinstance(pieces, list) else []:
        if isinstance(piece, int) and 0 <= piece <= 40:
            content, following = content + following[:piece], following[piece:]
        elif isinstance(piece, tuple):
            content += bytes(range(16))[piece[1] : piece[1] + piece[2]]
    return content


targets = st.sampled_from(["TARGET", "TARGET", "TARGET/x", "THERE", "/", "a\0b", "x" * 5000, None, 5, ["TARGET"]])


@needs_compiler
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=targets, pieces=pieces | good, hash=st.sampled_from(["right", "", 5]), following=st.binary(max_size=40))
def test_whatever_is_to_be_written_the_next_request_is_read(
    fuzzed: ProcessChannel, tmp_path: Path, path: object, pieces: object, hash: object, following: bytes
) -> None:
    there = tmp_path / "there"
    there.write_bytes(bytes(range(16)))
    if hash == "right":
        hash = hashlib.sha256(joined(pieces, following)).hexdigest()
    request = {"id": 1, "op": "write", "path": path, "pieces": pieces, "sha256": hash, "bytes": len(following)}
    text = json.dumps(request).replace("THERE", str(there)).replace("TARGET", str(tmp_path / "target"))
    fuzzed.send(text.encode(), following)
    assert parse_reply(fuzzed.receive(30)).event in ("error", "written")
    assert ask(fuzzed, id=2, op="state")["event"] == "state"
    assert not list(tmp_path.rglob("*.part"))


@needs_compiler
@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"[" * 100_000, "nested more than 32 deep"),
        (b'{"a":' * 100_000, "nested more than 32 deep"),
        (b"[" + b"0," * 1_500_000 + b"0]", "more than 1048576 values"),
        (b'{"id":1e999}', "too large"),
        (b'{"id":' + b"9" * 100_000 + b"}", "too large"),
        (b'{"id":1.5}', "no whole number"),
        (b'{"id":01}', "does not end"),
        (b'{"id":NaN}', "not JSON"),
        (b'{"id":1} {}', "more follows"),
        (b'{"op":"\xff"}', "not UTF-8"),
        (b'{"op":"\xed\xa0\x80"}', "not UTF-8"),
        (b'{"op":"\\ud800"}', "half of a surrogate pair"),
        (b'{"op":"\\u12', "cut off"),
        (b'{"op":"a\x00b"}', "control character"),
        (b"", "not JSON"),
        (b"x" * (MAX_LINE_BYTES + 10), f"longer than {MAX_LINE_BYTES} bytes"),
        (b'{"op":"run","schedule":[' + b"[]," * 100_000 + b"[]]}", "at most 100000 visits"),
        (b'{"op":"run","schedule":[{"model":"m"}]}', "'m' is not loaded"),
        (b'{"op":"load","model":"m","path":"/dev/null","runtime":"litert"}', "is no file"),
        (b'{"op":"load","model":"m","path":"a\\u0000b","runtime":"litert"}', 'no "path" that is a text'),
    ],
    ids=range(20),
)
def test_bounds_are_told_in_words(fuzzed: ProcessChannel, line: bytes, why: str) -> None:
    fuzzed.send(line)
    assert why in json.loads(fuzzed.receive(30))["message"]
    assert ask(fuzzed, id=1, op="state")["event"] == "state"


def test_a_model_beyond_the_memory_bound_is_refused(agent_argv: list[str], models: dict[str, Path]) -> None:
    with started([*agent_argv, "--memory-bytes", "1000000"]) as channel:
        refused = ask(channel, id=1, op="load", model="m", path=str(models["litert"]), runtime="litert", input_shape=[])
        assert "the agent may take 1000000 bytes" in refused["message"]
        assert ask(channel, id=2, op="state")["event"] == "state"


@pytest.mark.skipif(
    len(getattr(os, "sched_getaffinity", lambda _: ())(0)) < 2, reason="needs two cores to move between"
)
def test_an_agent_that_is_taken_off_its_cores_says_so(agent_argv: list[str], models: dict[str, Path]) -> None:
    first, second, *_ = sorted(os.sched_getaffinity(0))
    with started([*agent_argv, "--cores", str(first)]) as channel:
        load = {"op": "load", "model": "m", "path": str(models["litert"]), "runtime": "litert", "input_shape": []}
        assert ask(channel, id=1, **load)["event"] == "loaded"
        visit = {"op": "run", "schedule": [{"model": "m", "runs": 1}]}
        assert ask(channel, id=2, **visit)["event"] == "visit"
        assert json.loads(channel.receive(30))["event"] == "done"
        os.sched_setaffinity(channel.pid, [second])
        assert "took the agent off the cores" in ask(channel, id=3, **visit)["message"]


def test_what_the_system_tells_and_what_it_denies(agent_argv: list[str]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = {
            "class/thermal/thermal_zone0/temp": "41200",
            "class/thermal/thermal_zone0/type": "cpu",
            "class/thermal/thermal_zone1/temp": "37",
            "class/thermal/cooling_device0/temp": "1",
            "class/power_supply/battery/temp": "305",
            "class/power_supply/battery/type": "Battery",
            "devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "1900800",
        }
        for path, content in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(content + "\n")
        with started([*agent_argv, "--sys", name]) as channel:
            state = ask(channel, id=1, op="state")
            assert state["temperature_c"] == {
                "thermal_zone0 cpu": 41.2,
                "thermal_zone1": 37.0,
                "battery Battery": 30.5,
            }
            assert state["freq_khz"] == {"0": 1900800}
            assert state["denied"] == []
            (folder / "class/thermal/thermal_zone0/temp").chmod(0)
            if not os.access(folder / "class/thermal/thermal_zone0/temp", os.R_OK):  # root may read everything
                assert ask(channel, id=2, op="state")["denied"] == ["temperature_c"]


@needs_compiler
def test_what_is_denied_to_others_than_root_is_listed() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to start the agent as nobody")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        program = folder / "agent"
        shutil.copy(native.build(native.host_target()), program)
        program.chmod(0o755)
        for path in ("class/thermal/thermal_zone0/temp", "devices/system/cpu/cpu0/cpufreq/scaling_cur_freq"):
            (folder / path).parent.mkdir(parents=True)
            (folder / path).write_text("1\n")
            (folder / path).chmod(0)
        done = subprocess.run(
            [program, "--sys", name], input=b'{"id":1,"op":"state"}\n', capture_output=True, user=65534, timeout=30
        )
        state = json.loads(done.stdout.splitlines()[1])
        assert (state["freq_khz"], state["temperature_c"]) == (None, None)
        assert state["denied"] == ["freq_khz", "temperature_c"]


@needs_compiler
def test_a_missing_runtime_is_not_listed_and_a_load_says_so(tmp_path: Path, models: dict[str, Path]) -> None:
    argv = [str(native.build(native.host_target())), "--library-path", str(tmp_path)]
    channel = ProcessChannel(argv, dict(os.environ))
    try:
        assert json.loads(channel.receive(30))["runtimes"] == {}
        refused = ask(channel, id=1, op="load", model="m", path=str(models["litert"]), runtime="litert")
        assert "litert is not here" in refused["message"]
    finally:
        channel.close()


@needs_compiler
def test_the_profile_local_native_measures(models: dict[str, Path]) -> None:
    with AgentClient(connect(load_profile("local-native"))) as agent:
        assert agent.hello.agent.startswith("native ")
        assert set(agent.hello.runtimes) == {"litert", "onnxruntime"}
        assert agent.hello.overhead_ns is not None
        assert agent.hello.overhead_ns < 3000
        agent.load("m", str(models["onnxruntime"]), "onnxruntime", (1, 16, 16, 16))
        assert len(list(agent.run([Planned("m", 2)] * 3))) == 3
        with pytest.raises(AgentReplyError, match="unknown runtime 'tensorrt'; known: executorch, litert, ncnn"):
            agent.load("t", str(models["torch"]), "tensorrt", (1, 16, 16, 16))
        with pytest.raises(AgentReplyError, match="torch is not here: no file libfbtorch"):  # until it is asked for
            agent.load("t", str(models["torch"]), "torch", (1, 16, 16, 16))
