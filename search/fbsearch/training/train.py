"""Training a network from scratch, or from given weights, on all training images; no test image is looked at."""

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from fbsearch.errors import DivergedError
from fbsearch.images.data import Data, batch_count
from fbsearch.machine.checkpoint import TRAIN, RunFolder
from fbsearch.machine.compute import Compute
from fbsearch.machine.loop import Loop, Measured, Phase, Position
from fbsearch.machine.metrics import Mean
from fbsearch.machine.seeds import generator_of, step_rng
from fbsearch.training.ema import Ema
from fbsearch.training.evaluate import Evaluation, evaluate, right
from fbsearch.training.mixup import cut_and_mix
from fbsearch.training.recipe import Recipe
from fbspace.architecture import Architecture
from fbspace.network import build_network
from fbspace.space import Space


def train(
    architecture: Architecture,
    space: Space,
    data: Data,
    recipe: Recipe,
    folder: RunFolder,
    compute: Compute | None = None,
    initial: dict[str, Tensor] | None = None,
    lr_option: str = "--lr",
    network: nn.Module | None = None,
) -> "Training":
    """Train to the last epoch, from the folder's checkpoint if it has one; `initial` are weights to begin with,
    by name; those left out are random. `network` is trained in place of the architecture's.

    Ctrl-C (KeyboardInterrupt) and SIGTERM (Terminated) end it between two steps, with a checkpoint. Raises
    DivergedError, which names `lr_option`.
    """
    if network is None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            network = build_network(architecture, space, classes=len(data.classes))
        if initial is not None:
            network.load_state_dict(initial, strict=False)
    training = Training(network, data, recipe, compute or Compute(), lr_option)
    training.run(folder)
    training.network.eval()
    return training


class Training(Loop):
    """One training: network, optimizer, average, and how it went.

    An epoch's order of images is drawn from a generator of its own, and so is what a step mixes and cuts out: a
    training that goes on draws the numbers that an uninterrupted one would have drawn.

    The training accuracy is that of the last epoch's batches, cut out and mixed as they were. `seconds` counts the
    steps and validations of all runs that the training took, `waited_s` those of them spent waiting for images.
    """

    name, file = "train", TRAIN

    def __init__(self, network: nn.Module, data: Data, recipe: Recipe, compute: Compute, lr_option: str) -> None:
        self.data, self.recipe, self.compute, self.lr_option = data, recipe, compute, lr_option
        self.learner = compute.place(network).train()
        super().__init__(self.learner.parameters(), recipe.epochs, compute.amp, data.wait_s)
        self.forward = compute.compiled(self.learner)
        self.optimizer = build_optimizer(self.learner, recipe)
        self.ema = Ema(self.learner, recipe.ema) if recipe.ema else None
        count = batch_count(data.training, recipe.batch)
        self.steps = min(count, recipe.steps or count)
        self.train_accuracy_percent = self.seconds = self.waited_s = 0.0
        self.validation = Evaluation(0, math.nan, None, math.nan)

    @property
    def network(self) -> nn.Module:
        """The network that counts: the averaged one, if the recipe averages."""
        return self.learner if self.ema is None else self.ema.network

    def phases(self, epoch: int) -> list[Phase]:
        """Return the one phase of an epoch."""
        recipe = self.recipe

        def batches(start: int) -> Iterable[tuple[Tensor, Tensor]]:
            images, order = self.data.training, generator_of(recipe.seed, f"train/{epoch}")
            return self.data.batches(images, recipe.batch, order, recipe.steps, start=start, augment=recipe.augment)

        return [Phase("", self.steps, batches, self.step)]

    def step(self, x: Tensor, y: Tensor) -> Measured:
        """Take one step on a batch."""
        at, recipe = self.position, self.recipe
        rng = step_rng(recipe.seed, at.epoch, at.step)
        x, labels = cut_and_mix(self.compute.batch(x), y.to(self.compute.device), recipe, rng)
        for group in self.optimizer.param_groups:
            group["lr"] = self._lr_at(at.step)
        with self.compute.autocast():
            logits = self.forward(x)
        logits = logits.float()
        loss = labels.loss(logits, recipe.label_smoothing)
        self.backward(loss, self.optimizer, self.lr_option, len(y))
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.ema is not None:
            self.ema.update()
        return (loss.detach(),), right(logits.detach(), labels.first)

    def metrics(self, means: list[list[float]]) -> dict[str, Any]:
        """Validate, and return the metrics of the epoch."""
        lr, (cross_entropy, top1, _) = self._lr_at(self.steps - 1), means[0]
        try:
            valid = evaluate(self.network, self.data, self.data.validation, self.recipe.batch, self.compute)
        except DivergedError as error:
            raise DivergedError(
                f"{error} after epoch {self.position.epoch + 1}, at learning rate {lr:.3g}; "
                f"start over with a lower {self.lr_option} and --fresh"
            ) from None
        self.learner.train()
        self._count_time()
        self.train_accuracy_percent, self.validation = 100 * top1, valid
        return {
            "lr": lr,
            "cross_entropy": cross_entropy,
            "accuracy_percent": self.train_accuracy_percent,
            "validation_cross_entropy": valid.cross_entropy,
            "validation_accuracy_percent": valid.top1_percent,
            "seconds": self.seconds,
            "waited_s": self.waited_s,
        }

    def state(self) -> dict[str, Any]:
        """Return everything the next step depends on, and what was counted so far."""
        self._count_time()
        at, scale = self.position, self.scale
        images, *sums = at.means[0].sums.tolist() if at.means else [0] * 4
        return {
            "epoch": at.epoch,
            "step": at.step,
            "network": self.learner.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": {"scale": scale.value, "_growth_tracker": scale.good_steps} if scale.adapts else {},
            "ema": None if self.ema is None else self.ema.state(),
            "tally": {"images": int(images), "sums": sums},
            "train_accuracy_percent": self.train_accuracy_percent,
            "validation": dataclasses.asdict(self.validation) if self.validation.images else None,
            "seconds": self.seconds,
            "waited_s": self.waited_s,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned."""
        sums = torch.tensor([state["tally"]["images"], *state["tally"]["sums"]], dtype=torch.float64)
        self.position = Position(state["epoch"], 0, state["step"], [Mean(sums)])
        self.learner.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        if state["scaler"]:
            self.scale.load(state["scaler"]["scale"], state["scaler"]["_growth_tracker"])
        if self.ema is not None:
            self.ema.load_state(state["ema"])
        self.train_accuracy_percent = state["train_accuracy_percent"]
        self.validation = Evaluation(**state["validation"]) if state["validation"] else self.validation
        self.seconds, self.waited_s = state["seconds"], state["waited_s"]

    def _lr_at(self, step: int) -> float:
        """Return the learning rate of a step of this epoch."""
        return self.recipe.lr_at(self.position.epoch + step / self.steps)

    def _count_time(self) -> None:
        seconds, waited_s = self.lap()
        self.seconds, self.waited_s = self.seconds + seconds, self.waited_s + waited_s


def build_optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Return the recipe's optimizer of all parameters."""
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(network.parameters(), recipe.lr, weight_decay=recipe.weight_decay)
    nesterov, decay = recipe.nesterov and recipe.momentum > 0, recipe.weight_decay
    return torch.optim.SGD(network.parameters(), recipe.lr, recipe.momentum, weight_decay=decay, nesterov=nesterov)
