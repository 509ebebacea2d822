"""Recipe: everything that decides what a training learns, apart from the network and the images."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from fbsearch.errors import SearchError

LR = {"sgd": 0.1, "adamw": 1e-3}
WEIGHT_DECAY = {"sgd": 4e-5, "adamw": 0.05}
"""Of an optimiser whose rate or decay is not given."""

SCHEDULES = ("cosine", "steps")
STEP_FACTOR = 0.1
"""What the learning rate is multiplied by at every milestone."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a network is trained; the defaults are those of a run of minutes on a small data set.

    `milestones` are shares of all epochs, `warmup` is in epochs. `mixup` is α of Beta(α, α), `cutout` a share of the
    image's side, `ema` the decay of the average of the weights per step; 0 turns each off. `augment` is a name that
    `Data.batches` knows. `limit` is the largest number of training images and of test images; `steps` ends every epoch
    after so many steps, for a trial. Raises SearchError for a value out of its range.
    """

    epochs: int = 15
    batch: int = 64
    optimizer: str = "sgd"
    lr: float = LR["sgd"]
    schedule: str = "cosine"
    milestones: tuple[float, ...] = (0.25, 0.5, 0.75)
    warmup: int = 0
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = WEIGHT_DECAY["sgd"]
    label_smoothing: float = 0.0
    mixup: float = 0.0
    cutout: float = 0.0
    ema: float = 0.0
    augment: str = "none"
    seed: int = 0
    limit: int | None = None
    steps: int | None = None

    def __post_init__(self) -> None:
        for name, known in (("optimizer", tuple(LR)), ("schedule", SCHEDULES)):
            if getattr(self, name) not in known:
                raise SearchError(f"--{name} is one of {', '.join(known)}, not {getattr(self, name)!r}")
        least = {"epochs": 1, "batch": 2, "limit": 2, "steps": 1, "warmup": 0, "seed": 0, "weight_decay": 0, "mixup": 0}
        for name, smallest in least.items():
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= smallest):
                raise SearchError(f"{_option(name)} must be at least {smallest}, not {value}")
        for name in ("momentum", "label_smoothing", "cutout", "ema"):
            if not 0 <= getattr(self, name) < 1:
                raise SearchError(f"{_option(name)} must be at least 0 and below 1, not {getattr(self, name)}")
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise SearchError(f"--lr must be a positive number, not {self.lr}")
        if self.warmup >= self.epochs:
            raise SearchError(f"--warmup of {self.warmup} epochs leaves none of {self.epochs} to train in; lower it")
        if list(self.milestones) != sorted(set(self.milestones)) or not all(0 < each < 1 for each in self.milestones):
            raise SearchError(f"--milestones rise between 0 and 1 (shares of all epochs), not {self.milestones}")

    def lr_at(self, epochs_done: float) -> float:
        """Return the learning rate of the step that begins after so many epochs, whole ones and a fraction.

        Warm-up rises in a line from zero to `lr`. `cosine` is ½ · lr · (1 + cos(π · t)), where t goes from 0 after
        the warm-up to 1 after the last epoch; `steps` is lr · 0.1^n after n milestones.
        """
        if epochs_done < self.warmup:
            return self.lr * epochs_done / self.warmup
        if self.schedule == "steps":
            return self.lr * STEP_FACTOR ** sum(epochs_done >= share * self.epochs for share in self.milestones)
        t = (epochs_done - self.warmup) / (self.epochs - self.warmup)
        return 0.5 * self.lr * (1 + math.cos(math.pi * t))


PRESETS = {
    "quick": Recipe(),
    "paper": Recipe(epochs=360, batch=256, schedule="steps", nesterov=False),
    "int8": Recipe(epochs=3, lr=0.002),
}
"""`paper`: SGD at 0.1, a tenth of it from epochs 90, 180 and 270 of 360 on each, batch 256 (FBNet, section 4.1)."""


def make_recipe(preset: str, **given: Any) -> Recipe:
    """Return a preset with the values that were given (not None) put in their places. Raises SearchError.

    Where another optimiser is given, its own learning rate and weight decay are taken unless these are given too.
    """
    values = {name: value for name, value in given.items() if value is not None}
    base = PRESETS[preset]
    optimizer = values.get("optimizer", base.optimizer)
    if optimizer != base.optimizer and optimizer in LR:
        values = {"lr": LR[optimizer], "weight_decay": WEIGHT_DECAY[optimizer]} | values
    return dataclasses.replace(base, **values)


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
