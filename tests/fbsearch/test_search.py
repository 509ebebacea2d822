"""One step, one epoch, a whole search: what is updated, determinism, resuming, refusing, diverging."""

import itertools
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fblut.table import Lut
from fbsearch.checkpoint import SEARCH, RunFolder
from fbsearch.costs import build_cost
from fbsearch.data import Data
from fbsearch.derive import derive
from fbsearch.errors import DivergedError, SearchError
from fbsearch.pipeline import search_folder
from fbsearch.search import Search, epoch_generator
from fbsearch.settings import Settings
from fbspace.space import Space

Make = Callable[..., Search]
SETTINGS = Settings(space="micro", data="digits", epochs=3, batch=40, limit=200)


@pytest.fixture
def make(micro: Space, micro_lut: Lut, digits: Data) -> Make:
    def search(settings: Settings = SETTINGS) -> Search:
        return Search(micro, build_cost(settings.cost, micro, micro_lut), digits, settings)

    return search


@pytest.fixture
def folder(tmp_path: Path, micro: Space, micro_lut: Lut, digits: Data) -> RunFolder:
    return search_folder(tmp_path, SETTINGS, micro, micro_lut, digits)


def theta(search: Search) -> list[list[float]]:
    return [theta_l.tolist() for theta_l in search.theta]


def copies(parameters: list[torch.nn.Parameter]) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in parameters]


@pytest.mark.parametrize("kind", ["w", "theta"])
def test_a_step_changes_its_own_parameters_and_computes_no_gradient_of_the_others(
    make: Make, digits: Data, kind: str
) -> None:
    search = make()
    own, others = (search.w, search.theta) if kind == "w" else (search.theta, search.w)
    optimizer = search.w_optimizer if kind == "w" else search.theta_optimizer
    seen: list[bool] = []
    optimizer.register_step_pre_hook(
        lambda *_: seen.append(all(p.grad is not None for p in own) and all(p.grad is None for p in others))
    )
    before_own, before_others = copies(own), copies(others)
    x, y = next(digits.batches(digits.w, 16))
    getattr(search, f"{kind}_step")(x, y, 5.0, epoch_generator(0, "x", 0))
    assert seen == [True]
    assert all(torch.equal(p, q) for p, q in zip(others, before_others, strict=True))
    assert all(not torch.equal(p, q) for p, q in zip(own, before_own, strict=True))


def test_theta_is_held_during_warm_up_and_moves_after(make: Make, folder: RunFolder) -> None:
    search = make()
    search.run(folder)
    lines = [json.loads(line) for line in (folder.path / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [0, 1, 2]
    assert lines[0]["theta"]["layer_01"] == {"k3_e1": 0.0, "k5_e3": 0.0, "skip": 0.0}
    assert "theta_loss" not in lines[0]
    assert lines[2]["theta_loss"] > 0
    assert list(lines[2]["theta"]["layer_02"].values()) == theta(search)[1]
    assert [line["temperature"] for line in lines] == [SETTINGS.temperature_at(epoch) for epoch in range(3)]
    probabilities = search.net.probabilities()
    assert lines[2]["expected_cost"] == pytest.approx(search.cost(probabilities).item())
    board = EventAccumulator(str(folder.path / "tensorboard" / "search")).Reload()
    assert [event.step for event in board.Scalars("search/expected_cost")] == [0, 1, 2]
    assert board.Scalars("search/theta/layer_02/skip")[2].value == pytest.approx(theta(search)[1][2])


def test_two_searches_of_one_seed_agree_bit_for_bit_and_another_seed_does_not(
    make: Make, tmp_path: Path, micro: Space, micro_lut: Lut, digits: Data
) -> None:
    found = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        settings = Settings(space="micro", data="digits", epochs=2, batch=40, limit=200, seed=seed)
        search = make(settings)
        search.run(search_folder(tmp_path / name, settings, micro, micro_lut, digits))
        found.append((theta(search), derive(search)))
    assert found[0] == found[1]
    assert found[0] != found[2]


def test_a_search_killed_in_an_epoch_resumes_to_the_same_bits(
    make: Make,
    folder: RunFolder,
    tmp_path: Path,
    micro: Space,
    micro_lut: Lut,
    digits: Data,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = make()
    whole.run(search_folder(tmp_path / "whole", SETTINGS, micro, micro_lut, digits))

    killed = make()
    step, steps = killed.theta_step, []

    def dying_step(*arguments: object) -> object:
        steps.append(1)
        if len(steps) == 2:  # in the middle of the θ phase of the second epoch
            raise KeyboardInterrupt
        return step(*arguments)

    monkeypatch.setattr(killed, "theta_step", dying_step)
    with pytest.raises(KeyboardInterrupt):
        killed.run(folder)

    resumed = make()
    resumed.run(folder)
    assert theta(resumed) == theta(whole)
    for name, value in whole.net.state_dict().items():
        assert torch.equal(value, resumed.net.state_dict()[name]), name
    assert derive(resumed) == derive(whole)
    epochs = [json.loads(line)["epoch"] for line in (folder.path / "metrics.jsonl").read_text().splitlines()]
    assert epochs == [0, 1, 2]


def test_another_searchs_folder_is_refused(
    folder: RunFolder, make: Make, micro: Space, micro_lut: Lut, digits: Data
) -> None:
    make().run(folder)
    other = Settings(space="micro", data="digits", epochs=3, batch=40, limit=200, seed=7)
    with pytest.raises(SearchError, match=r"other settings \(seed: 0 then, 7 now\).*--fresh"):
        search_folder(folder.path, other, micro, micro_lut, digits).load(SEARCH)
    elsewhere = Lut(micro_lut.metadata.model_copy(update={"device": "another"}), micro_lut.rows)
    with pytest.raises(SearchError, match="another latency table"):
        search_folder(folder.path, SETTINGS, micro, elsewhere, digits).load(SEARCH)
    folder.clear()
    assert [path for path in folder.path.rglob("*") if path.is_file()] == []


def test_a_damaged_checkpoint_is_named(folder: RunFolder) -> None:
    folder.save(SEARCH, {"epoch": 1})
    good = folder.path.joinpath(SEARCH).read_bytes()
    for content in (b"", b"hello", bytes(100), good[: len(good) // 2], good[1:]):
        folder.path.joinpath(SEARCH).write_bytes(content)
        with pytest.raises(SearchError, match=r"search.ckpt is not a checkpoint.*--fresh"):
            folder.load(SEARCH)


def test_a_diverging_search_stops_with_its_learning_rate(make: Make, folder: RunFolder) -> None:
    search = make(Settings(space="micro", data="digits", epochs=3, batch=40, limit=200, lr=1e30))
    with pytest.raises(DivergedError, match=r"the loss became (nan|inf) in epoch 1 at learning rate 1e\+30"):
        search.run(folder)


def test_a_loss_that_is_not_defined_for_the_table_is_refused(micro: Space, micro_lut: Lut, digits: Data) -> None:
    cost = build_cost("lut", micro, micro_lut)
    cost.fixed, cost.layers = 0.1, [layer * 1e-6 for layer in cost.layers]
    with pytest.raises(SearchError, match=r"not defined for an expected cost of 0\.1 µs"):
        Search(micro, cost, digits, SETTINGS)


def test_derived_networks_are_distinct_ranked_and_priced_by_the_table(make: Make, micro: Space, micro_lut: Lut) -> None:
    search = make()
    with torch.no_grad():
        search.theta[0].copy_(torch.tensor([0.0, 0.0, 1.0]))
    found = derive(search)
    assert len(found) == 7
    assert len({candidate.choices for candidate in found}) == 7
    assert ("skip", "k3_e1") in [candidate.choices for candidate in found]  # the most probable one
    assert [c.loss for c in found] == sorted(c.loss for c in found)
    for candidate in found:
        assert candidate.cost == pytest.approx(micro_lut.predict_us(micro.specs(candidate.choices)))


def test_a_certain_theta_gives_one_network(make: Make) -> None:
    search = make()
    with torch.no_grad():
        for theta_l in search.theta:
            theta_l[1] = 60.0
    assert [candidate.choices for candidate in derive(search)] == [("k5_e3", "k5_e3")]


def test_the_target_loss_is_given_the_expected_latency_not_the_samples(
    make: Make, micro: Space, micro_lut: Lut, digits: Data
) -> None:
    search = make(replace(SETTINGS, loss="target", target_ms=0.03, latency_weight=2.0))
    with torch.no_grad():
        search.theta[0].copy_(torch.tensor([0.0, 2.0, 1.0]))
    fixed = micro_lut.predict_us([*micro.stem, *micro.heads[micro.head_channels]])
    layers = [[micro_lut.latency_us(spec) for spec in layer.candidates.values()] for layer in micro.layers]
    weights = [math.exp(value) for value in (0, 2, 1)]
    expected = fixed + sum(w * us for w, us in zip(weights, layers[0], strict=True)) / sum(weights) + sum(layers[1]) / 3
    x, y = next(digits.batches(digits.w, 16))
    loss, cross_entropy, _ = search.theta_step(x, y, 5.0, epoch_generator(0, "x", 0))
    assert (loss - cross_entropy).item() == pytest.approx(2 * abs(math.log(expected / 30)), rel=1e-5)


@pytest.mark.parametrize("skip", [0.0, 50.0])
def test_with_a_target_the_networks_derived_are_the_most_probable_ones_near_it(
    make: Make, micro: Space, micro_lut: Lut, skip: float
) -> None:
    search = make(replace(SETTINGS, loss="target", target_ms=1.0, samples=1))
    names = [list(layer.candidates) for layer in micro.layers]
    latencies = {each: micro_lut.predict_us(micro.specs(each)) for each in itertools.product(*names)}
    target = sorted(latencies.values())[-3] * 1.001
    search.settings = replace(search.settings, target_ms=target / 1000)
    with torch.no_grad():
        for theta_l in search.theta:
            theta_l[2] = skip  # however much skip has taken over
    near = {each for each, us in latencies.items() if 0.97 * target <= us <= target}
    found = derive(search)
    assert 1 <= len(found) <= 2
    assert {candidate.choices for candidate in found} <= near


def test_where_no_network_is_near_the_target_the_most_probable_one_below_is_taken(
    make: Make, micro: Space, micro_lut: Lut
) -> None:
    latencies = sorted(
        micro_lut.predict_us(micro.specs(each))
        for each in itertools.product(*(list(layer.candidates) for layer in micro.layers))
    )
    target = max(high for low, high in itertools.pairwise(latencies) if low < 0.97 * high) - 1e-3
    assert not [us for us in latencies if 0.97 * target <= us <= target]
    found = derive(make(replace(SETTINGS, loss="target", target_ms=target / 1000)))
    assert found
    assert all(candidate.cost < target for candidate in found)
