"""Tables of one device at one speed, and the gate that judges them: against factors that are put in."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest

from fblut.compare import compare
from fblut.errors import LutError
from fblut.gate import judge
from fblut.reading import parse_lut
from fblut.speed import all_at_one_speed, at_one_speed, speed_between
from fblut.table import LARGEST_PERCENT, LARGEST_US, Lut
from fblut.writing import format_lut
from fbspace.opspec import OpSpec

MakeLut = Callable[..., Lut]
OPERATORS = [OpSpec("conv", 3, channels, 32, 32) for channels in (8, 16, 24, 32, 40, 48)]
LATENCIES = {spec: 100.0 * (number + 1) for number, spec in enumerate(OPERATORS)}
STEADY = {"reference_us": 50.0, "reference_error_percent": 0.3, "speed_error_percent": 1.0, "verdict": "good"}


def slowed(factor: float, **one_operator: float) -> dict[OpSpec, float]:
    """Latencies of a device that is slower by a factor, and one operator by another one on top."""
    found = {spec: us * factor for spec, us in LATENCIES.items()}
    return found | {OPERATORS[0]: found[OPERATORS[0]] * one_operator.get("first", 1.0)}


def test_the_reference_tells_how_the_speeds_differed(make_lut: MakeLut) -> None:
    first = make_lut(LATENCIES, **STEADY)
    second = make_lut(LATENCIES, **STEADY | {"reference_us": 54.7, "reference_error_percent": 0.4})
    speed = speed_between(first.metadata, second.metadata)
    assert speed is not None
    assert speed.slower_percent == pytest.approx(9.4)
    assert speed.error_percent == pytest.approx(0.5)  # 0.3² + 0.4² = 0.5²
    assert str(speed) == "+9.4 ± 0.5 %"


@pytest.mark.parametrize(
    "other",
    [
        {"reference_us": None},
        {"device": "s8"},
        {"soc": "Exynos 8895"},
        {"runtime": "onnxruntime"},
        {"runtime_version": "2.4.0"},
        {"threads": 2},
        {"cores": "4-7"},
        {"timing": "12 runs in a row"},
        {"agent": "benchmark_model sha256:0 --use_gpu=true"},
    ],
)
def test_between_other_devices_or_runtimes_it_tells_nothing(make_lut: MakeLut, other: dict[str, object]) -> None:
    first, second = make_lut(LATENCIES, **STEADY), make_lut(LATENCIES, **STEADY | other)
    assert speed_between(first.metadata, second.metadata) is None
    assert speed_between(second.metadata, first.metadata) is None
    assert at_one_speed(first, second) == (second, None)


def test_every_time_of_a_table_is_brought_to_the_other_speed(make_lut: MakeLut) -> None:
    first = make_lut(LATENCIES, network_us=10.0, **STEADY)
    second = first.slowed(1.25)
    assert (second.metadata.network_us, second.metadata.reference_us) == (12.5, 62.5)
    assert [row.ci_high_us for row in second.rows.values()] == [1.25 * (us + 2) for us in LATENCIES.values()]
    third = first.slowed(1 / 3).metadata
    assert (third.network_us, third.reference_us) == (3.333, 16.667)  # three decimals, as everywhere in a table
    again, speed = at_one_speed(first, second)
    assert speed is not None
    assert speed.ratio == 1.25
    assert format_lut(again) == format_lut(first)


def test_what_was_timed_alone_is_brought_to_a_speed_by_its_size(make_lut: MakeLut) -> None:
    pixels = {"small": (1, 353), "between": (1, 2704), "large": (2, 10354)}  # the middle one is their geometric mean
    tiny = OpSpec("conv", 1, 1, 2, 2, kernel=1)
    of = {name: OpSpec("conv", 10, 10, *each, kernel=1) for name, each in pixels.items()}  # of 100 MACs a pixel
    latencies = dict.fromkeys((tiny, *of.values()), 100.0)
    first = make_lut(latencies, **STEADY, small_reference_us=4.0, small_reference_error_percent=0.6)
    slow = {"reference_us": 50.0 * 1.05, "small_reference_us": 4.0 * 0.95, "small_reference_error_percent": 0.8}
    second = make_lut(latencies, **STEADY | slow)
    moved, speed = at_one_speed(first, second)
    assert speed is not None
    assert (speed.ratio, speed.small_ratio, speed.error_percent) == pytest.approx((1.05, 0.95, 1.0))
    expected = {tiny: 0.95, of["small"]: 0.95, of["between"]: math.sqrt(0.95 * 1.05), of["large"]: 1.05}
    for spec, ratio in expected.items():
        assert moved.rows[spec.key()].latency_us == pytest.approx(100 / ratio, rel=1e-3)
    again = at_one_speed(first, moved)[1]
    assert again is not None
    assert (again.ratio, again.small_ratio) == (1, 1)
    metadata = second.metadata.model_copy(update={"calibration_networks": 20})
    calibrated = Lut(metadata, {key: replace(row, isolated_us=row.latency_us) for key, row in second.rows.items()})
    rows = at_one_speed(first, calibrated)[0].rows  # a network moves as the large blocks do, all of it
    assert [row.latency_us for row in rows.values()] == pytest.approx([100 / 1.05] * 4)
    assert rows[tiny.key()].isolated_us == pytest.approx(100 / 0.95)


def test_of_one_device_only_what_differs_beyond_its_speed_is_a_difference(make_lut: MakeLut) -> None:
    first = make_lut(LATENCIES, **STEADY)
    second = make_lut(slowed(1.094, first=1.2), **STEADY | {"reference_us": 54.7})
    result = compare(first, second)
    assert [o.ratio for o in result.operators] == pytest.approx([1.2, 1, 1, 1, 1, 1])
    assert [o.is_significant for o in result.operators] == [True] + [False] * 5
    assert result.speed is not None
    assert result.speed.ratio == pytest.approx(1.094)
    elsewhere = make_lut(slowed(1.094), **STEADY | {"reference_us": 54.7, "device": "s8"})
    assert [o.ratio for o in compare(first, elsewhere).operators] == pytest.approx([1.094] * 6)


@pytest.mark.parametrize(
    ("factor", "reference", "limit", "verdict"),
    [
        (1.00, None, 5, "passes"),
        (0.70, None, 5, "passes"),
        (1.04, None, 6, "passes"),  # 4 % ± 1.4 %
        (1.04, None, 5, "cannot tell"),
        (1.06, None, 5, "cannot tell"),
        (1.08, None, 5, "fails"),
        (1.46, 1.0, 5, "fails"),  # the operators, not the device
        (1.46, 1.46, 5, "cannot tell"),  # the device
        (1.46, 1.30, 5, "fails"),  # both
        (0.96, 0.80, 5, "cannot tell"),  # 20 % at one speed, which a faster device hides
        (0.80, 0.80, 5, "passes"),
    ],
)
def test_the_gate_fails_beyond_doubt_only(
    make_lut: MakeLut, factor: float, reference: float | None, limit: float, verdict: str
) -> None:
    """The speed of each wanders by 1 %, so that of their ratio by √2 %."""
    first = make_lut(LATENCIES, **STEADY)
    second = make_lut(slowed(factor), **STEADY | {"reference_us": reference and 50 * reference})
    answer = judge(first, second, compare(first, second), limit)
    found = "fails" if answer.slower else "cannot tell" if answer.undecided else "passes"
    assert found == verdict
    if verdict == "fails":
        half = math.sqrt(2) / 100
        low, high = (100 * (factor * math.exp(sign * half) - 1) for sign in (-1, 1))
        words = f"{100 * (factor - 1):.1f} % in the mean of its operators (95 % interval {low:.1f} to {high:.1f} %)"
        assert answer.slower == [words]
    if reference == factor == 1.46:
        assert answer.undecided[0].endswith("but so was the device: +46.0 ± 0.4 % by the reference workload")
    if reference == 0.80 != factor:
        words = (
            "20.0 % at one speed in the mean of its operators, as the device was faster: -20.0 ± 0.4 % by the reference"
        )
        assert answer.undecided == [f"{words} workload"]


def test_between_programs_of_others_with_other_arguments_the_reference_tells_nothing(make_lut: MakeLut) -> None:
    """On a GPU and on a CPU it is not the same device that it tells of."""
    cpu, gpu = ({"agent": f"benchmark_model sha256:0 --use_gpu={word}"} for word in ("false", "true"))
    first, second = make_lut(LATENCIES, **STEADY | cpu), make_lut(LATENCIES, **STEADY | gpu)
    assert speed_between(first.metadata, second.metadata) is None
    assert speed_between(first.metadata, first.metadata) is not None
    ours, ours_too = (make_lut(LATENCIES, **STEADY | {"agent": f"python 3.{n}.0, agent.py"}) for n in (11, 13))
    assert speed_between(ours.metadata, ours_too.metadata) is not None


def test_numbers_at_the_ends_of_what_a_table_may_hold_are_compared(make_lut: MakeLut) -> None:
    """Of an error that says that nothing is known no exponential is taken."""
    first, second = make_lut(LATENCIES, **STEADY), make_lut(LATENCIES, **STEADY)
    key = OPERATORS[0].key()
    second.rows[key] = replace(second.rows[key], latency_us=0.001, ci_low_us=0.001, ci_high_us=1e10)
    unknown = {"speed_error_percent": LARGEST_PERCENT, "reference_error_percent": LARGEST_PERCENT}
    worst = make_lut(LATENCIES, **STEADY | unknown | {"reference_us": LARGEST_US})
    for other in (second, worst):
        result = compare(first, other, networks={"all": OPERATORS})
        assert all(math.isfinite(end) for o in result.operators for end in o.interval or ())
        assert judge(first, other, result, 5).slower == []
        assert judge(first, other, result, 5).undecided


def test_a_network_that_takes_no_time_by_a_table_is_not_compared(make_lut: MakeLut) -> None:
    first, second = make_lut(LATENCIES, **STEADY), make_lut(LATENCIES, **STEADY | {"network_us": -100.0})
    networks = {"one": OPERATORS[:1], "all": OPERATORS}
    result = compare(first, second, networks=networks)
    assert [network.name for network in result.networks] == ["all"]
    assert judge(first, second, result, 5).slower == []


@pytest.mark.parametrize("field", ["reference_us", "reference_error_percent", "speed_error_percent", "at"])
@pytest.mark.parametrize("value", ["-1", "NaN", "Infinity", "1e999", "1e11", '"often"', "[1]", "{}"])
def test_what_cannot_be_a_speed_is_refused_by_the_name_of_the_field(make_lut: MakeLut, field: str, value: str) -> None:
    text = format_lut(make_lut(LATENCIES)).replace("# verdict: null", f"# {field}: {value}")
    with pytest.raises(LutError, match=f"t.csv: header field '{field}'"):
        parse_lut(text, "t.csv")


def test_the_gate_asks_nothing_of_a_table_that_must_not_be_used(make_lut: MakeLut) -> None:
    first, second = make_lut(LATENCIES, **STEADY), make_lut(slowed(1.46), **STEADY | {"verdict": "do not use"})
    for one, other, which in ((first, second, "second"), (second, first, "first")):
        answer = judge(one, other, compare(one, other), 5)
        assert answer.slower == []
        assert answer.undecided == [f"the verdict on the {which} table is: do not use"]


def test_the_gate_judges_networks_by_the_intervals_of_their_predictions(make_lut: MakeLut) -> None:
    first, second = make_lut(LATENCIES, **STEADY), make_lut(slowed(1.0, first=1.5), **STEADY)
    networks = {"small": OPERATORS[:1], "large": OPERATORS[1:]}
    answer = judge(first, second, compare(first, second, networks=networks), 20)
    assert [words.split(" (")[0] for words in answer.slower] == ["50.0 % for small"]
    assert [words.split(" (")[0] for words in answer.undecided] == ["7.0 % in the mean of its operators"]


def test_tables_of_one_search_are_brought_to_the_speed_of_the_first_of_their_device(make_lut: MakeLut) -> None:
    first = make_lut(LATENCIES, **STEADY)
    luts = {
        "float": first,
        "s8": make_lut(LATENCIES, **STEADY | {"device": "s8"}),
        "int8": make_lut(slowed(0.5), **STEADY | {"reference_us": 54.7, "precision": "int8"}),
        "old": make_lut(LATENCIES),
    }
    moved, told = all_at_one_speed(luts)
    assert told == ["int8 is taken at the speed of float: the reference workload took +9.4 ± 0.4 % in it"]
    assert [moved[name] is luts[name] for name in luts] == [True, True, False, True]
    assert moved["int8"].predict_us(OPERATORS) == pytest.approx(luts["int8"].predict_us(OPERATORS) / 1.094)
