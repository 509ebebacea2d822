"""Random networks: distinct, the same for the same seed, uniform, and all there are where those are few."""

import itertools
import math
from collections import Counter
from pathlib import Path

import pytest
import scipy  # its parts are imported when they are used, not in every worker
from hypothesis import given
from hypothesis import strategies as st

from fbspace.draw import ENUMERABLE, draw_networks
from fbspace.space import Space, load_space

FBNET = load_space("fbnet")
SMALL = """
description = "three layers of three candidates"
input = { channels = 3, size = 8 }
classes = 2
head_channels = [8]
stem = [{ kind = "conv", channels = 8, kernel = 3 }]
stages = [{ channels = 8, repeats = 3, stride = 1 }]
[candidates]
small = { kind = "ir", kernel = 3, expansion = 1 }
large = { kind = "ir", kernel = 5, expansion = 6 }
skip = { kind = "skip" }
"""
EVERY = set(itertools.product(("small", "large", "skip"), repeat=3))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Space:
    path = tmp_path_factory.mktemp("space") / "small.toml"
    path.write_text(SMALL)
    return load_space(str(path))


def test_the_large_space_is_not_listed_and_the_small_one_is(small: Space) -> None:
    sizes = [math.prod(len(layer.candidates) for layer in space.layers) for space in (FBNET, small)]
    assert sizes[0] > ENUMERABLE >= sizes[1] == len(EVERY)


@given(count=st.integers(0, 40), more=st.integers(0, 40), seed=st.text(max_size=5))
def test_networks_fit_the_space_are_distinct_and_come_first_in_a_larger_draw(count: int, more: int, seed: str) -> None:
    drawn = draw_networks(FBNET, count, seed)
    assert len(drawn) == len(set(drawn)) == count
    assert all(len(FBNET.all_specs(choices)) == len(FBNET.stem) + 22 + 2 for choices in drawn)
    assert draw_networks(FBNET, count + more, seed)[:count] == drawn


@given(count=st.integers(0, 30), exclude=st.sets(st.sampled_from(sorted(EVERY))), seed=st.integers())
def test_a_small_space_gives_all_there_are_but_the_excluded(
    small: Space, count: int, exclude: set[tuple[str, ...]], seed: int
) -> None:
    drawn = draw_networks(small, count, str(seed), exclude)
    assert len(drawn) == len(set(drawn)) == min(count, len(EVERY) - len(exclude))
    assert set(drawn) <= EVERY - exclude
    assert draw_networks(small, 27, str(seed), exclude)[:count] == drawn


def test_excluded_networks_are_left_out_of_a_large_space_and_the_others_keep_their_order() -> None:
    drawn = draw_networks(FBNET, 20, "a")
    assert draw_networks(FBNET, 10, "a", drawn[::2]) == drawn[1::2]


def test_the_seed_decides(small: Space) -> None:
    for space in (FBNET, small):
        assert draw_networks(space, 20, "a") == draw_networks(space, 20, "a")
        assert draw_networks(space, 20, "a") != draw_networks(space, 20, "b")


def test_networks_of_recorded_runs_are_drawn_again() -> None:
    """Journals of calibrated runs name them: another draw for the same seed would measure others to continue."""
    assert draw_networks(load_space("fbnet-tiny"), 2, "calibration/0") == [
        ("k5_e1_g2", "k5_e3", "k3_e3", "k5_e1", "k5_e3", "k5_e3", "skip", "k3_e6"),
        ("k5_e1", "k5_e6", "k5_e1", "k3_e3", "k3_e3", "k3_e3", "k3_e6", "k5_e1"),
    ]


def test_candidates_of_a_large_space_are_uniform_and_independent_of_the_layer_before() -> None:
    drawn = draw_networks(FBNET, 3000, "uniform")
    for layer, names in zip(FBNET.layers, zip(*drawn, strict=True), strict=True):
        counts = Counter(names)
        assert scipy.stats.chisquare([counts[name] for name in layer.candidates]).pvalue > 1e-3
    for first, second in itertools.pairwise(zip(*drawn, strict=True)):
        pairs = Counter(zip(first, second, strict=True))
        table = [[pairs[a, b] for b in FBNET.layers[1].candidates] for a in FBNET.layers[0].candidates]
        assert scipy.stats.chi2_contingency(table).pvalue > 1e-3


def test_networks_of_a_small_space_come_first_equally_often(small: Space) -> None:
    counts = Counter(draw_networks(small, 1, str(seed))[0] for seed in range(5000))
    assert scipy.stats.chisquare([counts[choices] for choices in EVERY]).pvalue > 1e-3


def test_two_spaces_of_one_size_draw_apart(small: Space, tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text(SMALL)
    other = load_space(str(tmp_path / "other.toml"))
    assert draw_networks(small, 27, "a") != draw_networks(other, 27, "a")
