"""The search: every epoch first w on the w split, then θ on the θ split, with τ annealed (FBNet, section 3.3)."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fbbase.interrupt import interrupt_between_steps
from fbbase.progress import Advance, progress
from fbsearch.checkpoint import SEARCH, RunFolder
from fbsearch.costs import Cost
from fbsearch.data import Data, batch_count
from fbsearch.descent import descend
from fbsearch.errors import SearchError
from fbsearch.losses import load_loss, takes_expected_cost
from fbsearch.metrics import Metrics
from fbsearch.settings import Settings
from fbsearch.strategies import load_strategy
from fbsearch.supernet import SuperNet
from fbspace.space import Space


@dataclass(slots=True)
class Mean:
    """Running means of loss, cross-entropy and accuracy over the images of an epoch."""

    images: int = 0
    loss: float = 0.0
    cross_entropy: float = 0.0
    correct: int = 0

    def add(self, loss: Tensor, cross_entropy: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Add one batch."""
        count = len(labels)
        self.images += count
        self.loss += loss.item() * count
        self.cross_entropy += cross_entropy.item() * count
        self.correct += int((logits.argmax(1) == labels).sum())

    def values(self) -> dict[str, float]:
        """Return the means, accuracy in percent."""
        count = max(self.images, 1)
        return {
            "loss": self.loss / count,
            "cross_entropy": self.cross_entropy / count,
            "accuracy_percent": 100 * self.correct / count,
        }


class Search:
    """One search: the supernet, the optimisers of w and θ, and the number of epochs done.

    Every epoch draws from a generator of its own, seeded by (seed, epoch): a resumed search draws the numbers that
    an uninterrupted one would have drawn, and no generator's state has to be saved.
    """

    def __init__(self, space: Space, cost: Cost, data: Data, settings: Settings) -> None:
        self.space, self.cost, self.data, self.settings = space, cost, data, settings
        self.strategy = load_strategy(settings.strategy)
        loss = load_loss(settings.loss)
        self.loss, self.expected_cost = loss.loss, takes_expected_cost(loss)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.net = SuperNet(space, len(data.classes), self.strategy)
        self.w = self.net.weights()
        self.theta = list(self.net.theta)
        self.w_optimizer = torch.optim.SGD(
            self.w, settings.lr, momentum=settings.momentum, weight_decay=settings.weight_decay
        )
        self.theta_optimizer = torch.optim.Adam(self.theta, settings.theta_lr, weight_decay=settings.theta_weight_decay)
        self.epoch = 0
        self._check_loss()

    def w_step(
        self, x: Tensor, y: Tensor, temperature: float, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Take one step of w: min_w CE(a, w), a ~ P_θ; no gradient of θ is computed.

        The latency factor of the loss does not depend on w and would only rescale the learning rate.
        """
        self._require_gradients(w=True)
        logits = self.net(x, self.strategy.sample(self.theta, temperature, generator))
        cross_entropy = F.cross_entropy(logits, y)
        descend(cross_entropy, self.w_optimizer, f"epoch {self.epoch + 1}", "--lr")
        return cross_entropy.detach(), cross_entropy.detach(), logits.detach()

    def theta_step(
        self, x: Tensor, y: Tensor, temperature: float, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Take one step of θ: min_θ E_{a ~ P_θ} L(a, w); no gradient of w is computed.

        Cross-entropy and latency see the same sample m, unless the loss takes the expected latency under softmax(θ).
        """
        self._require_gradients(w=False)
        m = self.strategy.sample(self.theta, temperature, generator)
        logits = self.net(x, m)
        cross_entropy = F.cross_entropy(logits, y)
        priced = [torch.softmax(theta_l, dim=-1) for theta_l in self.theta] if self.expected_cost else m
        loss = self.loss(cross_entropy, self.cost(priced), self.settings)
        descend(loss, self.theta_optimizer, f"epoch {self.epoch + 1}", "--theta-lr")
        return loss.detach(), cross_entropy.detach(), logits.detach()

    def run(self, folder: RunFolder) -> None:
        """Search until the last epoch, from the folder's checkpoint if it has one. Raises DivergedError."""
        state = folder.load(SEARCH)
        if state is not None:
            self.load_state(state)
        steps = self._steps(self.data.w), self._steps(self.data.theta)
        warmup = min(self.settings.warmup_epochs, self.settings.epochs)

        def until(epoch: int) -> int:
            return epoch * steps[0] + max(0, epoch - warmup) * steps[1]

        with (
            Metrics(folder.path, "search", self.epoch) as metrics,
            progress("search", until(self.settings.epochs), until(self.epoch)) as advance,
            interrupt_between_steps() as check_interrupt,
        ):
            while self.epoch < self.settings.epochs:
                metrics.write(self.epoch, self._epoch(advance, check_interrupt))
                self.epoch += 1
                folder.save(SEARCH, self.state())

    def state(self) -> dict[str, Any]:
        """Return everything the next epoch depends on."""
        return {
            "epoch": self.epoch,
            "net": self.net.state_dict(),
            "w_optimizer": self.w_optimizer.state_dict(),
            "theta_optimizer": self.theta_optimizer.state_dict(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from what `state` returned."""
        self.epoch = state["epoch"]
        self.net.load_state_dict(state["net"])
        self.w_optimizer.load_state_dict(state["w_optimizer"])
        self.theta_optimizer.load_state_dict(state["theta_optimizer"])

    def _epoch(self, advance: Advance, check_interrupt: Callable[[], None]) -> dict[str, Any]:
        settings, epoch = self.settings, self.epoch
        generator = epoch_generator(settings.seed, "search", epoch)
        temperature = settings.temperature_at(epoch)
        for group in self.w_optimizer.param_groups:
            group["lr"] = settings.lr_at(epoch)
        phases = [("w", self.data.w, self.w_step)]
        if epoch >= settings.warmup_epochs:
            phases.append(("theta", self.data.theta, self.theta_step))
        values: dict[str, Any] = {"temperature": temperature, "lr": settings.lr_at(epoch)}
        for name, split, step in phases:
            mean = Mean()
            for x, y in self.data.batches(split, settings.batch, generator, settings.steps):
                mean.add(*step(x, y, temperature, generator), y)
                advance(note=f"epoch {epoch + 1}/{settings.epochs} {name}")
                check_interrupt()
            values |= {f"{name}_{key}": value for key, value in mean.values().items()}
        return values | self._architecture_values()

    def _architecture_values(self) -> dict[str, Any]:
        """Return what θ says after the epoch; P_θ = softmax(θ), without noise."""
        p = self.net.probabilities()
        names = [f"layer_{layer.index:02d}" for layer in self.space.layers]
        entropy = [float(-(p_l * p_l.log()).sum()) for p_l in p]
        return {
            "expected_cost": float(self.cost(p)),
            "entropy": sum(entropy) / len(entropy),
            "layer_entropy": dict(zip(names, entropy, strict=True)),
            "theta": {
                name: dict(zip(layer.candidates, theta_l.tolist(), strict=True))
                for name, layer, theta_l in zip(names, self.space.layers, self.theta, strict=True)
            },
        }

    def _steps(self, split: Any) -> int:
        count = batch_count(split, self.settings.batch)
        return count if self.settings.steps is None else min(count, self.settings.steps)

    def _require_gradients(self, w: bool) -> None:
        for parameter in self.w:
            parameter.requires_grad_(w)
        for parameter in self.theta:
            parameter.requires_grad_(not w)

    def _check_loss(self) -> None:
        """Refuse a table whose latencies the loss cannot take, such as log(LAT) of less than a microsecond."""
        cost = self.cost(self.net.probabilities())
        if not math.isfinite(self.loss(torch.tensor(1.0), cost, self.settings).item()):
            raise SearchError(
                f"loss {self.settings.loss!r} is not defined for an expected cost of {cost.item():.3g} "
                f"{self.cost.unit}; check the table's units (µs) or choose another --loss or --cost"
            )


def one_hot(choice: int, count: int) -> Tensor:
    """Return the weights that choose one candidate."""
    return F.one_hot(torch.tensor(choice), count).float()


def epoch_generator(seed: int, stage: str, epoch: int) -> torch.Generator:
    """Return the generator of all randomness of one epoch of a stage."""
    state = np.random.SeedSequence([seed, *stage.encode(), epoch]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))
