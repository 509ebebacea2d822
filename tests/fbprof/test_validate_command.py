"""fbprof validate with a real table: measured, killed, held to a limit, and what it refuses."""

import json
import math
import signal
import time
from pathlib import Path

import pytest

from fbbase.commandline import run
from fblut.reading import read_lut
from fblut.table import Lut, Row
from fblut.writing import write_lut
from fbprof.cli import fbprof
from fbprof.journal.journal import journal_path, read_journal
from fbprof.plan.networks_file import read_networks
from fbprof.plan.subject import is_network_key, network_specs
from fbspace.opspec import OpSpec
from fbspace.space import load_space
from peers.processes import DEVNULL, Python
from peers.runs import asked_for

SPACE = """
description = "four layers of the same shape"
input = { channels = 3, size = 64 }
classes = 4
head_channels = [16, 32]
stem = [{ kind = "conv", channels = 16, kernel = 3, stride = 2 }]
stages = [{ channels = 16, repeats = 4, stride = 1 }]
[candidates]
k3 = { kind = "ir", kernel = 3, expansion = 3 }
k5 = { kind = "ir", kernel = 5, expansion = 3 }
skip = { kind = "skip" }
"""
DIFFERENT_NETWORKS = 31  # sequences of at most four k3 and k5; where a skip stands makes no difference
CALIBRATING = 8


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("table")
    (folder / "four.toml").write_text(SPACE)
    path = folder / "t.csv"
    command = ["measure", "--space", str(folder / "four.toml"), "--calibrate", str(CALIBRATING), "--rounds", "10"]
    assert run(fbprof, [*command, "-o", str(path)]) == 0
    return path


def validate(table: Path, *arguments: str) -> int:
    return run(fbprof, ["validate", "--lut", str(table), *arguments])


def test_a_real_validation_from_table_to_fit(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "v.csv"
    arguments = ["--networks", "100", "--rounds", "8", "-o", str(output), "--plot", str(tmp_path / "p.svg")]
    assert validate(table, *arguments, "--json") == 0
    captured = capsys.readouterr()
    result = json.loads(captured.out)
    left = DIFFERENT_NETWORKS - len(calibrated := calibrating_networks(table))
    assert f"has only {left} more networks, not 100" in captured.err
    assert result["networks"] == left
    space = load_space(str(table.with_name("four.toml")))
    measured = read_networks(output, space)
    specs = {tuple(space.specs(m.choices)) for m in measured}
    assert len(specs) == left
    assert not specs & calibrated
    lut = read_lut(table)
    for one, line in zip(result["results"], measured, strict=True):
        sum_us = lut.predict_us(space.specs(one["choices"]))
        assert one["table_us"] == pytest.approx(sum_us)
        assert one["predicted_us"] == pytest.approx(sum_us * (1 + result["speed_percent"] / 100))
        assert line.latency_us == pytest.approx(one["measured_us"], abs=1e-3)
        low, high = one["measured_ci_us"] or (0, math.inf)  # other work may leave too few visits
        assert low <= one["measured_us"] <= high
        assert 0.2 < one["predicted_us"] / one["measured_us"] < 5  # on a machine that others use, too
    assert (tmp_path / "p.svg").read_text(encoding="utf-8").lstrip().startswith("<?xml")

    journal, content = journal_path(output).read_bytes(), output.read_bytes()
    assert validate(table, *arguments) == 0
    assert journal_path(output).read_bytes() == journal  # nothing is measured again
    assert output.read_bytes() == content
    assert "verdict: " in capsys.readouterr().out

    fitted = tmp_path / "fitted.csv"
    command = ["fit", str(output), "--space", str(table.with_name("four.toml")), "--runtime", "litert"]
    assert run(fbprof, [*command, "-o", str(fitted)]) == 0
    capsys.readouterr()
    assert validate(fitted, "--exclude", str(output), "-o", str(tmp_path / "w.csv"), "--rounds", "6") == 0
    captured = capsys.readouterr()
    assert f"{len(calibrated)} random and 0 published networks" in captured.out  # those that are left
    assert "no operator timed alone" in captured.out
    assert "warning: the table does not say" not in captured.err


def calibrating_networks(table: Path) -> set[tuple[OpSpec, ...]]:
    space = load_space(str(table.with_name("four.toml")))
    content = read_journal(journal_path(table))
    assert content is not None
    return {tuple(network_specs(key, space)) for key in content.counts if is_network_key(key)}


@pytest.mark.full  # test_measure_faults.py kills
def test_a_killed_validation_continues_where_it_was(table: Path, tmp_path: Path) -> None:
    output = tmp_path / "v.csv"
    command = ["validate", "--lut", str(table), "--networks", "9", "-o", str(output)]
    argv = ["-m", "fbprof", *command, "--rounds", "5000"]
    with Python(argv, stderr=DEVNULL, stdout=DEVNULL) as process:
        deadline = time.monotonic() + 60
        journal = journal_path(output)
        while (
            not (journal.exists() and journal.read_bytes().count(b'"warm_up":false') >= 60)
            and time.monotonic() < deadline
        ):
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not output.exists()
    kept = read_journal(journal)
    assert kept is not None
    rounds = str(2 + min(asked_for(kept).values()))
    deadline = time.monotonic() + 20
    while (code := run(fbprof, [*command, "--rounds", rounds])) == 2 and time.monotonic() < deadline:
        time.sleep(0.2)  # after SIGKILL the kernel needs a moment to release the lock
    assert code == 0
    after = read_journal(journal)
    assert after is not None
    assert after.visits[: len(kept.visits)] == kept.visits
    assert len(after.sessions) == 2
    assert len(read_networks(output, load_space(str(table.with_name("four.toml"))))) == 9


def test_within_turns_a_wrong_table_into_exit_1(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lut = read_lut(table)
    rows = {
        key: Row(row.spec, 10 * (row.latency_us or 0), isolated_us=row.isolated_us) for key, row in lut.rows.items()
    }
    write_lut(Lut(lut.metadata, rows), tmp_path / "wrong.csv")
    arguments = ["--networks", "9", "--rounds", "3", "--within"]
    assert validate(tmp_path / "wrong.csv", *arguments, "50") == 1
    captured = capsys.readouterr()
    assert "verdict: not additive" in captured.out
    assert "the mean error is" in captured.err
    assert (tmp_path / "wrong.validation.csv").exists()
    assert (tmp_path / "wrong.validation.journal.jsonl").exists()
    assert validate(tmp_path / "wrong.csv", *arguments, "5000") == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lut", "none.csv"], "latency table not found: none.csv"),
        (["--lut", "t.csv", "--plot", "p.pdf"], "a plot is a .png or .svg file, not 'p.pdf'"),
        (["--lut", "t.csv", "--device", "galaxy"], "unknown device 'galaxy'"),
        (["--lut", "t.csv", "-o", "t.csv"], "-o t.csv is the --lut itself"),
        (["--lut", "t.csv", "--exclude", "n.csv"], "networks file not found: n.csv"),
        (["--lut", "unknown.csv"], "the table does not say which runtime it is of"),
        (["--lut", "int3.csv"], "litert (format tflite) has no precision 'int3'"),
        (["--lut", "t.csv", "--networks", "0"], "0 is not in the range"),
        ([], "Missing option '--lut'"),
    ],
)
def test_bad_input_is_one_clear_message_and_nothing_is_measured(
    arguments: list[str],
    message: str,
    table: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lut = read_lut(table)
    write_lut(lut, tmp_path / "t.csv")
    write_lut(Lut(lut.metadata.model_copy(update={"runtime": "unknown"}), lut.rows), tmp_path / "unknown.csv")
    write_lut(Lut(lut.metadata.model_copy(update={"precision": "int3"}), lut.rows), tmp_path / "int3.csv")
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    assert run(fbprof, ["validate", *arguments]) == 2
    stderr = capsys.readouterr().err
    assert message in stderr
    assert "Traceback" not in stderr
    assert sorted(tmp_path.iterdir()) == before
