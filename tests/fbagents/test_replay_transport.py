"""A replay speaks as the recorded agent did, says that it is a replay, and refuses what is no recording."""

import json
import lzma
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fbagents.agent.client import AgentClient, Input, Planned
from fbagents.agent.protocol import MAX_LINE_BYTES
from fbagents.agent.recording import read_recording
from fbagents.connect import connect
from fbagents.errors import AgentLostError, AgentReplyError, AgentTimeoutError, ProfileError
from fbagents.profile import Profile

JOURNAL = Path(__file__).parents[1] / "data" / "replay.journal.jsonl.xz"
KEY = "ir_in16x24x24_out16_k3_s1_e3_g1_relu"
SHAPE = (1, 16, 24, 24)


def replay_of(journal: Path, **address: object) -> Profile:
    return Profile(name="r", description="x", transport="replay", address={"journal": str(journal), **address})


@pytest.fixture(scope="module")
def lines() -> list[dict[str, Any]]:
    return [json.loads(line) for line in lzma.decompress(JOURNAL.read_bytes()).splitlines()]


@pytest.fixture
def agent() -> Iterator[AgentClient]:
    transport = connect(replay_of(JOURNAL))
    with AgentClient(transport) as client:
        yield client
    transport.close()


def recorded(lines: list[dict[str, Any]], warm_up: bool) -> dict[str, list[dict[str, Any]]]:
    visits = defaultdict(list)
    for line in lines:
        if line["record"] == "visit" and line.get("warm_up", False) is warm_up:
            visits[line["key"]].append(line["visit"])
    return visits


def test_hello_says_what_is_replayed_and_from_when(agent: AgentClient, lines: list[dict[str, Any]]) -> None:
    start, session = lines[0], lines[1]
    assert agent.hello.agent == f"replay of {session['hello']['agent']}"
    assert agent.hello.soc == "replay of AMD EPYC"
    assert agent.hello.system.startswith("replay of replay.journal.jsonl.xz: Linux")
    assert agent.hello.recorded_at == start["started_at"]
    assert agent.hello.runtimes == {"litert": "2.3.0"}  # of three the agent had, the one that was measured


def test_visits_come_as_they_were_recorded_and_begin_again(agent: AgentClient, lines: list[dict[str, Any]]) -> None:
    expected = recorded(lines, warm_up=False)[KEY]
    asked = [Input("x", SHAPE, "float32")]
    loaded = agent.load(KEY, "unused", "litert", (), inputs=asked, inputs_path="unused")  # nobody looks at them
    assert loaded.output_abs_sum == next(x["loaded"] for x in lines if x.get("key") == KEY)["output_abs_sum"]
    agent.state()
    visits = list(agent.run([Planned(KEY, 3)] * (len(expected) + 2)))
    assert [list(v.wall_ns) for v in visits] == [v["wall_ns"] for v in [*expected, *expected[:2]]]
    assert [list(v.cpu_ns or ()) for v in visits] == [v["cpu_ns"] for v in [*expected, *expected[:2]]]
    assert [v.index for v in visits] == list(range(len(visits)))
    starts = [v.start_ns for v in visits]
    assert all(b - a == sum(v.wall_ns) for a, b, v in zip(starts[:-1], starts[1:], visits[:-1], strict=True))


def test_a_load_is_followed_by_its_own_warm_up(agent: AgentClient, lines: list[dict[str, Any]]) -> None:
    first_load: list[list[int]] = []
    for line in lines:
        if line.get("key") == KEY and line["record"] == "loaded" and first_load:
            break
        if line.get("key") == KEY and line.get("warm_up"):
            first_load.append(line["visit"]["wall_ns"])
    agent.load(KEY, "unused", "litert", SHAPE)
    assert len(first_load) >= 2
    assert [list(v.wall_ns) for v in agent.run([Planned(KEY, 3)] * len(first_load))] == first_load
    counted = recorded(lines, warm_up=False)[KEY]
    assert [list(v.wall_ns) for v in agent.run([Planned(KEY, 3)])] == [counted[0]["wall_ns"]]


def test_what_the_host_noted_of_models_is_passed_over(lines: list[dict[str, Any]], tmp_path: Path) -> None:
    """Journals of int8 hold it."""
    journal = tmp_path / "int8.journal.jsonl"
    noted = {"record": "placed", "key": KEY, "fallbacks": ["HARD_SWISH not delegated"]}
    journal.write_text("".join(json.dumps(line) + "\n" for line in [*lines[:3], noted, *lines[3:]]))
    assert read_recording(journal).visits == read_recording(JOURNAL).visits


def test_states_come_in_turn_and_begin_again(agent: AgentClient, lines: list[dict[str, Any]]) -> None:
    expected = [line["state"]["memory_available_bytes"] for line in lines if line["record"] == "state"]
    got = [agent.state().memory_available_bytes for _ in range(len(expected) + 1)]
    assert got == [*expected, expected[0]]


def test_errors_are_told_in_words_and_the_replay_goes_on(agent: AgentClient) -> None:
    with pytest.raises(AgentReplyError, match="the recording has no model 'ir_unknown'"):
        agent.load("ir_unknown", "unused", "litert", SHAPE)
    with pytest.raises(AgentReplyError, match="unknown runtime 'onnxruntime'; known: litert"):
        agent.load(KEY, "unused", "onnxruntime", SHAPE)
    with pytest.raises(AgentReplyError, match="is not loaded"):
        list(agent.run([Planned(KEY, 3)]))
    agent.load(KEY, "unused", "litert", SHAPE)
    with pytest.raises(AgentReplyError, match="3 runs at every visit, not 5"):
        list(agent.run([Planned(KEY, 5)]))
    assert len(list(agent.run([Planned(KEY, 3)]))) == 1
    agent.unload(KEY)
    with pytest.raises(AgentReplyError, match="is not loaded"):
        list(agent.run([Planned(KEY, 3)]))


def test_a_recording_with_other_threads_or_cores_is_refused() -> None:
    transport = connect(replay_of(JOURNAL))
    with pytest.raises(AgentReplyError, match="made with --threads 1, it cannot be replayed with --threads 2"):
        AgentClient(transport, threads=2)
    channel = transport.start(["--threads", "1", "--cores", "0"])
    assert b"made without --cores, it cannot be replayed with --cores 0" in channel.receive(1)


def test_garbage_is_answered_and_the_end_is_the_end() -> None:
    channel = connect(replay_of(JOURNAL)).start(["--threads", "1"])
    assert json.loads(channel.receive(1))["event"] == "hello"
    for request in (b"no json", b"[1]", b"{}", b'{"id": 1, "op": "explode"}', b'{"id": 2, "op": ["run"]}', b"[" * 9999):
        channel.send(request)
        assert json.loads(channel.receive(1))["event"] == "error"
    with pytest.raises(AgentTimeoutError):
        channel.receive(0.01)
    channel.send(b'{"id": 3, "op": "bye"}')
    assert json.loads(channel.receive(1)) == {"id": 3, "event": "bye"}
    with pytest.raises(AgentLostError):
        channel.send(b'{"id": 4, "op": "state"}')


def test_speed_1_takes_the_recorded_time_and_2_5_less() -> None:
    took_s = {1: math.inf, 2.5: math.inf}
    for speed in (1, 2.5) * 3:  # the best of three: other work on the machine makes one longer, and none shorter
        with AgentClient(connect(replay_of(JOURNAL, speed=speed))) as client:
            client.load(KEY, "unused", "litert", SHAPE)
            client.state()
            start = time.monotonic()
            visits = list(client.run([Planned(KEY, 3)] * 1000))
            took = time.monotonic() - start
        took_s[speed] = min(took, took_s[speed])
        recorded_s = sum(sum(visit.wall_ns) for visit in visits) / 1e9
        assert took >= recorded_s / speed
    assert took_s[2.5] < took_s[1]


def test_a_reply_later_than_the_time_out_is_one_and_comes_after_all() -> None:
    channel = connect(replay_of(JOURNAL, speed=0.01)).start(["--threads", "1"])
    channel.receive(1)
    channel.send(json.dumps({"id": 1, "op": "load", "model": KEY, "runtime": "litert"}).encode())
    with pytest.raises(AgentTimeoutError, match="did not answer within"):
        channel.receive(1e-5)
    assert json.loads(channel.receive(5))["event"] == "loaded"


def changed(change: Callable[[list[bytes]], None]) -> bytes:
    """The recorded lines, changed in place."""
    whole = lzma.decompress(JOURNAL.read_bytes()).splitlines(keepends=True)
    change(whole)
    return b"".join(whole)


def replace_line(number: int, line: bytes) -> Callable[[list[bytes]], None]:
    def change(whole: list[bytes]) -> None:
        whole[number - 1] = line + b"\n"

    return change


VISIT = (
    b'{"record":"visit","key":"k",'
    b'"visit":{"event":"visit","index":0,"model":"k","start_ns":0,"wall_ns":%s,"cpu_ns":null}}'
)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"\x00\xff garbage", "line 7: damaged"),
        (b"", "line 7: damaged"),
        (b"[" * 100_000, "line 7: damaged"),
        (b'{"record":"virus"}', "line 7: damaged"),
        (b'{"record":"start"}', "line 7: damaged"),
        (b'{"record":"state","state":{"event":"state","memory_available_bytes":-1}}', "line 7: damaged"),
        (VISIT % b"[1,2,1e400]", "line 7: damaged"),
        (VISIT % b"[1,2,-3]", "line 7: damaged"),
        (VISIT % b"[1,2]", "line 7: a visit has 2 runs, the journal says 3"),
        (VISIT % b"[1,2,3]", "line 7: a visit to 'k', which was not loaded"),
        (b'{"record":"visit","key":7}', "line 7: damaged"),
        (b" " * (MAX_LINE_BYTES + 1), f"line 7: the line is longer than {MAX_LINE_BYTES} bytes"),
    ],
    ids=range(12),
)
def test_a_line_that_is_none_of_a_journal_is_told_by_its_number(tmp_path: Path, line: bytes, message: str) -> None:
    journal = tmp_path / "bad.journal.jsonl"
    journal.write_bytes(changed(replace_line(7, line)))
    with pytest.raises(ProfileError, match=rf"bad\.journal\.jsonl: {message}"):
        connect(replay_of(journal))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("e.jsonl", b"", "records no run"),
        ("t.jsonl", b"no newline at all", "records no run"),
        ("s.jsonl", changed(lambda lines: lines.__delitem__(slice(1, None))), "records no run"),
        ("f.jsonl", changed(lambda lines: lines.__delitem__(0)), "line 1: a journal begins with its one start record"),
        ("x.jsonl.xz", b"not xz", "cannot read journal"),
        ("h.jsonl.xz", JOURNAL.read_bytes()[:1000], "cannot read journal"),
    ],
)
def test_a_file_that_is_no_journal_is_told(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ProfileError, match=message):
        connect(replay_of(tmp_path / name))


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="there is no such journal; a relative path begins in the current folder"):
        connect(replay_of(tmp_path / "none.jsonl"))
    with pytest.raises(ProfileError, match=r"recorded journal expected, but .* is a folder"):
        connect(replay_of(tmp_path))


def test_a_few_bytes_that_unpack_to_too_many_are_refused() -> None:
    with pytest.raises(ProfileError, match="more than 50000 bytes"):
        read_recording(JOURNAL, max_bytes=50_000)


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    journal = tmp_path / "torn.journal.jsonl"
    journal.write_bytes(lzma.decompress(JOURNAL.read_bytes())[:-40])
    with AgentClient(connect(replay_of(journal))) as client:
        assert client.hello.recorded_at


def test_what_could_not_be_loaded_then_cannot_be_loaded_now(tmp_path: Path) -> None:
    journal = tmp_path / "j.journal.jsonl"
    failed = b'{"record":"failed","key":"odd","reason":"cannot be loaded: no such kernel"}\n'
    journal.write_bytes(lzma.decompress(JOURNAL.read_bytes()) + failed)
    with (
        AgentClient(connect(replay_of(journal))) as client,
        pytest.raises(AgentReplyError, match="LookupError: no such kernel"),
    ):
        client.load("odd", "unused", "litert", SHAPE)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ({}, "address.journal is not usable"),
        ({"journal": ""}, "address.journal is not usable"),
        ({"journal": "x", "speed": -1}, "address.speed is not usable"),
        ({"journal": "x", "speed": "fast"}, "address.speed is not usable"),
        ({"journal": "x", "port": 1}, "address.port is unknown; known for replay: journal, speed"),
    ],
)
def test_a_wrong_address_is_told(address: dict[str, Any], message: str) -> None:
    with pytest.raises(ProfileError, match=message):
        connect(Profile(name="r", description="x", transport="replay", address=address))
