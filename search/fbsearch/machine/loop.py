"""Loop: epochs of phases of steps, as a search and a training have them.

A loop continues at the step where it stopped, looks at losses, saves what the next step depends on when that is due,
ends between two steps, and writes the metrics of every epoch. A search and a training each give it their steps.
"""

import contextlib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from fbbase.interrupt import interrupt_between_steps
from fbbase.progress import Advance, progress
from fbsearch.errors import DivergedError
from fbsearch.machine.checkpoint import RunFolder
from fbsearch.machine.descent import Losses, LossScale
from fbsearch.machine.metrics import Mean, Metrics
from fbsearch.machine.ranks import Ranks

CHECKPOINT_S = 300.0
"""A kill costs at most so many seconds of work, however long an epoch takes."""

Measured = tuple[Sequence[Tensor], Sequence[Tensor]]
"""What a step says of its batch: means over its images, and counts of them (`Mean.add`)."""


@dataclass(frozen=True, slots=True)
class Phase:
    """One pass over some images: its name, its number of steps, its batches from a step on, and what a step does."""

    name: str
    steps: int
    batches: Callable[[int], Iterable[tuple[Tensor, Tensor]]]
    step: Callable[[Tensor, Tensor], Measured]


@dataclass(slots=True)
class Position:
    """Where a loop stands: epochs done, phases of the epoch done, steps of the phase done, means of each phase."""

    epoch: int = 0
    phase: int = 0
    step: int = 0
    means: list[Mean] = field(default_factory=list)


class Loop(ABC):
    """Base of a search and a training."""

    name: ClassVar[str]
    """Name of the metrics' stage and of the progress bar."""
    file: ClassVar[str]
    """Name of the checkpoint in the run folder."""

    def __init__(
        self, w: Iterable[nn.Parameter], epochs: int, amp: str, wait_s: Callable[[], float], ranks: Ranks | None = None
    ) -> None:
        """Begin at epoch 0. `wait_s` returns the seconds spent waiting for images since its last call."""
        self.w, self.epochs, self.wait_s, self.ranks = list(w), epochs, wait_s, ranks or Ranks()
        self.position, self.losses, self.scale = Position(), Losses(), LossScale.of(amp)
        self.lapped_at = self.saved_at = time.monotonic()

    @abstractmethod
    def phases(self, epoch: int) -> list[Phase]:
        """Return the phases of an epoch."""

    @abstractmethod
    def metrics(self, means: list[list[float]]) -> dict[str, Any]:
        """Return the metrics of an epoch whose steps are done, given the means of each phase over all ranks."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Return everything the next step depends on. All ranks call it."""

    @abstractmethod
    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from what `state` returned."""

    @property
    def where(self) -> str:
        """The step that is being taken, in words."""
        at = self.position
        phase = self.phases(at.epoch)[at.phase]
        named = f"phase {phase.name}, " if phase.name else ""
        return f"epoch {at.epoch + 1}, {named}step {at.step + 1} of {phase.steps}"

    def lap(self) -> tuple[float, float]:
        """Return the seconds since the last lap or the epoch's begin, and those of them spent waiting for images."""
        before, self.lapped_at = self.lapped_at, time.monotonic()
        return self.lapped_at - before, self.wait_s()

    def backward(self, loss: Tensor, optimizer: torch.optim.Optimizer, option: str, images: int) -> None:
        """Leave the gradients of the whole batch at an optimizer's parameters; none where float16 overflowed.

        `images` are this rank's; `option` sets the learning rate. Raises DivergedError for a loss that is not finite.
        """
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        loss = loss * self.ranks.share(images)
        self.scale.backward(loss)
        total = self.ranks.add_gradients(parameters, loss.detach())
        self.losses.add(total, self.where, optimizer.param_groups[0]["lr"], option)
        self.scale.unscale(parameters)

    def run(self, folder: RunFolder) -> None:
        """Run until the last epoch, from the folder's checkpoint if it has one.

        Raises DivergedError, and what an interrupt raises once the step that was being taken is saved. All ranks start
        from what the first one has, and stop after the same step, whichever of them is interrupted.
        """
        first = self.ranks.is_first
        saved = self.ranks.from_first(lambda: folder.load(self.file))
        if saved is None:
            self.ranks.copy_from_first(self.w)
        else:
            self.load_state(saved)
        at = self.position
        steps_done = self._steps_until(at.epoch) + sum(p.steps for p in self.phases(at.epoch)[: at.phase]) + at.step
        with (
            Metrics(folder.path, self.name, at.epoch) if first else contextlib.nullcontext() as metrics,
            progress(self.name, self._steps_until(self.epochs), steps_done, shown=first) as advance,
            interrupt_between_steps(terminate=True, quiet=not first) as check_interrupt,
        ):
            self.saved_at = time.monotonic()

            def after_step() -> None:
                stop, due = self.ranks.agree(check_interrupt, time.monotonic() > self.saved_at + CHECKPOINT_S)
                if stop or due:
                    self._save(folder)
                if stop:
                    self.ranks.end(stop)

            while self.position.epoch < self.epochs:
                try:
                    values = self.epoch(advance, after_step)
                except DivergedError as error:
                    file = folder.path / self.file
                    good = f"the last good state is in {file}" if file.exists() else "nothing was saved yet"
                    self.ranks.end(DivergedError(f"{error}; {good}"))
                if metrics is not None:
                    metrics.write(self.position.epoch, values)
                self.position = Position(self.position.epoch + 1)
                self._save(folder)

    def epoch(self, advance: Advance, after_step: Callable[[], None]) -> dict[str, Any]:
        """Take the steps of the present epoch that are left, and return its metrics."""
        at, phases = self.position, self.phases(self.position.epoch)
        at.means = at.means or [Mean() for _ in phases]
        self.lap()  # what was waited before is not this epoch's
        while at.phase < len(phases):
            phase = phases[at.phase]
            for x, y in phase.batches(at.step):
                at.means[at.phase].add(len(y), *phase.step(x, y))
                at.step += 1
                advance(note=f"epoch {at.epoch + 1}/{self.epochs} {phase.name}".rstrip())
                after_step()
            at.phase, at.step = at.phase + 1, 0
        self.losses.look()
        return self.metrics([Mean(self.ranks.add(mean.sums)).values() for mean in at.means])

    def _save(self, folder: RunFolder) -> None:
        self.losses.look()
        state = self.state()
        # A step whose loss was finite may have left weights that are not: the next one will say so.
        sound = torch.stack([parameter.detach().isfinite().all() for parameter in self.w]).all()
        if self.ranks.is_first and sound:
            folder.save(self.file, state)
        self.saved_at = time.monotonic()

    def _steps_until(self, epoch: int) -> int:
        return sum(phase.steps for each in range(epoch) for phase in self.phases(each))
