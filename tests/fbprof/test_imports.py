"""fbprof import, format by format: sums are what the file says, the rest has no latency, errors name the line."""

import csv
import hashlib
import itertools
import json
import random
import statistics
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fbbase.commandline import run
from fblut.check import check
from fblut.errors import LutError
from fblut.reading import read_lut
from fblut.table import Lut
from fbprof.borrowed.importing import import_table
from fbprof.cli import fbprof
from fbprof.imports import ofa
from fbprof.imports.blocks import parse_blocks
from fbspace.opspec import OpSpec
from fbspace.space import Space, load_space

Captured = pytest.CaptureFixture[str]
NO_SKIP = """
description = "three layers, two heads"
input = { channels = 3, size = 16 }
classes = 4
head_channels = [32, 48]
stem = [{ kind = "conv", channels = 8, kernel = 3 }]
stages = [{ channels = 8, repeats = 2, stride = 1 }, { channels = 16, repeats = 1, stride = 2 }]
[candidates]
small = { kind = "ir", kernel = 3, expansion = 1 }
large = { kind = "ir", kernel = 5, expansion = 6 }
"""
HEADER = "layer_key,h,cin,cout,stride,n_positions,op,delta_ms_vs_skip\n"
CONSTANT = "__constant__(stem+head),,,,,,,2.5\n"
BLOCKS = "a,16,8,8,1,2,small,0.25\na,16,8,8,1,2,large,1\nb,16,8,16,2,1,small,0.125\nb,16,8,16,2,1,large,0.75\n"
TEXT = HEADER + CONSTANT + BLOCKS
METADATA = {"space": "three.toml", "device": "d", "runtime": "r", "runtime_version": "unknown"}
METADATA |= {"precision": "unknown", "threads": 1}  # type: ignore[dict-item]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "three.toml").write_text(NO_SKIP + 'skip = { kind = "skip" }\n')
    (tmp_path / "no-skip.toml").write_text(NO_SKIP)
    return tmp_path


def imported(text: str, here: Path) -> tuple[Lut, Space]:
    (here / "b.csv").write_text(text)
    space = load_space("three.toml")
    return import_table(here / "b.csv", space, METADATA), space


def test_every_network_costs_the_constant_and_its_deltas(here: Path) -> None:
    lut, space = imported(TEXT, here)
    first = {"small": 250.0, "large": 1000.0, "skip": 0.0}
    last = {"small": 125.0, "large": 750.0, "skip": 0.0}
    for choices in itertools.product(("small", "large", "skip"), repeat=3):
        expected = 2500.0 + first[choices[0]] + first[choices[1]] + last[choices[2]]
        assert lut.predict_us(space.specs(choices)) == expected


@given(st.lists(st.floats(1e-4, 50), min_size=4, max_size=4), st.floats(-5, 50))
def test_any_file_sums_as_it_says(
    tmp_path_factory: pytest.TempPathFactory, deltas_ms: list[float], constant_ms: float
) -> None:
    folder = tmp_path_factory.mktemp("any")
    (folder / "three.toml").write_text(NO_SKIP + 'skip = { kind = "skip" }\n')
    space = load_space(str(folder / "three.toml"))
    lines = [f"{line.rpartition(',')[0]},{x!r}" for line, x in zip(BLOCKS.splitlines(), deltas_ms, strict=True)]
    (folder / "b.csv").write_text(f"{HEADER}__constant__,,,,,,,{constant_ms!r}\n" + "\n".join(lines) + "\n")
    lut = import_table(folder / "b.csv", space, METADATA)
    expected_us = 1000 * (constant_ms + deltas_ms[0] + deltas_ms[1] + deltas_ms[2])
    assert lut.predict_us(space.specs(("small", "large", "small"))) == pytest.approx(expected_us, abs=0.0005 + 1e-6)


def test_the_command_writes_a_table_that_says_where_it_comes_from(here: Path, capsys: Captured) -> None:
    (here / "b.csv").write_text(TEXT)
    arguments = [
        "import",
        "b.csv",
        "--space",
        "three.toml",
        "--device",
        "pixel-3",
        "--runtime",
        "tflite",
        "-o",
        "t.csv",
    ]
    assert run(fbprof, arguments) == 0
    assert "4 operators, imported from b.csv, relative to skip, and a fixed cost of 2.500 ms" in capsys.readouterr().out
    lut = read_lut(here / "t.csv")
    metadata = lut.metadata
    assert (metadata.device, metadata.runtime, metadata.precision) == ("pixel-3", "tflite", "unknown")
    assert (metadata.origin, metadata.timing) == ("imported", "imported from b.csv, relative to skip")
    assert metadata.model_dump()["imported_sha256"] == hashlib.sha256(TEXT.encode()).hexdigest()
    assert (metadata.measured_at, metadata.rounds, metadata.seed) == ("unknown", None, None)
    assert "number of threads is not known" in metadata.warnings[0]
    assert run(fbprof, [*arguments, "--threads", "2"]) == 0
    assert (read_lut(here / "t.csv").metadata.threads, read_lut(here / "t.csv").metadata.warnings) == (2, ())


def test_stem_default_head_and_skip_are_in_the_constant_another_head_is_not_known(here: Path) -> None:
    lut, space = imported(TEXT, here)
    skip = space.layers[2].candidates["skip"]
    for spec in (*space.stem, *space.heads[32], skip):
        assert (lut.rows[spec.key()].status, lut.latency_us(spec)) == ("fixed", 0.0)
    assert {lut.rows[spec.key()].status for spec in space.heads[48]} == {"failed"}


@pytest.mark.parametrize("delta", ["-0.01", "0", "0.0000001"])
def test_what_is_not_slower_than_skip_has_no_latency(here: Path, capsys: Captured, delta: str) -> None:
    text = TEXT.replace("small,0.125", f"small,{delta}")
    lut, space = imported(text, here)
    spec = space.layers[2].candidates["small"]
    row = lut.rows[spec.key()]
    assert (row.status, row.latency_us) == ("failed", None)
    assert "in the imported file (relative to skip); a table holds latencies above 0" in row.notes
    with pytest.raises(LutError, match="was not measured"):
        lut.predict_us(space.specs(("skip", "skip", "small")))
    finding = next(finding for finding in check(lut, space) if spec.key() in finding.operators)
    assert "complete the file it was imported from" in finding.message
    assert run(fbprof, ["import", "b.csv", "--space", "three.toml", "--device", "d", "-o", "t.csv"]) == 0
    assert "operators have no latency" in capsys.readouterr().err
    assert read_lut(here / "t.csv").rows[spec.key()] == row


def test_an_operator_the_file_lacks_has_a_failed_row(here: Path) -> None:
    lut, space = imported(TEXT.replace("b,16,8,16,2,1,large,0.75\n", ""), here)
    row = lut.rows[space.layers[2].candidates["large"].key()]
    assert (row.status, row.notes) == ("failed", "not in the imported file")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "b: line 1: expected the column names layer_key,h,"),
        (HEADER + BLOCKS, "b: no __constant__ row"),
        (TEXT + CONSTANT, "b: line 7: a second __constant__ row"),
        (TEXT + "a,16,8,8,1,2,small,0.3\n", "b: line 7: small of this place a second time"),
        (TEXT + "a,16,8\n", "b: line 7: 3 cells, expected 8"),
        (TEXT.replace("0.75", "nan"), "b: line 6: delta_ms_vs_skip 'nan' is not a number"),
        (TEXT.replace("0.75", ""), "b: line 6: delta_ms_vs_skip '' is not a number"),
        (TEXT.replace("b,16,8,16,2,1,large", "b,x,8,16,2,1,large"), "b: line 6: h 'x' is not a whole number"),
        (TEXT.replace("b,16,8,16,2,1,large", "b,8,8,16,2,1,large"), "b: line 6: 1 layers from 8x8x8 to 16 channels"),
        (TEXT.replace("b,16,8,16,2,1,large", "b,16,8,16,2,3,large"), "b: line 6: 3 layers .* but space three has 1"),
        (TEXT.replace("1,large", "1,huge"), "b: line 6: op 'huge', expected one of small, large"),
        (TEXT + "b,16,8,16,2,1,skip,0\n", "b: line 7: op 'skip', expected one of small, large"),
        (TEXT.replace("b,16", '"b"x,16', 1), "b: line 5: .*correct the quotes"),
    ],
)
def test_a_wrong_file_is_refused_with_its_line(here: Path, text: str, message: str) -> None:
    with pytest.raises(LutError, match=f"^{message}"):
        parse_blocks(text, "b", load_space("three.toml"))


def test_a_space_without_skip_is_refused(here: Path) -> None:
    with pytest.raises(LutError, match=r"relative to skip, but layer 1 of space no-skip has none"):
        parse_blocks(TEXT, "b", load_space("no-skip.toml"))


@pytest.mark.parametrize("device", ["pixel3", "raspi4"])
def test_a_public_file_has_exactly_the_places_of_fbnet_cifar(shared: Path, here: Path, device: str) -> None:
    """Places and their number are compared with the file's own; then sums, written and read again."""
    path = shared / "data" / "devices" / f"{device}_blocks.csv"
    with path.open(newline="") as file:
        constant, *rows = csv.DictReader(file)
    delta_ms = {
        (*map(int, (r["h"], r["cin"], r["cout"], r["stride"])), r["op"]): float(r["delta_ms_vs_skip"]) for r in rows
    }
    space = load_space("fbnet-cifar")
    assert run(fbprof, ["import", str(path), "--space", "fbnet-cifar", "--device", device, "-o", "t.csv"]) == 0
    lut = read_lut(here / "t.csv")
    assert sum(row.status == "ok" for row in lut.rows.values()) == len(rows) == 96
    assert not any(row.status == "failed" for row in lut.rows.values())
    assert [finding.rule for finding in check(lut, space) if finding.severity == "error"] == []
    draw = random.Random(0)
    for _ in range(50):
        choices = [draw.choice(list(layer.candidates)) for layer in space.layers]
        expected_ms = float(constant["delta_ms_vs_skip"])
        for layer, name in zip(space.layers, choices, strict=True):
            spec = layer.candidates[name]
            place = spec.height, spec.in_channels, spec.out_channels, spec.stride
            expected_ms += 0.0 if name == "skip" else delta_ms[*place, name]
        assert lut.predict_us(space.specs(choices)) == pytest.approx(1000 * expected_ms, abs=23 * 0.0005)


def test_layers_are_medians_of_what_was_published(shared: Path, here: Path) -> None:
    """The table that the public reproduction ships: 22 lines of 9 latencies in microseconds."""
    path = shared / "data" / "devices" / "public_cpu_22x9_us.txt"
    space = load_space("fbnet")
    lut = import_table(path, space, METADATA | {"space": "fbnet"}, unit="us")
    header, *lines = [line.split() for line in path.read_text().splitlines() if line.strip()]
    assert header[1] == "ir_k3_s2"
    values: dict[str, list[float]] = {}
    for layer, line in zip(space.layers, lines, strict=True):
        values.setdefault(layer.candidates["k3_e1_g2"].key(), []).append(float(line[1]))
    for key, published in values.items():
        assert lut.rows[key].latency_us == pytest.approx(statistics.median(published))
    assert max(map(len, values.values())) > 1
    assert lut.rows[space.stem[0].key()].status == "fixed"
    assert lut.metadata.warnings == ("stem and head are not in the imported file: every prediction leaves them out",)
    doubled = import_table(path, space, METADATA, "layers", "ms")
    assert doubled.rows[key].latency_us == pytest.approx(1000 * (lut.rows[key].latency_us or 0))


LAYERS = "ir_k3_e1 skip\n1 2\n3 4\n5 6\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it is empty"),
        (LAYERS + "7 8\n", r"4 lines of latencies, but space three has 3 layers"),
        (LAYERS.replace("3 4", "3"), r"line 3: 1 latencies for 2 candidates"),
        (LAYERS.replace("3 4", "3 x"), r"line 3: 'x' is not a number"),
        (
            LAYERS.replace("ir_k3_e1", "ir_k9_e1"),
            r"line 2: layer 1 of space three has no candidate 'k9_e1'; it has k3_e1",
        ),
    ],
)
def test_wrong_layers_are_refused_with_their_line(here: Path, text: str, message: str) -> None:
    (here / "three.toml").write_text((here / "three.toml").read_text().replace("small =", "k3_e1 ="))
    (here / "b.txt").write_text(text)
    with pytest.raises(LutError, match=message):
        import_table(here / "b.txt", load_space("three.toml"), METADATA, unit="us")


def test_keys_are_numbers_text_or_objects(here: Path) -> None:
    space = load_space("three.toml")
    a, b, c, d, *_ = (spec.key() for spec in space.operators())
    (here / "b.json").write_text(json.dumps({a: 0.25, b: "0.5 +- 0.1", c: {"latency": 1}, d: -1, "other": 3}))
    lut = import_table(here / "b.json", space, METADATA, unit="ms")
    assert [lut.rows[key].latency_us for key in (a, b, c, d)] == [250.0, 500.0, 1000.0, None]
    assert "-1000.000 µs in the imported file" in lut.rows[d].notes
    (here / "b.json").write_text(json.dumps({a: "fast"}))
    with pytest.raises(LutError, match="'fast' is not a latency"):
        import_table(here / "b.json", space, METADATA, unit="ms")
    (here / "b.json").write_text('{"conv": 1}')
    with pytest.raises(LutError, match=r"no operator of space three: looked for keys such as 'conv_in3x16x16_out8"):
        import_table(here / "b.json", space, METADATA, unit="ms")


def test_once_for_alls_tables_are_read_by_shapes(here: Path) -> None:
    """Keys as ProxylessNAS and once-for-all write them; the block without a 1x1 at expansion 1 is mbconv."""
    keys = {
        "Conv-input:224x224x3-output:112x112x16": "conv_in3x224x224_out16_k3_s2_e1_g1_relu",
        "Conv_1-input:7x7x320-output:7x7x1280": "conv_in320x7x7_out1280_k1_s1_e1_g1_relu",
        "Logits-input:7x7x1280-output:1000": "classifier_in1280x7x7_out1000_k1_s1_e1_g1_none",
        "expanded_conv-input:56x56x24-output:56x56x24-expand:6-kernel:5-stride:1-idskip:1": (
            "ir_in24x56x56_out24_k5_s1_e6_g1_relu6"
        ),
        "expanded_conv-input:112x112x16-output:112x112x16-expand:1-kernel:3-stride:1-idskip:1": (
            "mbconv_in16x112x112_out16_k3_s1_e1_g1_relu"
        ),
        "expanded_conv-input:112x112x16-output:56x56x24-expand:4-kernel:3-stride:2-idskip:0-se:1-hs:1": (
            "mbconv_in16x112x112_out24_k3_s2_e4_g1_hswish_se"
        ),
    }
    for key, ours in keys.items():
        assert key in ofa.keys_of(OpSpec.from_key(ours))
    assert ofa.keys_of(OpSpec.from_key("ir_in16x112x112_out16_k3_s1_e1_g1_relu")) == []
    space = load_space("three.toml")
    text = "Conv-input:16x16x3-output:16x16x8: {count: 3, mean: 0.5}\n"
    text += "expanded_conv-input:16x16x8-output:8x8x16-expand:6-kernel:5-stride:2-idskip:0: 2\n"
    (here / "b.yaml").write_text(text)
    lut = import_table(here / "b.yaml", space, METADATA, unit="ms")
    assert {key: row.latency_us for key, row in lut.rows.items() if row.latency_us} == {
        space.stem[0].key(): 500.0,
        space.layers[2].candidates["large"].key(): 2000.0,
    }
    for text, message in (("[1", "expected"), ("- 1", "found a list"), ("a: {mean: x}", "'x' is not a latency")):
        (here / "b.yaml").write_text(text)
        with pytest.raises(LutError, match=message):
            import_table(here / "b.yaml", space, METADATA, unit="ms")


def test_the_unit_and_the_format_are_asked_for(here: Path, capsys: Captured) -> None:
    arguments = ["import", "--space", "three.toml", "--device", "d", "-o", "t.csv"]
    for name in ("b.csv", "b.txt", "b.dat"):
        (here / name).write_text(TEXT)
    for extra, message in (
        (["b.csv", "--unit", "ms"], "says its unit itself"),
        (["b.txt"], "does not say its unit; say it with --unit"),
        (["b.dat"], "name it with --format: blocks (.csv), keys (.json), layers (.txt), ofa (.yaml, .yml)"),
    ):
        assert run(fbprof, [*arguments, *extra]) == 2
        assert message in capsys.readouterr().err
    assert run(fbprof, [*arguments, "b.dat", "--format", "blocks"]) == 0
