"""One file per kind of image set: where labels come from, and how one image is decoded.

On the command line it is `--data KIND:REST`; files and folders are recognised without their kind.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import click
import numpy as np
import numpy.typing as npt

from fbbase.plugins import Plugins
from fbsearch.errors import DataError

Array = npt.NDArray[Any]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Source:
    """Images that belong together: those to train with, or those to test with.

    `labels` are 0 … len(classes) − 1. `decode` returns image i as C, H, W, uint8 or float32, of the same shape for
    every i; several threads call it at once. `identity` says cheaply which images these are (names and sizes): by it a
    resumed run knows a set that is too large to be hashed pixel by pixel.
    """

    labels: Indices
    classes: tuple[str, ...]
    decode: Callable[[int], Array]
    identity: Callable[[], str]


class Opener(ABC):
    """Opens one kind of image set. A file of this folder holds one class that derives from it."""

    needs_rest: ClassVar[bool] = True
    """Whether something follows the colon of `--data KIND:REST`; otherwise KIND alone will do."""

    @abstractmethod
    def open(self, rest: str, size: int) -> tuple[Source, Source | None]:
        """Return the images to train with and, where the set brings its own, those to test with; same classes.

        `rest` is what follows the colon; `size` the side that images of differing sizes are brought to. Raises
        DataError.
        """

    def recognises(self, path: Path) -> bool:
        """Whether a path given without a kind is of this one; what no kind recognises is of `folders` or `npz`."""
        return False


SOURCES = Plugins("data source", "fbsearch.sources", base=Opener)


def array_source(images: Array, labels: Indices, classes: tuple[str, ...], identity: str) -> Source:
    """Return the source of images that are in memory already, N, C, H, W."""
    return Source(labels, classes, lambda i: images[i], lambda: f"{identity} {images.dtype} {images.shape}")


def tell_unused(where: str, names: Sequence[str]) -> None:
    """Say on stderr, of several processes in the first, which validation images of a set are not used."""
    if names and os.environ.get("RANK", "0") == "0":
        why = "networks are validated by a share of the training images"
        click.echo(f"note: {where}: {', '.join(names)} not used: {why}", err=True)


def open_source(name: str, size: int) -> tuple[Source, Source | None]:
    """Return the images of a data set by its name on the command line. Raises DataError."""
    kind, colon, rest = name.partition(":")
    opener = SOURCES.load(kind) if kind in SOURCES else None
    if opener is None or (opener.needs_rest and not colon):
        if Path(name).exists():
            opener, rest = _opener_of(Path(name)), name
        elif opener is None:
            raise DataError(
                f"data not found: {name!r} is neither `digits` nor an existing .npz file, CIFAR archive or folder; "
                "what the `datasets` library reads is called hf:NAME"
            )
    try:
        return opener.open(rest, size)
    except OSError as error:
        raise DataError(f"cannot read {error.filename or name}: {error.strerror or error}") from None


def _opener_of(path: Path) -> Opener:
    for opener in map(SOURCES.load, SOURCES.names()):
        if opener.recognises(path):
            return opener
    return SOURCES.load("folders" if path.is_dir() else "npz")
