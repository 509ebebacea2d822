"""Many visits in little memory are the visits that were put in."""

import lzma
import tracemalloc
from pathlib import Path

import pytest

from fbagents.agent.protocol import Visit, parse_reply
from fbagents.errors import AgentReplyError
from fbprof.journal.visits import Visited, Visits

JOURNAL = Path(__file__).parents[1] / "data" / "replay.journal.jsonl.xz"
LARGEST = (1 << 62) - 1


def visited(key: str, **fields: object) -> Visited:
    plain = {"event": "visit", "index": 0, "model": key, "start_ns": 5, "wall_ns": [1, 2], "cpu_ns": None}
    return Visited(key=key, visit=Visit.model_validate(plain | fields))


DIFFERENT = [
    visited("a"),
    visited("b", cpu_ns=[0, 1], core=0, freq_khz=0),
    visited("a", wall_ns=[7], core=-1, freq_khz=-1),
    visited("c", wall_ns=[LARGEST] * 3, cpu_ns=[LARGEST] * 3, core=LARGEST, freq_khz=-LARGEST, index=LARGEST),
    visited("a", index=3, start_ns=LARGEST),
]


def test_what_was_put_in_comes_out() -> None:
    visits = Visits()
    assert visits == []
    for record in DIFFERENT:
        visits.append(record)
    assert list(visits) == DIFFERENT == [visits[number] for number in range(5)]
    assert visits == DIFFERENT
    assert visits != DIFFERENT[:-1]
    assert visits[1:3] == DIFFERENT[1:3]
    assert visits[-1] == DIFFERENT[-1]
    with pytest.raises(IndexError):
        visits[5]


def test_a_recorded_run_takes_a_tenth_of_the_memory_of_its_objects() -> None:
    lines = [
        line for line in lzma.decompress(JOURNAL.read_bytes()).splitlines() if line.startswith(b'{"record":"visit"')
    ]
    tracemalloc.start()
    try:
        records = [Visited.model_validate_json(line) for line in lines]
        objects_bytes = tracemalloc.get_traced_memory()[0]
        visits = Visits()
        for record in records:
            visits.append(record)
        columns_bytes = tracemalloc.get_traced_memory()[0] - objects_bytes
    finally:
        tracemalloc.stop()
    assert len(visits) > 1800
    assert columns_bytes < objects_bytes / 10


@pytest.mark.parametrize(
    "fields", ['"cpu_ns":[1,2,3]', f'"cpu_ns":null,"core":{1 << 62}', f'"cpu_ns":null,"freq_khz":{-(1 << 64)}']
)
def test_what_no_column_can_hold_is_no_reply(fields: str) -> None:
    line = '{"event":"visit","id":1,"index":0,"model":"m","start_ns":0,"wall_ns":[1,2],' + fields + "}"
    with pytest.raises(AgentReplyError, match="what is not a reply"):
        parse_reply(line.encode())
