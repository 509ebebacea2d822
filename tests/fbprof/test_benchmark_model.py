"""fbprof with --agent benchmark_model: the whole way on this machine, by a stand-in that times models for real."""

import json
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fbagents.agent.protocol import Delegate, Loaded
from fbagents.benchmark.binary import with_binary
from fbagents.connect import load_profile
from fbbase.commandline import run
from fbbase.errors import FbError
from fblut.reading import read_lut
from fbprof.cli import fbprof
from fbprof.journal.conditions import describe_delegates, without_delegate
from fbprof.journal.journal import JournalContent, ModelLoaded, Start, read_journal
from fbprof.plan.plan import Plan, with_agent
from fbprof.predict.conditions import check_agent
from fbspace.architecture import Architecture
from fbspace.space import load_space
from peers.given import SPACE
from peers.processes import DEVNULL, Python

QUICK = "--warmup_runs=1 --warmup_min_secs=0 --num_runs=7 --min_secs=0 --stand_in_delegate=partially"


@pytest.fixture(scope="session")
def space(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("space") / "two.toml"
    file.write_text(SPACE)
    return str(file)


@pytest.fixture
def words(benchmark_model: Path, space: str) -> Callable[..., list[str]]:
    def words(table: Path, *more: str) -> list[str]:
        command = ["measure", "--space", space, "--agent", "benchmark_model", "--binary", str(benchmark_model)]
        return [*command, "--binary-args", QUICK, "--calibrate", "0", "-o", str(table), *more]

    return words


@pytest.fixture(scope="session")
def table(benchmark_model: Path, space: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of two visits to everything."""
    table = tmp_path_factory.mktemp("table") / "t.csv"
    command = ["measure", "--space", space, "--agent", "benchmark_model", "--binary", str(benchmark_model)]
    command += ["--binary-args", QUICK, "--calibrate", "0", "--rounds", "2", "-o", str(table)]
    assert run(fbprof, command) == 0
    return table


def test_a_table_says_what_measured_it_and_how(table: Path, space: str) -> None:
    lut, journal = read_lut(table), read_journal(table.with_suffix(".journal.jsonl"))
    assert journal is not None
    assert lut.missing(load_space(space).operators()) == []
    metadata = lut.metadata
    assert metadata.agent.startswith("benchmark_model sha256:")
    assert metadata.agent.endswith(f" {QUICK}")
    assert metadata.runtime_version == f"unknown, in {metadata.agent.partition(' --')[0]}"
    assert metadata.timing == (
        "a process of benchmark_model for each visit, whose average inference is the one sample, random interleaved "
        "rounds"
    )
    assert (metadata.runs, metadata.dropped, metadata.rounds) == (1, 0, 2)
    assert b'"warm_up":true' not in table.with_suffix(".journal.jsonl").read_bytes()
    assert set(journal.loads.values()) == {1}
    for key, row in lut.rows.items():
        samples_us = [visit.visit.wall_ns[0] / 1e3 for visit in journal.visits if visit.key == key]
        assert row.samples == len(samples_us) >= 2
        assert row.latency_us == pytest.approx(
            sum(samples_us[:2]) / 2 if len(samples_us) == 2 else row.latency_us, abs=1e-3
        )
        assert row.notes == "GPU delegate: only partially, 2 delegate kernels"
    assert metadata.verdict == "usable"
    assert metadata.warnings[0].startswith("4 of 4 models do not run completely on the delegate (")


def test_more_rounds_continue_and_another_program_or_argument_does_not(
    table: Path, words: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "t.csv"
    journal = copy.with_suffix(".journal.jsonl")
    journal.write_bytes(table.with_suffix(".journal.jsonl").read_bytes())
    before = journal.read_bytes()
    assert run(fbprof, words(copy, "--rounds", "2")) == 0  # nothing is left to do
    assert journal.read_bytes() == before
    assert copy.read_bytes() == table.read_bytes()
    other = words(copy, "--rounds", "3")
    other[other.index("--binary-args") + 1] = QUICK.replace("runs=7", "runs=8")
    assert run(fbprof, other) == 2
    assert "belongs to another run (agent" in capsys.readouterr().err
    space = other[other.index("--space") + 1]
    assert run(fbprof, ["measure", "--space", space, "--calibrate", "0", "--rounds", "2", "-o", str(copy)]) == 2
    err = capsys.readouterr().err
    assert "null asked for" in err
    assert journal.read_bytes() == before


@pytest.mark.full  # test_measure_faults.py kills
def test_a_run_that_is_killed_goes_on(words: Callable[..., list[str]], tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    journal = table.with_suffix(".journal.jsonl")
    command = ["-m", "fbprof", *words(table, "--rounds", "1")]
    process = Python(command, stdout=DEVNULL, stderr=DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 60
    while not (journal.exists() and b'"record":"visit"' in journal.read_bytes()):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    content = read_journal(journal)
    assert content is not None
    kept = len(content.visits)
    assert 1 <= kept < 4
    assert run(fbprof, words(table, "--rounds", "1")) == 0
    after = read_journal(journal)
    assert after is not None
    assert [visit.visit.wall_ns for visit in after.visits[:kept]] == [visit.visit.wall_ns for visit in content.visits]
    assert len(after.sessions) == 2
    assert min(after.counts.values()) == 1


def test_a_model_that_cannot_be_run_keeps_its_row_with_the_reason(
    words: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    command = words(tmp_path / "t.csv", "--rounds", "2")
    command[command.index("--binary-args") + 1] = f"{QUICK} --stand_in_fault=exit"
    assert run(fbprof, command) == 3
    err = capsys.readouterr().err
    assert "no operator could be measured: cannot be loaded: benchmark_model ended with 1" in err
    assert "Failed to apply GPU delegate" in err
    assert f"All that it printed is in {tmp_path}/cache/fbnet-lab/benchmark_model/" in err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--agent", "benchmark_model"], 2, "--agent benchmark_model needs --binary PATH"),
        (["--binary", "HERE"], 2, "--binary goes with --agent benchmark_model"),
        (["--binary-args", "--use_gpu=true"], 2, "--binary-args goes with --agent benchmark_model"),
        (["--agent", "benchmark_model", "--binary", "/none"], 2, "/none cannot be read: No such file"),
        (["--agent", "benchmark_model", "--binary", "HERE", "--binary-args", "use_gpu"], 2, "is no argument of"),
        (
            ["--agent", "benchmark_model", "--binary", "HERE", "--runtime", "onnxruntime"],
            2,
            "litert, not of onnxruntime",
        ),
        (["--agent", "benchmark_model", "--binary", "HERE", "--runtime", "torch"], 2, "litert, not of torch"),
        (["--agent", "benchmark_model", "--binary", "HERE", "--runs", "5"], 2, "--runs cannot be had"),
        (["--agent", "benchmark_model", "--binary", "HERE", "--drop", "0"], 2, "--drop cannot be had"),
        (["--agent", "python"], 2, "'python' is not 'benchmark_model'"),
        (["--agent", "benchmark_model", "--binary", "TEXT"], 3, "no program for Linux or Android"),
        (["--agent", "benchmark_model", "--binary", "ARM"], 3, "is a program for RISC-V, and local is"),
        (["--agent", "benchmark_model", "--binary", "HERE", "--cores", "900"], 3, "cannot bind benchmark_model"),
    ],
)
def test_what_cannot_be_is_told_with_its_exit_code(
    arguments: list[str],
    code: int,
    message: str,
    benchmark_model: Path,
    space: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "text").write_text("no program")
    (tmp_path / "arm").write_bytes(
        b"\x7fELF\x02\x01" + bytes(10) + (3).to_bytes(2, "little") + (243).to_bytes(2, "little")
    )
    files = {"HERE": str(benchmark_model), "TEXT": str(tmp_path / "text"), "ARM": str(tmp_path / "arm")}
    command = ["measure", "--space", space, "--calibrate", "0", "--rounds", "1", "-o", str(tmp_path / "t.csv")]
    assert run(fbprof, command + [files.get(word, word) for word in arguments]) == code
    assert message in capsys.readouterr().err.replace("\n", " ")


def test_a_table_is_verified_and_validated_by_the_same_program_only(
    table: Path,
    words: Callable[..., list[str]],
    benchmark_model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arch = tmp_path / "arch.json"
    Architecture(name="found", space=read_lut(table).metadata.space, choices=("k3", "skip")).save(arch)
    for command in (["validate", "--networks", "1"], ["verify", str(arch)]):
        assert run(fbprof, [*command, "--lut", str(table)]) == 2
        assert "this device would be with an agent of fbprof" in capsys.readouterr().err
    same = ["--agent", "benchmark_model", "--binary", str(benchmark_model), "--binary-args", QUICK]
    output = tmp_path / "v.csv"
    command = ["validate", "--lut", str(table), "--networks", "1", "--rounds", "1", "--json", "-o", str(output)]
    assert run(fbprof, [*command, *same]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["networks"] == 1
    assert result["results"][0]["measured_us"] > 0
    content = read_journal(output.with_suffix(".journal.jsonl"))
    assert content is not None
    assert {len(visit.visit.wall_ns) for visit in content.visits} == {1}
    assert run(fbprof, ["verify", str(arch), "--lut", str(table), "--rounds", "2", "--json", *same]) == 0
    verified = json.loads(capsys.readouterr().out)
    lut = read_lut(table)
    space = load_space(lut.metadata.space)
    by_hand = sum(lut.latency_us(spec) for spec in space.specs(("k3", "skip")))
    assert verified["predicted_us"] == pytest.approx(by_hand)
    assert verified["measured_us"] > 0


def test_agents_are_compared_both_ways(table: Path, benchmark_model: Path, tmp_path: Path) -> None:
    metadata, local = read_lut(table).metadata, load_profile("local")
    same = with_binary(local, benchmark_model, QUICK)
    check_agent(metadata, same)
    check_agent(metadata.model_copy(update={"agent": "native 0.1"}), local)
    other = tmp_path / "bm"
    other.write_bytes(benchmark_model.read_bytes() + b"\n")
    for told, profile in (
        (metadata.agent, local),
        (metadata.agent, with_binary(local, other, QUICK)),
        (metadata.agent, with_binary(local, benchmark_model, f"{QUICK} --use_gpu=true")),
        ("native 0.1", same),
    ):
        with pytest.raises(FbError, match=r"the table was measured with .* and this device would be with"):
            check_agent(metadata.model_copy(update={"agent": told}), profile)


def test_a_plan_counts_processes(benchmark_model: Path) -> None:
    plan = Plan(space="s", device="d", operators=tuple(load_space("fbnet-tiny").operators()))
    profile = with_binary(load_profile("local"), benchmark_model, "--min_secs=2 --warmup_min_secs=1")
    ours = with_agent(plan, profile)
    assert with_agent(plan, load_profile("local")) == plan
    assert (ours.runs, ours.dropped, ours.visit_min_s) == (1, 0, 3.0)
    assert "agent" not in plan.identity()
    assert ours.identity()["agent"] == ours.agent
    processes = (plan.min_rounds + 1) * len(plan.operators)
    assert ours.estimated_s() == pytest.approx(replace(plan, runs=1).estimated_s() + 3.0 * processes)


GPU, PART, NOT = (Delegate(name="GPU", extent=extent) for extent in ("completely", "partially", "not"))
XNNPACK = Delegate(name="XNNPACK", extent="partially", detail="1 delegate kernels")
UNTOLD = Delegate(name="GPU", extent="untold")


@pytest.mark.parametrize(
    ("loads", "notes", "is_without"),
    [
        ([()], "", False),
        ([(GPU,), (GPU,)], "", False),
        ([(PART,), (PART,)], "GPU delegate: only partially", False),
        ([(NOT,)], "GPU delegate: not at all", True),
        ([(XNNPACK, UNTOLD)], "XNNPACK delegate: only partially, 1 delegate kernels, GPU delegate: not told", True),
        ([(XNNPACK,)], "XNNPACK delegate: only partially, 1 delegate kernels", False),
        ([(GPU,), ()], "GPU delegate: completely; in another session: no delegate", False),
        ([(GPU,), (NOT,)], "GPU delegate: completely; in another session: GPU delegate: not at all", True),
    ],
)
def test_delegates_in_words(loads: list[tuple[Delegate, ...]], notes: str, is_without: bool) -> None:
    content = JournalContent(Start(identity={}, timing="", started_at="", tool_version=""))
    for delegates in loads:
        reply = Loaded(
            event="loaded", model="m", load_ns=1, outputs=0, output_sum=0, output_abs_sum=0, delegates=delegates
        )
        content.add(ModelLoaded(key="m", loaded=reply))
    assert describe_delegates(content, "m") == notes
    assert without_delegate(content, "m") is is_without
