"""Spaces: FBNet's exact shapes, and what a person gets wrong in a file."""

import itertools
import tomllib
from pathlib import Path

import pytest

from fbbase.errors import FbError, UnknownNameError
from fbspace.blocks import block_of, is_identity
from fbspace.errors import ArchitectureError
from fbspace.space import SPACES, load_space
from fbspace.space.toml_lines import line_of

# layers, output channels, stride of the first, input size of the first (facts: FBNet, table 1)
STAGES = [
    (1, 16, 1, 112),
    (4, 24, 2, 112),
    (4, 32, 2, 56),
    (4, 64, 2, 28),
    (4, 112, 1, 14),
    (4, 184, 2, 14),
    (1, 352, 1, 7),
]

CANDIDATES = ["k3_e1", "k3_e1_g2", "k3_e3", "k3_e6", "k5_e1", "k5_e1_g2", "k5_e3", "k5_e6", "skip"]

MINIMAL = """
description = "one layer"
input = { channels = 3, size = 8 }
classes = 2
head_channels = [8]
stem = [{ kind = "conv", channels = 8, kernel = 3 }]
stages = [{ channels = 8, repeats = 1, stride = 1 }]
[candidates]
a = { kind = "ir", kernel = 3, expansion = 1 }
"""


def test_fbnet_has_the_papers_layers() -> None:
    space = load_space("fbnet")
    expected = []
    channels = 16
    for number, (repeats, out, stride, size) in enumerate(STAGES, start=1):
        for repeat in range(repeats):
            first = repeat == 0
            here = size if first else size // stride
            expected.append((number, channels, out, here, stride if first else 1))
            channels = out
    found = []
    for layer in space.layers:
        assert list(layer.candidates) == CANDIDATES
        shapes = {(s.in_channels, s.out_channels, s.height, s.stride) for s in layer.candidates.values()}
        assert len(shapes) == 1
        found.append((layer.stage, *shapes.pop()))
    assert found == expected
    assert [layer.index for layer in space.layers] == list(range(1, 23))


def test_fbnet_candidates_stem_and_head() -> None:
    space = load_space("fbnet")
    candidates = space.layers[1].candidates
    assert [(s.kernel, s.expansion, s.groups) for s in candidates.values()][:-1] == [
        (k, e, g) for k in (3, 5) for e, g in ((1, 1), (1, 2), (3, 1), (6, 1))
    ]
    assert [spec.key() for spec in space.stem] == ["conv_in3x224x224_out16_k3_s2_e1_g1_relu"]
    assert {width: head[0].out_channels for width, head in space.heads.items()} == {1984: 1984, 1504: 1504}
    assert space.heads[1504][1].key() == "classifier_in1504x7x7_out1000_k1_s1_e1_g1_none"
    assert space.head_channels == 1984


def test_distinct_operators() -> None:
    operators = load_space("fbnet").operators()
    assert len(operators) == len(set(operators)) == 107
    assert not any(is_identity(spec) for spec in operators)
    # 12 distinct shapes of 8 blocks each, 6 of them with a skip that changes the shape; the stem; two heads of two
    assert sum(spec.kind == "ir" for spec in operators) == 96
    assert sum(spec.kind == "skip" for spec in operators) == 6


@pytest.mark.parametrize("name", SPACES.names())
def test_shapes_of_every_space_fit_together(name: str) -> None:
    space = load_space(name)
    first = [decision.options[0] for decision in space.decisions]
    specs = space.all_specs(first)
    for before, after in itertools.pairwise(specs):
        assert (before.out_channels, *block_of(before).output_size(before)) == (
            after.in_channels,
            after.height,
            after.width,
        )
    for layer in space.layers:
        assert len({(spec.out_channels, block_of(spec).output_size(spec)) for spec in layer.candidates.values()}) == 1


def write(path: Path, content: str) -> str:
    (path / "mine.toml").write_text(content)
    return str(path / "mine.toml")


def test_a_file_is_a_space_of_its_own_name(tmp_path: Path) -> None:
    space = load_space(write(tmp_path, MINIMAL))
    assert (space.name, len(space.layers), space.input_shape) == ("mine", 1, (1, 3, 8, 8))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("classes = 2", "classes = ", r"mine.toml: .*line 4"),
        ("classes = 2", "classes = 0", r"mine.toml: line 4: classes: .*greater than or equal to"),
        ("classes = 2", "clases = 2", r"mine.toml: .*(clases|classes)"),
        ("kernel = 3, expansion", "kernel = 4, expansion", r"line 9: candidates.a: kernel must be odd"),
        ("expansion = 1", "expansion = -1", r"line 9: candidates.a.expansion"),
        ("repeats = 1", "repeats = 1.5", r"line 7: stages.0.repeats"),
        (
            '{ kind = "ir"',
            '{ kind = "skip" }\nb = { kind = "pool"',
            r"line 8: candidates: they end in maps of other sizes",
        ),
        ('"ir"', '"ri"', r"line 9: candidates.a.kind: unknown block 'ri'. Did you mean 'ir'"),
        (
            "channels = 8, kernel",
            "channels = 8, kernel = 3 }, { kind = 'conv', kernel",
            "line 6: stem.1.channels: Field",
        ),
    ],
)
def test_mistakes_in_a_file_say_where(old: str, new: str, message: str, tmp_path: Path) -> None:
    assert old in MINIMAL
    with pytest.raises(FbError, match=message):
        load_space(write(tmp_path, MINIMAL.replace(old, new)))


def test_an_unknown_space_suggests_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'fbnet-tiny'"):
        load_space("fbnet-tyni")
    with pytest.raises(FbError, match=r"search space not found: nowhere.toml"):
        load_space("nowhere.toml")


@pytest.mark.parametrize(
    ("choices", "head", "message"),
    [
        (["skip"] * 7, None, "has 8 layers, but 7 are chosen"),
        (["skip"] * 7 + ["k7_e6"], None, "layer 8 .* has no candidate 'k7_e6'; it has k3_e1"),
        (["skip"] * 8, 1504, "no head of 1504 channels; it has 256"),
    ],
)
def test_choices_that_do_not_fit_are_refused(choices: list[str], head: int | None, message: str) -> None:
    with pytest.raises(ArchitectureError, match=message):
        load_space("fbnet-tiny").specs(choices, head)


@pytest.mark.parametrize("name", SPACES.names())
def test_every_line_of_every_space_is_found(name: str) -> None:
    text = SPACES.path(name).read_text(encoding="utf-8")
    lines = text.splitlines()

    def walk(content: object, path: tuple[str | int, ...]) -> None:
        line = lines[line_of(text, path) - 1] if path else ""
        if isinstance(content, dict):
            for key, value in content.items():
                walk(value, (*path, key))
        elif isinstance(content, list):
            for index, value in enumerate(content):
                walk(value, (*path, index))
        else:
            assert str(content).lower() in line.lower(), (path, line)
            names = [part for part in path if isinstance(part, str)]
            assert names[-1] in line

    walk(tomllib.loads(text), ())


def test_lines_are_found_past_comments_strings_and_tables() -> None:
    text = """# stages = [1]
text = "classes = 1 # no"
'a b' = 1
[[stages]]
channels = 1
[[stages]] # channels = 3
channels = [
  [1, 2], # one
  [3],
]
"""
    assert line_of(text, ("stages", 1, "channels")) == 7
    assert line_of(text, ("stages", 1, "channels", 1)) == 9
    assert line_of(text, ("stages", 0, "channels")) == 5
    assert line_of(text, ("a b",)) == 3
    assert line_of(text, ("stages", 1, "missing")) == 6
    assert line_of(text, ("nothing",)) == 1
