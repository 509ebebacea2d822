"""Benchmark output: what Google's `benchmark_model` prints, read strictly (docs/devices/benchmark-model.md).

A line that carries a result has one of the shapes below, and the lines come in the one order in which the program
prints them; whatever looks like a result and is none of these is an error. Other lines (drivers and delegates say what
they like) carry none and are passed over. The shapes are those of TensorFlow Lite since 2018, of the Android app's log
as logcat and Android Studio show it, and of LiteRT 2, which has a summary of its own.
"""

import math
import re
from dataclasses import dataclass
from typing import NamedTuple

from fbagents.agent.protocol import Delegate
from fbagents.errors import AgentReplyError

_WHOLE = r"(\d{1,15})"
_REAL = r"(\d{1,15}(?:\.\d{1,15})?(?:e[+-]\d{2})?)"
_STAMP = r"(?:\d{4}-)?\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}"
_PREFIX = re.compile(
    r"[ \t]*(?:"
    rf"{_STAMP} +\d+ +\d+ [VDIWEF] [\w.-]+ *: "  # logcat
    rf"|(?:{_STAMP} +)?[VDIWEF]/[\w.-]+ *\( *\d+\): "  # logcat -v time, -v brief
    rf"|{_STAMP} +\d+-\d+/\S+ [VDIWEF]/[\w.-]+ *: "  # Android Studio to 2021
    rf"|{_STAMP} +\d+-\d+ +[\w.-]+ +\S+ +[VDIWEF]  "  # Android Studio since
    r")?(?:(?:VERBOSE|INFO|WARN|WARNING|ERROR|FATAL): )?"
    r"(?:\[[\w./-]+:\d+\] ?)?"  # LiteRT 2: the file and line that print it
)
_HEADER = re.compile(
    rf"Running benchmark for (?:at least )?{_WHOLE} iterations"
    rf"(?: and at least {_REAL} seconds(?: but terminate if exceeding {_REAL} seconds\.)?)?"
)
_PERCENTILES = rf"(?: p5={_WHOLE} median={_WHOLE} p95={_WHOLE})?"
_STATISTICS = re.compile(
    rf"count={_WHOLE} first={_WHOLE} curr={_WHOLE} min={_WHOLE} max={_WHOLE} avg={_REAL} std={_WHOLE}{_PERCENTILES}"
)
_ALL_SAME = re.compile(rf"count={_WHOLE} curr={_WHOLE}(\(all same\))?{_PERCENTILES}")
_SUMMARY = re.compile(
    rf"Inference timings in us: Init: {_WHOLE}, First inference: {_WHOLE}, Warmup \(avg\): {_REAL}, "
    rf"Inference \(avg\): {_REAL}"
)
_OLD_SUMMARY = re.compile(
    rf"Average inference timings in us: Warmup: {_REAL}, Init: {_WHOLE}, (?:no stats|Inference): {_REAL}"
)
_RESULTS = "========== BENCHMARK RESULTS =========="
_RESULT = re.compile(
    r"(Model initialization|(?:Warmup|Inference) \((?:first|avg|min|max)\)): +(\d{1,12}\.\d\d) ms"
    r"(?: \((\d{1,15}) runs\))?"
)
_SPREAD = re.compile(r"Inference \(std\): +\d{1,12}\.\d\d")
_APPLIED = re.compile(
    r"(?:Explicitly applied|Applied) ([\w -]{1,60}) delegate, and the model graph will be (completely|partially) "
    rf"executed (?:by|w/) the delegate(?: w/ {_WHOLE} delegate kernels)?\."
)
_NOT_APPLIED = re.compile(
    r"Though ([\w -]{1,60}) delegate is (?:explicitly )?applied, the model graph will not be executed by the delegate\."
)
_REPLACED = re.compile(
    rf"Replacing {_WHOLE}(?: out of {_WHOLE})? node\(s\) with delegate \(([\w -]{{1,60}})\) node, yielding {_WHOLE} "
    r"partitions(?: for (?:the whole graph|subgraph \d+))?\."
)
_RESTORED = "Restored original execution plan after delegate application failure."
_NOT_PREPARED = re.compile(r"Node number \d{1,9} \((\w{0,50}Delegate\w{0,10})\) failed to prepare\.")
_PROFILE = re.compile(r"(?:Timings \(microseconds\)|Memory \(bytes\)): count=")
_SUSPECT = re.compile(
    r"\bcount=|\bavg=|timings in |BENCHMARK RESULTS|executed (?:by|w/) the delegate|Replacing .* node\(s\) with "
    r"|^(?:Inference|Warmup) \(|^Model initialization|^Running benchmark"
)
_ORDER = ["header", "statistics", "header", "statistics", "summary"]
_EXPECTED = (
    "expected, in this order: 'Running benchmark …', 'count=…' of the warm-up, 'Running benchmark …', 'count=…' of the "
    "measurement, and 'Inference timings in us: …' or the results in ms"
)


@dataclass(frozen=True, slots=True)
class Statistics:
    """One `count=` line: how many inferences, and microseconds; `avg_us` has six digits."""

    count: int
    first_us: int
    min_us: int
    max_us: int
    avg_us: float


@dataclass(frozen=True, slots=True)
class BenchmarkRun:
    """One process of `benchmark_model`: its warm-up, its measurement, how long it took to begin, and its delegates."""

    warm_up: Statistics
    measured: Statistics
    init_us: float
    delegates: tuple[Delegate, ...]


class _Summary(NamedTuple):
    """What the program says at its end; `is_ms` where it has two digits of milliseconds. None: not told."""

    is_ms: bool
    init_us: float
    warm_up_first_us: float | None
    warm_up_us: float
    inference_us: float


def parse_output(text: str) -> BenchmarkRun:
    """Return what one process printed. Raises AgentReplyError with the line that is wrong, or with what is missing."""
    kinds: list[str] = []
    statistics: list[Statistics] = []
    results: dict[str, tuple[float, int | None]] = {}
    summary: _Summary | None = None
    delegates = _Delegates()
    before = ""
    for number, raw in enumerate(text.splitlines(), start=1):
        is_again, before = before == f"INFO: {raw}", raw
        if is_again:  # iOS prints all lines twice, to its log and as they are
            continue
        line = raw.rstrip()
        line = line[_PREFIX.match(line).end() :]  # type: ignore[union-attr]  # it matches nothing, too
        try:
            if delegates.takes(line):
                pass
            elif _HEADER.fullmatch(line):
                kinds.append("header")
            elif line.startswith("count="):
                statistics.append(_parse_statistics(line))
                kinds.append("statistics")
            elif line == _RESULTS:
                kinds.append("summary")
            elif match := _RESULT.fullmatch(line):
                if match[1] in results or "summary" not in kinds:
                    raise ValueError("it comes twice, or before the results it belongs to")
                results[match[1]] = float(match[2]), int(match[3]) if match[3] else None
            elif parsed := _parse_summary(line):
                kinds.append("summary")
                summary = parsed
            elif _SUSPECT.search(line) and not _PROFILE.match(line) and not _SPREAD.fullmatch(line):
                raise ValueError("it has none of the known shapes")
        except ValueError as error:
            raise AgentReplyError(f"line {number} of benchmark_model's output, {line[:200]!r}: {error}") from None
    if kinds != _ORDER:
        raise AgentReplyError(f"benchmark_model printed {', '.join(kinds) or 'no result at all'}; {_EXPECTED}")
    warm_up, measured = statistics
    try:
        summary = summary or _collect(results, measured, warm_up)
        _compare(summary, warm_up, measured)
    except ValueError as error:
        raise AgentReplyError(f"benchmark_model contradicts itself: {error}") from None
    return BenchmarkRun(warm_up, measured, summary.init_us, tuple(delegates.told))


class _Delegates:
    """The delegates that the program has told of; `told` keeps their order."""

    def __init__(self) -> None:
        self.told: dict[Delegate, None] = {}
        self._failed = ""  # to prepare one of its nodes
        self._is_undone = False

    def takes(self, line: str) -> bool:
        """Take in a line if it tells of delegates. Raises ValueError where it cannot be."""
        if match := _NOT_PREPARED.fullmatch(line):
            self._failed = match[1]
        elif line == _RESTORED:
            names = [delegate.name for delegate in self.told] or ([self._failed] if self._failed else [])
            self.told = {_undone(name): None for name in names}
            self._is_undone = True
        elif (found := _parse_delegates(line)) is not None:
            self._is_undone &= _REPLACED.fullmatch(line) is None
            found = tuple(_undone(delegate.name) for delegate in found) if self._is_undone else found
            self.told |= dict.fromkeys(found)
        else:
            return False
        return True


def _undone(name: str) -> Delegate:
    return Delegate(name=name, extent="not", detail="it failed, and the original execution plan was restored")


def _parse_delegates(line: str) -> tuple[Delegate, ...] | None:
    """Return the delegate that a line tells of, none for XNNPACK as every new version applies it, and None otherwise.

    XNNPACK runs on the CPU, as what it leaves does.
    """
    if match := _APPLIED.fullmatch(line):
        if (match[2] == "completely") != (match[3] is None):
            raise ValueError("a graph that is partially executed has so many delegate kernels, a complete one not")
        if match[3] is None:
            return (Delegate(name=match[1], extent="completely"),)
        return (Delegate(name=match[1], extent="partially", detail=f"{int(match[3])} delegate kernels"),)
    if match := _NOT_APPLIED.fullmatch(line):
        return (Delegate(name=match[1], extent="not"),)
    if match := _REPLACED.fullmatch(line):
        taken, partitions = int(match[1]), int(match[4])
        nodes = int(match[2]) if match[2] else None  # not told before TensorFlow 2.10
        if nodes is not None and taken > nodes:
            raise ValueError("a delegate takes more nodes than there are")
        if "xnnpack" in match[3].lower():
            return ()
        detail = f"{taken}{'' if nodes is None else f' of {nodes}'} nodes in {partitions} partitions"
        if not taken:
            return (Delegate(name=match[3], extent="not", detail=detail),)
        whole = nodes in (None, taken) and partitions == 1
        return (Delegate(name=match[3], extent="completely" if whole else "partially", detail=detail),)
    return None


def _parse_statistics(line: str) -> Statistics:
    """Return a `count=` line. Raises ValueError where its numbers cannot be."""
    if match := _ALL_SAME.fullmatch(line):
        count, value = int(match[1]), int(match[2])
        if (match[3] is not None) != (count > 1):
            raise ValueError("'(all same)' stands where there are several, and only there")
        result, std, percentiles = Statistics(count, value, value, value, float(value)), 0, match.groups()[3:]
    elif match := _STATISTICS.fullmatch(line):
        count, first, last, low, high = (int(match[index]) for index in range(1, 6))
        result = Statistics(count, first, low, high, float(match[6]))
        std, percentiles = int(match[7]), match.groups()[7:]
        if not low <= last <= high:
            raise ValueError("the last inference lies outside min to max")
    else:
        raise ValueError("it has none of the known shapes")
    if result.count == 0:
        raise ValueError("no inference was made")
    if result.avg_us <= 0:
        raise ValueError("an average of 0 µs: the model takes less than the program's clock can tell")
    off_us = _half_digit(result.avg_us)
    if not result.min_us - off_us <= result.avg_us <= result.max_us + off_us:
        raise ValueError("the average lies outside min to max")
    if not result.min_us <= result.first_us <= result.max_us or std > result.max_us - result.min_us:
        raise ValueError("the first inference lies outside min to max, or the spread is wider")
    if percentiles[0] is not None:
        p5, median, p95 = (int(value) for value in percentiles)
        if not result.min_us <= p5 <= median <= p95 <= result.max_us:
            raise ValueError("the percentiles are not in order between min and max")
    return result


def _parse_summary(line: str) -> _Summary | None:
    if match := _SUMMARY.fullmatch(line):
        return _Summary(False, float(match[1]), float(match[2]), float(match[3]), float(match[4]))
    if match := _OLD_SUMMARY.fullmatch(line):
        return _Summary(False, float(match[2]), None, float(match[1]), float(match[3]))
    return None


def _collect(results: dict[str, tuple[float, int | None]], measured: Statistics, warm_up: Statistics) -> _Summary:
    """Return LiteRT 2's results in microseconds. Raises ValueError."""
    names = ["Model initialization", "Warmup (first)", "Warmup (avg)", "Inference (avg)"]
    bounds = ["Inference (min)", "Inference (max)"]
    if set(results) != {*names, *bounds}:
        raise ValueError(f"the results in ms are {', '.join(results) or 'none'}; expected {', '.join(names + bounds)}")
    counts = {name: count for name, (_, count) in results.items() if count is not None}
    if counts != {"Warmup (avg)": warm_up.count, "Inference (avg)": measured.count}:
        raise ValueError(f"the results in ms are of {counts} inferences")
    for name, us in zip(bounds, (measured.min_us, measured.max_us), strict=True):
        if abs(1e3 * results[name][0] - us) > 5.01:
            raise ValueError(f"{name} of {results[name][0]} ms, and {us} µs before")
    init, first, warm, inference = (1e3 * results[name][0] for name in names)
    return _Summary(True, init, first, warm, inference)


def _compare(summary: _Summary, warm_up: Statistics, measured: Statistics) -> None:
    """Raise ValueError where the summary is of other inferences than the statistics."""
    pairs = [("Warmup", summary.warm_up_us, warm_up.avg_us), ("Inference", summary.inference_us, measured.avg_us)]
    if summary.warm_up_first_us is not None:
        pairs.append(("First inference", summary.warm_up_first_us, float(warm_up.first_us)))
    for name, told_us, us in pairs:
        if abs(told_us - us) > (5.01 if summary.is_ms else 1.01 * _half_digit(us)):
            raise ValueError(f"{name} of {told_us:g} µs in the summary, and {us:g} µs before")


def _half_digit(value: float) -> float:
    """Return by how much a positive number may be off that is printed with six digits."""
    return 0.5 * 10.0 ** (math.floor(math.log10(value)) - 5)
