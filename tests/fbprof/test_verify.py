"""fbprof verify and compare at the command line, on real measurements of a small network."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import scipy

from fbbase.commandline import run
from fblut.reading import read_lut
from fblut.table import Lut, Row
from fblut.writing import write_lut
from fbprof.cli import fbprof
from fbspace.architecture import Architecture


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("table") / "t.csv"
    assert run(fbprof, ["measure", "--space", "fbnet-tiny", "--quick", "-o", str(path)]) == 0
    return path


@pytest.fixture(scope="module")
def architecture(tmp_path_factory: pytest.TempPathFactory) -> Architecture:
    choices = ("k3_e6", "k5_e3", "skip", "k3_e1_g2", "k5_e1", "k3_e3", "skip", "k5_e6")
    provenance = {"test_accuracy_percent": 97.25}
    network = Architecture(name="found", space="fbnet-tiny", choices=choices, provenance=provenance)
    network.save(tmp_path_factory.mktemp("net") / "arch.json")
    return network


@pytest.fixture(scope="module")
def arch_file(architecture: Architecture, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("net") / "arch.json"
    architecture.save(path)
    return str(path)


def test_prediction_is_the_sum_of_rows_and_the_measurement_is_of_its_size(
    table: Path, architecture: Architecture, arch_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(fbprof, ["verify", arch_file, "--lut", str(table), "--rounds", "8", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    lut = read_lut(table)
    by_hand = sum(lut.latency_us(spec) for spec in architecture.specs())
    assert result["predicted_us"] == pytest.approx(by_hand)
    # on a machine that others use, too: only that both are latencies of the same network
    assert 0.3 < result["predicted_us"] / result["measured_us"] < 3
    assert result["difference_percent"] == pytest.approx(100 * (result["predicted_us"] / result["measured_us"] - 1))


LOAD_BY_LOAD = """
loads = {}
load = Agent.load
def counting(self, number, request):
    loads[request["model"]] = loads.get(request["model"], 0) + 1
    load(self, number, request)
Agent.load = counting
"""


def test_the_interval_is_that_of_several_loads_and_operators_tell_the_drift(
    table: Path,
    arch_file: str,
    tmp_path: Path,
    python_that_takes: Callable[..., str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The network takes 4 µs more with every load, operators 100 µs; the table says that they took 80."""
    taken_ns = "100_000 + model.startswith('network:') * 4_000 * loads[model]"
    python = python_that_takes(taken_ns, taken_ns, before=LOAD_BY_LOAD)
    (tmp_path / "board.toml").write_text(f'description = "x"\ntransport = "local"\npython = "{python}"\n')
    lut = read_lut(table)
    rows = {
        key: replace(row, isolated_us=80.0, isolated_low_us=None, isolated_high_us=None)
        for key, row in lut.rows.items()
    }
    write_lut(Lut(lut.metadata, rows), tmp_path / "t.csv")
    device = ["--lut", str(tmp_path / "t.csv"), "--device", str(tmp_path / "board.toml")]
    assert run(fbprof, ["verify", arch_file, *device, "--rounds", "12", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    loads_us = [104, 108, 112, 116, 120, 124]
    interval = scipy.stats.t.interval(0.95, 5, loc=114, scale=scipy.stats.sem(loads_us))
    assert result["measured_us"] == pytest.approx(114)
    assert result["measured_ci_us"] == pytest.approx(interval)
    assert result["rounds"] == 12
    assert result["drift_percent"] == pytest.approx(25)
    assert result["predicted_now_us"] == pytest.approx(1.25 * result["predicted_us"])


def test_the_report_shows_every_layer_and_the_accuracy(
    table: Path, arch_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(fbprof, ["verify", arch_file, "--lut", str(table), "--rounds", "2"]) == 0
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines()[3:12]] == ["stem", *"12345678"]
    assert sum("left out" in line for line in out.splitlines()) == 2  # both skips keep the shape
    assert "test accuracy: 97.2 %" in out or "test accuracy: 97.3 %" in out
    assert " ms  no interval, as 2 visits are too few: give more --rounds, litert, 1 thread\n" in out
    assert "difference" in out


def test_within_turns_a_wrong_table_into_exit_1(
    table: Path, arch_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lut = read_lut(table)
    rows = {key: Row(row.spec, (row.latency_us or 0) * 10, samples=1) for key, row in lut.rows.items()}
    write_lut(Lut(lut.metadata, rows), tmp_path / "wrong.csv")
    command = ["verify", arch_file, "--lut", str(tmp_path / "wrong.csv"), "--rounds", "3", "--within"]
    assert run(fbprof, [*command, "50"]) == 1
    assert "prediction and measurement differ by +" in capsys.readouterr().err
    assert run(fbprof, [*command, "5000"]) == 0


def test_missing_operators_are_all_listed(
    table: Path, arch_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lut = read_lut(table)
    rows = {key: row for key, row in lut.rows.items() if not key.startswith(("conv", "classifier"))}
    write_lut(Lut(lut.metadata, rows), tmp_path / "holes.csv")
    assert run(fbprof, ["verify", arch_file, "--lut", str(tmp_path / "holes.csv")]) == 2
    err = capsys.readouterr().err
    assert "lacks 3 operators of network found" in err
    assert "conv_in3x32x32_out16_k3_s2_e1_g1_relu" in err
    assert "classifier_in256x8x8" in err or "classifier_in256" in err


def test_a_table_of_another_space_is_refused_by_the_operators_it_lacks(
    table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(fbprof, ["verify", "fbnet-a", "--lut", str(table)]) == 2
    assert "(device local, space fbnet-tiny) lacks" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fbnet-d", "--lut", "x.csv"], "unknown published network 'fbnet-d'. Did you mean 'fbnet-"),
        (["none.json", "--lut", "x.csv"], "architecture file not found: none.json"),
        (["fbnet-a", "--lut", "none.csv"], "latency table not found: none.csv"),
        (["fbnet-a"], "Missing option '--lut'"),
    ],
)
def test_bad_input_is_one_clear_message(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(fbprof, ["verify", *arguments]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err


def test_compare_of_a_table_with_itself_doubled(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lut = read_lut(table)
    rows = {key: Row(row.spec, 2 * (row.latency_us or 0), samples=1) for key, row in lut.rows.items()}
    doubled = Lut(
        lut.metadata.model_copy(
            update={"runtime": "onnxruntime", "precision": "int8", "device_model": "samsung SM-G998B"}
        ),
        rows,
    )
    write_lut(doubled, tmp_path / "doubled.csv")
    assert run(fbprof, ["compare", str(table), str(tmp_path / "doubled.csv")]) == 0
    out = capsys.readouterr().out
    assert "geometric mean of the ratios 2.000 (2.000 to 2.000), rank correlation 1.000" in out
    assert "runtime differs: litert | onnxruntime" in out
    assert "precision differs: float32 | int8" in out
    assert re.search(r"device_model differs: .+ \| samsung SM-G998B\n", out)
    assert run(fbprof, ["compare", str(table), str(tmp_path / "doubled.csv"), "--json"]) == 0
    (result,) = json.loads(capsys.readouterr().out)["comparisons"]
    assert len(result["operators"]) == len(lut.rows)
    assert all(operator["ratio"] == pytest.approx(2, rel=1e-3) for operator in result["operators"])


def test_compare_fails_above_a_limit_and_draws(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lut = read_lut(table)
    steady = lut.metadata.model_copy(update={"speed_error_percent": 0.5, "verdict": "good"})
    write_lut(Lut(steady, lut.rows), table := tmp_path / "steady.csv")
    rows = {key: Row(row.spec, 1.04 * (row.latency_us or 0), samples=1) for key, row in lut.rows.items()}
    slower = steady.model_copy(update={"network_us": lut.metadata.network_us * 1.08})
    write_lut(Lut(slower, rows), tmp_path / "slower.csv")
    both = ["compare", str(table), str(tmp_path / "slower.csv")]
    assert run(fbprof, [*both, "--fail-above", "5%", "--plot", str(tmp_path / "plot.svg")]) == 0
    assert "<svg" in (tmp_path / "plot.svg").read_text()
    assert run(fbprof, [*both, "--fail-above", "3"]) == 1
    assert "slower.csv is 4.0 % in the mean of its operators (95 % interval 3.3 to 4.7 %)" in capsys.readouterr().err
    assert run(fbprof, [*both, "--fail-above", "4"]) == 4
    assert "cannot tell whether it is slower than" in capsys.readouterr().err
    turned = ["compare", str(table), str(tmp_path / "slower.csv"), "--baseline", str(tmp_path / "slower.csv")]
    assert run(fbprof, [*turned, "--fail-above", "0"]) == 0
    assert run(fbprof, ["compare", str(table)]) == 2
    assert "nothing to compare" in capsys.readouterr().err
    assert run(fbprof, [*both, "--networks", "zoo"]) == 2
    assert "no published network (space fbnet-tiny)" in capsys.readouterr().err
    assert run(fbprof, [*both, "--fail-above", "much"]) == 2
    assert "'much' is not a share such as 5%" in capsys.readouterr().err


def test_compare_refuses_tables_of_two_spaces(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lut = read_lut(table)
    write_lut(Lut(lut.metadata.model_copy(update={"space": "fbnet"}), lut.rows), tmp_path / "other.csv")
    assert run(fbprof, ["compare", str(table), str(tmp_path / "other.csv")]) == 2
    assert "different spaces, 'fbnet-tiny' and 'fbnet'" in capsys.readouterr().err
