"""A package of one's own, really installed, with a plug-in of every kind: each is the example of its page, and is used.

The pages are those of docs/extend: the package's modules are their code, its entry points those that they say. Options
that a plug-in declares are options of the commands. What the pages give no example of is in MORE.
"""

import gzip
import importlib
import inspect
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from fblut.reading import read_lut
from fbprof.models.result import read_result
from fbspace.space import load_space
from peers.extending import ROOT, examples, give
from peers.extending import page as page_of
from peers.small_models import onnx_model

EXTEND = ROOT / "docs" / "extend"
MORE = {
    ("fbsearch.commands", "newest"): '''
"""newest: when a network was found."""

import click


@click.command("newest")
@click.argument("architecture")
def command(architecture):
    """Print the name of an ARCHITECTURE."""
    from fbspace.architecture import load_architecture

    click.echo(load_architecture(architecture).name)
''',
    ("fbspace.blocks", "bare"): '''
"""bare: a 1x1 convolution and nothing else."""

from fbspace.blocks import Block


class Bare(Block):
    """A 1x1 convolution."""

    def build(self, spec):
        """Build it."""
        from fbspace.layers import conv_bn

        return conv_bn(spec.in_channels, spec.out_channels, 1, spec.stride, activation=spec.activation)
''',
    ("fbsearch.fbnetv2.blocks", "bare"): '''
"""bare, of every width."""

from fbsearch.fbnetv2.blocks import MaskedBlock
from fbsearch.fbnetv2.masks import masked
from fbspace.layers import conv_bn


class MaskedBare(MaskedBlock):
    """A 1x1 convolution to the largest width, masked to those that are chosen."""

    def __init__(self, spec, widths):
        super().__init__(spec, widths)
        self.conv = conv_bn(max(widths.ins), max(widths.outs), 1, spec.stride, activation=spec.activation)

    def forward(self, x, choice):
        """Run and mask."""
        return masked(self.conv(x), choice.outs, self.widths.outs)

    def weights(self, spec):
        """Return the convolution."""
        return self.conv
''',
}
"""Modules of the package that no page has, by entry-point group and name."""
BARE_SPACE = """
description = "Widths of 1x1 convolutions"
input = { channels = 3, size = 16 }
classes = 10
head_channels = [16]
stem = [{ kind = "conv", channels = 8, kernel = 3, stride = 2 }]
stages = [{ channels = [8, 12], repeats = 1, stride = 1 }, { channels = [12, 16], repeats = 1, stride = 2 }]

[candidates]
bare = { kind = "bare" }
skip = { kind = "skip" }
"""


def entry_points(page: str) -> dict[str, dict[str, str]]:
    """Return the entry points that a page says, by group."""
    found: dict[str, dict[str, str]] = {}
    for block in examples(page, "toml"):
        if "entry-points" in block:
            found |= tomllib.loads(block)["project"]["entry-points"]
    return found


def module_of(name: str) -> str:
    """Return what the module of a page's example is called."""
    return name.replace("-", "_")


def modules_of(name: str) -> dict[str, str]:
    """Return the modules that a page shows for a package of one's own, by their file's name."""
    code = examples(page_of(name), "python")
    if name != "runtime":
        return {f"{module_of(name)}.py": code[0]} if code else {}
    host, on_device, source = code
    line = '    precisions = ("float32",)\n'
    assert line in host
    host = host.replace(line, line + source).replace("from fbexport", "from pathlib import Path\n\nfrom fbexport", 1)
    return {"runtime.py": host, "on_device.py": f"from __main__ import Runtime\n\n\n{on_device}"}


def data_of(name: str) -> dict[str, str]:
    """Return the data file that a page shows for a package of one's own: its first TOML that is no entry point."""
    if name not in ("space", "transport"):
        return {}
    text = next(block for block in examples(page_of(name), "toml") if "entry-points" not in block)
    return {{"space": "mine.toml", "transport": "slow.toml"}[name]: text}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder into which pip has installed the package."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    package = source / "my_package"
    package.mkdir()
    (package / "__init__.py").touch()
    entries: dict[str, dict[str, str]] = {}
    for name in (path.stem for path in EXTEND.glob("*.md") if path.stem != "index"):
        for file, text in (modules_of(name) | data_of(name)).items():
            (package / file).write_text(text, encoding="utf-8")
        for group, points in entry_points(page_of(name)).items():
            is_data = group in ("fbspace.spaces", "fbagents.profiles")
            found = dict.fromkeys(points, "my_package" if is_data else f"my_package.{module_of(name)}")
            entries[group] = entries.get(group, {}) | found
    for number, ((group, point), text) in enumerate(MORE.items()):
        (package / f"more{number}.py").write_text(text, encoding="utf-8")
        entries[group] = entries.get(group, {}) | {point: f"my_package.more{number}"}
    sections = [
        f'[project.entry-points."{group}"]\n' + "".join(f'{name} = "{value}"\n' for name, value in points.items())
        for group, points in entries.items()
    ]
    (source / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
        '[project]\nname = "my-package"\nversion = "1"\n' + "\n".join(sections) + "\n[tool.setuptools]\n"
        'packages = ["my_package"]\npackage-data = { "*" = ["*.toml"] }\n'
    )
    pip = ["pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--target", str(target), "."]
    done = subprocess.run([sys.executable, "-m", *pip], cwd=source, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return target


def test_every_kind_of_the_index_has_a_page_that_says_how_a_package_adds_one() -> None:
    index = page_of("index")
    rows = re.findall(r"^\| .*\| (.*) \| \[[\w-]+\]\(([\w-]+)\.md\) \|$", index, re.M)
    assert {page for _, page in rows} == {path.stem for path in EXTEND.glob("*.md")} - {"index", "operators"}
    for cell, page in rows:
        folders = re.findall(r"`([\w/]+/)`", cell)
        groups = re.findall(r"`(fb[\w.]+\w)`", cell)
        assert folders
        assert groups
        for folder in folders:
            assert (ROOT / folder).is_dir()
            assert folder in page_of(page), f"{page}.md does not name the folder {folder}"
        for group in groups:
            assert group in page_of(page), f"{page}.md does not name the entry-point group {group}"
    bases = [
        name for cell in re.findall(r"^\| [^|]+ \| (`fb[^|]+) \|", index, re.M) for name in re.findall(r"`(.*?)`", cell)
    ]
    assert len(bases) >= 11
    for base in bases:
        module, _, name = base.rpartition(".")
        assert inspect.isabstract(getattr(importlib.import_module(module), name)), base


SHORT = "--epochs 1 --steps 1 --batch 16 --warmup 0 --samples 1 --device cpu"
FEW = "--rounds 1 --calibrate 0"
MEASURE = f"fbprof measure --device slow --space phantom.toml --runtime reference {FEW} -o phantom.csv"
EXPORT = "fbprof export mobilenetv3-small --format summary -o summary.txt"
SPACE = "fbsearch spaces check mine"
IMPORT = "fbprof import board.lat --space fbnet-tiny --unit us --device board -o board.csv"
COMPARE = "fbprof compare board.csv board.csv --format latex"
REPORT = "fbprof report board.csv -o board.html"
SLOWEST = "fbprof slowest board.csv --top 2"
NEWEST = "fbsearch newest fbnet-a"
SEARCH = (
    "fbsearch run --lut board.csv --data idx:mnist/ --strategy hard --cost storage --loss hinge --target 60 "
    f"--coldest 0.2 --bits 8 --slope 3 {SHORT} -o found"
)
PROFILE = "fbprof profile small.onnx.gz --layers --rounds 4 -o packed.json"
MEASURE_BARE = f"fbprof measure --space bare.toml {FEW} -o bare.csv"
SEARCH_BARE = f"fbsearch run --lut bare.csv --data digits {SHORT} -o bare"
EVERY = [MEASURE, EXPORT, SPACE, IMPORT, COMPARE, REPORT, SLOWEST, NEWEST, SEARCH, PROFILE, MEASURE_BARE, SEARCH_BARE]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder in which the commands run, with the files that they read."""
    folder = tmp_path_factory.mktemp("here")
    space = next(block for block in examples(page_of("block"), "toml") if "entry-points" not in block)
    (folder / "phantom.toml").write_text(space, encoding="utf-8")
    (folder / "bare.toml").write_text(BARE_SPACE)
    keys = [spec.key() for spec in load_space("fbnet-tiny").operators()]
    (folder / "board.lat").write_text("".join(f"{key} {i}\n" for i, key in enumerate(keys, start=1)))
    nodes = [helper.make_node("Relu", ["x"], ["h"]), helper.make_node("Softmax", ["h"], ["y"])]
    shape = ("float32", (64, 512))
    (folder / "small.onnx.gz").write_bytes(gzip.compress(onnx_model({"x": shape}, {"y": shape}, nodes)))
    (folder / "mnist").mkdir()
    for part in ("train", "t10k"):
        pixels = np.random.default_rng(0).integers(0, 256, (200, 28, 28), np.uint8)
        (folder / "mnist" / f"{part}-images-idx3-ubyte").write_bytes(bytes(16) + pixels.tobytes())
        (folder / "mnist" / f"{part}-labels-idx1-ubyte").write_bytes(bytes(8) + bytes(i % 10 for i in range(200)))
    return folder


@pytest.fixture(scope="module")
def printed(installed: Path, here: Path) -> dict[str, str]:
    """Give every command with the package installed; return what each prints."""
    ended = give([line.split() for line in EVERY], here, site=installed)
    assert {line: each.err for line, each in zip(EVERY, ended, strict=True) if each.code} == {}
    return {line: each.out for line, each in zip(EVERY, ended, strict=True)}


def test_a_transport_a_runtime_and_a_block_measure_a_table(printed: dict[str, str], here: Path) -> None:
    lut = read_lut(here / "phantom.csv")
    assert (lut.metadata.device, lut.metadata.runtime) == ("slow", "reference")
    assert {key.partition("_cheap_kernel=")[2] for key in lut.rows if key.startswith("phantom_")} == {"", "5"}


def test_a_format_and_a_space(printed: dict[str, str], here: Path) -> None:
    assert (here / "summary.txt").read_text().startswith("Conv (16, 3, 3, 3)")
    assert re.search(r"^mine +64 +5 +3 ", printed[SPACE], re.M)


def test_a_format_of_model_files_is_profiled_part_by_part(printed: dict[str, str], here: Path) -> None:
    (found,) = read_result(here / "packed.json").models
    assert (found.name, found.runtime) == ("small.onnx.gz", "onnxruntime")
    assert [each.kind for each in found.layers] == ["Relu", "Softmax"]
    assert all(each.alone_us for each in found.layers)


def test_an_import_a_view_a_chart_and_commands(printed: dict[str, str], here: Path) -> None:
    keys = [spec.key() for spec in load_space("fbnet-tiny").operators()]
    assert [row.latency_us for row in read_lut(here / "board.csv").rows.values()] == [*range(1, len(keys) + 1)]
    assert printed[COMPARE].startswith(r"\section*{comparison")
    assert 'id="slowest"' in (here / "board.html").read_text(encoding="utf-8")
    assert printed[SLOWEST].split() == [f"{len(keys)}.0", keys[-1], f"{len(keys) - 1}.0", keys[-2]]
    assert printed[NEWEST] == "fbnet-a\n"


def test_a_source_a_strategy_a_cost_and_a_loss_search_with_options_of_their_own(
    printed: dict[str, str], here: Path
) -> None:
    found = json.loads((here / "found" / "arch.json").read_text(encoding="utf-8"))["provenance"]
    names = ("strategy", "cost", "loss", "coldest", "bits", "slope")
    assert [found["settings"][name] for name in names] == ["hard", "storage", "hinge", 0.2, 8, 3.0]
    assert found["target"] == [60e3, "bytes"]
    assert 0.97 * 60e3 <= found["candidates"][0]["cost"] <= 60e3


def test_a_block_with_masks_searches_widths(printed: dict[str, str], here: Path) -> None:
    network = json.loads((here / "bare" / "arch.json").read_text(encoding="utf-8"))["network"]
    assert {layer["kind"] for layer in network["layers"]} <= {"bare", "skip"}
