"""Targets by the options a person types: units, names, refusals, and costs that bring their own."""

from pathlib import Path
from typing import Any

import pytest

from fbbase.commandline import run
from fbbase.errors import FbError
from fbsearch.beyond.combined import load_cost
from fbsearch.cli import fbsearch
from fbsearch.errors import SearchError
from fbsearch.fbnet.settings import Settings
from fbsearch.jobs.targets import Target, goals_of, objectives_of
from fbspace.architecture import load_architecture
from fbspace.network import count_architecture


@pytest.mark.parametrize(
    ("cost", "value", "words", "name", "in_cost"),
    [
        ("lut", 12.0, "12 ms", "12ms", 12_000.0),
        ("macs", 80.0, "80 million MACs", "80mmacs", 8e7),
        ("params", 2.5, "2.5 million parameters", "2.5mparams", 2.5e6),
        ("lut+0.5*params", 60.0, "60 % of uniform", "60ofuniform", 60.0),
    ],
)
def test_a_target_has_the_unit_and_the_name_of_its_cost(
    cost: str, value: float, words: str, name: str, in_cost: float
) -> None:
    target = Target.of(load_cost(cost), value)
    assert str(target) == words
    assert target.value * target.factor == in_cost
    settings = Settings("micro", "digits", (("s8", value), ("s8", 1.0), ("other", None)), cost=cost)
    goals = goals_of(settings)
    assert [goal.name for goal in goals][::2] == [f"s8-{name}", "other"]
    assert [goal.target for goal in goals][::2] == [target, None]


@pytest.mark.parametrize("value", [-5.0, 0.0, float("nan"), float("inf")])
@pytest.mark.parametrize(("cost", "option"), [("lut", "--target-ms"), ("macs", "--target-mmacs")])
def test_a_wrong_value_is_told_by_its_own_option(cost: str, option: str, value: float) -> None:
    with pytest.raises(FbError, match=f"{option} must be a positive number, not {value}"):
        Target.of(load_cost(cost), value)


@pytest.mark.parametrize(
    ("given", "several", "expected"),
    [
        ({}, (), (("a", None), ("b", None))),
        ({"--target-ms": (3.0,)}, (), (("a", 3.0), ("b", 3.0))),
        ({"--target-ms": (3.0, 4.0)}, (), (("a", 3.0), ("b", 4.0))),
        ({"--target": (3.0, 4.0), "--target-mmacs": ()}, (), (("a", 3.0), ("b", 4.0))),
        ({}, (1.0, 2.0), (("a", 1.0), ("a", 2.0), ("b", 1.0), ("b", 2.0))),
    ],
)
def test_every_table_has_its_targets(given: Any, several: Any, expected: Any) -> None:
    assert objectives_of("lut", ["a", "b"], given, several) == expected


@pytest.mark.parametrize(
    ("given", "several", "message"),
    [
        ({"--target-mmacs": (1.0,)}, (), "--target-mmacs goes with --cost macs, not with --cost lut"),
        ({"--target-ms": (1.0,), "--target": (1.0,)}, (), "give --target-ms or --target, not both"),
        ({"--target-ms": (1.0,)}, (2.0,), "give --target-ms or --targets, not both"),
        ({"--target": (1.0,) * 3}, (), "--target is given 3 times for 2 tables"),
        ({}, (2.0, 2.0), "--targets names a target twice"),
    ],
)
def test_options_that_do_not_go_together_are_refused(given: Any, several: Any, message: str) -> None:
    with pytest.raises(SearchError, match=message):
        objectives_of("lut", ["a", "b"], given, several)


def test_at_the_command_line_each_cost_has_its_own_words(
    micro_file: Path, micro_lut_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = ["run", "--lut", str(micro_lut_file), "--space", str(micro_file), "-o", str(tmp_path / "run"), "--threads"]
    base += ["1", "--epochs", "2", "--batch", "40", "--limit", "200", "--steps", "2", "--cost"]
    assert run(fbsearch, [*base, "lut+0.5*params", "--target", "100"]) == 0
    shared = load_architecture(str(tmp_path / "run" / "arch.json")).provenance
    assert shared["target"] == [100, "% of uniform"]
    assert 0 < shared["candidates"][0]["cost"] <= 100
    assert "target               100 % of uniform; the network takes" in capsys.readouterr().out
    base += ["macs", "--fresh"]
    assert run(fbsearch, [*base, "--target-mmacs", "-5"]) == 2
    assert "--target-mmacs must be a positive number, not -5" in capsys.readouterr().err
    for option in ("--target", "--targets"):  # it is named as it was given
        assert run(fbsearch, [*base, option, "-1"]) == 2
        assert f"{option} must be a positive number, not -1" in capsys.readouterr().err
    assert run(fbsearch, [*base, "--loss", "target"]) == 2
    assert "--loss target needs a target: give --target-mmacs" in capsys.readouterr().err
    assert run(fbsearch, [*base, "--targets", "0.044,0.088"]) == 0
    for target in (0.044, 0.088):
        network = load_architecture(str(tmp_path / "run" / f"arch-micro-{target:g}mmacs.json"))
        assert 0.97 * target <= count_architecture(network).macs / 1e6 <= target
        assert network.provenance["target"] == [target * 1e6, "MACs"]
