"""Journals made up sample by sample, for the tests of what is derived from them."""

from collections.abc import Sequence

from fbagents.agent.protocol import Hello, Visit
from fbprof.journal.journal import JournalContent, Record, Session, Start
from fbprof.journal.visits import Visited

HELLO = Hello(
    event="hello",
    protocol=1,
    agent="python",
    runtimes={"litert": "2.3.0"},
    threads=1,
    cores=None,
    clocks=("wall",),
    soc="chip",
    system="Linux",
)
IDENTITY = {
    "space": "fbnet",
    "device": "local",
    "runtime": "litert",
    "precision": "float32",
    "threads": 1,
    "cores": None,
    "runs": 3,
    "dropped": 1,
    "seed": 0,
}


def start(**identity: object) -> Start:
    """The first line of a journal of three runs per visit, the first of them dropped."""
    return Start(identity=IDENTITY | identity, timing="t", started_at="2026-01-01", tool_version="0")


def journal(*records: Record, first: Start | None = None, hello: Hello = HELLO) -> JournalContent:
    """A journal of one session."""
    content = JournalContent(first or start())
    for record in (Session(hello=hello), *records):
        content.add(record)
    return content


def visit(
    key: str, wall_us: Sequence[float], cpu_us: Sequence[float] | None = None, warm_up: bool = False, **fields: object
) -> Visited:
    """A visit of one sample for each latency; `fields` are others of the agent's reply."""
    raw = {
        "event": "visit",
        "index": 0,
        "model": key,
        "start_ns": 0,
        "wall_ns": [int(us * 1000) for us in wall_us],
        "cpu_ns": [int(us * 1000) for us in cpu_us] if cpu_us else None,
    }
    return Visited(key=key, warm_up=warm_up, visit=Visit.model_validate(raw | fields))
