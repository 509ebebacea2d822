"""Training a network from scratch, or from given weights, on all training images; no test image is looked at."""

import dataclasses
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fbbase.interrupt import Terminated, interrupt_between_steps
from fbbase.progress import Advance, progress
from fbsearch.errors import DivergedError
from fbsearch.images.data import Data, batch_count
from fbsearch.machine.checkpoint import TRAIN, RunFolder
from fbsearch.machine.compute import Compute
from fbsearch.machine.metrics import Metrics
from fbsearch.machine.seeds import generator_of, step_rng
from fbsearch.training.ema import Ema
from fbsearch.training.evaluate import Evaluation, Tally, evaluate
from fbsearch.training.mixup import mix
from fbsearch.training.recipe import Recipe
from fbspace.architecture import Architecture
from fbspace.network import build_network
from fbspace.space import Space

CHECKPOINT_S = 300.0
"""A kill costs no more than so many seconds of work, however long an epoch takes."""
UNCHECKED_STEPS = 16
"""Steps on a GPU between two looks at the losses; a look at every one would keep it waiting."""


@dataclass(frozen=True, slots=True)
class Trained:
    """The network in eval mode (of the averaged weights, if the recipe averages), and how its training went.

    The training accuracy is that of the last epoch's batches, cut out and mixed as they were. `seconds` counts the
    steps and validations of all runs that the training took, `waited_s` those of them spent waiting for images.
    """

    network: nn.Module
    train_accuracy_percent: float
    validation: Evaluation
    seconds: float
    waited_s: float


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
) -> Trained:
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
    training = Training(network, data, recipe, folder, compute or Compute(), lr_option)
    state = folder.load(TRAIN)
    if state is not None:
        training.load_state(state)
    return training.run()


class Training:
    """One training: network, optimiser, average, and the epoch and step at which it goes on.

    An epoch's order of images is drawn from a generator of its own, and so is what a step mixes and cuts out: a
    training that goes on draws the numbers that an uninterrupted one would have drawn.
    """

    def __init__(
        self, network: nn.Module, data: Data, recipe: Recipe, folder: RunFolder, compute: Compute, lr_option: str
    ) -> None:
        self.data, self.recipe, self.folder, self.compute, self.lr_option = data, recipe, folder, compute, lr_option
        self.network = compute.place(network)
        self.forward = compute.compiled(self.network)
        self.optimizer = build_optimizer(self.network, recipe)
        self.scaler = compute.scaler()
        self.ema = Ema(self.network, recipe.ema) if recipe.ema else None
        self.split = data.training
        count = batch_count(self.split, recipe.batch)
        self.steps = min(count, recipe.steps or count)
        self.epoch = self.step = 0
        self.tally = Tally(compute.device)
        self.train_accuracy_percent = self.seconds = self.waited_s = 0.0
        self.validation: Evaluation | None = None
        self.unchecked: list[tuple[int, float, Tensor]] = []
        """Step, learning rate and loss of steps not yet looked at."""

    @property
    def evaluated(self) -> nn.Module:
        """The network that counts: the averaged one, if the recipe averages."""
        return self.network if self.ema is None else self.ema.network

    def run(self) -> Trained:
        """Train until the last epoch."""
        total = self.recipe.epochs * self.steps
        with (
            Metrics(self.folder.path, "train", self.epoch) as metrics,
            progress("train", total, self.epoch * self.steps + self.step) as advance,
            interrupt_between_steps(terminate=True) as check_interrupt,
        ):
            while self.epoch < self.recipe.epochs:
                self._epoch(metrics, advance, check_interrupt)
        assert self.validation is not None  # a recipe has at least one epoch
        network = self.evaluated.eval()
        return Trained(network, self.train_accuracy_percent, self.validation, self.seconds, self.waited_s)

    def _epoch(self, metrics: Metrics, advance: Advance, check_interrupt: Callable[[], None]) -> None:
        recipe = self.recipe
        generator = generator_of(recipe.seed, f"train/{self.epoch}")
        started, saved = time.monotonic(), time.monotonic()
        self.data.wait_s()  # not this epoch's
        self.network.train()
        batches = self.data.batches(
            self.split, recipe.batch, generator, recipe.steps, start=self.step, augment=recipe.augment
        )
        for x, y in batches:
            self._step(x, y, self._lr_at(self.step))
            self.step += 1
            advance(note=f"epoch {self.epoch + 1}/{recipe.epochs}")
            try:
                check_interrupt()
            except (KeyboardInterrupt, Terminated):
                self._clock(started)
                self._save()
                raise
            if time.monotonic() - saved > CHECKPOINT_S:
                started = self._clock(started)
                self._save()
                saved = time.monotonic()
        self._check_losses()
        lr = self._lr_at(self.steps - 1)
        trained, validation = self.tally.result(len(self.data.classes)), self._validate(lr)
        self._clock(started)
        metrics.write(
            self.epoch,
            {
                "lr": lr,
                "cross_entropy": trained.cross_entropy,
                "accuracy_percent": trained.top1_percent,
                "validation_cross_entropy": validation.cross_entropy,
                "validation_accuracy_percent": validation.top1_percent,
                "seconds": self.seconds,
                "waited_s": self.waited_s,
            },
        )
        self.train_accuracy_percent, self.validation = trained.top1_percent, validation
        self.epoch, self.step, self.tally = self.epoch + 1, 0, Tally(self.compute.device)
        self._save()

    def _lr_at(self, step: int) -> float:
        """Return the learning rate of a step of this epoch."""
        return self.recipe.lr_at(self.epoch + step / self.steps)

    def _step(self, x: Tensor, y: Tensor, lr: float) -> None:
        """Take one step on a batch."""
        rng = step_rng(self.recipe.seed, self.epoch, self.step)
        x, labels = mix(self.compute.batch(x), y.to(self.compute.device), self.recipe, rng)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        with self.compute.autocast():
            logits = self.forward(x)
        logits = logits.float()
        loss = labels.loss(logits, self.recipe.label_smoothing)
        self.unchecked.append((self.step, lr, loss.detach()))
        if self.compute.device.type == "cpu" or len(self.unchecked) == UNCHECKED_STEPS:
            self._check_losses()
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if self.ema is not None:
            self.ema.update()
        self.tally.add(logits.detach(), labels.first, loss.detach())

    def _validate(self, lr: float) -> Evaluation:
        try:
            return evaluate(self.evaluated, self.data, self.data.validation, self.recipe.batch, self.compute)
        except DivergedError as error:
            raise self._diverged(str(error), self.steps, lr) from None

    def _check_losses(self) -> None:
        """Raise DivergedError for the first loss that is not finite, of those not looked at so far."""
        if not self.unchecked:
            return
        losses = torch.stack([loss for _, _, loss in self.unchecked]).tolist()
        for (step, lr, _), loss in zip(self.unchecked, losses, strict=True):
            if not math.isfinite(loss):
                raise self._diverged(f"the loss became {loss}", step + 1, lr)
        self.unchecked.clear()

    def _diverged(self, what: str, step: int, lr: float) -> DivergedError:
        kept = self.folder.path / TRAIN
        last = f"the last good state is {kept}" if kept.exists() else "no checkpoint was written before"
        return DivergedError(
            f"{what} (epoch {self.epoch + 1}, step {step} of {self.steps}, learning rate {lr:.3g} of the training); "
            f"{last}. Start over with a lower {self.lr_option} and --fresh"
        )

    def _clock(self, started: float) -> float:
        """Add the time since `started` to what the training took, and return now."""
        now = time.monotonic()
        self.seconds += now - started
        self.waited_s += self.data.wait_s()
        return now

    def _save(self) -> None:
        self._check_losses()
        if all(bool(weight.isfinite().all()) for weight in self.network.parameters()):  # the next step will say it
            self.folder.save(TRAIN, self.state())

    def state(self) -> dict[str, Any]:
        """Return everything the next step depends on, and what was counted so far."""
        return {
            "epoch": self.epoch,
            "step": self.step,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "ema": None if self.ema is None else self.ema.state(),
            "tally": self.tally.state(),
            "train_accuracy_percent": self.train_accuracy_percent,
            "validation": None if self.validation is None else dataclasses.asdict(self.validation),
            "seconds": self.seconds,
            "waited_s": self.waited_s,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned."""
        self.epoch, self.step = state["epoch"], state["step"]
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        if state["scaler"] and self.scaler.is_enabled():
            self.scaler.load_state_dict(state["scaler"])
        if self.ema is not None:
            self.ema.load_state(state["ema"])
        self.tally.load_state(state["tally"])
        self.train_accuracy_percent = state["train_accuracy_percent"]
        self.validation = Evaluation(**state["validation"]) if state["validation"] else None
        self.seconds, self.waited_s = state["seconds"], state["waited_s"]


def build_optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Return the recipe's optimiser of all parameters."""
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(network.parameters(), recipe.lr, weight_decay=recipe.weight_decay)
    return torch.optim.SGD(
        network.parameters(),
        recipe.lr,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov and recipe.momentum > 0,
        weight_decay=recipe.weight_decay,
    )
