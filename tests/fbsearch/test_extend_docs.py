"""docs/extend of strategies, costs, losses and image sets, followed literally: as a file, and in an own package."""

import json
import re
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from fblut.table import Lut
from fblut.writing import write_lut
from fbsearch.theta import one_hot
from fbspace.architecture import Architecture, load_architecture
from fbspace.network import count_architecture
from fbspace.space import load_space
from peers.extending import ROOT, Ended, copy_sources, examples, give, install, page, touched

SHORTER = ["--epochs", "2", "--steps", "1", "--batch", "8", "--limit", "80", "--train-epochs", "0", "--threads", "1"]


class Checkout:
    """A folder with a table: and with a copy of the sources into which a file is added, or an own package."""

    def __init__(self, folder: Path, way: str, lut: Lut) -> None:
        self.folder, self.way = folder, way
        write_lut(lut, folder / "local.csv")

    def add(self, name: str) -> None:
        """Write a page's example under the name, and into the folder or the package, that the page says; no more."""
        place = re.search(r"file in\s+`(search/fbsearch/\w+)/`", page(name))
        file = re.search(r"complete one, `(\w+\.py)`", page(name))
        assert place is not None
        assert file is not None
        (code,) = examples(page(name), "python")
        if self.way == "file":
            copy_sources(self.folder)
            (self.folder / place[1] / file[1]).write_text(code, encoding="utf-8")
            assert touched(self.folder) == {f"{place[1]}/{file[1]}"}
        else:
            (project,) = examples(page(name), "toml")
            install(self.folder / "site", tomllib.loads(project), {file[1]: code})

    def follow(self, name: str, *more: list[str]) -> list[Ended]:
        """Give the page's own command, made short and with options changed, then others, in one process."""
        found = re.findall(r"^    fbsearch (.*)$", page(name), re.M)
        assert len(found) == 1
        own = [*found[0].split(), *SHORTER]
        commands = [own, *(words if words[0] == "run" else [*own, *words] for words in more)]
        sources = self.folder if self.way == "file" else ROOT
        ended = give([["fbsearch", *words] for words in commands], self.folder, sources, self.folder / "site")
        assert ended[0].code == 0, ended[0].err
        return ended

    def found(self, run: str) -> dict[str, Any]:
        """Return what a run's architecture file says of where the network came from."""
        provenance: dict[str, Any] = json.loads((self.folder / "runs" / run / "arch.json").read_text())["provenance"]
        return provenance


@pytest.fixture(params=["file", pytest.param("package", marks=pytest.mark.full)])
def checkout(tmp_path: Path, request: pytest.FixtureRequest, tiny_lut: Lut) -> Checkout:
    """In make test, packages are those of tests/test_outside_package.py."""
    return Checkout(tmp_path, request.param, tiny_lut)


def module(name: str) -> SimpleNamespace:
    namespace: dict[str, Any] = {"__name__": name}
    exec(compile(examples(page(name), "python")[0], f"{name}.md", "exec"), namespace)
    return SimpleNamespace(**namespace)


@pytest.mark.full
def test_strategy(checkout: Checkout) -> None:
    checkout.add("strategy")
    _, told, other, wrong, refused = checkout.follow(
        "strategy", ["run", "--help"], ["--coldest", "0.4"], ["--coldest", "0"], ["--strategy", "darts"]
    )
    settings = checkout.found("hard")["settings"]
    assert (settings["strategy"], settings["coldest"]) == ("hard", 0.2)
    metrics = [json.loads(line) for line in (checkout.folder / "runs/hard/metrics.jsonl").read_text().splitlines()]
    thetas = [value for layer in metrics[-1]["objectives"]["local"]["theta"].values() for value in layer.values()]
    assert any(value != 0 for value in thetas)
    assert "--coldest FLOAT Lowest τ of the samples. [default: 0.5; of strategy hard]" in " ".join(told.out.split())
    assert "coldest: 0.2 then, 0.4 now" in other.err
    assert "--coldest must be a positive number, not 0" in wrong.err
    assert "--coldest is no option of strategy darts, cost lut and loss paper; strategy hard has it" in refused.err


def test_the_strategy_runs_what_it_draws() -> None:
    strategy = module("strategy").Hard()
    theta = [torch.tensor([0.0, 3.0, 1.0], requires_grad=True)]
    m = strategy.sample(theta, 1.0, torch.Generator().manual_seed(0))[0]
    assert sorted(m.tolist()) == pytest.approx([0, 0, 1])
    x = torch.randn(2, 4)
    torch.testing.assert_close(strategy.layer(nn.ModuleList([nn.Identity(), nn.ReLU()]), x, one_hot(1, 2)), x.relu())
    strategy.layer(nn.ModuleList([nn.Identity(), nn.ReLU(), nn.Tanh()]), x, m).sum().backward()
    assert theta[0].grad is not None
    assert theta[0].grad.abs().sum() > 0


@pytest.mark.full
def test_cost(checkout: Checkout) -> None:
    checkout.add("cost")
    short = ["run", "--lut", "local.csv", "--cost", "storage", "--bits", "8", "--target"]
    done, told, wrong, none, added = checkout.follow(
        "cost",
        ["run", "--help"],
        [*short, "-1"],
        [*short, "9"],
        ["run", "--lut", "local.csv", "--cost", "lut+0.5*storage", "-o", "runs/sum", *SHORTER],
    )
    network = load_architecture(str(checkout.folder / "runs" / "small" / "arch.json"))
    assert 58_200 <= count_architecture(network).parameters <= 60_000
    found = checkout.found("small")
    assert (found["target"], found["settings"]["bits"]) == ([60_000.0, "bytes"], 8)
    assert "target               60 kB; the network takes" in done.out
    words = " ".join(told.out.split())
    assert "million parameters (params), kB (storage) that the network may take at most" in words
    assert "--bits INTEGER Bits of a parameter. [default: 32; of cost storage]" in words
    assert "--target must be a positive number, not -1" in wrong.err
    assert "no network has as few. Networks of this space have 50.48 to 340.5 kB" in none.err
    assert added.code == 0, added.err
    assert checkout.found("sum")["settings"]["bits"] == 32


def test_the_cost_is_that_of_the_networks_parameters(tiny_lut: Lut) -> None:
    space = load_space("fbnet-tiny")
    choices = [0, 1, 2, 3, 2, 1, 0, 1]
    cost = module("cost").Storage(bits=4).build(space, tiny_lut)
    m = [one_hot(choice, len(layer.candidates)) for choice, layer in zip(choices, space.layers, strict=True)]
    network = Architecture(name="x", space="fbnet-tiny", choices=space.names(choices))
    assert cost(m).item() == count_architecture(network).parameters / 2


@pytest.mark.full
def test_loss(checkout: Checkout) -> None:
    checkout.add("loss")
    _, refused = checkout.follow("loss", ["run", "--lut", "local.csv", "--loss", "hinge"])
    found = checkout.found("hinge")
    assert (found["settings"]["loss"], found["settings"]["slope"]) == ("hinge", 3.0)
    assert 0.97 * 300 <= found["candidates"][0]["cost"] <= 300
    assert "--loss hinge needs a target: give --target-ms" in refused.err


@pytest.mark.parametrize(("cost", "more"), [(90.0, 0.0), (150.0, 1.5), (200.0, 3.0)])
def test_the_loss_is_its_formula(cost: float, more: float) -> None:
    loss = module("loss").Hinge(slope=3.0)
    value = loss.weigh(torch.tensor(2.0), torch.tensor(cost, dtype=torch.float64), 100.0)
    assert value.item() == pytest.approx(2 + more)


@pytest.fixture
def digits_file(tmp_path: Path) -> dict[str, NDArray[np.uint8]]:
    """Files of the form that the page reads, in mnist/; the pixels of each."""
    rng = np.random.default_rng(0)
    sets = {part: rng.integers(0, 256, (n, 784)).astype(np.uint8) for part, n in (("train", 120), ("t10k", 30))}
    (tmp_path / "mnist").mkdir()
    for part, pixels in sets.items():
        (tmp_path / "mnist" / f"{part}-images-idx3-ubyte").write_bytes(bytes(16) + pixels.tobytes())
        labels = bytes(i % 10 for i in range(len(pixels)))
        (tmp_path / "mnist" / f"{part}-labels-idx1-ubyte").write_bytes(bytes(8) + labels)
    return sets


@pytest.mark.full
def test_source(checkout: Checkout, digits_file: dict[str, NDArray[np.uint8]]) -> None:
    checkout.add("source")
    checkout.follow("source")
    found = checkout.found("mnist")
    assert found["classes"] == list("0123456789")
    assert found["w_images"] + found["theta_images"] + found["validation_images"] == 80
    assert found["test_images"] == len(digits_file["t10k"])


def test_the_source_reads_what_the_files_hold(tmp_path: Path, digits_file: dict[str, NDArray[np.uint8]]) -> None:
    opened = module("source").Idx().open(str(tmp_path / "mnist"), 32)
    for source, pixels in zip(opened, digits_file.values(), strict=True):
        assert source.labels.tolist() == [i % 10 for i in range(len(pixels))]
        assert np.array_equal([source.decode(i).reshape(784) for i in range(len(pixels))], pixels)
