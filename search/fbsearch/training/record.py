"""TrainingRecord: what arch.json says of a network's training, and the data seen as that training saw it."""

import dataclasses
from typing import Any

import click
import pydantic
import torch
from torch import nn

from fbbase import __version__
from fbsearch.errors import DataError
from fbsearch.images.data import Data, load_data
from fbsearch.images.split import Shares, Split
from fbsearch.training.recipe import Recipe
from fbsearch.training.train import Training
from fbspace.architecture import Architecture
from fbspace.errors import ArchitectureError
from fbspace.space import Space


class TrainingRecord(pydantic.BaseModel):
    """A training, as `provenance["training"]` of an architecture file holds it.

    `mean` and `std` per channel normalise the network's input; with them, the seed and the shares, other images can be
    evaluated as the network's own were.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    tool: str
    recipe: dict[str, Any]
    data: str
    data_fingerprint: str
    classes: tuple[str, ...]
    seed: int
    limit: int | None
    w_share: float
    validation_share: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    train_images: int
    validation_images: int
    train_accuracy_percent: float
    validation_accuracy_percent: float
    validation_cross_entropy: float

    @classmethod
    def of(cls, data: Data, recipe: Recipe, trained: Training) -> "TrainingRecord":
        """Record a training that was just done."""
        return cls(
            tool=f"fbnet-lab {__version__} fbsearch",
            recipe=dataclasses.asdict(recipe),
            data=data.name,
            data_fingerprint=data.fingerprint,
            classes=data.classes,
            seed=recipe.seed,
            limit=recipe.limit,
            w_share=data.shares.w,
            validation_share=data.shares.validation,
            mean=tuple(data.mean.flatten().tolist()),
            std=tuple(data.std.flatten().tolist()),
            train_images=len(data.w) + len(data.theta),
            validation_images=trained.validation.images,
            train_accuracy_percent=round(trained.train_accuracy_percent, 3),
            validation_accuracy_percent=round(trained.validation.top1_percent, 3),
            validation_cross_entropy=round(trained.validation.cross_entropy, 5),
        )

    @classmethod
    def read(cls, architecture: Architecture) -> "TrainingRecord | None":
        """Return the record of an architecture file, None where it has none. Raises ArchitectureError."""
        content = architecture.provenance.get("training")
        if content is None:
            return None
        try:
            return cls.model_validate(content)
        except pydantic.ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, ["provenance", "training", *first["loc"]]))
            raise ArchitectureError(f"network {architecture.name!r}: {where}: {first['msg']}") from None

    def load_data(self, name: str, space: Space, limit: int | None, device: str | torch.device = "cpu") -> Data:
        """Return images split and normalised as in the training. Raises DataError for other classes."""
        shares = Shares(self.w_share, self.validation_share)
        data = load_data(name, space.input_shape, self.seed, limit, device=device, shares=shares)
        if data.classes != self.classes:
            missing = sorted(set(self.classes) - set(data.classes)) or ["none"]
            new = sorted(set(data.classes) - set(self.classes)) or ["none"]
            raise DataError(
                f"{name} has other classes than the network was trained on; missing: {', '.join(missing)}; "
                f"new: {', '.join(new)}"
            )
        mean, std = (torch.tensor(values, device=device).reshape(1, -1, 1, 1) for values in (self.mean, self.std))
        return dataclasses.replace(data, mean=mean, std=std)


def held_out(
    architecture: Architecture, name: str | None, split: str, limit: int | None, device: str | torch.device = "cpu"
) -> tuple[Data, Split]:
    """Return the images `test` or `validation` of a data set, as they were held out of the network's training.

    Without a name it is the training's own. An architecture file that records no training gets the split of seed 0 and
    the data's own normalisation, with a warning. Raises DataError for other classes, and for validation images of
    other data: nothing was held out of those.
    """
    space = architecture.load_space()
    record = TrainingRecord.read(architecture)
    name = name or (record.data if record else "digits")
    if split == "validation":
        if record is None:
            raise DataError(f"network {architecture.name!r} records no training that images were held out of; use test")
        if limit is not None:
            raise DataError("--limit is for test images; the validation images are those of the training")
        data = record.load_data(name, space, record.limit, device)
        if data.fingerprint != record.data_fingerprint:
            raise DataError(f"{name} is not the data of the training ({record.data}), so nothing of it was held out")
        return data, data.validation
    if record is not None:
        data = record.load_data(name, space, limit, device)
    else:
        click.echo(
            f"warning: network {architecture.name!r} records no training: images are normalised by the mean of this "
            "data's training images, and split by seed 0",
            err=True,
        )
        data = load_data(name, space.input_shape, 0, limit, device=device)
    return data, data.test


def check_classes(network: nn.Module, data: Data) -> None:
    """Refuse a network with another number of classes than the data. Raises DataError."""
    outputs = next(module.out_features for module in reversed(list(network.modules())) if isinstance(module, nn.Linear))
    if outputs != len(data.classes):
        raise DataError(f"{data.name} has {len(data.classes)} classes, and the weights are of a network for {outputs}")
