"""Pools of images: decoded once and held on the compute device, or decoded by threads ahead of their use."""

import contextlib
import hashlib
import os
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fbbase.progress import progress
from fbsearch.sources import Array, Indices, Source

CHUNK = 16
"""Images that a thread decodes at a time: all threads work on the batch that is needed next."""
MANY = 5_000
"""Images whose decoding takes long enough to be watched."""
AHEAD = 4
"""Batches of a streamed set that are decoded before they are asked for."""


@dataclass(frozen=True, slots=True)
class Held:
    """All images, N, C, H, W, on the compute device; `identity` is a hash by which they are known again."""

    images: Tensor
    identity: str

    def read(self, batches: Sequence[Tensor]) -> Generator[Tensor, None, None]:
        """Yield the images of each list of indices, N, C, H, W as decoded, on the compute device."""
        places = torch.cat(list(batches)).to(self.images.device)
        for indices in places.split_with_sizes([len(batch) for batch in batches]):
            yield self.images[indices]


@dataclass(frozen=True, slots=True)
class Streamed:
    """Images that are decoded when they are needed; `shape` and `dtype` are those of each."""

    source: Source
    indices: Indices
    shape: tuple[int, ...]
    dtype: "np.dtype[np.generic]"
    device: torch.device
    identity: str

    def read(self, batches: Sequence[Tensor]) -> Generator[Tensor, None, None]:
        """Yield the same as `Held.read`; at most AHEAD batches wait in memory. Closing it ends what it started.

        Raises DataError for an image that cannot be decoded.
        """
        with _decoders() as threads:
            waiting: deque[tuple[Tensor, list[Future[None]]]] = deque()
            for indices in batches:
                images = self._empty(len(indices))
                chosen = self.indices[indices.numpy()]
                waiting.append((images, _submit(threads, self.source, chosen, images.numpy())))
                if len(waiting) > AHEAD:
                    yield self._ready(*waiting.popleft())
            while waiting:
                yield self._ready(*waiting.popleft())

    def _empty(self, count: int) -> Tensor:
        dtype = torch.from_numpy(np.empty(0, self.dtype)).dtype
        return torch.empty((count, *self.shape), dtype=dtype, pin_memory=self.device.type == "cuda")

    def _ready(self, images: Tensor, parts: list[Future[None]]) -> Tensor:
        for part in parts:
            part.result()
        return images.to(self.device, non_blocking=True)


Pool = Held | Streamed
"""Images that splits point into."""


def build_pool(source: Source, indices: Indices, held: bool, device: torch.device) -> Pool:
    """Return a pool of the chosen images of a source. Raises DataError for one that cannot be decoded."""
    first = source.decode(int(indices[0]))
    if not held:
        return Streamed(source, indices, first.shape, first.dtype, device, source.identity())
    images = np.empty((len(indices), *first.shape), first.dtype)
    with _decoders() as threads, progress("decode", len(indices), shown=len(indices) >= MANY) as advance:
        for i, part in enumerate(_submit(threads, source, indices, images)):
            part.result()
            advance(min(CHUNK, len(indices) - CHUNK * i))
    return Held(torch.from_numpy(images).to(device), hashlib.sha256(images.data).hexdigest())


def size_bytes(source: Source, count: int) -> int:
    """Return how much memory `count` images of a source take when they are decoded."""
    return source.decode(0).nbytes * count


def _submit(threads: ThreadPoolExecutor, source: Source, indices: Indices, images: Array) -> list[Future[None]]:
    def decode(start: int) -> None:
        for place in range(start, min(start + CHUNK, len(indices))):
            images[place] = source.decode(int(indices[place]))

    return [threads.submit(decode, start) for start in range(0, len(indices), CHUNK)]


@contextlib.contextmanager
def _decoders() -> Generator[ThreadPoolExecutor, None, None]:
    """Start one thread per core. On the way out, whatever the reason, drop what is not begun and wait for the rest."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = ThreadPoolExecutor(cores, thread_name_prefix="decode")
    try:
        yield threads
    finally:
        threads.shutdown(wait=True, cancel_futures=True)
