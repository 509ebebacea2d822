"""Settings: everything that decides what a search finds, with bounds, defaults and presets."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from fbbase.options import option, options_of

PAPER_EPOCHS = 90
PAPER_WARMUP_EPOCHS = 10
TARGET_SHARE = 0.97
"""The network found costs at least this share of the target, where the space allows it."""

PRESETS: dict[str, dict[str, str | float]] = {
    "default": {},
    "paper": {"loss": "paper", "w_start": "random", "skip_delay": 0.0},
    "quick": {
        "strategy": "single-path",
        "epochs": 20,
        "batch": 16,
        "lr": 0.03,
        "theta_lr": 0.1,
        "evaluations": 100,
        "train_epochs": 10,
        "train_lr": 0.05,
    },
}
"""What `--preset` sets. `paper` is FBNet to the letter. `default` departs from it in three things, as skip takes over
otherwise (docs/searching/skip.md): candidates start alike, skip is held for half of the θ steps, and with a target the
loss is `target`, which ends there. `quick` is `default` in minutes on a small data set, with a θ rate that covers in
tens of θ steps what the paper's covers in thousands, and a network trained at the end."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of one search; values are FBNet's where `default` does not depart from it (`PRESETS`).

    Warm-up and temperature follow the paper's schedule stretched to `epochs`, so a short search starts and ends at the
    paper's temperatures. `objectives` are the tables by name, each with the target that the network found must not
    exceed, if any, in the unit of the cost's targets; one θ is learned for each. `options` are own options of the
    strategy, cost and loss, as far as given. Raises FbError for a value out of its bounds.
    """

    space: str
    data: str
    objectives: tuple[tuple[str, float | None], ...] = ()
    strategy: str = option("mixture", "How candidates are weighted and run; a file of fbsearch/strategies.")
    cost: str = option("lut", "What a network costs; a file of fbsearch/costs, or a sum such as lut+0.5*params.")
    loss: str = option("", "A file of fbsearch/losses.  [default: paper; with a target: target]")
    options: Mapping[str, Any] = field(default_factory=dict)
    epochs: int = option(PAPER_EPOCHS, "Epochs of the search.", least=1)
    warmup: int | None = option(None, "First epochs, with θ held.  [default: a ninth, the paper's 10 of 90]", least=0)
    batch: int = option(192, "Images per step.", least=2)
    lr: float = option(0.1, "Learning rate of w, falling to zero in a cosine.", above=0)
    momentum: float = option(0.9, "Momentum of w.", least=0, most=1)
    weight_decay: float = option(1e-4, "Weight decay of w.", least=0)
    theta_lr: float = option(0.01, "Learning rate of θ (Adam).", above=0)
    theta_weight_decay: float = option(5e-4, "Weight decay of θ.", least=0)
    temperature: float = option(5.0, "τ at the start.", above=0)
    temperature_decay: float = option(0.045, "Decay of τ in one of 90 epochs, by exp(-decay).", least=0)
    w_start: str = option("alike", "Candidates begin alike, all near skip, or random.", choices=("alike", "random"))
    w_sampling: str = option("theta", "Networks that train w: of P_θ (paper) or uniform.", choices=("theta", "uniform"))
    skip_delay: float = option(0.5, "Share of θ's epochs in which skip neither gains nor loses.", least=0, most=1)
    w_share: float = option(0.8, "Share of the images that trains w; the rest trains θ.", above=0, below=1)
    validation_share: float = option(0.1, "Share of the training images that ranks networks.", above=0, below=1)
    augment: str = option("none", "Of the images that train w: none, flip, crop, crop-flip, resized-crop.")
    samples: int = option(6, "Networks drawn from P_θ at the end, to choose from.", least=1)
    evaluations: int = option(200, "Networks that random and evolution evaluate.", least=1)
    train_epochs: int = option(0, "Epochs of a final training; 0 leaves it to `fbsearch train`.", least=0)
    train_lr: float = option(0.1, "Learning rate of that training, falling to zero in a cosine.", above=0)
    train_weight_decay: float = option(4e-5, "Weight decay of that training.", least=0)
    amp: str = option("none", "Mixed precision: none, bf16 or fp16.")
    seed: int = option(0, "Seed of everything random.", least=0)
    limit: int | None = option(None, "Use at most so many training and so many test images.", least=2)
    steps: int | None = option(None, "End every epoch after so many steps, for a trial.", least=1)

    def __post_init__(self) -> None:
        for each in options_of(type(self)):
            each.check(getattr(self, each.name))
        if not self.loss:
            targeted = any(target is not None for _, target in self.objectives)
            object.__setattr__(self, "loss", "target" if targeted else "paper")

    @property
    def warmup_epochs(self) -> int:
        """Epochs for which θ is held: `warmup`, or the paper's share (10 of 90), rounded up."""
        return math.ceil(self.epochs * PAPER_WARMUP_EPOCHS / PAPER_EPOCHS) if self.warmup is None else self.warmup

    @property
    def skip_epochs(self) -> float:
        """Epochs until which skip is held."""
        return self.warmup_epochs + self.skip_delay * (self.epochs - self.warmup_epochs)

    def temperature_at(self, epoch: int) -> float:
        """Return τ = τ₀ · exp(−0.045 · t), where t = epoch · 90 / epochs is the epoch of the paper's schedule."""
        return self.temperature * math.exp(-self.temperature_decay * epoch * PAPER_EPOCHS / self.epochs)

    def lr_at(self, epoch: int) -> float:
        """Return the learning rate of w: cosine from `lr` down to zero after the last epoch."""
        return 0.5 * self.lr * (1 + math.cos(math.pi * epoch / self.epochs))

    def as_dict(self) -> dict[str, Any]:
        """Return plain values by name, own options beside the others."""
        values = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "options"}
        return dict(self.options) | values | {"objectives": [list(objective) for objective in self.objectives]}
