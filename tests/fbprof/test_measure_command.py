"""fbprof measure as a person gives it: its options, what it refuses, and what it leaves alone."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fbagents.native.script import agent_script
from fbbase.commandline import run
from fblut.reading import read_lut
from fblut.table import Lut, Metadata, Row, Status
from fbprof.cli import fbprof
from fbprof.report.summary import print_summary
from fbspace.opspec import OpSpec
from plans import NETWORKS, OPERATORS


def test_dry_run_prints_the_plan_and_writes_nothing(
    space: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(tmp_path.iterdir())
    assert run(fbprof, ["measure", "--space", space, "--dry-run", "-o", str(tmp_path / "t.csv")]) == 0
    out = capsys.readouterr().out
    assert "ir_in8x8x8_out8_k3_s1_e2_g1_relu" in out
    # 8 models of next to no time: 6 loads of each in 80 rounds and 29 in 400 visits, 50 ms each
    assert re.search(r"estimated time: [2-3] s to 1[1-4] s, a guess", out)
    assert "t.journal.jsonl" in out
    assert run(fbprof, ["measure", "--space", space, "--dry-run", "--json", "-o", str(tmp_path / "t.csv")]) == 0
    assert json.loads(capsys.readouterr().out)["visits"] == 80 * (OPERATORS + NETWORKS)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--device", "galaxy"], "unknown device 'galaxy'"),
        (["--runtime", "liteRT"], "unknown runtime 'liteRT'. Did you mean 'litert'? Known: executorch, litert, onnx"),
        (["--space", "fbnet-tinny"], "unknown space 'fbnet-tinny'. Did you mean 'fbnet-tiny'?"),
        (["--space", "none.toml"], "search space not found: none.toml"),
        (["--precision", "int9"], "litert (format tflite) has no precision 'int9', which no format knows"),
        (["--drop", "3"], "leaves nothing of --runs 3"),
        (["--cores", "x"], "cores are big, middle, little, all, numbers and ranges"),
        (["--threads", "0"], "0 is not in the range"),
        (["--cores", "0", "--threads", "2"], "on 1 core (0): use --threads 1, or as many cores, such as --cores 0-1"),
        (["--cores", "7", "--threads", "4"], "on 1 core (7): use --threads 1, or as many cores, such as --cores 4-7"),
        (["--cores", "0", "--cores", "1-2", "--threads", "4"], "4 threads cannot run side by side on 3 cores (0-2)"),
        (["--calibrate", "7"], "--calibrate 7: a table is calibrated by 8 networks or more"),
    ],
)
def test_bad_input_is_one_clear_message_and_nothing_is_written(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(fbprof, ["measure", *arguments]) == 2
    stderr = capsys.readouterr().err
    assert message in stderr
    assert "Traceback" not in stderr
    assert list(tmp_path.iterdir()) == []


def test_a_journal_of_another_run_is_refused(space: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["measure", "--space", space, "--rounds", "1", "-o", str(tmp_path / "t.csv")]
    assert run(fbprof, command) == 0
    assert run(fbprof, [*command, "--threads", "2"]) == 2
    assert "threads 1 there, 2 asked for" in capsys.readouterr().err
    assert run(fbprof, [*command, "--threads", "2", "--fresh"]) == 0
    assert read_lut(tmp_path / "t.csv").metadata.threads == 2


def test_onnxruntimes_telemetry_is_off_and_nothing_is_written_outside_our_folders(space: str, tmp_path: Path) -> None:
    """Homes and temporary folders of its own, and no CI variable, which would silence the telemetry by itself."""
    home, temp, work = (tmp_path / name for name in ("home", "tmp", "work"))
    for folder in (home, temp, work):
        folder.mkdir()
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "ORT_DISABLE_TELEMETRY")}
    environment |= {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache"), "TMPDIR": str(temp)}
    argv = [sys.executable, "-m", "fbprof", "measure", "--space", space, "--runtime", "onnxruntime", "--rounds", "2"]
    subprocess.run([*argv, "-o", "t.csv"], cwd=work, env=environment, check=True, capture_output=True, timeout=120)
    assert list(home.rglob("*")) == []
    assert list(temp.rglob("*")) == []
    assert sorted(p.name for p in work.iterdir()) == ["t.csv", "t.journal.jsonl"]


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system binds no process to cores")
def test_a_profiles_cores_are_bound_unless_others_are_asked_for(space: str, tmp_path: Path) -> None:
    allowed = sorted(os.sched_getaffinity(0))
    device, table = tmp_path / "d.toml", tmp_path / "t.csv"
    device.write_text(f'description = "x"\ntransport = "local"\ncores = "{allowed[-1]}"\n')
    command = ["measure", "--device", str(device), "--space", space, "--quick", "--rounds", "1", "-o", str(table)]
    assert run(fbprof, command) == 0
    metadata = read_lut(table).metadata
    assert metadata.cores == str(allowed[-1])
    assert f"cores allowed {allowed[-1]}, agent overhead 0." in metadata.conditions
    mask = ["--cores", hex(1 << allowed[-1])]  # the same core, spelled otherwise: the same run
    assert run(fbprof, [*command, *mask]) == 0
    assert run(fbprof, [*command, "--cores", "all"]) == 2
    assert run(fbprof, [*command, "--cores", "all", "--fresh"]) == 0
    metadata = read_lut(table).metadata
    assert metadata.cores == ",".join(map(str, allowed))
    assert f"cores allowed {metadata.cores} (all), agent overhead 0." in metadata.conditions


@pytest.mark.skipif(sorted(os.sched_getaffinity(0))[:2] != [0, 1], reason="needs cores 0 and 1 to bind to")
def test_a_profile_that_binds_to_one_big_core_is_refused_more_threads(
    space: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the known phones' profiles do where one core is the prime one."""
    for core, khz in ((0, 2419200), (1, 2841600)):
        path = tmp_path / f"sys/devices/system/cpu/cpu{core}/cpufreq/cpuinfo_max_freq"
        path.parent.mkdir(parents=True)
        path.write_text(f"{khz}\n")
    program = tmp_path / "agent"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {agent_script()} --sys {tmp_path}/sys "$@"\n')
    program.chmod(0o755)
    device, table = tmp_path / "d.toml", tmp_path / "t.csv"
    device.write_text(f'description = "x"\ntransport = "local"\ncores = "big"\nprogram = "{program}"\n')
    command = ["measure", "--device", str(device), "--space", space, "--threads", "2", "--quick", "--rounds", "1"]
    assert run(fbprof, [*command, "-o", str(table)]) == 3
    message = "2 threads cannot run side by side on 1 core (1): use --cores 0-1, or --threads 1"
    assert message in capsys.readouterr().err
    assert not table.exists()
    assert run(fbprof, [*command, "--cores", "big", "--cores", "little", "--fresh", "-o", str(table)]) == 0
    assert (read_lut(table).metadata.cores, read_lut(table).metadata.threads) == ("0,1", 2)


@pytest.mark.parametrize(
    ("verdict", "status", "then"),
    [
        ("good", "ok", "fbsearch run --lut t.csv"),
        ("do not use", "ok", "mend what the verdict names, then the same command with --fresh"),
        (
            "do not use",
            "failed",
            "mend why 1 operator failed, as no search takes a table without, then the same command",
        ),
    ],
)
def test_what_to_do_next_is_what_will_be_taken(
    verdict: str, status: Status, then: str, capsys: pytest.CaptureFixture[str]
) -> None:
    spec, fields = OpSpec("conv", 3, 8, 8, 8), {"space": "fbnet-tiny", "device": "d", "runtime": "litert", "threads": 1}
    about = Metadata.model_validate(fields | {"runtime_version": "2", "precision": "float32", "verdict": verdict})
    lut = Lut(about, {spec.key(): Row(spec, None if status == "failed" else 1.0, status=status)})
    print_summary(lut, Path("t.csv"), Path("t.journal.jsonl"), 1.0, 2.0)
    assert f"\nnext: {then}" in capsys.readouterr().out
