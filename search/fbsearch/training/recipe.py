"""Recipe: everything that decides what a training learns, apart from the network and the images."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from fbbase.options import option, options_of
from fbsearch.errors import SearchError

LR = {"sgd": 0.1, "adamw": 1e-3}
WEIGHT_DECAY = {"sgd": 4e-5, "adamw": 0.05}
"""Of an optimiser whose rate or decay is not given."""

STEP_FACTOR = 0.1
"""What the learning rate is multiplied by at every milestone."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a network is trained; the defaults are those of a run of minutes on a small data set.

    `milestones` are shares of all epochs, `warmup` is in epochs. `mixup` is α of Beta(α, α), `cutout` a share of the
    image's side, `ema` the decay of the average of the weights per step; 0 turns each off. `augment` is a name that
    `Data.batches` knows. `limit` is the largest number of training images and of test images; `steps` ends every epoch
    after so many steps, for a trial. Raises FbError for a value out of its range.
    """

    epochs: int = option(15, "Passes over the training images.  [quick 15, paper 360, int8 3]", least=1)
    batch: int = option(64, "Images per step.  [quick 64, paper 256, int8 64]", least=2)
    optimizer: str = option("sgd", "Of all parameters.  [sgd]", choices=tuple(LR))
    lr: float = option(LR["sgd"], "Highest learning rate.  [sgd 0.1, adamw 0.001, int8 0.002]", above=0)
    schedule: str = option("cosine", "How --lr falls.  [quick cosine, paper steps]", choices=("cosine", "steps"))
    milestones: tuple[float, ...] = (0.25, 0.5, 0.75)
    warmup: int = option(0, "First epochs, in which the learning rate rises from zero.  [0]", least=0)
    momentum: float = option(0.9, "Of sgd.  [0.9]", least=0, below=1)
    nesterov: bool = option(True, "Of sgd.  [quick yes, paper no]")
    weight_decay: float = option(WEIGHT_DECAY["sgd"], "On all parameters.  [sgd 4e-5, adamw 0.05]", least=0)
    label_smoothing: float = option(0.0, "Share of every label spread over all classes.  [0]", least=0, below=1)
    mixup: float = option(0.0, "α of Beta(α, α), by which images are mixed in pairs.  [0: off]", least=0)
    cutout: float = option(0.0, "Side of a square left out, a share of the image's.  [0: off]", least=0, below=1)
    ema: float = option(0.0, "Decay per step of the average of weights that counts.  [0: off]", least=0, below=1)
    augment: str = option("none", "none, crop, flip, crop-flip or resized-crop.  [none]")
    seed: int = option(0, "Seed of everything random.  [0]", least=0)
    limit: int | None = option(None, "Use at most so many training images.", least=2)
    steps: int | None = option(None, "End every epoch after so many steps, for a trial.", least=1)

    def __post_init__(self) -> None:
        for each in options_of(type(self)):
            each.check(getattr(self, each.name))
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
    """Return a preset with the values that were given (not None) put in their places. Raises FbError.

    Where another optimiser is given, its own learning rate and weight decay are taken unless these are given too.
    """
    values = {name: value for name, value in given.items() if value is not None}
    base = PRESETS[preset]
    optimizer = values.get("optimizer", base.optimizer)
    if optimizer != base.optimizer and optimizer in LR:
        values = {"lr": LR[optimizer], "weight_decay": WEIGHT_DECAY[optimizer]} | values
    return dataclasses.replace(base, **values)
