"""Settings: everything that decides what a search finds; the defaults are the paper's."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from fbsearch.errors import SearchError

PAPER_EPOCHS = 90
PAPER_WARMUP_EPOCHS = 10
TARGET_SHARE = 0.97
"""The network found costs at least this share of the target, where the space allows it."""

PRESETS: dict[str, dict[str, str | float]] = {
    "paper": {},
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
"""What `--preset` sets: `paper` is the published recipe, `quick` one of minutes for a small data set, with a θ rate
that covers in tens of θ steps what the paper's covers in thousands, and a network trained at the end."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of one search; the defaults are FBNet's (facts: epochs, batch, optimisers, α, β, τ, splits).

    Warm-up and temperature follow the paper's schedule stretched to `epochs`, so a short search starts and ends at the
    paper's temperatures. `objectives` are the tables by name, each with the target that the network found must not
    exceed, if any, in ms (or millions of MACs or parameters); one θ is
    learned for each. `latency_weight` is λ of the losses with a λ. `w_sampling` says which
    networks train the weights w: those of P_θ as in the paper, or uniform ones. Until the share `skip_delay` of the
    epochs with θ steps is over, skip neither gains nor loses. `evaluations` is how many networks the strategies without
    θ judge. `train_epochs` 0 leaves the final training to `fbsearch train`. `limit` is the largest number of training
    images and of test images; `steps` ends every epoch after so many steps. Raises SearchError for bad values.
    """

    space: str
    data: str
    objectives: tuple[tuple[str, float | None], ...] = ()
    strategy: str = "mixture"
    cost: str = "lut"
    loss: str = "paper"
    alpha: float = 0.2
    beta: float = 0.6
    latency_weight: float = 1.0
    epochs: int = PAPER_EPOCHS
    warmup: int | None = None
    batch: int = 192
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 1e-4
    theta_lr: float = 0.01
    theta_weight_decay: float = 5e-4
    temperature: float = 5.0
    temperature_decay: float = 0.045
    w_start: str = "alike"
    w_sampling: str = "theta"
    skip_delay: float = 0.5
    w_share: float = 0.8
    validation_share: float = 0.1
    augment: str = "none"
    samples: int = 6
    evaluations: int = 200
    train_epochs: int = 0
    train_lr: float = 0.1
    train_weight_decay: float = 4e-5
    amp: str = "none"
    seed: int = 0
    limit: int | None = None
    steps: int | None = None

    def __post_init__(self) -> None:
        least = {
            "epochs": 1,
            "batch": 2,
            "samples": 1,
            "evaluations": 1,
            "train_epochs": 0,
            "limit": 2,
            "steps": 1,
            "warmup": 0,
            "seed": 0,
        }
        for name, smallest in least.items():
            value = getattr(self, name)
            if value is not None and value < smallest:
                raise SearchError(f"{_option(name)} must be at least {smallest}, not {value}")
        for name in ("alpha", "beta", "latency_weight", "lr", "theta_lr", "train_lr", "temperature"):
            self._require(name, 0 < getattr(self, name) < math.inf, "a positive number")
        for name in ("momentum", "skip_delay"):
            self._require(name, 0 <= getattr(self, name) <= 1, "between 0 and 1")
        for name in ("w_share", "validation_share"):
            self._require(name, 0 < getattr(self, name) < 1, "between 0 and 1, neither of them")
        for name in ("weight_decay", "theta_weight_decay", "train_weight_decay", "temperature_decay"):
            self._require(name, 0 <= getattr(self, name) < math.inf, "zero or a positive number")
        for _, target_ms in self.objectives:
            if target_ms is not None and not 0 < target_ms < math.inf:
                raise SearchError(f"--target-ms must be a positive number, not {target_ms}")
        self._require("w_start", self.w_start in ("alike", "random"), "alike or random")
        self._require("w_sampling", self.w_sampling in ("theta", "uniform"), "theta or uniform")

    @property
    def warmup_epochs(self) -> int:
        """Epochs for which θ is held: `warmup`, or the paper's share (10 of 90), rounded up."""
        if self.warmup is not None:
            return self.warmup
        return math.ceil(self.epochs * PAPER_WARMUP_EPOCHS / PAPER_EPOCHS)

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
        """Return the settings as JSON and checkpoints hold them."""
        return dataclasses.asdict(self) | {"objectives": [list(objective) for objective in self.objectives]}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Settings":
        """Return the settings that `as_dict` wrote."""
        return cls(**values | {"objectives": tuple((table, target_ms) for table, target_ms in values["objectives"])})

    def _require(self, name: str, holds: bool, what: str) -> None:
        if not holds:
            raise SearchError(f"{_option(name)} must be {what}, not {getattr(self, name)}")


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
