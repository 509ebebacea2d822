"""Run: what the folder of a finished or a running search says, read for pictures."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import pydantic

from fbbase.files import read_bytes
from fbsearch.errors import SearchError
from fbspace.architecture import Architecture, load_architecture

_Number = Annotated[float, pydantic.Field(ge=-1e12, le=1e12)]
_Temperature = Annotated[float, pydantic.Field(ge=1e-12, le=1e12)]
_Epoch = Annotated[int, pydantic.Field(ge=0, le=10**6)]
_Name = Annotated[str, pydantic.Field(max_length=1000)]
"""What can be drawn: an axis of more takes minutes for its ticks."""


class ObjectiveEpoch(pydantic.BaseModel):
    """One objective after an epoch: θ, what P_θ costs, the target in that unit, θ's losses once it is not held."""

    expected_cost: _Number
    cost_unit: _Name
    target: _Number | None = None
    entropy: _Number
    theta: dict[_Name, dict[_Name, _Number]]
    theta_cross_entropy: _Number = math.nan
    theta_accuracy_percent: _Number = math.nan


class Epoch(pydantic.BaseModel):
    """One epoch of the search."""

    epoch: _Epoch
    temperature: _Temperature
    w_cross_entropy: _Number
    w_accuracy_percent: _Number
    objectives: dict[_Name, ObjectiveEpoch]


class TrainEpoch(pydantic.BaseModel):
    """One epoch of a final training."""

    epoch: _Epoch
    cross_entropy: _Number
    accuracy_percent: _Number


class Ranked(pydantic.BaseModel):
    """One of the networks that were compared at the end, with the supernet's weights."""

    choices: tuple[_Name, ...]
    cost: _Number
    accuracy_percent: _Number


@dataclass(frozen=True, slots=True)
class Run:
    """A search: its epochs, its final trainings by stage, and by objective the networks found and compared."""

    epochs: list[Epoch]
    training: dict[str, list[TrainEpoch]]
    networks: dict[str, Architecture]
    ranked: dict[str, list[Ranked]]

    @property
    def objectives(self) -> dict[str, ObjectiveEpoch]:
        """The objectives as they stand after the last epoch."""
        return self.epochs[-1].objectives

    @property
    def numbers(self) -> list[int]:
        """How many epochs had been done when each one ended: 1, 2, …"""
        return [epoch.epoch + 1 for epoch in self.epochs]

    @property
    def warmup(self) -> int:
        """Epochs at the start in which θ was held; all of them where θ is never trained."""
        values = np.array([self.theta_phase(name, "cross_entropy") for name in self.objectives])
        return int(np.argmin([*np.isnan(values).all(0), False]))

    def theta_phase(self, name: str, key: str) -> list[float]:
        """Return `cross_entropy` or `accuracy_percent` of θ's phase over the epochs; nan while θ is held."""
        return [getattr(epoch.objectives[name], f"theta_{key}") for epoch in self.epochs]

    def probabilities(self, name: str, layer: str) -> npt.NDArray[np.float64]:
        """Return P_θ = softmax(θ) of a layer: candidates, epochs."""
        theta = np.array([list(epoch.objectives[name].theta[layer].values()) for epoch in self.epochs]).T
        exponentials = np.exp(theta - theta.max(0))
        p: npt.NDArray[np.float64] = exponentials / exponentials.sum(0)
        return p


def read_run(folder: Path) -> Run:
    """Read a run's folder. Raises SearchError where it is none, or where no epoch has ended yet."""
    path = folder / "metrics.jsonl"
    if not path.exists():
        raise SearchError(f"{folder} is not the folder of a search: no metrics.jsonl. Give the -o of fbsearch run")
    epochs, training, ranked = [], dict[str, list[TrainEpoch]](), {}
    content = read_bytes(path, "record of a search", error=SearchError)
    lines = content.split(b"\n")[:-1]  # what follows the last line's end is half a line of a killed run
    try:
        for number, line in enumerate(lines, start=1):
            where = f"{path}: line {number}"
            content = json.loads(line)
            if content["stage"] == "search":
                epochs.append(Epoch.model_validate(content))
            elif content["stage"].startswith("train"):
                training.setdefault(content["stage"], []).append(TrainEpoch.model_validate(content))
        if not epochs:
            raise SearchError(f"no epoch of the search in {folder} has ended yet; plot it again after the first")
        networks = {}
        for file in sorted(folder.glob("arch*.json")):
            where, network = str(file), load_architecture(str(file))
            name = network.provenance.get("objective", next(iter(epochs[-1].objectives)))
            networks[name] = network
            ranked[name] = [Ranked.model_validate(each) for each in network.provenance.get("candidates", [])]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        text = "; ".join(str(error).splitlines()[:3])
        raise SearchError(f"{where} is not what this version of fbsearch writes ({text}); search anew") from None
    names = [name for name in epochs[-1].objectives if name in networks]
    return Run(epochs, training, {n: networks[n] for n in names}, {n: ranked[n] for n in names if ranked[n]})
