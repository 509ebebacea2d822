"""Verdict: whether a run may be relied on: good, usable or do not use, each warning with what to do about it."""

import itertools
import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fbprof.estimate.samples import Samples
from fbprof.journal.conditions import affinities, clocks_ghz, describe_delegates, temperatures_c, without_delegate
from fbprof.journal.journal import JournalContent
from fbprof.plan.subject import is_operator_key, model_name

Verdict = Literal["good", "usable", "do not use"]

DRIFT_PERCENT, BAD_DRIFT_PERCENT = 15.0, 150.0
"""Range of the device's speed; it is taken out, but a large one is harder to separate from the operators."""
PREEMPTED_SHARE, BAD_PREEMPTED_SHARE = 0.02, 0.3
BAD_IMPLAUSIBLE_SHARE = 0.01
THROTTLED_PERCENT, BAD_THROTTLED_PERCENT = 5.0, 50.0
"""How much slower the last tenth of the run is than the fastest tenth before it, if it gets ever slower."""
BIMODAL_SHARE, BAD_BIMODAL_SHARE = 0.05, 0.5
CLOCK_SHARE = 0.05
WIDE_PERCENT, BAD_WIDE_PERCENT = 2.0, 10.0
"""Median half-width of the entries' intervals."""
FAILED_SHARE = 0.1
NETWORK_PERCENT, BAD_NETWORK_PERCENT = 2.5, 7.5

BIMODAL_VISITS = 40
BIMODAL_CLUSTER_SHARE = 0.2
BIMODAL_GAP = 0.04
BIMODAL_SEPARATION = 4.0


@dataclass(frozen=True, slots=True)
class Concern:
    """Something that weakens a table; `message` ends with what to do about it."""

    is_bad: bool
    message: str


@dataclass(frozen=True, slots=True)
class Known:
    """How well a run came to know what it timed.

    `half_widths_percent` are half of each entry's 95 % interval, infinite where the visits are too few for one,
    `failed` the reasons why others have no latency. `network_error_percent` is how far a sum of operators misses a
    network. `by_cpu_time`: preempted samples count with their thread's CPU time.
    """

    half_widths_percent: Sequence[float]
    failed: Sequence[str]
    network_error_percent: float | None = None
    what: str = "operators"
    by_cpu_time: bool = False


@dataclass(frozen=True, slots=True)
class _Evidence:
    content: JournalContent
    samples: Samples
    known: Known


def verdict_of(content: JournalContent, samples: Samples, known: Known) -> tuple[Verdict, tuple[str, ...]]:
    """Return the verdict on a run and its warnings, worst first."""
    evidence = _Evidence(content, samples, known)
    warnings = sorted((w for rule in RULES for w in rule(evidence)), key=lambda w: not w.is_bad)
    verdict: Verdict = "good" if not warnings else "do not use" if warnings[0].is_bad else "usable"
    return verdict, tuple(warning.message for warning in warnings)


def _replayed(evidence: _Evidence) -> Iterator[Concern]:
    recorded_at = evidence.content.sessions[0].hello.recorded_at
    if recorded_at is not None:
        yield Concern(
            False,
            f"replayed from a recording of {recorded_at}, not measured now: it tells of the device as it was then; "
            "measure on the device itself for a table of today",
        )


def _failed(evidence: _Evidence) -> Iterator[Concern]:
    failed, what = evidence.known.failed, evidence.known.what
    count = len(failed) + len(evidence.known.half_widths_percent)
    needed = "see the notes in the table; a search needs every operator of its space"
    if failed:
        yield Concern(
            len(failed) > FAILED_SHARE * count,
            f"{len(failed)} of {count} {what} could not be measured ({failed[0]}): "
            f"{needed if what == 'operators' else 'the others are not touched by that'}",
        )


def _delegates(evidence: _Evidence) -> Iterator[Concern]:
    content = evidence.content
    measured = [key for key in content.loads if content.counts[key]]
    partly = {key: notes for key in measured if (notes := describe_delegates(content, key))}
    if partly:
        outside = [key for key in measured if without_delegate(content, key)]
        key, notes = next(iter(partly.items()))
        on_cpu = f", {len(outside)} of them not at all as far as is known" if outside else ""
        yield Concern(
            len(outside) > FAILED_SHARE * len(measured),
            f"{len(partly)} of {len(measured)} models do not run completely on the delegate{on_cpu} ({key}: {notes}): "
            "the rest runs on the CPU; see the notes in the table, and the device's own log for what it refuses",
        )


def _drift(evidence: _Evidence) -> Iterator[Concern]:
    drift = evidence.samples.drift
    range_percent = None if drift is None else drift.range_percent
    if range_percent is not None and range_percent > DRIFT_PERCENT:
        yield Concern(
            range_percent > BAD_DRIFT_PERCENT,
            f"the device's speed wandered by {range_percent:.0f} %, which was taken out: "
            "close other programs, fix its clocks or bind it with --cores, and measure again to be sure",
        )


def _throttling(evidence: _Evidence) -> Iterator[Concern]:
    if evidence.samples.drift is None:
        return
    tenths = [float(np.median(part)) for part in np.array_split(evidence.samples.drift.log_factor, 10) if len(part)]
    slower = 100 * math.expm1(tenths[-1] - min(tenths))
    rising = sum(after > before for before, after in itertools.pairwise(tenths))
    if slower > THROTTLED_PERCENT and rising >= 0.75 * (len(tenths) - 1):
        temperatures = temperatures_c(evidence.content)
        heat = f", from {temperatures[0]:.0f} to {temperatures[-1]:.0f} °C" if temperatures else ""
        yield Concern(
            slower > BAD_THROTTLED_PERCENT,
            f"the device became {slower:.0f} % slower in the course of the run{heat}: "
            "it throttles; let it cool, take it out of its case, or measure in shorter runs (--max-time)",
        )


def _preemption(evidence: _Evidence) -> Iterator[Concern]:
    lost = evidence.samples.preempted.total()
    kept = sum(len(visit) for visits in evidence.samples.visits_us.values() for visit in visits)
    share = lost / max(lost + kept, 1)
    fate = "count by the CPU time of their thread" if evidence.known.by_cpu_time else "were left out"
    if share > PREEMPTED_SHARE:
        yield Concern(
            share > BAD_PREEMPTED_SHARE,
            f"other work interrupted {100 * share:.0f} % of the samples, which {fate}: close other programs",
        )


def _implausible(evidence: _Evidence) -> Iterator[Concern]:
    wrong = evidence.samples.implausible.total()
    kept = sum(len(visit) for visits in evidence.samples.visits_us.values() for visit in visits)
    if wrong:
        yield Concern(
            wrong > BAD_IMPLAUSIBLE_SHARE * (wrong + kept),
            f"{wrong} of {wrong + kept} samples were left out: of no length, within the agent's own overhead, or over "
            "an hour long; the device's clock jumps, or is too coarse for what is timed: time heavier operators",
        )


def _bimodal(evidence: _Evidence) -> Iterator[Concern]:
    keys = [key for key in evidence.samples.visits_us if is_operator_key(key) or model_name(key)]
    two = [key for key in keys if is_bimodal(evidence.samples.medians_us(key))]
    if len(two) > max(BIMODAL_SHARE * len(keys), 1):
        yield Concern(
            len(two) > BAD_BIMODAL_SHARE * len(keys),
            f"{len(two)} of {len(keys)} {evidence.known.what} have two speeds, e.g. {two[0]}: "
            "cores of two kinds or two memory layouts; bind the agent to cores of one kind with --cores",
        )


def _clocks(evidence: _Evidence) -> Iterator[Concern]:
    clocks = clocks_ghz(evidence.content)
    if clocks and min(clocks) < max(clocks) * (1 - CLOCK_SHARE):
        yield Concern(
            False,
            f"the clock wandered between {min(clocks):.2f} and {max(clocks):.2f} GHz: "
            "fix the governor, or bind the agent to cores of one kind with --cores",
        )


def _affinity(evidence: _Evidence) -> Iterator[Concern]:
    cores = affinities(evidence.content)
    if len(cores) > 1:
        yield Concern(
            False,
            "the cores that the agent may use changed during the run (hotplug?): "
            "keep the device awake, or bind the agent to cores that stay on with --cores",
        )


def _wide(evidence: _Evidence) -> Iterator[Concern]:
    half_widths = evidence.known.half_widths_percent
    if half_widths and (middle := statistics.median(half_widths)) > WIDE_PERCENT:
        width = f"±{middle:.1f} %" if math.isfinite(middle) else "not known"
        of_which = " of the middle entry" if len(half_widths) > 1 else ""
        yield Concern(
            BAD_WIDE_PERCENT < middle < math.inf,
            f"the 95 % interval{of_which} is {width}: measure longer (more --rounds or --max-time)",
        )


def _networks(evidence: _Evidence) -> Iterator[Concern]:
    error = evidence.known.network_error_percent
    if error is not None and error > NETWORK_PERCENT:
        yield Concern(
            error > BAD_NETWORK_PERCENT,
            f"the sum of operators misses a network that was left out by {error:.1f} %: "
            "fbprof validate tells whether this device adds up at all; fbprof fit makes a table of whole networks",
        )


RULES: tuple[Callable[[_Evidence], Iterator[Concern]], ...] = (
    _replayed, _failed, _implausible, _delegates, _drift, _throttling, _preemption, _bimodal, _clocks, _affinity, _wide,
    _networks,
)  # fmt: skip


def is_bimodal(values: Sequence[float]) -> bool:
    """Return whether values fall into two groups: each a fifth of them or more, far apart, with a gap between.

    The split is the one that leaves the smallest squared error within both groups (Otsu).
    """
    n = len(values)
    if n < BIMODAL_VISITS:
        return False
    x = np.sort(np.log(values))
    sums, squares = np.cumsum(x), np.cumsum(x**2)
    k = np.arange(1, n)
    within = (squares[:-1] - sums[:-1] ** 2 / k) + (squares[-1] - squares[:-1] - (sums[-1] - sums[:-1]) ** 2 / (n - k))
    split = int(np.argmin(within)) + 1
    low, high = x[:split], x[split:]
    gap = float(np.median(high) - np.median(low))
    spread = 1.4826 * max(_deviation(low), _deviation(high))
    smallest = min(len(low), len(high)) / n
    return smallest >= BIMODAL_CLUSTER_SHARE and gap > BIMODAL_GAP and gap > BIMODAL_SEPARATION * spread


def _deviation(values: "np.typing.NDArray[np.float64]") -> float:
    return float(np.median(np.abs(values - np.median(values))))
