"""Spaces whose stages have candidates of their own, and whose images are not square."""

import json
import tomllib
from pathlib import Path

import pytest
import torch

from fbexport.export import export_network
from fbspace.architecture import Architecture, choose, load_architecture
from fbspace.errors import SpaceError
from fbspace.listing import scale
from fbspace.network import build_network, count, count_architecture
from fbspace.space import SPACES, load_space
from fbspace.weights import load_network

MIXED = """
description = "two stages of blocks of their own, on images half as high as wide"
input = { channels = 3, height = 10, width = 20 }
classes = 10
head_channels = [16]
stem = [{ kind = "conv", channels = 8, kernel = 3, stride = 2 }]
stages = [
  { channels = 8, repeats = 1, stride = 1, candidates = ["ghost", "fused", "skip"] },
  { channels = 16, repeats = 2, stride = 2, candidates = ["next", "shuffle"] },
]
[candidates]
ghost = { kind = "ghost", kernel = 3, expansion = 2 }
fused = { kind = "fusedmb", kernel = 3, expansion = 2 }
next = { kind = "convnext", kernel = 5, expansion = 2, activation = "gelu" }
shuffle = { kind = "shuffle", kernel = 3 }
skip = { kind = "skip" }
"""


@pytest.fixture
def mixed(tmp_path: Path) -> str:
    (tmp_path / "mixed.toml").write_text(MIXED)
    return str(tmp_path / "mixed.toml")


def test_a_stage_has_the_candidates_that_it_names(mixed: str) -> None:
    space = load_space(mixed)
    names = [list(layer.candidates) for layer in space.layers]
    assert names == [["ghost", "fused", "skip"], ["next", "shuffle"], ["next", "shuffle"]]
    assert space.networks_log10 == pytest.approx(1.0792, abs=1e-4)  # 3 · 2 · 2
    shapes = [(spec.height, spec.width) for spec in space.specs(("ghost", "next", "shuffle"))]
    assert shapes == [(10, 20), (5, 10), (5, 10), (3, 5), (3, 5), (3, 5)]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('["next", "shuffle"]', '["next", "shufle"]', r"line 9: stages.1.candidates: there is no candidate 'shufle'; "),
        ('["next", "shuffle"]', "[]", r"line 9: stages.1.candidates: .*at least 1"),
        ("height = 10, ", "", r"line 3: input: images have a size, or a height and a width; give one of both"),
        ("height = 10", "size = 10", r"line 3: input: images have a size, or a height and a width"),
        ("height = 10", "height = 0", r"line 3: input.height: .*greater than or equal to 1"),
        ("height = 10", "height = [10, 20]", r"line 3: input.height: .*integer"),
    ],
)
def test_mistakes_are_named_with_their_line(mixed: str, old: str, new: str, message: str) -> None:
    Path(mixed).write_text(MIXED.replace(old, new))
    with pytest.raises(SpaceError, match=message):
        load_space(mixed)


def test_a_network_of_oblong_images_is_counted_written_and_read(mixed: str, tmp_path: Path, run_model: object) -> None:
    architecture = choose(mixed, ("fused", "next", "shuffle"), "oblong")
    space = architecture.load_space()
    assert space.input_shape == (1, 3, 10, 20)
    assert count(build_network(architecture), space.input_shape) == count_architecture(architecture)
    listed = Architecture(name="listed", network=scale(space, architecture.all_specs(space)))
    listed.save(tmp_path / "listed.json")
    assert json.loads((tmp_path / "listed.json").read_text())["network"]["input"] == {
        "channels": 3, "height": 10, "width": 20,
    }  # fmt: skip
    again = load_architecture(str(tmp_path / "listed.json"))
    assert again.specs() == architecture.specs()
    assert scale(space, architecture.all_specs(space), size=32).space("square").input_shape == (1, 3, 32, 32)
    x = torch.randn(space.input_shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = load_network(again, seed=1)(x)
    for name in ("tflite", "onnx"):
        found = torch.from_numpy(run_model(name, export_network(again, name, seed=1), x.numpy()))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_the_modern_space_has_blocks_of_all_sorts_where_it_says() -> None:
    space = load_space("modern-mobile")
    told = tomllib.loads(SPACES.path("modern-mobile").read_text())
    assert space.input_shape == (1, 3, 256, 256)
    assert len(space.layers) == 18
    kinds = [{spec.kind for spec in layer.candidates.values()} for layer in space.layers]
    assert set.union(*kinds) == {"fusedmb", "ghost", "uib", "shuffle", "convnext", "skip"}
    assert all(len(each) > 2 for each in kinds)
    assert {name for layer in space.layers for name in layer.candidates} == set(told["candidates"])
