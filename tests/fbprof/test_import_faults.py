"""fbprof import: files by which a wrong number could come in are refused or told, and what is unambiguous is read."""

import json
from pathlib import Path

import pytest

from fbbase.commandline import run
from fblut.errors import LutError
from fblut.reading import read_lut
from fblut.table import Lut
from fbprof.borrowed.importing import import_table
from fbprof.cli import fbprof
from fbprof.imports import ofa
from fbspace.opspec import OpSpec
from fbspace.space import load_space

Captured = pytest.CaptureFixture[str]
SPACE = """
description = "two layers"
input = { channels = 3, size = 32 }
classes = 4
head = [{ kind = "conv", channels = 32, activation = "hswish" }, { kind = "pool", channels = 48 }]
stem = [{ kind = "conv", channels = 16, kernel = 3, stride = 2 }]
stages = [{ channels = 16, repeats = 1, stride = 1 }, { channels = 24, repeats = 1, stride = 2 }]
[candidates]
k3_e1 = { kind = "mbconv", kernel = 3, expansion = 1 }
k5_e6 = { kind = "mbconv", kernel = 5, expansion = 6 }
skip = { kind = "skip" }
"""
METADATA = {"space": "two.toml", "device": "d", "runtime": "r", "runtime_version": "unknown"}
METADATA |= {"precision": "unknown", "threads": 1}  # type: ignore[dict-item]
CONV = "Conv-input:32x32x3-output:16x16x16"
STEM = "conv_in3x32x32_out16_k3_s2_e1_g1_relu"
BLOCK = "expanded_conv-input:16x16x16-output:8x8x24-expand:{}-kernel:5-stride:2-idskip:0"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "two.toml").write_text(SPACE)
    return tmp_path


def imported(name: str, text: str | bytes, unit: str = "us") -> Lut:
    Path(name).write_bytes(text.encode() if isinstance(text, str) else text)
    return import_table(Path(name), load_space("two.toml"), METADATA, unit=unit)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "d.json",
            f'{{"{STEM}": 4,\n "{STEM}": 400}}',
            f"d.json: key '{STEM}' is there twice, in line 1 and in line 2",
        ),
        ("d.yaml", f"{CONV}: 4\n{CONV}: 400\n", f"d.yaml: key '{CONV}' is there twice, in line 1 and in line 2"),
        ("d.yaml", f"{CONV}: {{mean: 4, mean: 400}}\n", "d.yaml: key 'mean' is there twice, in line 1 and in line 1"),
        ("d.yaml", f"{CONV}: {{count: 9, mean: 3,1, var: 0,1}}\n", "line 1: '1' stands alone behind a comma"),
        ("d.yaml", f"{CONV}:\n  mean: 5,264\n", r"line 2: .*'5,264' is not a latency.*a decimal comma\? write a point"),
        ("d.yaml", f"{CONV}: 1:30\n", "line 1: .*'1:30' is not a latency"),
        ("d.yaml", f"{CONV}: 1_000\n", "line 1: .*'1_000' is not a latency"),
        ("d.yaml", f"{CONV}: .nan\n", "line 1: .*'.nan' is not a latency"),
        ("d.yaml", f"{CONV}: {'9' * 5000}\n", "line 1: .* is not a latency"),
        ("d.yaml", "a: " + "[" * 5000 + "]" * 5000, "d.yaml: it is nested too deep"),
        ("d.yaml", "a: &a [1]\nb: [*a, *a]\n", "line 1: a: 'a list' is not a latency"),
        ("d.json", f'{{"{STEM}": "٥"}}', "'٥' is not a latency"),
        ("d.json", f'{{"{STEM}": "5_0"}}', "'5_0' is not a latency"),
        ("d.json", f'{{"{STEM}": true}}', "a bool is not a latency"),
        ("d.json", '{"conv": {"id_0": {"latency": "8.1 +- 0.2"}}}', "conv: this is a profile of nn-Meter"),
        ("d.txt", "k3_e1 skip k3_e1\n1 2 3\n4 5 6\n", "line 1: columns 1 and 3 are both 'k3_e1'; keep one"),
        (
            "d.txt",
            "0.17 0.18\n0.19 0.20\n",
            "line 1: it begins with latencies: add a first line .*such as k3_e1 k5",
        ),
        ("d.txt", "k3_e1 k5_e6\n5,17 5,27\n4 5\n", r"line 2: '5,17' is not a number.*a decimal comma\? write a point"),
    ],
)
def test_what_would_bring_in_a_wrong_number_is_refused(here: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(LutError, match=message):
        imported(name, text)


@pytest.mark.parametrize("text", ["12.3 ± 0.4", "12.3 +- 0.4", "12.3"])
def test_a_latency_may_have_its_deviation_behind_it(here: Path, text: str) -> None:
    lut = imported("d.json", b"\xef\xbb\xbf" + json.dumps({STEM: text}, ensure_ascii=False).encode())
    assert lut.rows[STEM].latency_us == 12.3


def test_a_unit_at_which_no_device_could_compute_is_refused(here: Path) -> None:
    """The stem has 110,592 multiply-accumulates: in 4 ms 2.8e7 a second, in 4 ns 2.8e13, in 4 s 2.8e4."""
    assert imported("d.json", f'{{"{STEM}": 4}}', "ms").rows[STEM].latency_us == 4000
    assert imported("d.json", f'{{"{STEM}": 4}}', "ns").rows[STEM].latency_us == 0.004
    with pytest.raises(LutError, match=r"--unit s is wrong: .* do 2.8e\+04 .* none of use does under 1e\+06"):
        imported("d.json", f'{{"{STEM}": 4}}', "s")
    with pytest.raises(LutError, match=r"--unit ns is wrong: .*no device does over 1e\+15"):
        imported("d.json", f'{{"{STEM}": 0.04}}', "ns")


def test_the_command_says_what_was_used_and_what_was_not(here: Path, capsys: Captured) -> None:
    near = STEM.replace("relu", "RELU")
    (here / "d.json").write_text(json.dumps({STEM: 3.8, near: 4.5, "nothing_known": 1}))
    arguments = ["import", "d.json", "--space", "two.toml", "--device", "d", "--unit", "us", "-o"]
    assert run(fbprof, [*arguments, "t.csv"]) == 0
    out = capsys.readouterr().out
    assert f"1 of 3 entries of the file were used; unused: {near}, nothing_known\n" in out
    assert "half of the operators do 29.1 GMAC/s or more" in out
    assert run(fbprof, [*arguments, "d.json"]) == 2
    assert "-o d.json is the FILE itself, which would be lost" in capsys.readouterr().err
    assert json.loads((here / "d.json").read_text())["nothing_known"] == 1


def test_a_table_may_go_to_stdout(here: Path, capfd: Captured) -> None:
    (here / "d.json").write_text(json.dumps({STEM: 3.8}))
    arguments = ["import", "d.json", "--space", "two.toml", "--device", "d", "--unit", "us", "-o", "-"]
    assert run(fbprof, arguments) == 0
    said = capfd.readouterr()
    assert "1 of 1 entries" in said.err
    (here / "t.csv").write_text(said.out)
    assert read_lut(here / "t.csv").rows[STEM].latency_us == 3.8


def test_once_for_alls_tables_tell_the_channels_in_the_middle(here: Path) -> None:
    key = BLOCK.format(96) + "-se:0-hs:0"
    lut = imported("d.yaml", f"{CONV}: 5\n{key}: {{mean: 164.1}}\n")
    assert lut.rows["mbconv_in16x16x16_out24_k5_s2_e6_g1_relu"].latency_us == 164.1
    ratio = imported("d.yaml", f"{CONV}: 5\n{BLOCK.format(6)}: {{mean: 9.5}}\n")
    assert ratio.rows["mbconv_in16x16x16_out24_k5_s2_e6_g1_relu"].latency_us == 9.5


@pytest.mark.parametrize(
    ("expands", "message"),
    [((16,), "may be a ratio or the channels in the middle"), ((6, 96), "is a ratio in .*expand:6-.*but .*expand:96-")],
)
def test_what_expand_is_must_follow_from_the_file(here: Path, expands: tuple[int, ...], message: str) -> None:
    with pytest.raises(LutError, match=message):
        imported("d.yaml", "".join(f"{BLOCK.format(expand)}: 5\n" for expand in expands))


def test_the_pool_of_once_for_all_is_two_entries(here: Path) -> None:
    entries = {"AvgPool2D-input:8x8x32-output:1x1x32": 2, "Conv_2-input:1x1x32-output:1x1x48": 3}
    entries |= {"Logits-input:1x1x48-output:1x1x4": 7}
    lut = imported("d.yaml", "".join(f"{key}: {value}\n" for key, value in entries.items()))
    assert lut.rows["pool_in32x8x8_out48_k1_s1_e1_g1_relu"].latency_us == 5
    assert lut.rows["classifier_in48x1x1_out4_k1_s1_e1_g1_none"].latency_us == 7
    whole = OpSpec.from_key("classifier_in48x8x8_out4_k1_s1_e1_g1_none")
    assert ("AvgPool2D-input:8x8x48-output:1x1x48", "Logits-input:1x1x48-output:1x1x4") in ofa.keys_of(whole)


def test_two_keys_of_one_operator_with_different_latencies_are_refused(here: Path) -> None:
    key = BLOCK.format(6)
    same = imported("d.yaml", f"{key}: 5\n{key}-se:0-hs:0: 5\n")
    assert same.rows["mbconv_in16x16x16_out24_k5_s2_e6_g1_relu"].latency_us == 5
    with pytest.raises(LutError, match="and another key are both mbconv_in16x16x16_out24_k5_s2_e6_g1_relu; keep one"):
        imported("d.yaml", f"{key}: 5\n{key}-se:0-hs:0: 6\n")


def test_blocks_that_a_german_excel_wrote_are_read(here: Path) -> None:
    header = "layer_key,h,cin,cout,stride,n_positions,op,delta_ms_vs_skip"
    rows = ["__constant__,,,,,,,2.5", "a,16,16,16,1,1,k3_e1,0.25", "b,16,16,24,2,1,k5_e6,1.125"]
    plain = imported_blocks("\n".join([header, *rows]) + "\n")
    german = "\r\n".join([header.replace(",", ";"), *(row.replace(",", ";").replace(".", ",") for row in rows)])
    assert imported_blocks("\ufeff" + german + "\r\n").rows == plain.rows
    assert plain.rows["mbconv_in16x16x16_out24_k5_s2_e6_g1_relu"].latency_us == 1125


def imported_blocks(text: str) -> Lut:
    Path("b.csv").write_bytes(text.encode())
    return import_table(Path("b.csv"), load_space("two.toml"), METADATA)
