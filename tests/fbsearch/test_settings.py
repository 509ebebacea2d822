"""The schedule of the paper, stretched to the epochs asked for."""

import math

import pytest

from fbbase.errors import FbError
from fbsearch.fbnet.settings import Settings


def test_ninety_epochs_follow_the_papers_schedule() -> None:
    settings = Settings(space="x", data="digits", epochs=90)
    assert settings.warmup_epochs == 10
    assert settings.temperature_at(0) == 5.0
    assert settings.temperature_at(1) / settings.temperature_at(0) == pytest.approx(0.956, abs=1e-3)
    assert settings.temperature_at(89) == pytest.approx(5 * math.exp(-0.045 * 89))


def test_a_short_search_goes_through_the_same_temperatures() -> None:
    short, paper = Settings(space="x", data="digits", epochs=6), Settings(space="x", data="digits", epochs=90)
    assert [short.temperature_at(e) for e in range(6)] == pytest.approx(
        [paper.temperature_at(15 * e) for e in range(6)]
    )
    assert short.warmup_epochs == 1


def test_the_learning_rate_falls_in_a_cosine() -> None:
    settings = Settings(space="x", data="digits", epochs=4, lr=0.1)
    assert [settings.lr_at(e) for e in range(5)] == pytest.approx([0.1, 0.0853553, 0.05, 0.0146447, 0], abs=1e-6)


@pytest.mark.parametrize(
    ("name", "value"), [("epochs", 0), ("batch", 1), ("lr", 0.0), ("lr", math.nan), ("lr", -1.0), ("steps", 0)]
)
def test_values_out_of_range_are_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(FbError, match=f"--{name} must be"):
        Settings(space="x", data="digits", **{name: value})
