"""The table as a contract: what it answers, what it refuses, and that a file round-trips byte for byte."""

import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fbbase.shown import cell
from fblut.errors import LutError
from fblut.reading import parse_lut, read_lut
from fblut.table import Lut, Metadata, Row
from fblut.writing import COLUMNS, format_lut, write_lut
from fbspace.opspec import OpSpec

MakeLut = Callable[..., Lut]
STEM = OpSpec("conv", 3, 16, 224, 224, kernel=3, stride=2)
BLOCK = OpSpec("ir", 16, 24, 112, 112, kernel=3, stride=2, expansion=6)
IDENTITY = OpSpec("skip", 24, 24, 56, 56)


def test_a_prediction_is_the_sum_of_the_rows_and_identities_cost_nothing(make_lut: MakeLut) -> None:
    lut = make_lut({STEM: 100.25, BLOCK: 300.5})
    assert lut.predict_us([STEM, BLOCK, IDENTITY, BLOCK]) == 100.25 + 2 * 300.5


def test_the_fixed_cost_of_a_network_is_added_once_and_contains_its_operators(make_lut: MakeLut) -> None:
    lut = make_lut({STEM: 100.0, BLOCK: 300.0}, network_us=-12.5)
    lut.rows[STEM.key()] = Row(STEM, None, status="fixed")
    assert lut.predict_us([STEM, BLOCK, BLOCK]) == 600 - 12.5
    assert lut.missing([STEM, BLOCK]) == []
    assert parse_lut(format_lut(lut), "x") == lut


def test_a_predictions_interval_is_propagated(make_lut: MakeLut) -> None:
    """Half-widths of 98 and 196 µs are standard errors of 50 and 100 µs; BLOCK occurs twice."""
    lut = make_lut({STEM: 10_000.0, BLOCK: 20_000.0}, network_error_percent=0.5)
    lut.rows[STEM.key()] = Row(STEM, 10_000.0, 9_902.0, 10_098.0)
    lut.rows[BLOCK.key()] = Row(BLOCK, 20_000.0, 19_804.0, 20_196.0)
    error_us = math.sqrt(50**2 + (2 * 100) ** 2 + 250**2)
    prediction = lut.predict([BLOCK, STEM, BLOCK, IDENTITY])
    assert prediction.latency_us == 50_000
    assert prediction.ci_high_us == pytest.approx(50_000 + 1.96 * error_us)
    assert prediction.ci_low_us == pytest.approx(50_000 - 1.96 * error_us)
    lut.rows[STEM.key()] = Row(STEM, 10_000.0)
    assert lut.predict([BLOCK, STEM]).ci_low_us is None


def test_missing_and_failed_operators_are_all_listed_with_the_command_that_measures_them(make_lut: MakeLut) -> None:
    other = OpSpec("ir", 24, 24, 56, 56, kernel=5)
    lut = make_lut({STEM: 100.0, BLOCK: None})
    assert lut.missing([STEM, BLOCK, IDENTITY, other, other]) == [BLOCK, other]
    with pytest.raises(LutError) as error:
        lut.require([STEM, BLOCK, other], "the network")
    text = str(error.value)
    assert BLOCK.key() in text
    assert other.key() in text
    assert "it crashed" in text
    assert "lacks 2 operators" in text
    assert "fbprof measure --space fbnet" in text
    with pytest.raises(LutError, match="was not measured: it crashed"):
        lut.latency_us(BLOCK)


def test_a_file_round_trips_byte_for_byte(make_lut: MakeLut, tmp_path: Path) -> None:
    lut = make_lut({STEM: 100.25, BLOCK: None}, cores="0,1", soc='Xeon "Gold" # 2')
    write_lut(lut, tmp_path / "a.csv")
    again = read_lut(tmp_path / "a.csv")
    write_lut(again, tmp_path / "b.csv")
    assert again == lut
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_pandas_reads_the_file_without_help(make_lut: MakeLut, tmp_path: Path) -> None:
    write_lut(make_lut({STEM: 100.25, BLOCK: None}), tmp_path / "a.csv")
    frame = pytest.importorskip("pandas").read_csv(tmp_path / "a.csv", comment="#")
    assert tuple(frame.columns) == COLUMNS
    assert list(frame["key"]) == [STEM.key(), BLOCK.key()]
    assert list(frame["status"]) == ["ok", "failed"]
    assert frame["latency_us"][0] == 100.25
    assert math.isnan(frame["latency_us"][1])
    assert frame["notes"][1] == "it crashed, twice # really"


FAR, WIDE = (
    replace(BLOCK, kind="own", parameters=parameters)
    for parameters in ((("dilation", 2),), (("dilation", 3), ("mode", "max"), ("ratio", 2.0)))
)


def test_blocks_with_parameters_of_their_own_have_a_row_for_each_and_one_column_more(
    make_lut: MakeLut, tmp_path: Path
) -> None:
    """The kind is known nowhere here: a table may come from a machine with other blocks."""
    plain = replace(BLOCK, kind="own")
    lut = make_lut({STEM: 100.25, plain: 10.0, FAR: 20.0, WIDE: 30.0})
    write_lut(lut, tmp_path / "a.csv")
    assert read_lut(tmp_path / "a.csv") == lut
    frame = pytest.importorskip("pandas").read_csv(tmp_path / "a.csv", comment="#")
    assert tuple(frame.columns) == (*COLUMNS[:12], "parameters", *COLUMNS[12:])
    assert frame["parameters"].fillna("").tolist() == ["", "", "dilation=2", "dilation=3 mode=max ratio=2.0"]
    assert frame["latency_us"].tolist() == [100.25, 10.0, 20.0, 30.0]
    assert [lut.latency_us(spec) for spec in (plain, FAR, WIDE)] == [10.0, 20.0, 30.0]
    assert lut.missing([replace(FAR, parameters=(("dilation", 4),))])
    text = format_lut(lut)
    with pytest.raises(LutError, match=r"column 13 \(parameters\): 'dilation=4' contradicts the key, .* 'dilation=2'"):
        parse_lut(text.replace(",dilation=2,", ",dilation=4,"), "x")
    assert format_lut(make_lut({STEM: 1.0})).count("parameters") == 0


def test_a_parameter_that_a_known_block_does_not_take_is_refused(make_lut: MakeLut, own_block: str) -> None:
    text = format_lut(make_lut({STEM: 100.25, FAR: 2.0}))
    assert parse_lut(text, "x").rows[FAR.key()].spec == FAR
    for wrong, words in (("9", "dilation must be between 1 and 4, not 9"), ("1", "without those at their default")):
        with pytest.raises(LutError, match=rf"column 1 \(key\): .*{words}"):
            parse_lut(text.replace("dilation=2", f"dilation={wrong}"), "x")


@pytest.mark.parametrize("origin", ["fitted", "imported"])
def test_a_table_says_where_its_latencies_come_from(make_lut: MakeLut, origin: str) -> None:
    text = format_lut(make_lut({STEM: 100.25}, origin=origin))
    assert f'# origin: "{origin}"\n' in text
    assert parse_lut(text, "x").metadata.origin == origin
    with pytest.raises(LutError, match="header field 'origin'"):
        parse_lut(text.replace(f'"{origin}"', '"guessed"'), "x")


def test_a_measured_table_is_written_without_its_origin(make_lut: MakeLut) -> None:
    assert "origin" not in format_lut(make_lut({STEM: 100.25}, origin="measured"))
    assert parse_lut(format_lut(make_lut({STEM: 100.25})), "x").metadata.origin == "measured"


@pytest.mark.parametrize(
    ("timing", "origin"),
    [
        ("regression on 400 whole networks", "fitted"),
        ("imported from b.csv, relative to skip", "imported"),
        ("3 runs in a row, first 1 dropped, random interleaved rounds", "measured"),
    ],
)
def test_a_table_from_before_origins_has_that_of_its_timing(make_lut: MakeLut, timing: str, origin: str) -> None:
    text = format_lut(make_lut({STEM: 100.25}, timing=timing))
    assert "# origin" not in text
    assert parse_lut(text, "x").metadata.origin == origin
    said = text.replace("# cores", '# origin: "measured"\n# cores')
    assert parse_lut(said, "x").metadata.origin == "measured"


_TIMES = st.floats(0.001, 1e9)


@given(
    st.dictionaries(st.integers(1, 500), _TIMES, min_size=1, max_size=8),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30),
)
def test_any_table_round_trips(latencies: dict[int, float], note: str) -> None:
    rows = {
        (spec := OpSpec("conv", 3, channels, 32, 32)).key(): Row(spec, round(us, 3), samples=3, notes=cell(note))
        for channels, us in latencies.items()
    }
    metadata = Metadata(
        space="fbnet", device=note, runtime="litert", runtime_version="2", precision="float32", threads=1
    )
    lut = Lut(metadata, rows)
    assert parse_lut(format_lut(lut), "x") == lut


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: t.replace("100.250", "fast"),
            r"x.csv: line FIRST, column 13 \(latency_us\): 'fast' is not a number",
        ),
        (
            lambda t: t.replace("100.250", "-1"),
            r"line FIRST, column 13 \(latency_us\): -1 is not a time that can be measured",
        ),
        (
            lambda t: t.replace("100.250", "0"),
            r"line FIRST, column 13 \(latency_us\): 0 is not a time that can be measured",
        ),
        (lambda t: t.replace("100.250", "nan"), r"line FIRST, column 13 \(latency_us\): 'nan' is not a number"),
        (
            lambda t: t.replace("100.250", ""),
            r"line FIRST, column 13 \(latency_us\): status is ok, so a latency must be here",
        ),
        (
            lambda t: t.replace("99.250,102.250", "100.500,102.250"),
            r"column 14 \(ci_low_us\): the latency does not",
        ),
        (lambda t: t.replace("99.250,102.250", ",102.250"), r"column 14 \(ci_low_us\): an interval has two ends"),
        (
            lambda t: t.replace(",80,0,,,,", ",80,0,9.0,8.0,,", 1),
            r"column 21 \(isolated_high_us\): an interval has two",
        ),
        (lambda t: t.replace(",ok,", ",failed,", 1), r"line FIRST, column 13 .* must not be here"),
        (
            lambda t: t.replace(",ok,", ",fine,", 1),
            r"line FIRST, column 22 \(status\): expected one of ok, failed",
        ),
        (lambda t: t.replace(",80,", ",many,", 1), r"line FIRST, column 17 \(samples\): 'many' is not a whole number"),
        (lambda t: t.replace("conv_in3x", "conv_inx"), r"line FIRST, column 1 \(key\): not an operator key"),
        (lambda t: t.replace(",conv,3,", ",conv,4,"), r"line FIRST, column 3 \(in_channels\): '4' contradicts the key"),
        (lambda t: t.replace(",ok,", ",ok,a,b,", 1), r"line FIRST: 25 cells, expected 23"),
        (lambda t: t.replace("key,kind", "name,kind"), r"line COLUMNS: expected the column names"),
        (lambda t: t.replace("table 2", "table 9"), r"line 1: not a latency table of this version"),
        (
            lambda t: t.replace('# space: "fbnet"', "# space: fbnet"),
            r"line 2: expected `# field: value` with a JSON value",
        ),
        (lambda t: t.replace("# threads: 1", "# threads: 0"), r"header field 'threads': Input should be greater"),
        (lambda t: t.replace('# space: "fbnet"\n', ""), r"header field 'space': Field required"),
        (lambda t: t + t.splitlines()[-1] + "\n", r"line THIRD: operator ir_\S+ is already in line SECOND"),
        (lambda t: t[: t.index("conv_in")], r"the table has no rows"),
        (lambda t: "", r"line 1: not a latency table"),
        (lambda t: t.replace("16_k3_s2_e1_g1_relu,conv", '16_k3_s2_e1_g1_relu,"conv'), r"line \d+: "),
    ],
)
def test_every_mistake_is_told_with_line_and_column(
    make_lut: MakeLut, change: Callable[[str], str], message: str
) -> None:
    text = format_lut(make_lut({STEM: 100.25, BLOCK: 300.5}))
    assert change(text) != text
    columns = text.splitlines().index(",".join(COLUMNS)) + 1
    for offset, name in enumerate(["COLUMNS", "FIRST", "SECOND", "THIRD"]):
        message = message.replace(f"line {name}", f"line {columns + offset}")
    with pytest.raises(LutError, match=message):
        parse_lut(change(text), "x.csv")


@given(st.text(max_size=200))
def test_no_text_makes_the_reader_fail_in_another_way(text: str) -> None:
    with pytest.raises(LutError):
        parse_lut("# fbnet-lab latency table 2\n" + text, "x.csv")


@pytest.mark.parametrize(
    ("about", "key", "remedy"),
    [
        ({}, "ir_in16x112x112_out16_k5_s1_e1_g1_relu", "measure again: fbprof measure --space fbnet --device local "),
        (
            {},
            "mbconv_in8x9x9_out8_k3_s1_e1_g1_relu",
            "not all are of space fbnet: measure the space, or the network, that",
        ),
        (
            {"source": "their paper", "device": "theirs"},
            "ir_in16x112x112_out16_k5_s1_e1_g1_relu",
            "measure a device of your own: fbprof measure --space fbnet --device DEVICE ",
        ),
        (
            {"space": "mine"},
            "conv_in8x9x9_out8_k3_s1_e1_g1_relu",
            "measure again: fbprof measure --space mine --device ",
        ),
    ],
)
def test_the_remedy_for_what_a_table_lacks_can_help(
    make_lut: MakeLut, about: dict[str, str], key: str, remedy: str
) -> None:
    kept = OpSpec.from_key("conv_in3x224x224_out16_k3_s2_e1_g1_relu")
    with pytest.raises(LutError, match=re.escape(f"Remedy: {remedy}")):
        make_lut({kept: 1.0}, **about).require([OpSpec.from_key(key)], "network x")
