"""Plan: which operators are timed, in which order, how often; everything that makes two runs the same run."""

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from fbspace.opspec import OpSpec

_T = TypeVar("_T")

DEFAULT_ROUNDS = 200
QUICK_ROUNDS = 10
DEFAULT_RUNS = 3
DEFAULT_DROPPED = 1

ASSUMED_MACS_PER_S = 10e9
"""What `--dry-run` assumes of one core until the device has been measured: only for the time it announces."""
ASSUMED_OVERHEAD_S = 20e-6


@dataclass(frozen=True, slots=True)
class Plan:
    """A measurement: `rounds` times, visit every operator in a new random order and run it `runs` times in a row.

    The first `dropped` runs of a visit meet caches that the operator before left; they are recorded and not counted.
    """

    space: str
    device: str
    runtime: str
    precision: str
    threads: int
    cores: tuple[int, ...] | None
    rounds: int
    runs: int
    dropped: int
    seed: int
    operators: tuple[OpSpec, ...]

    def identity(self) -> dict[str, object]:
        """Return what a journal must agree with to be continued; more rounds may be asked for."""
        keys = "\n".join(spec.key() for spec in self.operators)
        return {
            "space": self.space,
            "device": self.device,
            "runtime": self.runtime,
            "precision": self.precision,
            "threads": self.threads,
            "cores": list(self.cores) if self.cores is not None else None,
            "runs": self.runs,
            "dropped": self.dropped,
            "seed": self.seed,
            "operators_sha256": hashlib.sha256(keys.encode()).hexdigest(),
        }

    def order(self, round_number: int) -> list[OpSpec]:
        """Return the operators in the random order of one round; the same for the same seed."""
        return round_order(self.operators, self.seed, round_number)

    @property
    def timing(self) -> str:
        """The timing context in words, as the table records it."""
        return f"{self.runs} runs in a row, first {self.dropped} dropped, random interleaved rounds"

    def estimated_s(self) -> float:
        """Return a rough guess of the run's length in seconds, before anything is known of the device."""
        from fbspace.network import count_spec

        macs = sum(count_spec(spec).macs for spec in self.operators)
        once = macs / ASSUMED_MACS_PER_S + ASSUMED_OVERHEAD_S * len(self.operators)
        return (self.rounds + 1) * self.runs * once


def round_order(items: Sequence[_T], seed: int, round_number: int) -> list[_T]:
    """Return the items in the random order of one round; the same for the same seed."""
    shuffled = list(items)
    random.Random(f"{seed}/{round_number}").shuffle(shuffled)
    return shuffled


def describe(specs: Sequence[OpSpec]) -> str:
    """Return a table of operators with their multiply-accumulates."""
    from fbspace.network import count_spec

    lines = [f"{'operator':58} {'MMACs':>8}"]
    lines += [f"{spec.key():58} {count_spec(spec).macs / 1e6:8.2f}" for spec in specs]
    return "\n".join(lines)
