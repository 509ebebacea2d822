"""Data: the w split, the θ split and the test split of an image set, turned into batches of the space's input shape."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fbsearch.data_files import Indices, Source, open_source
from fbsearch.errors import DataError

W_SHARE = 0.8
"""Share of the training images that train w; the rest trains θ (FBNet, section 4.1)."""

TRAIN_SHARE = 0.8
"""Share of the images used for training where the data brings no test images of its own."""


@dataclass(frozen=True, slots=True)
class Split:
    """Images as decoded (N, C, H, W, uint8 or float32, of any size) with their labels."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, slots=True)
class Data:
    """An image set: `w` trains the weights, `theta` the architecture; `test` is looked at once, at the very end.

    Images keep their decoded size and type, and are resized (bilinear), brought to the space's number of channels and
    normalised batch by batch, so that a data set costs no more memory than its pixels. `mean` and `std` per channel
    are those of the w split alone.
    """

    name: str
    classes: tuple[str, ...]
    input_shape: tuple[int, int, int, int]
    w: Split
    theta: Split
    test: Split
    mean: Tensor
    std: Tensor
    fingerprint: str

    @property
    def training(self) -> Split:
        """All training images: w and θ splits together."""
        images = torch.cat([self.w.images, self.theta.images])
        return Split(images, torch.cat([self.w.labels, self.theta.labels]))

    def batches(
        self, split: Split, size: int, generator: torch.Generator | None = None, limit: int | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (N, C, H, W float32, N labels), shuffled if a generator is given, at most `limit` batches.

        The batches are of nearly equal size and `size` at most: a last batch of one image would have no statistics to
        normalise by.
        """
        count = len(split)
        order = torch.arange(count) if generator is None else torch.randperm(count, generator=generator)
        for chosen in order.tensor_split(batch_count(split, size))[:limit]:
            yield self._prepare(split.images[chosen]), split.labels[chosen]

    def _prepare(self, images: Tensor) -> Tensor:
        _, channels, height, width = self.input_shape
        x = _with_channels(images.float(), channels)
        if x.shape[2:] != (height, width):
            x = F.interpolate(x, (height, width), mode="bilinear", align_corners=False, antialias=True)
        return (x - self.mean) / self.std


def load_data(name: str, input_shape: tuple[int, int, int, int], seed: int, limit: int | None = None) -> Data:
    """Return the data set `digits`, of an .npz file, or of a folder of class folders, split and normalised.

    All splits are stratified and follow from `seed`. `limit` keeps so many training and so many test images, chosen
    evenly over the classes before they are decoded. Raises DataError.
    """
    source, test_source = open_source(name, input_shape[2])
    if len(source.classes) < 2:
        raise DataError(f"{name} has images of one class only ({source.classes[0]}); a search needs at least two")
    rng = np.random.default_rng(seed)
    everything = np.arange(len(source.labels), dtype=np.int64)
    if test_source is None:
        train, test = _split(source, everything, TRAIN_SHARE, rng, name)
        test_source = source
    else:
        train, test = everything, np.arange(len(test_source.labels), dtype=np.int64)
    train = _limit(train, source.labels, limit, rng)
    test = _limit(test, test_source.labels, limit, rng)
    w, theta = _split(source, train, W_SHARE, rng, name)
    splits = _decode(source, w), _decode(source, theta), _decode(test_source, test)
    mean, std = (_with_channels(x, input_shape[1]) for x in _statistics(splits[0].images))
    return Data(name, source.classes, input_shape, *splits, mean, std, _fingerprint(splits))


def batch_count(split: Split, size: int) -> int:
    """Return the number of batches of at most `size`, but of two images at least, that a split is cut into."""
    return max(1, min(-(-len(split) // size), len(split) // 2))


def _split(
    source: Source, indices: Indices, share: float, rng: np.random.Generator, name: str
) -> tuple[Indices, Indices]:
    """Cut `indices` in two, class by class, so that both parts hold every class."""
    first: list[Indices] = []
    second: list[Indices] = []
    for label, title in enumerate(source.classes):
        members = rng.permutation(indices[source.labels[indices] == label])
        if len(members) < 2:
            raise DataError(
                f"class {title!r} of {name} has {len(members)} image{'s' * (len(members) != 1)} where it has to be "
                "split in two; give every class more images, or raise --limit"
            )
        cut = min(max(round(share * len(members)), 1), len(members) - 1)
        first.append(members[:cut])
        second.append(members[cut:])
    return np.sort(np.concatenate(first)), np.sort(np.concatenate(second))


def _limit(indices: Indices, labels: Indices, limit: int | None, rng: np.random.Generator) -> Indices:
    """Keep `limit` of the indices, as evenly over the classes as their sizes are: every class loses the same share."""
    if limit is None or limit >= len(indices):
        return indices
    position = np.empty(len(indices))
    for label in np.unique(labels[indices]):
        members = rng.permutation(np.flatnonzero(labels[indices] == label))
        position[members] = (np.arange(len(members)) + 0.5) / len(members)
    return np.sort(indices[np.argsort(position, kind="stable")[:limit]])


def _decode(source: Source, indices: Indices) -> Split:
    return Split(source.decode(indices), torch.from_numpy(source.labels[indices]))


def _with_channels(images: Tensor, channels: int) -> Tensor:
    if images.shape[1] == channels:
        return images
    if images.shape[1] == 1:
        return images.expand(-1, channels, -1, -1)
    raise DataError(f"the images have {images.shape[1]} channels, but the space takes {channels}")


def _statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation per channel, each 1, C, 1, 1; in chunks, since the pixels stay uint8."""
    total = torch.zeros(1, images.shape[1], 1, 1, dtype=torch.float64)
    squares = torch.zeros_like(total)
    for chunk in torch.split(images, 1024):
        values = chunk.double()
        total += values.sum((0, 2, 3), keepdim=True)
        squares += (values**2).sum((0, 2, 3), keepdim=True)
    count = images.numel() / images.shape[1]
    mean = total / count
    std = (squares / count - mean**2).clamp(min=1e-12).sqrt()
    return mean.float(), std.float()


def _fingerprint(splits: tuple[Split, ...]) -> str:
    """Return a hash of every pixel and label, by which a resumed search knows its data."""
    digest = hashlib.sha256()
    for split in splits:
        digest.update(split.labels.numpy().tobytes())
        digest.update(split.images.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
