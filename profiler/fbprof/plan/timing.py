"""Timing: how operators are timed and how well; the defaults of every command that measures, and its options."""

from dataclasses import dataclass
from typing import Literal, get_args

from fbbase.options import option
from fbexport.runtimes import DEFAULT, RUNTIMES

Before = Literal["others", "itself"]

QUICK_ROUNDS = 10
CALIBRATION_NETWORKS = 50
"""Networks that calibrate a table; with more the error hardly falls (docs/measuring/method.md)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """The conditions of a measurement, which its table records, and how long it may take.

    The first `dropped` runs of a visit meet caches that the subject before left; they are recorded and not counted.
    `before` says what ran before a visit: `others`, another subject, as in random rounds, or `itself`, where a block's
    visits to one subject follow each other. `cores` is a text that `check_cores` returned: numbers, or a word that the
    device resolves; None is as the profile says.
    """

    runtime: str = option(DEFAULT, f"{RUNTIMES.listed()}.")
    precision: str = option("float32", "Precision of the models: float32, float16 or int8.")
    threads: int = option(1, "Threads of the runtime.", least=1, most=64)
    cores: str | None = None
    ci_percent: float = option(1.0, "Measure until every 95 % interval is within ± this many percent.", above=0)
    max_time_min: float = option(30.0, "Minutes after which measuring stops, whatever the intervals.", above=0)
    rounds: int = option(400, "Most visits to everything.", least=1)
    runs: int = option(3, "Runs in a row per visit.", least=1, most=1000)
    dropped: int = option(1, "First runs of a visit not counted.", least=0)
    before: Before = option("others", "What ran before a visit: another model, or the same.", choices=get_args(Before))
    seed: int = option(0, "Of the order, the weights and the networks.")

    @property
    def max_time_s(self) -> float:
        """Seconds after which measuring stops."""
        return 60 * self.max_time_min
