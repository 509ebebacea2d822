"""Data: the w, θ, validation and test splits of an image set, turned into batches of the space's input shape."""

import contextlib
import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fbbase.progress import progress
from fbsearch.errors import DataError
from fbsearch.images.augment import AUGMENTATIONS, Params, augment, sample_params
from fbsearch.images.pool import MANY, Pool, build_pool, size_bytes
from fbsearch.images.split import Cut, Shares, Split
from fbsearch.machine.seeds import generator_of
from fbsearch.sources import Indices, open_source

DEFAULT_SHARES = Shares()
HELD_BYTES = 2 << 30
"""A set of at most this size is decoded once and held on the compute device; a larger one is streamed."""
STATISTICS_IMAGES = 10_000
"""Images of the w split of a streamed set that mean and standard deviation are taken from."""


@dataclass(slots=True)
class Waiting:
    """Seconds between asking for batches and getting them."""

    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Data:
    """An image set: `w` trains the weights, `theta` the architecture, `validation` ranks what was found.

    `test` is looked at once, at the very end. Images keep their decoded size and type, and are brought to the space's
    size (bilinear) and channels and normalised batch by batch, so that a set costs no more memory than its pixels.
    `mean` and `std` per channel are those of the w split alone.
    """

    name: str
    classes: tuple[str, ...]
    input_shape: tuple[int, int, int, int]
    w: Split
    theta: Split
    validation: Split
    test: Split
    mean: Tensor
    std: Tensor
    fingerprint: str
    shares: Shares
    waiting: Waiting = field(default_factory=Waiting)

    @property
    def training(self) -> Split:
        """The images a network is trained with once it is found: w and θ splits together."""
        return self.w + self.theta

    @property
    def device(self) -> torch.device:
        """Where batches are computed, and where a set that is not streamed is held."""
        return self.mean.device

    def wait_s(self) -> float:
        """Return the seconds spent waiting for batches since this was called last."""
        seconds, self.waiting.seconds = self.waiting.seconds, 0.0
        return seconds

    def batches(
        self,
        split: Split,
        size: int,
        generator: torch.Generator | None = None,
        limit: int | None = None,
        *,
        start: int = 0,
        augment: str = "none",
        ranks: tuple[int, int] = (0, 1),
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Return an iterator of (N, C, H, W float32, N labels), shuffled if a generator is given.

        The batches are of nearly equal size and `size` at most: a last batch of one image would have no statistics to
        normalise by. The pass begins with batch `start` and ends before batch `limit`; `ranks` = (rank, world) yields
        of every batch images rank, rank + world, … only.

        All that is random follows from two draws of `generator` made in this call, the order of the images and a seed;
        batch i is augmented by a generator of its own, seeded by (seed, i). So every batch is the same one whatever
        `start`, `limit` and `ranks` are. Raises DataError.
        """
        if augment not in AUGMENTATIONS:
            raise DataError(f"unknown augmentation {augment!r}; known are {', '.join(AUGMENTATIONS)}")
        rank, world = ranks
        order, seed = torch.arange(len(split)), 0
        if generator is not None:
            order = torch.randperm(len(split), generator=generator, device=generator.device).cpu()
            seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
        elif augment != "none":
            raise ValueError(f"augmentation {augment!r} draws from a generator, and none is given")
        batches = order.tensor_split(batch_count(split, size))
        if len(batches[-1]) < world:
            raise DataError(
                f"a batch of {len(batches[-1])} images cannot be shared by {world} processes; "
                "use fewer processes, a larger --batch or more images"
            )
        chosen, side = batches[start:limit], self.input_shape[2:]
        parts = [batch[rank::world] for batch in chosen]
        params = (
            sample_params(augment, len(batch), *side, generator_of(seed, i)).part(rank, world)
            for i, batch in enumerate(chosen, start)
        )
        return self._pass(split, parts, augment, params)

    def _pass(
        self, split: Split, parts: list[Tensor], name: str, params: Iterator[Params]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        asked = time.perf_counter()
        if not parts:
            return
        # To the device in one piece: a copy per batch would hold up a GPU.
        labels = split.labels[torch.cat(parts).to(self.device)].split_with_sizes([len(part) for part in parts])
        with contextlib.closing(split.pool.read([split.indices[part] for part in parts])) as read:
            for images, y, random in zip(read, labels, params, strict=True):
                batch = augment(name, self._prepare(images), random), y
                self.waiting.seconds += time.perf_counter() - asked
                yield batch
                asked = time.perf_counter()

    def _prepare(self, images: Tensor) -> Tensor:
        _, channels, height, width = self.input_shape
        x = _with_channels(images.float(), channels)
        if x.shape[2:] != (height, width):
            x = F.interpolate(x, (height, width), mode="bilinear", align_corners=False, antialias=True)
        return (x - self.mean) / self.std


def load_data(
    name: str,
    input_shape: tuple[int, int, int, int],
    seed: int,
    limit: int | None = None,
    *,
    device: str | torch.device = "cpu",
    shares: Shares = DEFAULT_SHARES,
    held_bytes: int = HELD_BYTES,
) -> Data:
    """Return a data set (see `fbsearch.sources` for its names), split and ready to be normalised.

    All splits are stratified and follow from `seed`. `limit` keeps so many images to train with and so many to test
    with, chosen evenly over the classes before they are decoded. A set of at most `held_bytes` is decoded here and
    held on `device`. Images that are not to be square are brought to the longer side, and then shrunk in one direction.
    Raises DataError.
    """
    source, test_source = open_source(name, max(input_shape[2:]))
    if len(source.classes) < 2:
        raise DataError(f"{name} has images of one class only ({source.classes[0]}); a search needs at least two")
    rng = np.random.default_rng(seed)
    cut = Cut.of(name, source, test_source, rng, limit, shares)
    device, test_source = torch.device(device), test_source or source
    train = np.sort(np.concatenate([cut.w, cut.theta, cut.validation]))
    held = size_bytes(source, len(train)) + size_bytes(test_source, len(cut.test)) <= held_bytes
    pool, test_pool = build_pool(source, train, held, device), build_pool(test_source, cut.test, held, device)

    def split(indices: Indices) -> Split:
        places = torch.from_numpy(np.searchsorted(train, indices))
        return Split(pool, places, torch.from_numpy(source.labels[indices]).to(device))

    w, theta, validation = split(cut.w), split(cut.theta), split(cut.validation)
    test = Split(test_pool, torch.arange(len(cut.test)), torch.from_numpy(test_source.labels[cut.test]).to(device))
    count = len(w) if held else min(len(w), STATISTICS_IMAGES)
    sample = w.indices[torch.arange(count) * len(w) // count]  # at even distances
    mean, std = (_with_channels(x, input_shape[1]) for x in _statistics(pool, sample))
    splits = w, theta, validation, test
    return Data(name, source.classes, input_shape, *splits, mean, std, _fingerprint(*splits), shares)


def batch_count(split: Split, size: int) -> int:
    """Return the number of batches of at most `size`, but of two images at least, that a split is cut into."""
    return max(1, min(-(-len(split) // size), len(split) // 2))


def _with_channels(images: Tensor, channels: int) -> Tensor:
    if images.shape[1] == channels:
        return images
    if images.shape[1] == 1:
        return images.expand(-1, channels, -1, -1)
    raise DataError(f"the images have {images.shape[1]} channels, but the space takes {channels}")


def _statistics(pool: Pool, indices: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation per channel, each 1, C, 1, 1; in chunks, since the pixels stay uint8."""
    totals, squares, count = [], [], 0
    with progress("mean and deviation", len(indices), shown=len(indices) >= MANY) as advance:
        for images in pool.read(torch.split(indices, 256)):
            values = images.double()
            totals.append(values.sum((0, 2, 3), keepdim=True))
            squares.append((values**2).sum((0, 2, 3), keepdim=True))
            count += images.numel() // images.shape[1]
            advance(len(images))
    mean = torch.stack(totals).sum(0) / count
    std = (torch.stack(squares).sum(0) / count - mean**2).clamp(min=1e-12).sqrt()
    return mean.float(), std.float()


def _fingerprint(*splits: Split) -> str:
    """Return a hash by which a resumed search knows its data: pixels (or names and sizes), splits and labels."""
    digest = hashlib.sha256()
    for split in splits:
        digest.update(split.pool.identity.encode())
        digest.update(split.indices.numpy().tobytes())
        digest.update(split.labels.cpu().numpy().tobytes())
    return digest.hexdigest()[:16]
