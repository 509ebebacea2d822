"""fbprof fit: known tables are found again from whole networks."""

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
import torch

from fbbase.commandline import run
from fblut.check import check
from fblut.reading import read_lut
from fblut.table import Lut
from fbprof.borrowed.fit import design_of, fit
from fbprof.borrowed.regression import above_zero, regress
from fbprof.cli import fbprof
from fbprof.errors import NetworksError
from fbprof.plan.networks_file import MeasuredNetwork, read_networks, write_networks
from fbsearch.costs import COSTS
from fbspace.opspec import OpSpec
from fbspace.space import Space, load_space

Captured = pytest.CaptureFixture[str]
HEAD = """
description = "five layers, three of them of one shape"
input = { channels = 3, size = 16 }
classes = 4
head_channels = [32, 48]
stem = [{ kind = "conv", channels = 8, kernel = 3 }]
stages = [{ channels = 8, repeats = 3, stride = 1 }, { channels = 16, repeats = 2, stride = 2 }]
[candidates]
small = { kind = "ir", kernel = 3, expansion = 1 }
middle = { kind = "ir", kernel = 3, expansion = 3 }
large = { kind = "ir", kernel = 5, expansion = 6 }
"""
METADATA = {
    "device": "d",
    "runtime": "r",
    "runtime_version": "unknown",
    "precision": "float32",
    "threads": 1,
}
SAWTOOTH = 0.2 * ((np.linspace(0, 1, 800) * 5) % 1)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "five.toml").write_text(HEAD + 'skip = { kind = "skip" }\n')
    (tmp_path / "no-skip.toml").write_text(HEAD)
    return tmp_path


def known_costs(space: Space) -> dict[OpSpec, float]:
    """Return a cost of every operator in µs, larger ones slower; identities cost nothing."""
    rng = random.Random(3)
    costs = {spec: 100 * spec.kernel * (1 + spec.expansion) * rng.uniform(0.8, 1.2) for spec in space.operators()}
    return costs | {spec: 60.0 for spec in costs if spec.kind == "skip"}


def measured(
    space: Space, costs: dict[OpSpec, float], drift: np.ndarray = SAWTOOTH, noise: float = 0.003, seed: int = 0
) -> list[MeasuredNetwork]:
    """Return random networks measured one after the other on a device that drifts."""
    rng = np.random.default_rng(seed)
    every = [*space.layers[0].candidates]
    return [
        MeasuredNetwork(
            choices, space.head_channels, true_us(space, costs, choices) * np.exp(log_speed), where=f"n:{i}"
        )
        for i, log_speed in enumerate(drift + rng.normal(0, noise, len(drift)))
        for choices in [tuple(rng.choice(every, len(space.layers)).tolist())]
    ]


def true_us(space: Space, costs: dict[OpSpec, float], choices: Sequence[str]) -> float:
    return sum(costs.get(spec, 0.0) for spec in space.specs(choices))


def table(networks: Sequence[MeasuredNetwork], space: Space) -> Lut:
    return fit(networks, space, METADATA | {"space": space.name})[0]


def test_a_known_table_is_found_again_under_drift(here: Path) -> None:
    space = load_space("five.toml")
    costs = known_costs(space)
    lut, evaluation = fit(measured(space, costs), space, METADATA | {"space": "five.toml"})
    mean = float(np.exp(np.mean(SAWTOOTH)))
    reference = space.layers[3].candidates["skip"]
    fixed = [*space.stem, reference, *space.heads[32]]
    assert lut.metadata.network_us == pytest.approx(mean * sum(costs[spec] for spec in fixed), rel=0.01)
    assert lut.metadata.drift_range_percent == pytest.approx(100 * (np.exp(0.18) - 1), rel=0.1)
    assert lut.metadata.calibration_networks == 800
    rows = [row for row in lut.rows.values() if row.status == "ok"]
    for row in rows:
        relative = costs[row.spec] - (costs[reference] if row.spec.stride == 2 else 0)
        assert row.latency_us == pytest.approx(mean * relative, rel=0.01)
        assert row.notes == (f"relative to {reference.key()}" if row.spec.stride == 2 else "")
    assert len(rows) == 9
    assert {row.spec for row in lut.rows.values() if row.status == "fixed"} == set(fixed)
    assert {row.spec for row in lut.rows.values() if row.status == "failed"} == set(space.heads[48])
    assert evaluation.mape_percent_drift < 1 < 4 < evaluation.mape_percent_static
    assert lut.metadata.network_error_percent == pytest.approx(evaluation.error_percent, abs=1e-3)


@pytest.mark.parametrize("drift", [pytest.param(0 * SAWTOOTH, id="steady"), pytest.param(SAWTOOTH, id="sawtooth")])
@pytest.mark.full  # the test after it holds the interval against least squares
def test_the_interval_holds_the_true_cost_nearly_as_often_as_it_says(here: Path, drift: np.ndarray) -> None:
    """In 12 runs of 10 parts 95 % are expected; what an abrupt drift blurs costs a little of it."""
    space = load_space("five.toml")
    costs = known_costs(space)
    inside = []
    for seed in range(12):
        design = design_of(measured(space, costs, drift, 0.01, seed), space)
        result = regress(design.counts, design.latency_us)
        references = [design.references.get(spec) for spec in design.operators]
        fixed = [*space.stem, space.layers[3].candidates["skip"], *space.heads[32]]
        true = [sum(costs[spec] for spec in fixed)]
        true += [costs[s] - (costs[r] if r else 0) for s, r in zip(design.operators, references, strict=True)]
        level = np.exp(np.mean(drift))
        inside += [low <= level * x <= high for low, x, high in zip(result.low, true, result.high, strict=True)]
    assert 0.9 < np.mean(inside) < 0.99


def test_operators_are_counted_not_their_places(here: Path) -> None:
    space = load_space("five.toml")
    networks = measured(space, known_costs(space))
    design = design_of(networks, space)
    shared = design.operators.index(space.layers[0].candidates["large"])
    assert design.counts.shape == (800, 10)
    assert [row[1 + shared] for row in design.counts] == [network.choices[:3].count("large") for network in networks]
    assert design.occurrences[space.layers[0].candidates["large"]] == sum("large" in n.choices[:3] for n in networks)


def test_without_a_skip_the_candidate_of_fewest_macs_is_the_reference(here: Path) -> None:
    space = load_space("no-skip.toml")
    costs = known_costs(space)
    lut = table(measured(space, costs, np.zeros(400)), space)
    places = [space.layers[0], space.layers[3], space.layers[4]]
    small = [place.candidates["small"] for place in places]
    assert {row.spec for row in lut.rows.values() if row.status == "fixed"} == {*space.stem, *small, *space.heads[32]}
    for place, reference in zip(places, small, strict=True):
        for name in ("middle", "large"):
            row = lut.rows[place.candidates[name].key()]
            assert row.latency_us == pytest.approx(costs[row.spec] - costs[reference], rel=0.02)
            assert row.notes == f"relative to {reference.key()}"
    fixed = sum(costs[spec] for spec in [*space.stem, *small, small[0], small[0], *space.heads[32]])
    assert lut.metadata.network_us == pytest.approx(fixed, rel=0.01)


def test_where_the_reference_is_beaten_the_fastest_takes_its_place(here: Path) -> None:
    space = load_space("five.toml")
    skip, small = space.layers[3].candidates["skip"], space.layers[3].candidates["small"]
    costs = known_costs(space)
    costs[skip] = costs[small] + 300
    lut = table(measured(space, costs), space)
    mean = float(np.exp(np.mean(SAWTOOTH)))
    assert lut.rows[small.key()].status == "fixed"
    assert lut.rows[skip.key()].latency_us == pytest.approx(300 * mean, rel=0.03)
    assert lut.rows[skip.key()].notes == f"relative to {small.key()}"


def test_a_latency_that_cannot_be_told_from_0_stays_positive_and_says_so(here: Path) -> None:
    space = load_space("five.toml")
    costs = known_costs(space)
    tiny = space.layers[0].candidates["small"]
    costs[tiny] = 0.5
    networks = measured(space, costs, np.zeros(300), noise=0.05)
    lut = table(networks, space)
    row = lut.rows[tiny.key()]
    assert row.notes == "cannot be told from 0 by these networks"
    assert row.latency_us is not None
    assert row.ci_low_us is not None
    assert row.ci_high_us is not None
    assert 0 < row.ci_low_us < row.latency_us < row.ci_high_us < 200
    predicted = [lut.predict_us(space.specs(network.choices)) for network in networks]
    true = [true_us(space, costs, network.choices) for network in networks]
    assert np.mean(np.array(predicted) / true) == pytest.approx(1, abs=0.01)


def test_an_operator_faster_than_nothing_is_as_small_as_a_table_can_say(here: Path) -> None:
    space = load_space("five.toml")
    costs = known_costs(space)
    helpful = space.layers[0].candidates["small"]
    costs[helpful] = -500.0
    row = table(measured(space, costs, np.zeros(400)), space).rows[helpful.key()]
    assert row.notes == "less than 0 by these networks"
    assert row.latency_us is not None
    assert 0.001 <= row.latency_us < 5


@pytest.mark.parametrize("z", [-25.0, -3.0, 0.0, 1.5])
def test_the_distribution_above_zero_by_integration(z: float) -> None:
    x = np.linspace(0, 20, 400_001) / max(1, -z)
    density = np.exp(-0.5 * x**2 + x * z)  # of N(z, 1), without the constant
    share = np.cumsum(density) / density.sum()
    low, mean, high = above_zero(7 * z, 7.0)
    assert mean == pytest.approx(7 * float((x * density).sum() / density.sum()), rel=1e-3)
    assert low == pytest.approx(7 * x[np.searchsorted(share, 0.025)], rel=1e-2)
    assert high == pytest.approx(7 * x[np.searchsorted(share, 0.975)], rel=1e-2)


def test_the_interval_is_that_of_ordinary_least_squares_for_normal_noise(here: Path) -> None:
    """Huber's estimator is 95 to 99 % as efficient, so its errors are 0 to 3 % larger."""
    space = load_space("five.toml")
    design = design_of(measured(space, known_costs(space), np.zeros(4000), noise=0.02), space)
    result = regress(design.counts, design.latency_us, half_window=0)
    scaled = design.counts / design.latency_us[:, None]
    ordinary = 0.02 * np.sqrt(np.diag(np.linalg.inv(scaled.T @ scaled)))
    assert result.error / ordinary == pytest.approx(1.0, abs=0.06)
    assert result.high - result.cost == pytest.approx(NormalDist().inv_cdf(0.975) * result.error, rel=1e-3)


def test_a_tenth_of_disturbed_networks_moves_nothing(here: Path) -> None:
    space = load_space("five.toml")
    clean = measured(space, known_costs(space))
    disturbed = [replace(n, latency_us=n.latency_us * (1.6 if i % 10 == 3 else 1)) for i, n in enumerate(clean)]
    rows = table(disturbed, space).rows
    for key, row in table(clean, space).rows.items():
        if row.latency_us is not None:
            assert rows[key].latency_us == pytest.approx(row.latency_us, rel=0.015)


def test_with_the_order_shuffled_drift_explains_nothing(here: Path) -> None:
    space = load_space("five.toml")
    networks = measured(space, known_costs(space))
    random.Random(1).shuffle(networks)
    lut, evaluation = fit(networks, space, METADATA | {"space": "five.toml"})
    assert evaluation.mape_percent_static - evaluation.mape_percent_drift < 0.1
    assert evaluation.mape_percent_static > 4
    assert lut.metadata.drift_range_percent is not None
    assert lut.metadata.drift_range_percent < 5


def test_the_written_table_the_search_and_the_regression_agree(here: Path) -> None:
    space = load_space("five.toml")
    networks = measured(space, known_costs(space))
    write_networks(here / "phone_networks.csv", "five", networks)
    command = ["fit", "phone_networks.csv", "--space", "five.toml", "-o", "t.csv", "--runtime", "gpu", "--threads", "2"]
    assert run(fbprof, command) == 0
    lut = read_lut(here / "t.csv")
    assert (lut.metadata.device, lut.metadata.runtime, lut.metadata.threads) == ("phone", "gpu", 2)
    assert (lut.metadata.origin, lut.metadata.timing) == ("fitted", "regression on 800 whole networks")
    assert {finding.rule for finding in check(lut, space)} == {"failed"}  # the head that no network has
    design = design_of(read_networks(here / "phone_networks.csv", space), space)
    regression = design.counts @ regress(design.counts, design.latency_us).cost
    cost = COSTS.load("lut").build(space, lut)
    for network, expected in list(zip(networks, regression, strict=True))[:20]:
        one_hot = [
            torch.tensor([float(name == chosen) for name in layer.candidates])
            for layer, chosen in zip(space.layers, network.choices, strict=True)
        ]
        predicted = lut.predict_us(space.specs(network.choices))
        assert cost(one_hot).item() == pytest.approx(predicted, rel=1e-12)
        assert predicted == pytest.approx(expected, abs=0.01)
        interval = lut.predict(space.specs(network.choices))
        assert interval.ci_low_us is not None
        assert interval.ci_low_us < predicted


def test_the_same_file_gives_the_same_bytes(here: Path, capsys: Captured) -> None:
    space = load_space("five.toml")
    write_networks(here / "n.csv", "five", measured(space, known_costs(space)))
    for name in ("a.csv", "b.csv"):
        assert run(fbprof, ["fit", "n.csv", "--space", "five.toml", "-o", name]) == 0
    assert (here / "a.csv").read_bytes() == (here / "b.csv").read_bytes()
    out, err = capsys.readouterr()
    first, held_out, static, drift, words = out.splitlines()[:5]
    assert first.startswith("a.csv: 9 operators and a fixed cost of ")
    assert held_out == "held out: 160 networks, predicted by a table of the others"
    assert static.split()[0] == "static"
    assert drift.split()[:2] == ["with", "drift"]
    assert words.startswith("drift: the device's speed wandered by 1")
    assert err.startswith("warning: 2 operators are in none of the networks, e.g. conv_in16")


def test_json_holds_the_figures_of_both_kinds(here: Path, capsys: Captured) -> None:
    space = load_space("five.toml")
    write_networks(here / "n.csv", "five", measured(space, known_costs(space), np.zeros(200)))
    assert run(fbprof, ["fit", "n.csv", "--space", "five.toml", "-o", "t.csv", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert 0 < result["mape_percent_drift"] <= result["mape_percent_static"] + 0.1 < 1
    assert result["spearman_static"] > 0.99
    assert result["spearman_drift"] > 0.99
    assert (result["networks"], result["held_out_networks"], result["operators"]) == (200, 40, 9)
    assert result["network_us"] == read_lut(here / "t.csv").metadata.network_us
    assert result["error_percent"] == pytest.approx(read_lut(here / "t.csv").metadata.network_error_percent, abs=1e-3)


def test_an_error_leaves_no_table_and_names_file_and_line(here: Path, capsys: Captured) -> None:
    (here / "n.csv").write_text(
        "op0,op1,op2,op3,op4,latency_ms\nskip,skip,skip,skip,skip,1\nskip,skip,no,skip,skip,1\n"
    )
    assert run(fbprof, ["fit", "n.csv", "--space", "five.toml", "-o", "t.csv"]) == 2
    out, err = capsys.readouterr()
    assert "n.csv: line 3, column 3 (op2): unknown operator 'no'" in err
    assert out == ""
    assert not (here / "t.csv").exists()


def test_too_few_networks(here: Path) -> None:
    space = load_space("five.toml")
    networks = measured(space, known_costs(space), np.zeros(29))
    with pytest.raises(NetworksError, match=r"29 networks are too few: the fixed cost and 9 operators .* at least 30"):
        table(networks, space)


def test_networks_that_never_skip_do_not_tell_operators_from_the_fixed_cost(here: Path) -> None:
    space = load_space("five.toml")
    networks = [n for n in measured(space, known_costs(space)) if n.choices[4] != "skip"]
    with pytest.raises(NetworksError, match="in layers 5 the networks always choose alike") as raised:
        table(networks, space)
    assert space.layers[4].candidates["large"].key() in str(raised.value)
    assert space.layers[3].candidates["large"].key() not in str(raised.value)


def test_an_operator_of_no_network_fails_and_its_place_has_another_reference(here: Path) -> None:
    space = load_space("five.toml")
    networks = [n for n in measured(space, known_costs(space)) if n.choices[3] != "skip"]
    lut = table(networks, space)
    names = space.layers[3].candidates
    assert lut.rows[names["skip"].key()].status == "failed"
    assert lut.rows[names["skip"].key()].notes == "none of the networks has this operator"
    assert lut.rows[names["small"].key()].status == "fixed"
    assert lut.rows[names["large"].key()].notes == f"relative to {names['small'].key()}"


def test_networks_with_two_heads_are_refused(here: Path) -> None:
    space = load_space("five.toml")
    networks = measured(space, known_costs(space))
    networks[7] = replace(networks[7], head_channels=48)
    with pytest.raises(NetworksError, match="n:7: a head of 48 channels, but n:0 has one of 32"):
        table(networks, space)
