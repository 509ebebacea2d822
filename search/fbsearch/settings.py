"""Settings: everything that decides what a search finds; the defaults are the paper's where a short run allows."""

import math
from dataclasses import dataclass

from fbsearch.errors import SearchError

PAPER_EPOCHS = 90
PAPER_WARMUP_EPOCHS = 10
PAPER_TEMPERATURE_DECAY = 0.045
TARGET_SHARE = 0.97
"""The network found costs at least this share of the target, where the space allows it."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of one search.

    The paper: 90 epochs (θ held for the first 10), batch 192, w by SGD at 0.1, θ by Adam at 0.01. The defaults differ
    where a run of minutes on a small data set must: fewer epochs, a smaller batch, and a θ rate that covers the same
    ground in tens instead of thousands of θ steps. Warm-up and temperature follow the paper's schedule stretched to
    `epochs`, so a short search starts and ends at the paper's temperatures.

    `target_ms` is the latency that the network found must not exceed; `latency_weight` is λ of the losses with a λ.
    `limit` is the largest number of training images and of test images; `steps` ends every epoch after so many steps.
    Raises SearchError for a value out of its range.
    """

    space: str
    data: str
    strategy: str = "mixture"
    cost: str = "lut"
    loss: str = "paper"
    alpha: float = 0.2
    beta: float = 0.6
    target_ms: float | None = None
    latency_weight: float = 1.0
    epochs: int = 6
    warmup: int | None = None
    batch: int = 64
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 1e-4
    theta_lr: float = 0.4
    theta_weight_decay: float = 5e-4
    temperature: float = 5.0
    samples: int = 6
    train_epochs: int = 15
    train_lr: float = 0.1
    train_weight_decay: float = 4e-5
    seed: int = 0
    limit: int | None = None
    steps: int | None = None

    def __post_init__(self) -> None:
        least = {
            "epochs": 1,
            "batch": 2,
            "samples": 1,
            "train_epochs": 1,
            "limit": 2,
            "steps": 1,
            "warmup": 0,
            "seed": 0,
        }
        for name, smallest in least.items():
            value = getattr(self, name)
            if value is not None and value < smallest:
                raise SearchError(f"--{name.replace('_', '-')} must be at least {smallest}, not {value}")
        for name in ("alpha", "beta", "target_ms", "latency_weight", "lr", "theta_lr", "train_lr", "temperature"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise SearchError(f"--{name.replace('_', '-')} must be a positive number, not {value}")

    @property
    def target_us(self) -> float:
        """The target in the unit of the table. Raises SearchError where there is none."""
        if self.target_ms is None:
            raise SearchError(f"loss {self.loss!r} needs a target latency: give --target-ms, or choose another --loss")
        return self.target_ms * 1000

    @property
    def warmup_epochs(self) -> int:
        """Epochs for which θ is held: `warmup`, or the paper's share (10 of 90), rounded up."""
        if self.warmup is not None:
            return self.warmup
        return math.ceil(self.epochs * PAPER_WARMUP_EPOCHS / PAPER_EPOCHS)

    def temperature_at(self, epoch: int) -> float:
        """Return τ = τ₀ · exp(−0.045 · t), where t = epoch · 90 / epochs is the epoch of the paper's schedule."""
        return self.temperature * math.exp(-PAPER_TEMPERATURE_DECAY * epoch * PAPER_EPOCHS / self.epochs)

    def lr_at(self, epoch: int) -> float:
        """Return the learning rate of w: cosine from `lr` down to zero after the last epoch."""
        return cosine(self.lr, epoch, self.epochs)


def cosine(highest: float, epoch: int, epochs: int) -> float:
    """Return ½ · highest · (1 + cos(π · epoch / epochs))."""
    return 0.5 * highest * (1 + math.cos(math.pi * epoch / epochs))
