"""Every rule of the audit on tables built by hand: one it complains about, one it does not; then a published table."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from fblut.check import Finding, check, check_tables
from fblut.table import Lut, Metadata, Row
from fbspace.blocks import is_identity
from fbspace.opspec import OpSpec
from fbspace.space import Space, load_space

K3 = OpSpec("ir", 16, 24, 112, 112, kernel=3, stride=2, expansion=3)
K5 = replace(K3, kernel=5)
E6 = replace(K3, expansion=6)


def row(spec: OpSpec, us: float, half: float | None = 1.0, spread: float | None = 1.0) -> Row:
    if half is None:
        return Row(spec, us, spread_us=spread, samples=3)
    return Row(spec, us, us - half, us + half, spread, samples=80)


def table(*rows: Row, **metadata: object) -> Lut:
    fields = {
        "space": "fbnet-tiny",
        "device": "local",
        "runtime": "litert",
        "runtime_version": "2.3.0",
        "precision": "float32",
        "threads": 1,
    }
    return Lut(Metadata.model_validate(fields | metadata), {r.spec.key(): r for r in rows})


def found(lut: Lut, rule: str, space: Space | None = None) -> list[Finding]:
    return [finding for finding in check(lut, space) if finding.rule == rule]


@pytest.fixture(scope="module")
def tiny() -> Space:
    return load_space("fbnet-tiny")


def test_a_complete_quiet_table_is_good_and_identities_need_no_row(tiny: Space) -> None:
    lut = table(*(row(spec, 100 * spec.kernel + spec.expansion) for spec in tiny.operators()))
    identities = [s for layer in tiny.layers for s in layer.candidates.values() if is_identity(s)]
    assert identities
    assert not any(spec.key() in lut.rows for spec in identities)
    assert check(lut, tiny) == []


def test_a_failed_row_is_an_error_with_its_reason_and_is_not_missing_too(tiny: Space) -> None:
    first, *others = tiny.operators()
    rows = [row(spec, 100 * spec.kernel + spec.expansion) for spec in others]
    lut = table(Row(first, None, status="failed", notes="no kernel"), *rows, threads=2)
    assert check(lut, tiny) == [
        Finding(
            "error",
            "failed",
            (first.key(),),
            f"{first.key()}: failed: no kernel; measure again: "
            "fbprof measure --space fbnet-tiny --device local --runtime litert --precision float32 --threads 2",
        )
    ]


def test_every_operator_of_the_space_without_a_row_is_an_error_with_the_remedy(tiny: Space) -> None:
    kept, *lacking = tiny.operators()
    missing = found(table(row(kept, 100.0)), "missing", tiny)
    assert [finding.operators for finding in missing] == [(spec.key(),) for spec in lacking]
    assert {finding.severity for finding in missing} == {"error"}
    assert "no row; measure again: fbprof measure --space fbnet-tiny --device local" in missing[0].message


def test_without_the_space_the_audit_says_what_it_could_not_look_for() -> None:
    (finding,) = check(table(row(K3, 100.0), space="theirs"), None)
    assert (finding.severity, finding.rule) == ("warning", "unknown-space")
    assert "space 'theirs' cannot be loaded here" in finding.message


@pytest.mark.parametrize(("larger", "field", "high"), [(K5, "kernel", 5), (E6, "expansion", 6)])
def test_a_larger_operator_faster_beyond_the_intervals(larger: OpSpec, field: str, high: int) -> None:
    (finding,) = found(table(row(larger, 97.0), row(K3, 100.0)), f"{field}-order")
    assert finding.severity == "warning"
    assert finding.operators == (K3.key(), larger.key())
    assert finding.message.startswith(
        f"{larger.key()}: 97.0 µs with {field} {high}, but 100.0 µs with 3; measure again"
    )


@pytest.mark.parametrize("larger", [K5, E6])
def test_no_order_is_claimed_within_the_intervals_nor_when_the_larger_is_slower(larger: OpSpec) -> None:
    for us in (98.0, 99.0, 100.0, 200.0):  # at 98 the intervals still touch: 97 to 99 and 99 to 101
        lut = table(row(K3, 100.0), row(larger, us))
        assert [f for f in check(lut, None) if f.rule.endswith("-order")] == []


def test_narrow_intervals_settle_even_a_small_difference() -> None:
    assert len(found(table(row(K3, 100.0, half=0.1), row(K5, 99.5, half=0.1)), "kernel-order")) == 1


@pytest.mark.parametrize(("us", "count"), [(94.9, 1), (95.0, 0), (99.0, 0)])
@pytest.mark.parametrize("half", [None, 1.0])
def test_where_an_interval_is_missing_five_percent_decide(us: float, count: int, half: float | None) -> None:
    assert len(found(table(row(K3, 100.0, half), row(K5, us, None)), "kernel-order")) == count


@pytest.mark.parametrize(
    "other",
    [
        replace(K5, expansion=6),
        replace(K5, stride=1),
        replace(K5, groups=2),
        replace(K5, activation="hswish"),
        replace(K5, squeeze_excite=True),
        replace(K5, height=56),
        replace(K5, out_channels=32),
    ],
)
def test_operators_that_differ_in_anything_else_are_not_held_against_each_other(other: OpSpec) -> None:
    assert [f for f in check(table(row(K3, 100.0), row(other, 50.0)), None) if f.rule.endswith("-order")] == []


def test_every_pair_of_three_expansions_is_compared() -> None:
    e1 = replace(K3, expansion=1)
    pairs = [f.operators for f in found(table(row(E6, 80.0), row(e1, 100.0), row(K3, 90.0)), "expansion-order")]
    assert pairs == [(e1.key(), K3.key()), (e1.key(), E6.key()), (K3.key(), E6.key())]


def test_an_interval_over_five_percent_to_either_side_is_wide() -> None:
    assert found(table(row(K3, 100.0, half=5.0)), "wide-interval") == []
    (finding,) = found(table(row(K3, 100.0, half=6.0), row(K5, 200.0)), "wide-interval")
    assert finding.severity == "warning"
    assert finding.operators == (K3.key(),)
    assert "±6.0 % around 100.0 µs; measure with more --rounds, or close other programs" in finding.message


def test_a_wide_interval_of_a_fitted_table_asks_for_more_networks() -> None:
    lut = table(row(K3, 100.0, half=6.0), origin="fitted")
    (finding,) = found(lut, "wide-interval")
    assert finding.message.endswith("±6.0 % around 100.0 µs; fit more networks")


def test_rows_without_interval_are_one_warning_for_the_table() -> None:
    assert found(table(row(K3, 100.0)), "no-interval") == []
    lut = table(row(K3, 100.0, None), row(K5, 200.0, None), row(E6, 200.0), Row(replace(K3, stride=1), None))
    (finding,) = found(lut, "no-interval")
    assert finding.severity == "warning"
    assert finding.operators == (K3.key(), K5.key())
    assert finding.message.startswith("2 of 4 rows have no interval")
    assert finding.message.endswith("measure with more --rounds")


def test_a_spread_over_a_fifth_is_noise() -> None:
    assert found(table(row(K3, 100.0, spread=20.0), row(K5, 100.0, spread=None)), "noisy") == []
    (finding,) = found(table(row(K3, 100.0, spread=21.0)), "noisy")
    assert (finding.severity, finding.operators) == ("warning", (K3.key(),))
    assert "spread over 21 % of 100.0 µs" in finding.message


@pytest.mark.parametrize(
    ("field", "value"), [("space", "fbnet"), ("runtime", "onnxruntime"), ("precision", "int8"), ("threads", 4)]
)
def test_tables_of_mixed_conditions(field: str, value: object) -> None:
    a, b = table(row(K3, 100.0)), table(row(K3, 100.0), **{field: value})
    (finding,) = check_tables({"a.csv": a, "b.csv": b})
    assert (finding.severity, finding.rule) == ("warning", f"mixed-{field}")
    assert f"{value} (b.csv)" in finding.message


def test_a_space_is_the_same_wherever_its_file_lies() -> None:
    files = [table(row(K3, 100.0), space=name) for name in ("mine.toml", "there/mine.toml", "mine")]
    assert check_tables({str(number): lut for number, lut in enumerate(files)}) == []
    other = table(row(K3, 100.0), space="there/yours.toml")
    (finding,) = check_tables({"a.csv": files[0], "b.csv": other})
    assert finding.rule == "mixed-space"


def test_two_devices_are_no_mixture_and_may_differ() -> None:
    a, b = table(row(K3, 100.0)), table(row(K3, 300.0), device="phone")
    assert check_tables({"a.csv": a, "b.csv": b}) == []
    assert check_tables({"a.csv": a}) == []
    assert check_tables({}) == []


def test_tables_of_the_same_conditions_that_disagree() -> None:
    a, b = table(row(K3, 100.0), row(E6, 200.0)), table(row(K3, 111.0), row(K5, 500.0))
    for tables in ({"a": a, "b": b}, {"b": b, "a": a}):
        (finding,) = check_tables(tables)
        assert (finding.severity, finding.rule, finding.operators) == ("warning", "disagreeing", (K3.key(),))
    assert "111.0 µs in b, 100.0 µs in a; measure both again" in finding.message


@pytest.mark.parametrize(
    ("other", "count"),
    [
        (row(K3, 110.0), 0),
        (row(K3, 120.0, half=19.0), 0),  # touches: 101 to 139 and 99 to 101
        (row(K3, 120.0, half=18.9), 1),
        (row(K3, 111.0, half=None), 1),
        (Row(K3, None), 0),
    ],
)
def test_ten_percent_or_within_the_intervals_is_no_disagreement(other: Row, count: int) -> None:
    a, b = table(row(K3, 100.0)), table(other)
    assert len(check_tables({"a": a, "b": b})) == len(check_tables({"b": b, "a": a})) == count


def test_a_published_noisy_table_is_found_out(shared: Path) -> None:
    path = shared / "data" / "devices" / "public_cpu_22x9_us.txt"
    if not path.exists():
        pytest.skip(f"needs {path.name}")
    fbnet = load_space("fbnet")
    rows: dict[str, Row] = {}
    for layer, line in zip(fbnet.layers, path.read_text().splitlines()[1:], strict=True):
        for spec, us in zip(layer.candidates.values(), map(float, line.split()), strict=True):
            if not is_identity(spec):
                rows.setdefault(spec.key(), Row(spec, us, samples=1))
    findings = check(table(*rows.values(), space="fbnet"), fbnet)
    counts = Counter(finding.rule for finding in findings)
    # 12 distinct layers of 4 pairs of kernels and 6 of expansions; counted apart from this program. Without regard to
    # the five percent, 24 of the 48 pairs of kernels are the wrong way round: no better than a coin.
    assert counts == {"missing": 5, "kernel-order": 22, "expansion-order": 17, "no-interval": 1}
    ends = [*fbnet.stem, *(spec for head in fbnet.heads.values() for spec in head)]
    assert [f.operators[0] for f in findings if f.rule == "missing"] == [spec.key() for spec in ends]


def test_rows_are_judged_as_they_were_timed_alone() -> None:
    """Within networks the interval is wide and the larger kernel faster; alone neither is so."""
    alone = {"isolated_us": 100.0, "isolated_low_us": 99.0, "isolated_high_us": 101.0}
    small = Row(K3, 130.0, 90.0, 170.0, samples=80, **alone)  # type: ignore[arg-type]
    slower = {"isolated_us": 120.0, "isolated_low_us": 119.0, "isolated_high_us": 121.0}
    large = Row(K5, 80.0, 75.0, 85.0, samples=80, **slower)  # type: ignore[arg-type]
    assert [f.rule for f in check(table(small, large), None) if f.rule != "unknown-space"] == []


@pytest.mark.parametrize(("threads", "cores", "count"), [(4, "7", 1), (2, "7", 1), (4, "4,5,6,7", 0), (4, "any", 0)])
def test_more_threads_than_cores_are_an_error(threads: int, cores: str, count: int) -> None:
    findings = found(table(row(K3, 100.0), threads=threads, cores=cores), "crowded")
    assert [finding.severity for finding in findings] == ["error"] * count


@pytest.mark.parametrize(("models", "count"), [((None, "A"), 1), (("A", "A"), 1), (("A", "B"), 0)])
def test_two_phones_of_one_profile_do_not_disagree(models: tuple[str | None, str | None], count: int) -> None:
    a, b = (table(row(K3, us), device_model=model) for us, model in zip((100.0, 200.0), models, strict=True))
    assert len(check_tables({"a": a, "b": b})) == count
