"""One file per kind of image set: where labels come from, and how one image is decoded.

A source is a module with the function of `Opener`. On the command line it is `--data KIND:REST`; files and folders are
recognised without their kind.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fbbase.plugins import PluginFolder
from fbsearch.errors import DataError

SOURCES = PluginFolder("data source", "fbsearch.sources")

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


class Opener(Protocol):
    """What a module in this folder provides."""

    def open_source(self, rest: str, size: int) -> tuple[Source, Source | None]:
        """Return the images to train with and, where the set brings its own, those to test with; same classes.

        `rest` is what follows the colon; `size` the side that images of differing sizes are brought to. Raises
        DataError.
        """
        ...


def array_source(images: Array, labels: Indices, classes: tuple[str, ...], identity: str) -> Source:
    """Return the source of images that are in memory already, N, C, H, W."""
    return Source(labels, classes, lambda i: images[i], lambda: f"{identity} {images.dtype} {images.shape}")


def open_source(name: str, size: int) -> tuple[Source, Source | None]:
    """Return the images of a data set by its name on the command line. Raises DataError."""
    kind, colon, rest = name.partition(":")
    known = kind in SOURCES
    if not (known and colon) and name != "digits":
        if Path(name).exists():
            kind, rest = _kind_of(Path(name)), name
        elif not known:
            raise DataError(
                f"data not found: {name!r} is neither `digits` nor an existing .npz file, CIFAR archive or folder; "
                "what the `datasets` library reads is called hf:NAME"
            )
    opener: Opener = SOURCES.module(kind)  # a module that has the function
    try:
        return opener.open_source(rest, size)
    except OSError as error:
        raise DataError(f"cannot read {error.filename or name}: {error.strerror or error}") from None


def _kind_of(path: Path) -> str:
    from fbsearch.sources.cifar import is_cifar

    if is_cifar(path):
        return "cifar"
    return "folders" if path.is_dir() else "npz"
