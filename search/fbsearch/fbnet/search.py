"""The search: every epoch first w on the w split, then θ on the θ split, with τ annealed (FBNet, section 3.3)."""

import contextlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fbbase.interrupt import interrupt_between_steps
from fbbase.progress import Advance, progress
from fbsearch.beyond.score import with_score
from fbsearch.errors import DivergedError, SearchError
from fbsearch.fbnet.objective import Objective
from fbsearch.fbnet.settings import Settings
from fbsearch.fbnet.supernet import SuperNet
from fbsearch.images.data import Data, batch_count
from fbsearch.images.split import Split
from fbsearch.machine.checkpoint import SEARCH, RunFolder
from fbsearch.machine.compute import Compute, map_large_blocks
from fbsearch.machine.descent import Losses, LossScale, descend
from fbsearch.machine.metrics import Metrics
from fbsearch.machine.norm import share_norms
from fbsearch.machine.ranks import Ranks
from fbsearch.machine.seeds import generator_of
from fbsearch.strategies import STRATEGIES
from fbsearch.theta import softmax
from fbspace.space import Space

CHECKPOINT_S = 600
"""Seconds after which an epoch that is still running is saved."""


@dataclass(slots=True)
class Mean:
    """Running sums of loss, cross-entropy and accuracy over the images of a phase.

    They are kept where the batches are: to read one waits for a GPU, and to add does not.
    """

    sums: Tensor = field(default_factory=lambda: torch.zeros(4, dtype=torch.float64))
    """Images, loss, cross-entropy, right answers."""

    @torch.no_grad()
    def add(self, loss: Tensor, cross_entropy: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Add one batch."""
        count, correct = len(labels), (logits.argmax(1) == labels).sum()
        batch = [loss.double() * count, cross_entropy.double() * count, correct.double()]
        self.sums = self.sums.to(correct.device)
        self.sums[0] += count
        self.sums[1:] += torch.stack([value.to(correct.device) for value in batch])

    def values(self) -> dict[str, float]:
        """Return the means, accuracy in percent."""
        images, loss, cross_entropy, correct = self.sums.tolist()
        count = max(images, 1)
        return {"loss": loss / count, "cross_entropy": cross_entropy / count, "accuracy_percent": 100 * correct / count}


@dataclass(slots=True)
class Position:
    """Where a search stands: epochs done, phases of the epoch done, steps of the phase done, means of each phase."""

    epoch: int = 0
    phase: int = 0
    step: int = 0
    means: list[Mean] = field(default_factory=list)


Step = Callable[[Tensor, Tensor, float, torch.Generator], tuple[Tensor, Tensor, Tensor]]


class Search:
    """One search: the supernet with its weights w, and one θ for each objective.

    Every step draws from a generator of its own, seeded by (seed, epoch, phase, step), and so does the order of the
    images: a resumed search draws the numbers that an uninterrupted one would have drawn.
    """

    def __init__(
        self,
        net: SuperNet,
        objectives: Sequence[Objective],
        space: Space,
        data: Data,
        settings: Settings,
        compute: Compute | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        self.space, self.data, self.settings = space, data, settings
        self.compute, self.ranks = compute or Compute(), ranks or Ranks()
        own = STRATEGIES.own_of(settings.strategy, settings.as_dict())
        self.strategy = STRATEGIES.load(settings.strategy, **own)
        if self.ranks.world > 1:
            share_norms(net, self.ranks)
            net.shares_norms = True
        self.net = self.compute.place(net)
        if self.strategy.one_path and self.compute.device.type == "cpu" and self.ranks.world == 1:
            self.net.saves_memory = True
            map_large_blocks()
        self.forward = self._compiled()
        self.objectives = list(objectives)
        self.w = list(self.net.parameters())
        self.w_optimizer = torch.optim.SGD(
            self.w, settings.lr, momentum=settings.momentum, weight_decay=settings.weight_decay
        )
        self.scale = LossScale.of(self.compute.amp)
        self.position = Position()
        self.losses = Losses()
        self._check_costs()

    @property
    def where(self) -> str:
        """The step that is being taken, in words."""
        at = self.position
        return f"epoch {at.epoch + 1}, phase {self._phases()[at.phase][0]}, step {at.step + 1}"

    def w_step(
        self, x: Tensor, y: Tensor, temperature: float, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Take one step of w: min_w CE(a, w), a ~ P_θ; no gradient of θ is computed.

        The latency factor of the loss does not depend on w and would only rescale the learning rate. Several
        objectives take turns: every step trains the weights under the θ of one of them.
        """
        theta = list(self.objectives[self.position.step % len(self.objectives)].theta)
        if self.settings.w_sampling == "uniform":
            theta = [torch.zeros_like(theta_l) for theta_l in theta]
        self._require_gradients(w=True)
        with torch.no_grad():
            m = self.strategy.sample(theta, temperature, generator)
        logits, cross_entropy = self._forward(x, y, m)
        self._descend(cross_entropy, len(y), self.w_optimizer, "--lr")
        return cross_entropy.detach(), cross_entropy.detach(), logits.detach()

    def theta_step(
        self, objective: Objective, x: Tensor, y: Tensor, temperature: float, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Take one step of θ: min_θ E_{a ~ P_θ} L(a, w); no gradient of w is computed.

        Cross-entropy and latency see the same sample m, unless the loss takes the expected latency under softmax(θ).
        Where several networks are compared, the logits returned are those of the last.
        """
        self._require_gradients(w=False)
        count = self.strategy.compares
        samples = [self.strategy.sample(list(objective.theta), temperature, generator) for _ in range(count or 1)]
        estimate = objective.estimate
        if estimate is not None:
            with torch.no_grad():
                forwards = [self._forward(x, y, m) for m in samples]
            weighed = [
                objective.weigh(cross_entropy, [m_l.detach() for m_l in m])
                for (_, cross_entropy), m in zip(forwards, samples, strict=True)
            ]
            losses = torch.stack(weighed)
            loss, logits = with_score(losses, samples, softmax(list(objective.theta)), estimate), forwards[-1][0]
            estimate.learn(self.ranks.add(losses.detach().cpu() * self.ranks.share(len(y))), samples)
            cross_entropy = torch.stack([cross_entropy for _, cross_entropy in forwards]).mean()
        else:
            logits, cross_entropy = self._forward(x, y, samples[0])
            loss = objective.weigh(cross_entropy, samples[0])
        with objective.holding_skip(self.position.epoch < self.settings.skip_epochs):
            self._descend(loss, len(y), objective.optimizer, "--theta-lr")
        objective.control(self._theta_progress())
        self.ranks.copy_from_first(objective.theta)  # hosts of two kinds may round the same step to two results
        return loss.detach(), cross_entropy.detach(), logits.detach()

    def run(self, folder: RunFolder) -> None:
        """Search until the last epoch, from the folder's checkpoint if it has one.

        Raises DivergedError, and what an interrupt raises once the step that was being taken is saved. All ranks start
        from what the first one has, and stop after the same step, whichever of them is interrupted.
        """
        first = self.ranks.is_first
        saved = self.ranks.from_first(lambda: folder.load(SEARCH))
        if saved is None:
            self.ranks.copy_from_first(self.w)
        else:
            self.load_state(saved)
        steps = self._steps_until(self.settings.epochs), self._steps_done()
        with (
            Metrics(folder.path, "search", self.position.epoch) if first else contextlib.nullcontext() as metrics,
            progress("search", *steps) if first else contextlib.nullcontext(_in_silence) as advance,
            interrupt_between_steps(True) if first else interrupt_between_steps(True, quiet=True) as check_interrupt,
        ):
            saved_at = time.monotonic()

            def after_step() -> None:
                nonlocal saved_at
                stop, due = self.ranks.agree(check_interrupt, time.monotonic() > saved_at + CHECKPOINT_S)
                if stop or due:
                    self._save(folder)
                    saved_at = time.monotonic()
                if stop:
                    self.ranks.end(stop)

            while self.position.epoch < self.settings.epochs:
                try:
                    values = self._epoch(advance, after_step)
                except DivergedError as error:
                    good = f"the last good state is in {folder.path / SEARCH}" if saved else "nothing was saved yet"
                    self.ranks.end(DivergedError(f"{error}; {good}"))
                if metrics is not None:
                    metrics.write(self.position.epoch, values)
                self.position = Position(self.position.epoch + 1)
                saved = self._save(folder)
                saved_at = time.monotonic()

    def state(self) -> dict[str, Any]:
        """Return everything the next step depends on, with the means over all ranks: all call it."""
        at = self.position
        return {
            "position": [at.epoch, at.phase, at.step],
            "sums": [self.ranks.add(mean.sums.clone()).tolist() for mean in at.means],
            "scale": [self.scale.value, self.scale.good_steps],
            "net": self.net.state_dict(),
            "w_optimizer": self.w_optimizer.state_dict(),
            "objectives": {objective.name: objective.state() for objective in self.objectives},
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from what `state` returned."""
        epoch, phase, step = state["position"]
        sums = [torch.tensor(sums, dtype=torch.float64) * self.ranks.is_first for sums in state["sums"]]
        self.position = Position(epoch, phase, step, [Mean(each) for each in sums])
        if self.scale.adapts:
            self.scale.value, self.scale.good_steps = state["scale"]
        self.net.load_state_dict(state["net"])
        self.w_optimizer.load_state_dict(state["w_optimizer"])
        for objective in self.objectives:
            objective.load_state(state["objectives"][objective.name])

    def _save(self, folder: RunFolder) -> dict[str, Any]:
        self.losses.look()
        state = self.state()
        if self.ranks.is_first:
            folder.save(SEARCH, state)
        return state

    def _phases(self) -> list[tuple[str, Split, Step]]:
        """Return the phases of the present epoch: w, then θ of every objective once warm-up is over."""
        phases: list[tuple[str, Split, Step]] = [("w", self.data.w, self.w_step)]
        if self.position.epoch >= self.settings.warmup_epochs and self.strategy.learns_theta:
            for objective in self.objectives:

                def step(x: Tensor, y: Tensor, t: float, g: torch.Generator, o: Objective = objective) -> Any:
                    return self.theta_step(o, x, y, t, g)

                phases.append((f"θ of {objective.name}", self.data.theta, step))
        return phases

    def _epoch(self, advance: Advance, after_step: Callable[[], None]) -> dict[str, Any]:
        settings, at = self.settings, self.position
        temperature = settings.temperature_at(at.epoch)
        for group in self.w_optimizer.param_groups:
            group["lr"] = settings.lr_at(at.epoch)
        phases = self._phases()
        at.means = at.means or [Mean() for _ in phases]
        started = time.monotonic()
        self.data.wait_s()  # what was waited before is not this epoch's
        while at.phase < len(phases):
            name, split, step = phases[at.phase]
            mean = at.means[at.phase]
            order = self._generator("order")
            augment = settings.augment if at.phase == 0 else "none"
            ranks = (self.ranks.rank, self.ranks.world)
            for x, y in self.data.batches(
                split, settings.batch, order, settings.steps, start=at.step, augment=augment, ranks=ranks
            ):
                mean.add(*step(x, y, temperature, self._generator(str(at.step))), y)
                at.step += 1
                advance(note=f"epoch {at.epoch + 1}/{settings.epochs} {name}")
                after_step()
            at.phase, at.step = at.phase + 1, 0
        self.losses.look()
        wait_share = self.data.wait_s() / max(time.monotonic() - started, 1e-9)
        means = [Mean(self.ranks.add(mean.sums)).values() for mean in at.means]
        values = {"temperature": temperature, "lr": settings.lr_at(at.epoch), "data_wait_share": round(wait_share, 4)}
        return (
            values
            | {f"w_{key}": value for key, value in means[0].items()}
            | {"objectives": {o.name: self._describe(o, means[1 + i :][:1]) for i, o in enumerate(self.objectives)}}
        )

    def _describe(self, objective: Objective, means: list[dict[str, float]]) -> dict[str, Any]:
        """Return what θ says after the epoch; P_θ = softmax(θ), without noise."""
        p = objective.probabilities()
        decisions = self.space.decisions
        names = [decision.name for decision in decisions]
        entropy = [float(-(p_l * p_l.log()).sum()) for p_l in p]
        return {
            "expected_cost": float(objective.cost(p)),
            "cost_unit": objective.cost.unit,
            "target": objective.target,
            "multiplier": objective.multiplier,
            "entropy": sum(entropy) / len(entropy),
            "layer_entropy": dict(zip(names, entropy, strict=True)),
            "theta": {
                decision.name: dict(zip(decision.options, theta_l.tolist(), strict=True))
                for decision, theta_l in zip(decisions, objective.theta, strict=True)
            },
        } | {f"theta_{key}": value for mean in means for key, value in mean.items()}

    def _forward(self, x: Tensor, y: Tensor, m: list[Tensor]) -> tuple[Tensor, Tensor]:
        with self.compute.autocast():
            logits = self.forward(x, m, self.strategy)
        return logits, F.cross_entropy(logits.float(), y)

    def _descend(self, loss: Tensor, images: int, optimizer: torch.optim.Optimizer, option: str) -> None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        where, lr = self.where, optimizer.param_groups[0]["lr"]
        loss = loss * self.ranks.share(images)

        def prepare() -> None:
            self.losses.add(self.ranks.add_gradients(parameters, loss.detach()), where, lr, option)

        descend(loss, optimizer, self.scale, prepare)

    def _compiled(self) -> Callable[..., Tensor]:
        """Return what to call in the supernet's place: itself, or a compiled form of it."""
        if self.compute.compile and (self.strategy.one_path or self.ranks.world > 1):
            why = "many processes" if self.ranks.world > 1 else f"--strategy {self.settings.strategy}"
            raise SearchError(
                f"--compile does not go with {why}: it compiles a supernet that runs all candidates in every step, in "
                "one process; leave it away"
            )
        return self.compute.compiled(self.net)

    def _generator(self, purpose: str) -> torch.Generator:
        at = self.position
        return generator_of(self.settings.seed, f"search/{at.epoch}/{at.phase}/{purpose}")

    def _theta_progress(self) -> float:
        """Return the share of this objective's θ steps that is done, the present one included."""
        at, warmup, steps = self.position, self.settings.warmup_epochs, self._steps(self.data.theta)
        return ((at.epoch - warmup) * steps + at.step + 1) / ((self.settings.epochs - warmup) * steps)

    def _steps(self, split: Split) -> int:
        count = batch_count(split, self.settings.batch)
        return count if self.settings.steps is None else min(count, self.settings.steps)

    def _steps_until(self, epoch: int) -> int:
        thetas = len(self.objectives) if self.strategy.learns_theta else 0
        theta_epochs = max(0, epoch - self.settings.warmup_epochs)
        return epoch * self._steps(self.data.w) + theta_epochs * thetas * self._steps(self.data.theta)

    def _steps_done(self) -> int:
        at = self.position
        phases = [self._steps(split) for _, split, _ in self._phases()[: at.phase]]
        return self._steps_until(at.epoch) + sum(phases) + at.step

    def _require_gradients(self, w: bool) -> None:
        for parameter in self.w:
            parameter.requires_grad_(w)

    def _check_costs(self) -> None:
        """Refuse a table whose latencies the loss cannot take, such as log(LAT) of less than a microsecond."""
        for objective in self.objectives:
            cost = objective.cost(objective.probabilities())
            if not math.isfinite(objective.loss_of(torch.tensor(1.0), cost).item()):
                raise SearchError(
                    f"loss {self.settings.loss!r} is not defined for an expected cost of {cost.item():.3g} "
                    f"{objective.cost.unit}; check the table's units (µs) or choose another --loss or --cost"
                )


def _in_silence(steps: int = 1, note: str = "") -> None:
    """Advance no bar."""
