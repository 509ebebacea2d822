"""The parser of benchmark_model's output, on public outputs of several versions and on what cannot be."""

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fbagents.agent.protocol import Delegate
from fbagents.benchmark.output import parse_output
from fbagents.errors import AgentReplyError

DATA = Path(__file__).parents[1] / "data" / "benchmark_model"
GPU = Delegate(name="GPU", extent="completely")
NNAPI_44 = Delegate(name="NNAPI", extent="partially", detail="44 delegate kernels")
NNAPI_NOT = Delegate(name="NNAPI", extent="not")
GPU_V2 = Delegate(name="TfLiteGpuDelegateV2", extent="completely", detail="49 of 49 nodes in 1 partitions")
XNNPACK = Delegate(name="XNNPACK", extent="partially", detail="1 delegate kernels")
PUBLIC = {  # warm-up: count, first, avg; measured: count, min, max, avg; init; delegates: read off the files by eye
    "tflite-2018-cpu": ((1, 146161, 146161), (50, 137079, 143416, 137722), 4452, ()),
    "tflite-2019-cpu": ((7, 127425, 76605.9), (15, 66699, 66838, 66767.6), 9933, ()),
    "tflite-2020-gpu-applied": ((56, 11147, 8779.68), (110, 7863, 10688, 8680.33), 1451507, (GPU,)),
    "tflite-2020-gpu": ((4, 130565, 122373), (50, 113737, 124776, 119375), 870557, (GPU,)),
    "tflite-2.9-nnapi-logcat": ((40, 32942, 12581.9), (75, 11787, 13649, 12167.6), 126059, (NNAPI_44,)),
    "tflite-2023-seconds": ((1, 3512391, 3512391), (50, 2727568, 3189954, 2950340), 17187, ()),
    "tflite-2024-xnnpack": ((1, 905463, 905463), (50, 898007, 906121, 899641), 614333, (XNNPACK,)),
    "tflite-2025-gpu-and-nnapi": (
        (2, 328140, 319036),
        (50, 305938, 333030, 309350),
        5664363,
        (GPU_V2, GPU, NNAPI_NOT),
    ),
    "litert-2-cpu-profiled": ((1055, 1033, 465.319), (2112, 442, 979, 464.545), 4480, ()),
}
FAILED = "tflite-2024-gpu-fails"
NEW = (DATA / "tflite-2024-xnnpack.txt").read_text()
OLD = (DATA / "tflite-2020-gpu.txt").read_text()
LITERT = (DATA / "litert-2-cpu-profiled.txt").read_text()


def test_every_public_output_is_known() -> None:
    assert {path.stem for path in DATA.glob("*.txt")} == {*PUBLIC, FAILED}


@pytest.mark.parametrize("name", PUBLIC)
def test_public_outputs_are_read(name: str) -> None:
    warm_up, measured, init_us, delegates = PUBLIC[name]
    run = parse_output((DATA / f"{name}.txt").read_text())
    assert (run.warm_up.count, run.warm_up.first_us, run.warm_up.avg_us) == warm_up
    assert (run.measured.count, run.measured.min_us, run.measured.max_us, run.measured.avg_us) == measured
    assert run.init_us == pytest.approx(init_us)
    assert run.delegates == delegates


def test_an_output_without_a_result_says_what_was_expected() -> None:
    with pytest.raises(AgentReplyError, match=r"no result at all; expected, in this order: 'Running benchmark"):
        parse_output((DATA / f"{FAILED}.txt").read_text())


WRONG = {
    "not a number": (OLD, "avg=119375", "avg=nan", "line 22 .*none of the known shapes"),
    "infinite": (OLD, "avg=119375", "avg=inf", "none of the known shapes"),
    "negative": (OLD, "avg=119375", "avg=-119375", "none of the known shapes"),
    "negative minimum": (OLD, "min=113737", "min=-1", "none of the known shapes"),
    "no inference": (OLD, "count=50 first", "count=0 first", "no inference was made"),
    "empty statistics": (NEW, "count=1 curr=905463 p5=905463 median=905463 p95=905463", "count=0", "none of the known"),
    "average below the minimum": (OLD, "avg=119375", "avg=113736", "average lies outside min to max"),
    "average above the maximum": (OLD, "avg=119375", "avg=124777", "average lies outside min to max"),
    "average of nothing": (OLD, "min=113737 max=124776 avg=119375", "min=0 max=124776 avg=0", "an average of 0 µs"),
    "first outside": (OLD, "first=119212", "first=124777", "first inference lies outside"),
    "last outside": (OLD, "curr=118055", "curr=113736", "last inference lies outside"),
    "spread wider than the range": (OLD, "std=1948", "std=11040", "the spread is wider"),
    "percentiles out of order": (NEW, "median=899281", "median=904306", "percentiles are not in order"),
    "half the percentiles": (NEW, " p95=904305", "", "none of the known shapes"),
    "a word more": (OLD, "std=1948", "std=1948 us", "none of the known shapes"),
    "another unit": (OLD, "timings in us", "timings in ms", "none of the known shapes"),
    "all the same, once": (NEW, "curr=905463 p5", "curr=905463(all same) p5", "stands where there are several"),
    "several, not marked": (NEW, "count=1 curr", "count=2 curr", "stands where there are several"),
    "another average": (OLD, "Inference (avg): 119375", "Inference (avg): 119376", "contradicts itself: Inference of"),
    "another warm-up": (OLD, "Warmup (avg): 122373", "Warmup (avg): 122379", "contradicts itself: Warmup of"),
    "another first": (OLD, "First inference: 130565", "First inference: 130566", "itself: First inference of"),
    "unknown delegation": (OLD, "will be completely", "will be mostly", "none of the known shapes"),
    "kernels of a complete graph": (
        OLD,
        "by the delegate.",
        "by the delegate w/ 2 delegate kernels.",
        "so many delegate",
    ),
    "LiteRT 2, another average": (
        LITERT,
        "(avg):      0.46",
        "(avg):      0.45",
        "contradicts itself: Inference of 450",
    ),
    "LiteRT 2, other runs": (LITERT, "(2112 runs)", "(2111 runs)", "results in ms are of"),
    "LiteRT 2, another maximum": (LITERT, "0.98 ms", "0.99 ms", r"Inference \(max\) of 0.99 ms"),
    "LiteRT 2, microseconds": (LITERT, "0.46 ms", "0.46 us", "none of the known shapes"),
    "LiteRT 2, a result less": (LITERT, "Inference (min):      0.44 ms", "", "expected Model initialization"),
    "LiteRT 2, a result twice": (LITERT, "Model init", "Warmup (first): 1.03 ms\nModel init", "comes twice"),
    "more nodes than there are": (LITERT, "Replacing 1 out of 1", "Replacing 2 out of 1", "more nodes than there are"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_is_refused(name: str) -> None:
    text, old, new, message = WRONG[name]
    assert old in text
    with pytest.raises(AgentReplyError, match=message):
        parse_output(text.replace(old, new))


@pytest.mark.parametrize("text", [OLD, NEW, LITERT], ids=["2020", "2024", "LiteRT 2"])
def test_no_line_with_a_result_may_be_missing_come_twice_or_elsewhere(text: str) -> None:
    lines = text.splitlines()
    marks = ("Running benchmark", "count=", "Inference timings", "BENCHMARK RESULTS", "Inference (avg)")
    numbers = [n for n, line in enumerate(lines) if any(m in line for m in marks) and "Timings (mic" not in line]
    numbers = [n for n in numbers if "Memory (" not in lines[n]]
    assert len(numbers) >= 5
    for n in numbers:
        for changed in (lines[:n] + lines[n + 1 :], [*lines[:n], lines[n], *lines[n:]], [lines[n], *lines[:n]]):
            with pytest.raises(AgentReplyError):
                parse_output("\n".join(changed))


@given(st.text(max_size=300))
def test_no_text_gets_through(text: str) -> None:
    with pytest.raises(AgentReplyError):
        parse_output(text)


SAMPLES = st.lists(st.integers(1, 10**7), min_size=1, max_size=30)


def printed(samples: list[int], percentiles: bool) -> str:
    """Print as C++ does: six digits of an average, whole numbers otherwise."""
    low, high, count = min(samples), max(samples), len(samples)
    average = sum(samples) / count
    tail = f" p5={low} median={sorted(samples)[count // 2]} p95={high}" if percentiles else ""
    if low == high:
        return f"count={count} curr={low}{'(all same)' if count > 1 else ''}{tail}"
    std = int(math.sqrt(sum((us - average) ** 2 for us in samples) / count))
    return f"count={count} first={samples[0]} curr={samples[-1]} min={low} max={high} avg={average:g} std={std}{tail}"


def output(warm: list[int], timed: list[int], percentiles: bool, prefix: str) -> str:
    head = (
        "Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if exceeding 150 seconds."
    )
    warm_us, us = sum(warm) / len(warm), sum(timed) / len(timed)
    summary = f"Inference timings in us: Init: 7, First inference: {warm[0]}, Warmup (avg): {warm_us:g}, "
    lines = [head, printed(warm, percentiles), "", head, printed(timed, percentiles), "", summary]
    return "\n".join(prefix + line if line else line for line in lines) + f"Inference (avg): {us:g}\n"


@given(SAMPLES, SAMPLES, st.booleans(), st.sampled_from(["", "INFO: ", "07-14 13:14:52.859 22838 22838 I tflite  : "]))
def test_whatever_was_timed_comes_out_with_six_digits(
    warm: list[int], timed: list[int], percentiles: bool, prefix: str
) -> None:
    run = parse_output(output(warm, timed, percentiles, prefix))
    assert run.measured.avg_us == pytest.approx(sum(timed) / len(timed), rel=5.1e-6)
    assert (run.measured.count, run.measured.min_us, run.measured.max_us) == (len(timed), min(timed), max(timed))
    assert (run.warm_up.count, run.warm_up.first_us) == (len(warm), warm[0])


LOGCAT_TIME = "07-08 15:37:34.588 I/tflite  ( 6071): "
STUDIO = "2023-06-14 10:55:21.084 18088-18088 tflite                  org.tensorflow.lite.benchmark        I  "
VIEWERS = {
    "logcat -v time": LOGCAT_TIME,
    "logcat -v brief": "I/tflite  ( 6071): ",
    "logcat -v threadtime -v year": "2021-05-30 15:16:44.857  3380  3380 I tflite  : ",
    "Android Studio": STUDIO,
    "Android Studio to 2021": "2021-03-01 12:00:00.123 18088-18090/org.tensorflow.lite.benchmark I/tflite: ",
    "indented": "\t",
}


@pytest.mark.parametrize("viewer", VIEWERS)
@pytest.mark.parametrize("text", [OLD, NEW], ids=["2020", "2024"])
def test_a_log_is_read_in_whatever_viewer_it_was_seen(viewer: str, text: str) -> None:
    seen = "\n".join(VIEWERS[viewer] + line for line in text.splitlines())
    assert parse_output(seen) == parse_output(text)


def test_lines_that_ios_prints_twice_are_read_once() -> None:
    doubled = "\n".join(f"INFO: {line}\n{line}" for line in OLD.splitlines())
    assert parse_output(doubled) == parse_output(OLD)
    with pytest.raises(AgentReplyError):
        parse_output("\n".join(f"{line}\n{line}" for line in OLD.splitlines()))


def told(*lines: str) -> tuple[Delegate, ...]:
    """Return the delegates of a run of which these lines speak; it has no other."""
    return parse_output("\n".join([*lines, output([5, 6], [5, 7], False, "")])).delegates


REPLACING = "VERBOSE: Replacing {} node(s) with delegate (TfLiteHexagonDelegate) node, yielding {} partitions."
RESTORED = "ERROR: Restored original execution plan after delegate application failure."
UNPREPARED = "ERROR: Node number 64 (TfLiteGpuDelegateV2) failed to prepare."
UNDONE = "it failed, and the original execution plan was restored"


@pytest.mark.parametrize(
    ("taken", "partitions", "extent", "detail"),
    [
        ("136", 5, "partially", "136 nodes in 5 partitions"),
        ("136", 1, "completely", "136 nodes in 1 partitions"),
        ("0", 1, "not", "0 nodes in 1 partitions"),
        ("3 out of 9", 2, "partially", "3 of 9 nodes in 2 partitions"),
    ],
)
def test_delegates_before_tensorflow_2_10(taken: str, partitions: int, extent: str, detail: str) -> None:
    (delegate,) = told(REPLACING.format(taken, partitions))
    assert (delegate.name, delegate.extent, delegate.detail) == ("TfLiteHexagonDelegate", extent, detail)
    assert told(REPLACING.format(taken, partitions).replace("Hexagon", "XNNPack")) == ()


def test_a_delegate_that_was_undone_runs_nothing() -> None:
    gpu = "VERBOSE: Replacing 64 out of 64 node(s) with delegate (TfLiteGpuDelegateV2) node, yielding 1 partitions."
    applied = "Explicitly applied GPU delegate, and the model graph will be completely executed by the delegate."
    nothing = Delegate(name="TfLiteGpuDelegateV2", extent="not", detail=UNDONE)
    assert told(gpu, UNPREPARED, RESTORED) == (nothing,)
    assert told(UNPREPARED, RESTORED) == (nothing,)
    assert told(gpu, RESTORED, applied) == (nothing, Delegate(name="GPU", extent="not", detail=UNDONE))
    assert told(RESTORED) == ()
    hexagon = REPLACING.format("3 out of 9", 2)
    assert [delegate.extent for delegate in told(gpu, RESTORED, hexagon)] == ["not", "partially"]


@given(SAMPLES, SAMPLES, st.floats(1.0001, 3), st.booleans())
def test_an_average_of_other_inferences_is_noticed(
    warm: list[int], timed: list[int], factor: float, is_more: bool
) -> None:
    us = sum(timed) / len(timed)
    wrong = us * factor if is_more else us / factor
    text = output(warm, timed, True, "INFO: ").replace(f"Inference (avg): {us:g}", f"Inference (avg): {wrong:g}")
    with pytest.raises(AgentReplyError, match="contradicts itself: Inference of"):
        parse_output(text)
