"""Replies are parsed with bounds; nothing a device sends gets through as something else."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fbagents.agent.protocol import Error, Loaded, Visit, parse_reply
from fbagents.errors import AgentReplyError

VISIT = {"id": 1, "event": "visit", "index": 0, "model": "m", "start_ns": 5, "wall_ns": [10, 20], "cpu_ns": None}


def test_a_visit_is_parsed() -> None:
    reply = parse_reply(json.dumps(VISIT).encode())
    assert isinstance(reply, Visit)
    assert reply.wall_ns == (10, 20)
    assert reply.cpu_ns is None


@pytest.mark.parametrize(
    "change",
    [{"wall_ns": []}, {"wall_ns": [-1]}, {"wall_ns": ["x"]}, {"wall_ns": [1 << 62]}, {"event": "party"}, {"index": -1}],
)
def test_values_out_of_bounds_are_errors_with_the_raw_text(change: dict[str, object]) -> None:
    with pytest.raises(AgentReplyError, match="what is not a reply"):
        parse_reply(json.dumps(VISIT | change).encode())


@given(st.binary(max_size=300))
def test_no_bytes_get_through(line: bytes) -> None:
    with pytest.raises(AgentReplyError):
        parse_reply(line)


def test_what_people_read_of_an_agent_is_on_one_line() -> None:
    reply = parse_reply(json.dumps({"id": 1, "event": "error", "message": "cannot\r\nverdict: good\n"}).encode())
    assert isinstance(reply, Error)
    assert reply.message == "cannot verdict: good"
    delegate = {"name": "a\nb", "extent": "partially", "detail": "1 of 2\n  nodes"}
    numbers = dict.fromkeys(("load_ns", "outputs", "output_sum", "output_abs_sum"), 1)
    loaded = parse_reply(json.dumps({"event": "loaded", "model": "m", "delegates": [delegate], **numbers}).encode())
    assert isinstance(loaded, Loaded)
    assert str(loaded.delegates[0]) == "a b delegate: only partially, 1 of 2 nodes"
