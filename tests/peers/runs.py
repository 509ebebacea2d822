"""What goes into a run of fbprof and comes out of it: a profile's file, the visits and outputs in a journal."""

import json
import time
from collections.abc import Callable
from pathlib import Path

from fbagents.profile import Profile
from fbprof.journal.journal import JournalContent
from fbprof.plan.plan import REFERENCES


def write_profile(path: Path, profile: Profile) -> str:
    """Write a profile as a person does; JSON's strings and numbers are TOML's."""
    fields = profile.model_dump(exclude_defaults=True, exclude={"name"})
    tables = {name: fields.pop(name) for name in ("address", "environment", "phone") if name in fields}
    lines = [f"{name} = {json.dumps(value)}" for name, value in fields.items()]
    for table, values in tables.items():
        lines += [f"[{table}]", *(f"{name} = {json.dumps(value)}" for name, value in values.items())]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def wait_until(condition: Callable[[], object], timeout_s: float, what: str) -> float:
    """Wait, and return for how many seconds."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < timeout_s, f"{what}: not within {timeout_s} s"
        time.sleep(0.02)
    return time.monotonic() - start


def asked_for(content: JournalContent) -> dict[str, int]:
    """Return the visits to each operator and network of a journal, without those to the reference workload."""
    references = {subject.key for subject in REFERENCES}
    return {key: count for key, count in content.counts.items() if key not in references}


def counted(table: Path) -> int:
    """Return how many visits that count are in a table's journal."""
    journal = table.with_suffix(".journal.jsonl")
    return journal.read_bytes().count(b'"warm_up":false') if journal.exists() else 0


def sums(table: Path) -> dict[str, tuple[float, float]]:
    """Return the sum of the outputs of every model that was loaded, and the sum of their absolute values."""
    lines = map(json.loads, table.with_suffix(".journal.jsonl").read_text().splitlines())
    loads = [line for line in lines if line["record"] == "loaded"]
    return {line["key"]: (line["loaded"]["output_sum"], line["loaded"]["output_abs_sum"]) for line in loads}
