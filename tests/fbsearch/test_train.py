"""The optimisers' steps by hand, resuming at any step, diverging, weights to begin with, and the unseen test images."""

import dataclasses
import json
import math
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fbbase.interrupt import Terminated
from fbsearch.errors import DivergedError
from fbsearch.images.data import Data
from fbsearch.images.split import Split
from fbsearch.machine.checkpoint import TRAIN, RunFolder
from fbsearch.machine.compute import Compute
from fbsearch.machine.seeds import generator_of
from fbsearch.training.evaluate import evaluate
from fbsearch.training.recipe import Recipe
from fbsearch.training.train import Training, build_optimizer, train
from fbspace.architecture import Architecture
from fbspace.network import build_network
from fbspace.space import Space

RECIPE = Recipe(epochs=2, batch=40, mixup=0.3, cutout=0.4, ema=0.9, label_smoothing=0.1, warmup=1, augment="crop-flip")


@pytest.fixture
def architecture(micro_file: Path) -> Architecture:
    return Architecture(name="small", space=str(micro_file), choices=("k3_e1", "k5_e3"))


def trained(
    architecture: Architecture,
    space: Space,
    data: Data,
    path: Path,
    recipe: Recipe = RECIPE,
    amp: str = "none",
    network: nn.Module | None = None,
) -> Training:
    folder = RunFolder(path, dataclasses.asdict(recipe), {"images": data.fingerprint})
    return train(architecture, space, data, recipe, folder, Compute.choose("cpu", amp), network=network)


def weights(result: Training) -> dict[str, Tensor]:
    return dict(result.network.state_dict())


def assert_same(mine: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    for name, value in other.items():
        assert torch.equal(value, mine[name]), name


class Scalar(nn.Module):
    """One parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(2.0, dtype=torch.float64))


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_steps_as_by_hand(nesterov: bool) -> None:
    network = Scalar()
    optimizer = build_optimizer(network, Recipe(lr=0.1, momentum=0.9, weight_decay=0.01, nesterov=nesterov))
    w, v = 2.0, 0.0
    for gradient in (3.0, -1.0, 0.5):
        network.w.grad = torch.tensor(gradient, dtype=torch.float64)
        optimizer.step()
        g = gradient + 0.01 * w
        v = 0.9 * v + g
        w -= 0.1 * (g + 0.9 * v if nesterov else v)
        assert network.w.item() == pytest.approx(w, rel=1e-12)


def test_adamw_steps_as_by_hand() -> None:
    network = Scalar()
    optimizer = build_optimizer(network, Recipe(optimizer="adamw", lr=0.01, weight_decay=0.1))
    w, m, v = 2.0, 0.0, 0.0
    for t, gradient in enumerate((3.0, -1.0, 0.5), start=1):
        network.w.grad = torch.tensor(gradient, dtype=torch.float64)
        optimizer.step()
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        w = w * (1 - 0.01 * 0.1) - 0.01 * (m / (1 - 0.9**t)) / (math.sqrt(v / (1 - 0.999**t)) + 1e-8)
        assert network.w.item() == pytest.approx(w, rel=1e-12)


class StopsAtOnce(nn.Module):
    """A network during whose first step this process is told to end."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.told = network, False

    def forward(self, x: Tensor) -> Tensor:
        if self.training and not self.told:
            os.kill(os.getpid(), signal.SIGTERM)
        self.told = True
        y: Tensor = self.network(x)
        return y


@pytest.mark.parametrize("optimizer", ["sgd", pytest.param("adamw", marks=pytest.mark.full)])
def test_stopped_after_any_step_it_goes_on_to_the_same_bits(
    optimizer: str, architecture: Architecture, micro: Space, digits: Data, tmp_path: Path
) -> None:
    recipe = dataclasses.replace(RECIPE, optimizer=optimizer, lr=0.01)
    whole = trained(architecture, micro, digits, tmp_path / "whole", recipe)
    stops = 0
    while True:  # a run for every step, the last of which ends
        torch.manual_seed(recipe.seed)
        network = StopsAtOnce(build_network(architecture, micro, classes=10))
        try:
            result = trained(architecture, micro, digits, tmp_path / "stopped", recipe, network=network)
        except Terminated:
            stops += 1
            continue
        break
    assert stops == 2 * math.ceil(180 / 40)
    assert_same({f"network.{name}": value for name, value in weights(whole).items()}, weights(result))
    assert (result.validation, result.train_accuracy_percent) == (whole.validation, whole.train_accuracy_percent)
    mine, other = (
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("stopped", "whole")
    )
    for line in (*mine, *other):
        assert 0 <= line.pop("waited_s") <= line.pop("seconds")
    assert mine == other


def test_the_network_that_counts_is_the_averaged_one_and_its_accuracy_the_one_reported(
    architecture: Architecture, micro: Space, digits: Data, tmp_path: Path
) -> None:
    result = trained(architecture, micro, digits, tmp_path)
    state = torch.load(tmp_path / TRAIN, weights_only=True)["state"]
    assert_same(weights(result), state["ema"]["network"])
    assert not torch.equal(state["network"]["head_2.fc.weight"], state["ema"]["network"]["head_2.fc.weight"])
    assert evaluate(result.network, digits, digits.validation, 40) == result.validation
    assert result.validation.images == len(digits.validation)


@pytest.mark.parametrize("amp", ["none", pytest.param("bf16", marks=pytest.mark.full)])
def test_it_learns_in_full_and_in_mixed_precision(
    amp: str, architecture: Architecture, micro: Space, digits: Data, tmp_path: Path
) -> None:
    result = trained(architecture, micro, digits, tmp_path / amp, Recipe(epochs=10, batch=20), amp)
    assert result.train_accuracy_percent > 90
    assert all(value.dtype != torch.bfloat16 for value in weights(result).values())


def test_weights_are_those_of_a_plain_loop(
    architecture: Architecture, micro: Space, digits: Data, tmp_path: Path
) -> None:
    recipe = Recipe(epochs=2, batch=40, warmup=1, seed=3, lr=0.01)
    result = trained(architecture, micro, digits, tmp_path, recipe)
    torch.manual_seed(3)
    network = build_network(architecture, micro, classes=10).train()
    optimizer = torch.optim.SGD(network.parameters(), 0.01, momentum=0.9, nesterov=True, weight_decay=4e-5)
    for epoch in range(2):
        batches = list(digits.batches(digits.training, 40, generator_of(3, f"train/{epoch}")))
        for step, (x, y) in enumerate(batches):
            t = step / len(batches)
            optimizer.param_groups[0]["lr"] = 0.01 * t if epoch == 0 else 0.005 * (1 + math.cos(math.pi * t))
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(x), y).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    for name, value in network.state_dict().items():
        torch.testing.assert_close(weights(result)[name], value, rtol=1e-3, atol=1e-4)


def test_test_images_change_nothing(architecture: Architecture, micro: Space, digits: Data, tmp_path: Path) -> None:
    class NoLook(Split):
        def __len__(self) -> int:
            raise AssertionError("the test images were looked at")

    blind = dataclasses.replace(digits, test=NoLook(digits.test.pool, digits.test.indices, digits.test.labels))
    one, other = (trained(architecture, micro, data, tmp_path / n) for n, data in (("a", digits), ("b", blind)))
    assert_same(weights(one), weights(other))


def test_a_diverging_training_stops_with_place_rate_and_the_last_good_checkpoint(
    architecture: Architecture, micro: Space, digits: Data, tmp_path: Path
) -> None:
    recipe = Recipe(epochs=3, batch=40, lr=1e30)
    with pytest.raises(
        DivergedError,
        match=r"became (nan|inf) in epoch 1, step 2 of 5 at learning rate \S+e\+29; start over with a lower --lr and "
        "--fresh; nothing was saved yet",
    ):
        trained(architecture, micro, digits, tmp_path / "at once", recipe)
    assert not (tmp_path / "at once" / TRAIN).exists()
    late = Recipe(epochs=3, batch=40, lr=1e-3, schedule="steps")
    folder = RunFolder(tmp_path / "late", dataclasses.asdict(late), {"images": digits.fingerprint})
    state = interrupted_after_first_epoch(architecture, micro, digits, late, folder)
    state["network"]["head_2.fc.weight"].fill_(math.inf)
    folder.save(TRAIN, state)
    with pytest.raises(DivergedError, match=r"epoch 2, step 1 of 5 .* the last good state is in .*train.ckpt"):
        train(architecture, micro, digits, late, folder)


def interrupted_after_first_epoch(
    architecture: Architecture, space: Space, data: Data, recipe: Recipe, folder: RunFolder
) -> dict[str, Any]:
    """Return the state of a training after its first epoch."""
    train(architecture, space, data, dataclasses.replace(recipe, epochs=1), folder)
    state = folder.load(TRAIN)
    assert state is not None
    return state


def test_given_weights_are_where_it_begins(
    architecture: Architecture, micro: Space, digits: Data, tmp_path: Path
) -> None:
    first = trained(architecture, micro, digits, tmp_path / "first", Recipe(epochs=4, batch=20))
    recipe = Recipe(epochs=1, batch=20, lr=1e-6)
    folder = RunFolder(tmp_path / "second", dataclasses.asdict(recipe), {})
    second = train(architecture, micro, digits, recipe, folder, initial=weights(first))
    for name, value in first.network.named_parameters():
        torch.testing.assert_close(weights(second)[name], value.detach(), rtol=1e-3, atol=1e-4)
