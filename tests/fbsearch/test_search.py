"""One step, one epoch, a whole search: what is updated, determinism, resuming, refusing, diverging."""

import contextlib
import itertools
import json
import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fblut.table import Lut
from fbsearch.costs import COSTS, AdditiveCost
from fbsearch.errors import DivergedError, SearchError
from fbsearch.fbnet.derive import derive, evaluate_inherited
from fbsearch.fbnet.objective import Objective
from fbsearch.fbnet.search import Search
from fbsearch.fbnet.settings import Settings
from fbsearch.images.data import Data
from fbsearch.machine.checkpoint import SEARCH, RunFolder
from fbsearch.machine.seeds import generator_of
from fbsearch.strategies import Strategy
from fbspace.space import Space

Make = Callable[..., Search]
FolderOf = Callable[[Path, Settings], RunFolder]
StopAt = Callable[[int], AbstractContextManager[list[int]]]
SETTINGS = Settings(space="micro", data="digits", epochs=3, batch=40, theta_lr=0.4, limit=200)
STOPPED = [("mixture", 2), ("mixture", 7), ("single-path", 11), ("random", 6)]
"""What `make test` stops, and at which step."""


@pytest.fixture
def folder(tmp_path: Path, folder_of: FolderOf) -> RunFolder:
    return folder_of(tmp_path, SETTINGS)


def theta(search: Search) -> list[list[float]]:
    return [theta_l.tolist() for theta_l in search.objectives[0].theta]


def copies(parameters: list[torch.nn.Parameter]) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in parameters]


@pytest.mark.parametrize("kind", ["w", "theta"])
def test_a_step_changes_its_own_parameters_and_computes_no_gradient_of_the_others(
    make: Make, digits: Data, kind: str
) -> None:
    search = make(replace(SETTINGS, skip_delay=0, w_start="random"))
    objective = search.objectives[0]
    w, arch = search.w, list(objective.theta)
    own, others = (w, arch) if kind == "w" else (arch, w)
    optimizer = search.w_optimizer if kind == "w" else objective.optimizer
    seen: list[bool] = []
    optimizer.register_step_pre_hook(
        lambda *_: seen.append(all(p.grad is not None for p in own) and all(p.grad is None for p in others))
    )
    before_own, before_others = copies(own), copies(others)
    x, y = next(digits.batches(digits.w, 16))
    step = search.w_step if kind == "w" else partial(search.theta_step, objective)
    step(x, y, 5.0, generator_of(0, "x"))
    assert seen == [True]
    assert all(torch.equal(p, q) for p, q in zip(others, before_others, strict=True))
    assert all(not torch.equal(p, q) for p, q in zip(own, before_own, strict=True))


def test_theta_is_held_during_warm_up_and_moves_after(make: Make, folder: RunFolder) -> None:
    search = make(SETTINGS)
    search.run(folder)
    lines = [json.loads(line) for line in (folder.path / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [0, 1, 2]
    first, last = (line["objectives"]["made-up"] for line in (lines[0], lines[2]))
    assert first["theta"]["layer_01"] == {"k3_e1": 0.0, "k5_e3": 0.0, "skip": 0.0}
    assert "theta_loss" not in first
    assert last["theta_loss"] > 0
    assert list(last["theta"]["layer_02"].values()) == theta(search)[1]
    assert lines[2]["w_cross_entropy"] > 0
    assert 0 <= lines[2]["data_wait_share"] <= 1
    assert [line["temperature"] for line in lines] == [SETTINGS.temperature_at(epoch) for epoch in range(3)]
    objective = search.objectives[0]
    assert last["expected_cost"] == pytest.approx(objective.cost(objective.probabilities()).item())
    board = EventAccumulator(str(folder.path / "tensorboard" / "search")).Reload()
    assert [event.step for event in board.Scalars("search/objectives/made-up/expected_cost")] == [0, 1, 2]
    assert board.Scalars("search/objectives/made-up/theta/layer_02/skip")[2].value == pytest.approx(theta(search)[1][2])


def test_two_searches_of_one_seed_agree_bit_for_bit_and_another_seed_does_not(
    make: Make, tmp_path: Path, folder_of: FolderOf
) -> None:
    found = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        settings = replace(SETTINGS, epochs=2, seed=seed)
        search = make(settings)
        search.run(folder_of(tmp_path / name, settings))
        found.append((theta(search), derive(search, search.objectives[0], 7)))
    assert found[0] == found[1]
    assert found[0] != found[2]


@pytest.mark.parametrize(
    ("strategy", "die_at"),
    [
        pytest.param(strategy, die_at, marks=() if (strategy, die_at) in STOPPED else pytest.mark.full)
        for strategy in ("mixture", "single-path", "random")
        for die_at in (2, 6, 7, 11)
    ],
)
def test_a_search_stopped_at_any_step_resumes_to_the_same_bits(
    make: Make, tmp_path: Path, folder_of: FolderOf, stop_at: StopAt, strategy: str, die_at: int
) -> None:
    """At die_at steps the process is gone; what was saved before is a step (Ctrl-C), or else the end of an epoch."""
    settings = replace(SETTINGS, strategy=strategy, augment="crop-flip")
    whole = make(settings)
    whole.run(folder_of(tmp_path / "whole", settings))
    folder = folder_of(tmp_path / "part", settings)

    stopped = make(settings)
    with stop_at(die_at) as steps, contextlib.suppress(KeyboardInterrupt):
        stopped.run(folder)
    assert len(steps) == die_at
    resumed = make(settings)
    resumed.run(folder)
    assert theta(resumed) == theta(whole)
    for name, value in whole.net.state_dict().items():
        assert torch.equal(value, resumed.net.state_dict()[name]), name
    both = [derive(search, search.objectives[0], 3) for search in (resumed, whole)]
    assert both[0] == both[1]
    metrics = [
        (f.path / "metrics.jsonl").read_text().splitlines() for f in (folder, folder_of(tmp_path / "whole", settings))
    ]
    dropped = {"data_wait_share"}
    mine, other = ([{k: v for k, v in json.loads(line).items() if k not in dropped} for line in m] for m in metrics)
    assert mine == other


def test_another_searchs_folder_is_refused(folder: RunFolder, make: Make, folder_of: FolderOf) -> None:
    make(SETTINGS).run(folder)
    with pytest.raises(SearchError, match=r"other settings \(seed: 0 then, 7 now\).*--fresh"):
        folder_of(folder.path, replace(SETTINGS, seed=7)).load(SEARCH)
    with pytest.raises(SearchError, match="another latency table made-up"):
        replace(folder, inputs={"latency table made-up": "2"}).load(SEARCH)
    folder.clear()
    assert [path for path in folder.path.rglob("*") if path.is_file()] == []


def test_a_damaged_checkpoint_is_named(folder: RunFolder) -> None:
    folder.save(SEARCH, {"epoch": 1})
    good = folder.path.joinpath(SEARCH).read_bytes()
    for content in (b"", b"hello", bytes(100), good[: len(good) // 2], good[1:]):
        folder.path.joinpath(SEARCH).write_bytes(content)
        with pytest.raises(SearchError, match=r"search.ckpt is not a checkpoint.*--fresh"):
            folder.load(SEARCH)


def test_a_diverging_search_names_step_learning_rate_and_last_good_checkpoint(make: Make, folder: RunFolder) -> None:
    with pytest.raises(
        DivergedError,
        match=r"became (nan|inf) in epoch 1, phase w, step \d+ of 4 at learning rate 1e\+30;.*nothing was saved yet",
    ):
        make(replace(SETTINGS, lr=1e30)).run(folder)
    good = make(SETTINGS)
    good.run(folder)
    longer = make(SETTINGS)
    longer.load_state(good.state())
    longer.position.epoch = 2
    folder.save(SEARCH, longer.state())
    diverging = make(SETTINGS)
    diverging.objectives[0].cost.fixed = float("nan")  # type: ignore[attr-defined]
    with pytest.raises(
        DivergedError, match=rf"epoch 3, phase θ of made-up, step 1 of 1 .*last good state is in .*{SEARCH}"
    ):
        diverging.run(folder)


def test_a_loss_that_is_not_defined_for_the_table_is_refused(make: Make) -> None:
    search = make(SETTINGS)
    cost = search.objectives[0].cost
    assert isinstance(cost, AdditiveCost)
    cost.fixed, cost.layers = 0.1, [layer * 1e-6 for layer in cost.layers]
    with pytest.raises(SearchError, match=r"not defined for an expected cost of 0\.1 µs"):
        Search(search.net, search.objectives, search.space, search.data, SETTINGS)


def test_several_objectives_share_the_weights_and_learn_their_own_theta(
    make: Make, micro: Space, micro_lut: Lut, folder: RunFolder
) -> None:
    """The w steps take turns; each θ sees its own table, here one where the second candidate is cheap."""
    search = make(replace(SETTINGS, skip_delay=0))
    first = search.objectives[0]
    k5 = {spec.key() for layer in micro.layers for name, spec in layer.candidates.items() if name == "k5_e3"}
    rows = {key: replace(row, latency_us=0.01 if key in k5 else 500.0) for key, row in micro_lut.rows.items()}
    cost = COSTS.load("lut").build(micro, Lut(micro_lut.metadata, rows))
    other = Objective("other", cost, None, first.loss, [s.tolist() for s in first.skips], search.settings)
    search.objectives.append(other)
    turns: list[int] = []
    forward = search.net.forward

    def watch(x: torch.Tensor, m: list[torch.Tensor], strategy: Strategy) -> torch.Tensor:
        turns.append(1)
        return forward(x, m, strategy)

    search.net.forward = watch  # type: ignore[method-assign,assignment]
    search.run(folder)
    w_steps, theta_steps = 3 * 4, 2 * 1
    assert len(turns) == w_steps + 2 * theta_steps
    assert theta(search) != [theta_l.tolist() for theta_l in other.theta]
    lines = [json.loads(line) for line in (folder.path / "metrics.jsonl").read_text().splitlines()]
    assert list(lines[-1]["objectives"]) == ["made-up", "other"]
    assert lines[-1]["objectives"]["other"]["expected_cost"] == pytest.approx(cost(other.probabilities()).item())


def test_derived_networks_are_distinct_ranked_and_priced_by_the_table(make: Make, micro: Space, micro_lut: Lut) -> None:
    search = make(SETTINGS)
    objective = search.objectives[0]
    with torch.no_grad():
        objective.theta[0].copy_(torch.tensor([0.0, 0.0, 1.0]))
    found = derive(search, objective, 7)
    assert len(found) == 7
    assert len({candidate.choices for candidate in found}) == 7
    assert ("skip", "k3_e1") in [candidate.choices for candidate in found]  # the most probable one
    assert [c.loss for c in found] == sorted(c.loss for c in found)
    for candidate in found:
        assert candidate.cost == pytest.approx(micro_lut.predict_us(micro.specs(candidate.choices)))


def test_a_certain_theta_gives_one_network(make: Make) -> None:
    search = make(SETTINGS)
    with torch.no_grad():
        for theta_l in search.objectives[0].theta:
            theta_l[1] = 60.0
    assert [candidate.choices for candidate in derive(search, search.objectives[0], 7)] == [("k5_e3", "k5_e3")]


def test_networks_are_evaluated_on_validation_images_with_statistics_of_w_images(make: Make, digits: Data) -> None:
    """Against the copy of the network evaluated by hand."""
    search = make(SETTINGS)
    found = evaluate_inherited(search, search.objectives[0], (1, 0), digits.validation)
    order = generator_of(0, "batch normalisation")
    batches = [x for x, _ in digits.batches(digits.w, 40, order, 8)]
    network = search.net.network((1, 0), batches)
    x, y = next(digits.batches(digits.validation, 200))
    with torch.no_grad():
        logits = network(x)
    assert found.accuracy_percent == pytest.approx(100 * (logits.argmax(1) == y).float().mean().item())


def test_the_target_loss_is_given_the_expected_latency_not_the_samples(
    make: Make, micro: Space, micro_lut: Lut, digits: Data
) -> None:
    search = make(replace(SETTINGS, loss="target", options={"latency_weight": 2.0}), target=30.0)
    objective = search.objectives[0]
    with torch.no_grad():
        objective.theta[0].copy_(torch.tensor([0.0, 2.0, 1.0]))
    fixed = micro_lut.predict_us([*micro.stem, *micro.heads[micro.head_channels]])
    layers = [[micro_lut.latency_us(spec) for spec in layer.candidates.values()] for layer in micro.layers]
    weights = [math.exp(value) for value in (0, 2, 1)]
    expected = fixed + sum(w * us for w, us in zip(weights, layers[0], strict=True)) / sum(weights) + sum(layers[1]) / 3
    x, y = next(digits.batches(digits.w, 16))
    loss, cross_entropy, _ = search.theta_step(objective, x, y, 5.0, generator_of(0, "x"))
    assert (loss - cross_entropy).item() == pytest.approx(2 * math.log(expected / 30) ** 2, rel=1e-5)


@pytest.mark.parametrize(
    ("skip", "strategy"),
    [
        pytest.param(0.0, "mixture", marks=pytest.mark.full),
        (50.0, "mixture"),
        (0.0, "random"),
        pytest.param(50.0, "random", marks=pytest.mark.full),
        (50.0, "evolution"),
        pytest.param(0.0, "evolution", marks=pytest.mark.full),
    ],
)
def test_with_a_target_the_networks_derived_are_near_it(
    make: Make, micro: Space, micro_lut: Lut, skip: float, strategy: str
) -> None:
    names = [list(layer.candidates) for layer in micro.layers]
    latencies = {each: micro_lut.predict_us(micro.specs(each)) for each in itertools.product(*names)}
    target = sorted(latencies.values())[-3] * 1.001
    search = make(replace(SETTINGS, loss="target", strategy=strategy, evaluations=5), target=target)
    with torch.no_grad():
        for theta_l in search.objectives[0].theta:
            theta_l[2] = skip  # however much skip has taken over
    near = {each for each, us in latencies.items() if 0.97 * target <= us <= target}
    found = derive(search, search.objectives[0], 2)
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
    search = make(replace(SETTINGS, loss="target"), target=target)
    found = derive(search, search.objectives[0], 2)
    assert found
    assert all(candidate.cost < target for candidate in found)
