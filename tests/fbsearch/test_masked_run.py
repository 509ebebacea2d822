"""A search over widths, expansions and sizes from table to network: target, resume, sample, weights, pictures."""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import torch

from fbbase.commandline import run as run_command
from fblut.reading import read_lut
from fbsearch.cli import fbsearch
from fbsearch.fbnet.settings import Settings
from fbsearch.jobs.search_job import run_search
from fbspace.architecture import load_architecture
from fbspace.network import count_architecture
from fbspace.space import load_space

Run = Callable[..., tuple[int, str, str]]
StopAt = Callable[[int], AbstractContextManager[list[int]]]


@pytest.fixture(scope="module")
def table(masked_table: Path) -> Path:
    return masked_table


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs fbsearch; returns the exit code, stdout and stderr."""

    def command(*arguments: str) -> tuple[int, str, str]:
        code = run_command(fbsearch, list(arguments))
        return code, *capsys.readouterr()

    return command


QUICK = ["--epochs", "2", "--steps", "3", "--limit", "200", "--batch", "16", "--samples", "3", "--device", "cpu"]


@pytest.mark.parametrize(
    "strategy",
    [
        "mixture",
        "single-path",
        "evolution",
        *(pytest.param(other, marks=pytest.mark.full) for other in ("darts", "random")),
    ],
)
def test_every_strategy_ends_in_a_network_at_the_target(run: Run, table: Path, tmp_path: Path, strategy: str) -> None:
    options = ["--strategy", strategy, "--target-ms", "0.06", "--evaluations", "8", "--json", "-o", str(tmp_path / "r")]
    code, out, err = run("run", "--lut", str(table), *QUICK, *options)
    assert code == 0, err
    found = json.loads(out)
    network = load_architecture(str(tmp_path / "r" / "arch.json"))
    assert network.network is not None
    lut = read_lut(table)
    predicted = lut.predict_us(network.specs())
    assert found["predicted"]["latency_us"] == pytest.approx(predicted)
    assert 0.97 * 60 <= predicted <= 60
    assert network.load_space().input_size in (6, 8)
    decisions = [decision.name for decision in load_space(lut.metadata.space).decisions]
    metrics = [json.loads(line) for line in (tmp_path / "r" / "metrics.jsonl").read_text().splitlines()]
    assert list(metrics[-1]["objectives"]["table"]["theta"]) == decisions


@pytest.mark.parametrize(
    ("cost", "option", "target", "what"),
    [
        ("macs", "--target-mmacs", 0.08, "macs"),
        pytest.param("params", "--target-mparams", 0.0025, "parameters", marks=pytest.mark.full),
    ],
)
def test_multiply_accumulates_and_parameters_are_targets_too(
    run: Run, table: Path, tmp_path: Path, cost: str, option: str, target: float, what: str
) -> None:
    _, output, _ = run(
        "run", "--lut", str(table), *QUICK, "--cost", cost, option, str(target), "-o", str(tmp_path / "r")
    )
    counted = getattr(count_architecture(load_architecture(str(tmp_path / "r" / "arch.json"))), what)
    assert 0.97 * target <= counted / 1e6 <= target
    assert f"target               {target:g} million" in output


def test_costs_are_combined_and_a_target_of_another_cost_is_refused(run: Run, table: Path, tmp_path: Path) -> None:
    run("run", "--lut", str(table), *QUICK, "--cost", "lut+0.5*params", "-o", str(tmp_path / "r"))
    metrics = [json.loads(line) for line in (tmp_path / "r" / "metrics.jsonl").read_text().splitlines()]
    assert metrics[0]["objectives"]["table"]["cost_unit"] == "% of uniform"
    assert metrics[0]["objectives"]["table"]["expected_cost"] == pytest.approx(100)  # uniform in the warm-up
    for arguments, message in (
        (["--cost", "macs", "--target-ms", "1"], "--target-ms goes with --cost lut"),
        (["--cost", "macs", "--targets", "1,2"], "--target-mmacs 1 is out of reach"),
        (["--target-mmacs", "1"], "--target-mmacs goes with --cost macs"),
        (["--cost", "lut+x*macs"], "'x' is not a weight"),
        (["--cost", "macs", "--target-mmacs", "99"], "no network has as many"),
        (["--target-ms", "99"], "no network is as slow"),
    ):
        code, _, err = run("run", "--lut", str(table), *QUICK, *arguments, "-o", str(tmp_path / "x"))
        assert code == 2
        assert message in err


def test_it_trains_the_network_on_images_of_its_size_samples_and_draws(run: Run, table: Path, tmp_path: Path) -> None:
    home = tmp_path / "r"
    run("run", "--lut", str(table), *QUICK, "--strategy", "single-path", "--train-epochs", "1", "-o", str(home))
    network = load_architecture(str(home / "arch.json"))
    assert "test_accuracy_percent" in network.provenance
    run("sample", str(home), "-n", "3", "-o", str(tmp_path / "s"))
    sampled = [load_architecture(str(file)) for file in sorted((tmp_path / "s").glob("*.json"))]
    assert len({tuple(each.specs()) for each in sampled}) == len(sampled) == 3
    _, out, _ = run("plot", str(home), "--json")
    assert set(json.loads(out)) == {"theta", "curves", "tradeoff", "network"}
    options = ["--epochs", "1", "--limit", "200", "-o", str(tmp_path / "t")]
    code, out, _ = run("train", str(home / "arch.json"), "--data", "digits", *options)
    assert code == 0
    assert "test" in out


@pytest.mark.parametrize(
    ("strategy", "die_at"),
    [
        pytest.param("mixture", 5, marks=pytest.mark.full),
        ("single-path", 2),
        pytest.param("mixture", 2, marks=pytest.mark.full),
        pytest.param("single-path", 5, marks=pytest.mark.full),
    ],
)
def test_a_search_stopped_at_any_step_resumes_to_the_same_network(
    table: Path, tmp_path: Path, stop_at: StopAt, strategy: str, die_at: int
) -> None:
    lut = read_lut(table)
    settings = Settings(
        space=lut.metadata.space,
        data="digits",
        objectives=(("table", 0.06),),
        strategy=strategy,
        loss="target",
        epochs=2,
        steps=2,
        limit=200,
        batch=16,
    )
    whole = run_search({"table": lut}, settings, tmp_path / "whole")
    with stop_at(die_at), pytest.raises(Exception, match="interrupted"):
        run_search({"table": lut}, settings, tmp_path / "part")
    resumed = run_search({"table": lut}, settings, tmp_path / "part")
    assert resumed[0].architecture.network == whole[0].architecture.network
    states = [torch.load(tmp_path / name / "search.ckpt", weights_only=True) for name in ("whole", "part")]
    for one, other in zip(*(s["state"]["objectives"]["table"]["theta"] for s in states), strict=True):
        assert torch.equal(one, other)
