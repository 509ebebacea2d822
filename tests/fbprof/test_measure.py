"""fbprof measure on this machine with the real agent: the table, going on, networks, loads and the time limit."""

import itertools
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from fbagents.connect import load_profile
from fbagents.profile import Profile
from fbbase.commandline import run
from fblut.reading import read_lut
from fbprof.cli import fbprof
from fbprof.estimate.table import estimate
from fbprof.journal.journal import Placed, journal_path, read_journal
from fbprof.measure.run import collect
from fbprof.plan.plan import REFERENCES, calibration_networks
from fbprof.plan.subject import is_network_key, network_specs
from fbspace.space import load_space
from peers.runs import asked_for
from plans import ENDLESS, NETWORKS, OPERATORS, plan_of


@pytest.mark.parametrize("runtime", ["litert", "onnxruntime", "torch"])
def test_a_table_has_every_operator_and_says_how_it_was_made(space: str, tmp_path: Path, runtime: str) -> None:
    table = tmp_path / "new folder" / "t.csv"
    code = run(fbprof, ["measure", "--space", space, "--runtime", runtime, "--rounds", "8", "-o", str(table)])
    assert code == 0
    lut = read_lut(table)
    assert list(lut.rows) == [spec.key() for spec in load_space(space).operators()]
    assert lut.missing(load_space(space).operators()) == []
    assert (lut.metadata.runtime, lut.metadata.threads) == (runtime, 1)
    assert lut.metadata.rounds == 8
    assert (lut.metadata.runs, lut.metadata.dropped) == (3, 1)
    assert lut.metadata.runtime_version[0].isdigit()
    content = read_journal(journal_path(table))
    assert content is not None
    assert {subject.key for subject in REFERENCES} <= content.loads.keys()
    assert len(asked_for(content)) == OPERATORS + NETWORKS
    assert set(asked_for(content).values()) == {8}
    warm_ups = journal_path(table).read_text().count('"warm_up":true')
    assert warm_ups >= 2 * len(content.counts)  # a visit, and one that is not faster any more
    for row in lut.rows.values():
        assert row.latency_us is not None
        assert row.ci_low_us is not None
        assert row.ci_low_us <= row.latency_us <= row.ci_high_us  # type: ignore[operator]
        assert row.isolated_low_us <= row.isolated_us <= row.isolated_high_us  # type: ignore[operator]


@pytest.mark.parametrize("runtime", ["litert", "onnxruntime"])
def test_an_int8_table_says_which_operators_have_no_integer_kernel(space: str, tmp_path: Path, runtime: str) -> None:
    table = tmp_path / "t.csv"
    command = ["measure", "--space", space, "--runtime", runtime, "--precision", "int8", "--rounds", "8"]
    assert run(fbprof, [*command, "-o", str(table)]) == 0
    lut = read_lut(table)
    assert lut.metadata.precision == "int8"
    keys = [spec.key() for spec in load_space(space).operators()]
    assert {key: row.notes for key, row in lut.rows.items()} == dict.fromkeys(keys, "")
    content = read_journal(journal_path(table))
    assert content is not None
    assert content.fallbacks == dict.fromkeys(keys, ())  # looked at, all of them, and all in integer kernels
    content.add(Placed(key=keys[1], fallbacks=("HARD_SWISH not delegated", "Conv in float")))
    assert estimate(content, load_space(space)).rows[keys[1]].notes == "HARD_SWISH not delegated; Conv in float"
    assert run(fbprof, ["measure", "--space", space, "--runtime", runtime, "-o", str(table)]) == 2  # another precision


def test_a_device_may_have_a_runtime_that_this_host_lacks(
    space: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    plan = plan_of(space, runtime="onnxruntime", precision="int8")
    content = collect(plan, load_profile("local"), tmp_path / "j.jsonl")
    (notes,) = set(content.fallbacks.values())
    missing = "runtime onnxruntime is not installed here: pip install onnxruntime"
    assert notes[0] == f"kernels not looked at: {missing}"
    assert min(content.counts[spec.key()] for spec in plan.operators) == 3


def test_the_same_command_measures_nothing_again_and_more_rounds_continue(space: str, tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    command = ["measure", "--space", space, "-o", str(table)]
    assert run(fbprof, [*command, "--rounds", "3"]) == 0
    journal, content = journal_path(table).read_bytes(), table.read_bytes()
    assert run(fbprof, [*command, "--rounds", "3"]) == 0
    assert journal_path(table).read_bytes() == journal
    assert table.read_bytes() == content
    assert run(fbprof, [*command, "--rounds", "5"]) == 0
    assert journal_path(table).read_bytes().startswith(journal)
    assert read_lut(table).metadata.rounds >= 5


def test_the_table_is_derived_again_from_the_journal_byte_for_byte(
    space: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "t.csv"
    assert run(fbprof, ["measure", "--space", space, "--rounds", "12", "-o", str(table)]) == 0
    journal = str(journal_path(table))
    assert run(fbprof, ["estimate", journal, "-o", str(tmp_path / "again.csv")]) == 0
    assert (tmp_path / "again.csv").read_bytes() == table.read_bytes()
    assert read_lut(table).metadata.drift_range_percent is not None
    assert run(fbprof, ["estimate", journal, "-o", str(tmp_path / "plain.csv"), "--no-drift"]) == 0
    assert read_lut(tmp_path / "plain.csv").metadata.drift_range_percent is None
    assert "not corrected for drift" in capsys.readouterr().out
    assert run(fbprof, ["estimate", str(tmp_path / "none"), "-o", str(tmp_path / "x.csv")]) == 2
    assert "holds no samples" in capsys.readouterr().err


def test_models_stay_within_the_memory_bound_and_take_turns(
    space: str, tmp_path: Path, agent_that: Callable[[str], Profile]
) -> None:
    """A bound of one byte holds one model at a time, and leaves no room for a reference."""
    networks = calibration_networks(load_space(space), 4, seed=0)
    plan = plan_of(space, networks=networks, rounds=14, memory_bytes=1)
    body = f"""
load, unload, loaded = Agent.load, Agent.unload, set()
def counting_load(self, number, request):
    load(self, number, request)
    loaded.add(request["model"])
    with open({str(tmp_path / "most")!r}, "a") as file:
        file.write(f"{{len(loaded)}}\\n")
def counting_unload(self, number, request):
    unload(self, number, request)
    loaded.remove(request["model"])
Agent.load, Agent.unload = counting_load, counting_unload
"""
    content = collect(plan, agent_that(body), tmp_path / "j.jsonl")
    assert max(map(int, (tmp_path / "most").read_text().split())) == 1
    assert len(content.counts) == OPERATORS + 4
    assert min(content.counts.values()) == 14
    order = [record.key for record in content.visits if is_network_key(record.key)]
    turns = 1 + sum(a != b for a, b in itertools.pairwise(order))
    assert turns > 4  # nothing is measured in one go


def test_operators_and_networks_are_loaded_anew_after_as_many_visits(space: str, tmp_path: Path) -> None:
    networks = calibration_networks(load_space(space), 2, seed=3)
    plan = plan_of(space, networks=networks, rounds=10, reload_visits=5)
    content = collect(plan, load_profile("local"), tmp_path / "j.jsonl")
    visits = Counter(zip((record.key for record in content.visits), content.load_numbers, strict=True))
    assert {(key, load): visits[key, load] for key, load in visits if is_network_key(key)} == {
        (network.key, load): 5 for network in networks for load in (1, 2)
    }
    assert all(content.loads[spec.key()] >= 2 for spec in plan.operators)


def test_a_network_is_measured_with_its_operators(space: str, tmp_path: Path) -> None:
    networks = calibration_networks(load_space(space), 2, seed=3)
    content = collect(plan_of(space, networks=networks), load_profile("local"), tmp_path / "j.jsonl")
    keys = [key for key in content.counts if is_network_key(key)]
    assert sorted(keys) == sorted(network.key for network in networks)
    assert [tuple(network_specs(key, load_space(space))) for key in sorted(keys)] == [
        network.specs for network in sorted(networks, key=lambda network: network.key)
    ]


def test_the_time_limit_ends_the_run_with_what_there_is(space: str, tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    start = time.monotonic()
    assert run(fbprof, ["measure", "--space", space, *ENDLESS, "--max-time", "0.02", "-o", str(table)]) == 0
    assert time.monotonic() - start < 20
    assert len(read_lut(table).rows) == OPERATORS
