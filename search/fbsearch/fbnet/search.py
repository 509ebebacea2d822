"""The search: every epoch first w on the w split, then θ on the θ split, with τ annealed (FBNet, section 3.3)."""

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fbsearch.beyond.score import with_score
from fbsearch.beyond.skip import hold_skip
from fbsearch.errors import SearchError
from fbsearch.fbnet.objective import Objective
from fbsearch.fbnet.settings import Settings
from fbsearch.fbnet.supernet import SuperNet
from fbsearch.images.data import Data, batch_count
from fbsearch.images.split import Split
from fbsearch.machine.checkpoint import SEARCH
from fbsearch.machine.compute import Compute
from fbsearch.machine.loop import Loop, Measured, Phase, Position
from fbsearch.machine.metrics import Mean
from fbsearch.machine.norm import share_norms
from fbsearch.machine.ranks import Ranks
from fbsearch.machine.seeds import generator_of
from fbsearch.strategies import STRATEGIES
from fbsearch.theta import softmax
from fbspace.space import Space

Outcome = tuple[Tensor, Tensor, Tensor]  # loss, cross-entropy and logits of a step


class Search(Loop):
    """One search: the supernet with its weights w, and one θ for each objective.

    Every step draws from a generator of its own, seeded by (seed, epoch, phase, step), and so does the order of the
    images: a resumed search draws the numbers that an uninterrupted one would have drawn.
    """

    name, file = "search", SEARCH

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
        self.compute, ranks = compute or Compute(), ranks or Ranks()
        self.strategy = STRATEGIES.load_with(settings.strategy, settings.options)
        if ranks.world > 1:
            share_norms(net, ranks)
            net.shares_norms = True
        self.net = self.compute.place(net)
        self.net.saves_memory = self.strategy.one_path and self.compute.device.type == "cpu" and ranks.world == 1
        self.forward: Callable[..., Tensor] = self.compute.compiled(self.net)
        self.objectives = list(objectives)
        super().__init__(self.net.parameters(), settings.epochs, self.compute.amp, data.wait_s, ranks)
        self.w_optimizer = torch.optim.SGD(self.w, settings.lr, settings.momentum, weight_decay=settings.weight_decay)
        self._check_costs()

    def phases(self, epoch: int) -> list[Phase]:
        """Return the phases of an epoch: w, then θ of every objective once warm-up is over."""
        phases = [self._phase(epoch, 0, "w", self.data.w, self.w_step)]
        if epoch >= self.settings.warmup_epochs and self.strategy.learns_theta:
            for i, objective in enumerate(self.objectives, start=1):
                step = partial(self.theta_step, objective)
                phases.append(self._phase(epoch, i, f"θ of {objective.name}", self.data.theta, step))
        return phases

    def w_step(self, x: Tensor, y: Tensor, temperature: float, generator: torch.Generator) -> Outcome:
        """Take one step of w: min_w CE(a, w), a ~ P_θ; no gradient of θ is computed.

        The latency factor of the loss does not depend on w and would only rescale the learning rate. Several
        objectives take turns: every step trains the weights under the θ of one of them.
        """
        theta = list(self.objectives[self.position.step % len(self.objectives)].theta)
        if self.settings.w_sampling == "uniform":
            theta = [torch.zeros_like(theta_l) for theta_l in theta]
        self.net.requires_grad_(True)
        with torch.no_grad():
            m = self.strategy.sample(theta, temperature, generator)
        logits, cross_entropy = self._forward(x, y, m)
        self.w_optimizer.param_groups[0]["lr"] = self.settings.lr_at(self.position.epoch)
        self.backward(cross_entropy, self.w_optimizer, "--lr", len(y))
        self.w_optimizer.step()
        self.w_optimizer.zero_grad()
        return cross_entropy.detach(), cross_entropy.detach(), logits.detach()

    def theta_step(
        self, objective: Objective, x: Tensor, y: Tensor, temperature: float, generator: torch.Generator
    ) -> Outcome:
        """Take one step of θ: min_θ E_{a ~ P_θ} L(a, w); no gradient of w is computed.

        Cross-entropy and latency see the same sample m, unless the loss takes the expected latency under softmax(θ).
        Where several networks are compared, the logits returned are those of the last.
        """
        self.net.requires_grad_(False)
        theta, estimate = list(objective.theta), objective.estimate
        samples = [self.strategy.sample(theta, temperature, generator) for _ in range(self.strategy.compares or 1)]
        with torch.set_grad_enabled(estimate is None):
            forwards = [self._forward(x, y, m) for m in samples]
        if estimate is None:
            loss = objective.weigh(forwards[0][1], samples[0])
        else:
            fixed = [[m_l.detach() for m_l in m] for m in samples]
            losses = torch.stack([objective.weigh(ce, m) for (_, ce), m in zip(forwards, fixed, strict=True)])
            loss = with_score(losses, samples, softmax(theta), estimate)
            estimate.learn(self.ranks.add(losses.detach().cpu() * self.ranks.share(len(y))), samples)
        self.backward(loss, objective.optimizer, "--theta-lr", len(y))
        for change in self.changes(objective):
            change()
        objective.optimizer.zero_grad()
        cross_entropy = torch.stack([cross_entropy.detach() for _, cross_entropy in forwards]).mean()
        return loss.detach(), cross_entropy, forwards[-1][0].detach()

    def changes(self, objective: Objective) -> list[Callable[[], object]]:
        """Return what a step does to θ once its gradient is there, in this order. Nothing else changes θ."""
        theta, at, settings = list(objective.theta), self.position, self.settings
        steps, hold = self._steps(self.data.theta), at.epoch < settings.skip_epochs
        done = (at.epoch - settings.warmup_epochs) * steps + at.step + 1
        progress = done / ((settings.epochs - settings.warmup_epochs) * steps)
        return [
            objective.charge,  # price: the gradient becomes that of loss + λ · E[cost] / target
            objective.optimizer.step,  # Adam, which is all that the paper does
            *([hold_skip(theta, objective.skips)] if hold else []),  # skip: P_θ(skip) is what it was before Adam
            partial(objective.tilt, progress),  # tilt: E[cost] is the target
            partial(self.ranks.copy_from_first, theta),  # share: hosts of two kinds may round one step to two results
        ]

    def metrics(self, means: list[list[float]]) -> dict[str, Any]:
        """Return the metrics of the epoch, with what θ says after it."""
        epoch, (seconds, waited_s) = self.position.epoch, self.lap()
        keys = "loss", "cross_entropy", "accuracy_percent"
        phases = [dict(zip(keys, (*mean[:2], 100 * mean[2]), strict=True)) for mean in means]
        objectives = {o.name: self._describe(o, phases[i : i + 1]) for i, o in enumerate(self.objectives, start=1)}
        return {
            "temperature": self.settings.temperature_at(epoch),
            "lr": self.settings.lr_at(epoch),
            "data_wait_share": round(waited_s / max(seconds, 1e-9), 4),
            **{f"w_{key}": value for key, value in phases[0].items()},
            "objectives": objectives,
        }

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
        self.scale.load(*state["scale"])
        self.net.load_state_dict(state["net"])
        self.w_optimizer.load_state_dict(state["w_optimizer"])
        for objective in self.objectives:
            objective.load_state(state["objectives"][objective.name])

    def _phase(self, epoch: int, number: int, name: str, split: Split, step: Callable[..., Outcome]) -> Phase:
        settings, purpose = self.settings, f"search/{epoch}/{number}"
        ranks, augment = (self.ranks.rank, self.ranks.world), settings.augment if number == 0 else "none"

        def batches(start: int) -> Iterable[tuple[Tensor, Tensor]]:
            order, limit = generator_of(settings.seed, f"{purpose}/order"), settings.steps
            return self.data.batches(split, settings.batch, order, limit, start=start, augment=augment, ranks=ranks)

        def take(x: Tensor, y: Tensor) -> Measured:
            generator = generator_of(settings.seed, f"{purpose}/{self.position.step}")
            loss, cross_entropy, logits = step(x, y, settings.temperature_at(epoch), generator)
            return (loss, cross_entropy), ((logits.argmax(1) == y).sum(),)

        return Phase(name, self._steps(split), batches, take)

    def _describe(self, objective: Objective, means: list[dict[str, float]]) -> dict[str, Any]:
        """Return what θ says; P_θ = softmax(θ), without noise."""
        p, logits, decisions = objective.probabilities(), list(objective.theta), self.space.decisions
        theta = {d.name: dict(zip(d.options, t.tolist(), strict=True)) for d, t in zip(decisions, logits, strict=True)}
        entropy = {d.name: float(-(p_l * p_l.log()).sum()) for d, p_l in zip(decisions, p, strict=True)}
        return {
            "expected_cost": float(objective.cost(p)),
            "cost_unit": objective.cost.unit,
            "target": objective.target,
            "multiplier": objective.multiplier,
            "entropy": sum(entropy.values()) / len(entropy),
            "layer_entropy": entropy,
            "theta": theta,
        } | {f"theta_{key}": value for mean in means for key, value in mean.items()}

    def _forward(self, x: Tensor, y: Tensor, m: list[Tensor]) -> tuple[Tensor, Tensor]:
        with self.compute.autocast():
            logits = self.forward(x, m, self.strategy)
        return logits, F.cross_entropy(logits.float(), y)

    def _steps(self, split: Split) -> int:
        return min(batch_count(split, self.settings.batch), self.settings.steps or len(split))

    def _check_costs(self) -> None:
        """Refuse a table whose latencies the loss cannot take, such as log(LAT) of less than a microsecond."""
        for objective in self.objectives:
            cost = objective.cost(objective.probabilities())
            if not math.isfinite(objective.loss_of(torch.tensor(1.0), cost).item()):
                raise SearchError(
                    f"loss {self.settings.loss!r} is not defined for an expected cost of {cost.item():.3g} "
                    f"{objective.cost.unit}; check the table's units (µs) or choose another --loss or --cost"
                )
