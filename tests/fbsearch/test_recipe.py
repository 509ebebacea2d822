"""Recipes: learning rates in closed form, the paper's milestones, defaults of another optimiser, refusals."""

import math
from typing import Any

import pytest

from fbbase.errors import FbError
from fbsearch.training.recipe import PRESETS, Recipe, make_recipe


def test_the_papers_rate_is_divided_by_ten_at_its_three_epochs() -> None:
    paper = PRESETS["paper"]
    rates = {0: 0.1, 89.99: 0.1, 90: 0.01, 179.99: 0.01, 180: 0.001, 269.99: 0.001, 270: 0.0001, 359.99: 0.0001}
    assert [paper.lr_at(t) for t in rates] == pytest.approx(list(rates.values()))
    assert (paper.epochs, paper.batch, paper.momentum, paper.weight_decay) == (360, 256, 0.9, 4e-5)
    assert not paper.nesterov


def test_cosine_falls_to_zero_after_a_warm_up_in_a_line() -> None:
    recipe = Recipe(epochs=10, lr=0.4, warmup=2)
    assert [recipe.lr_at(t) for t in (0, 0.5, 1.5)] == pytest.approx([0, 0.1, 0.3])
    assert [recipe.lr_at(2 + 8 * t) for t in (0, 0.25, 0.5, 1)] == pytest.approx(
        [0.4 * (1 + math.cos(math.pi * t)) / 2 for t in (0, 0.25, 0.5, 1)]
    )
    assert recipe.lr_at(6) == pytest.approx(0.2)
    assert recipe.lr_at(10) == pytest.approx(0, abs=1e-12)


def test_values_given_replace_the_presets_and_another_optimiser_brings_its_own_rate() -> None:
    assert make_recipe("quick") == Recipe()
    assert make_recipe("paper", epochs=90, lr=None) == Recipe(epochs=90, batch=256, schedule="steps", nesterov=False)
    adamw = make_recipe("quick", optimizer="adamw")
    assert (adamw.lr, adamw.weight_decay) == (1e-3, 0.05)
    assert make_recipe("quick", optimizer="adamw", lr=0.3).lr == 0.3
    assert make_recipe("quick", optimizer="sgd").lr == 0.1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"optimizer": "adam"}, "--optimizer must be one of sgd, adamw"),
        ({"schedule": "line"}, "--schedule must be one of cosine, steps"),
        ({"epochs": 0}, "--epochs must be at least 1"),
        ({"batch": 1}, "--batch must be at least 2"),
        ({"lr": math.nan}, "--lr must be a positive number"),
        ({"mixup": math.inf}, "--mixup must be at least 0"),
        ({"ema": 1.0}, "--ema must be at least 0 and below 1"),
        ({"label_smoothing": -0.1}, "--label-smoothing must be at least 0 and below 1"),
        ({"warmup": 15}, "--warmup of 15 epochs leaves none"),
        ({"milestones": (0.5, 0.25)}, "--milestones rise between 0 and 1"),
        ({"milestones": (90.0, 180.0)}, "--milestones rise between 0 and 1"),
    ],
)
def test_values_out_of_range_are_refused_by_name(values: dict[str, Any], message: str) -> None:
    with pytest.raises(FbError, match=message):
        Recipe(**values)
