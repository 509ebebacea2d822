"""Batches: one stream, whichever part of it is asked for; streamed sets decode ahead, and end cleanly."""

import hashlib
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fbsearch.errors import DataError
from fbsearch.images.augment import AUGMENTATIONS
from fbsearch.images.data import Data, batch_count, load_data
from fbsearch.images.pool import AHEAD, Streamed
from fbsearch.images.split import Shares, Split
from fbsearch.sources import Source
from peers import processes

SHAPE = (1, 3, 8, 8)
Batches = list[tuple[torch.Tensor, torch.Tensor]]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def equal(one: Batches, other: Batches) -> bool:
    return len(one) == len(other) and all(
        torch.equal(x, u) and torch.equal(y, v) for (x, y), (u, v) in zip(one, other, strict=True)
    )


def decoders() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("decode")]


@pytest.fixture(scope="module")
def held() -> Data:
    return load_data("digits", SHAPE, seed=0, limit=100)


@pytest.fixture(scope="module")
def streamed() -> Data:
    return load_data("digits", SHAPE, seed=0, limit=100, held_bytes=0)


@given(
    data=st.data(),
    size=st.integers(8, 40),
    seed=st.integers(0, 3),
    augment=st.sampled_from(AUGMENTATIONS),
    stream=st.booleans(),
)
def test_start_limit_and_ranks_take_their_part_of_one_stream(
    held: Data, streamed: Data, data: st.DataObject, size: int, seed: int, augment: str, stream: bool
) -> None:
    images = streamed if stream else held
    whole = list(held.batches(held.w, size, generator(seed), augment=augment))
    count = batch_count(held.w, size)
    assert len(whole) == count
    start, limit = data.draw(st.integers(0, count), "start"), data.draw(st.integers(0, count + 1), "limit")
    world = data.draw(st.integers(1, 3), "world")
    drawn, plain = generator(seed), generator(seed)
    for rank in range(world):
        drawn, plain = generator(seed), generator(seed)
        part = images.batches(images.w, size, drawn, limit, start=start, augment=augment, ranks=(rank, world))
        assert equal(list(part), [(x[rank::world], y[rank::world]) for x, y in whole[start:limit]])
        held.batches(held.w, size, plain)
        assert torch.equal(drawn.get_state(), plain.get_state())


def test_ranks_hold_the_pixels_of_one_rank_where_images_are_resized() -> None:
    data = load_data("digits", (1, 3, 13, 11), seed=0, limit=100)
    whole = list(data.batches(data.w, 21, generator(), augment="resized-crop"))
    for rank in range(3):
        part = data.batches(data.w, 21, generator(), augment="resized-crop", ranks=(rank, 3))
        assert equal(list(part), [(x[rank::3], y[rank::3]) for x, y in whole])


def test_draws_are_made_at_the_call(held: Data) -> None:
    one, other = generator(), generator()
    first = held.batches(held.w, 16, one, augment="crop")
    torch.rand(3, generator=one)
    assert equal(list(first), list(held.batches(held.w, 16, other, augment="crop")))


def test_batches_of_one_pass_are_augmented_differently(held: Data) -> None:
    same = Split(held.w.pool, held.w.indices[:1].repeat(64), held.w.labels[:1].repeat(64))
    x = torch.cat([x for x, _ in held.batches(same, 8, generator(), augment="crop")])
    assert len({image.numpy().tobytes() for image in x}) == 9  # places; one seed for all batches would reach 8 at most


def test_another_process_holds_the_other_part(held: Data) -> None:
    program = (
        "import hashlib, torch; from fbsearch.images.data import load_data; "
        f"d = load_data('digits', {SHAPE}, seed=0, limit=100, held_bytes=0); g = torch.Generator().manual_seed(5); "
        "b = d.batches(d.w, 20, g, augment='resized-crop', ranks=(1, 2)); "
        "print(hashlib.sha256(b''.join(x.numpy().tobytes() for x, _ in b)).hexdigest())"
    )
    found = processes.run(["-c", program]).stdout.strip()
    whole = held.batches(held.w, 20, generator(5), augment="resized-crop")
    assert found == hashlib.sha256(b"".join(x[1::2].numpy().tobytes() for x, _ in whole)).hexdigest()


def test_a_batch_too_small_for_all_processes_is_refused(held: Data) -> None:
    with pytest.raises(DataError, match="a batch of 2 images cannot be shared by 3 processes"):
        held.batches(held.w, 2, generator(), ranks=(0, 3))


def test_unknown_augmentation_lists_the_known(held: Data) -> None:
    with pytest.raises(DataError, match=r"'cutout'; known are none, crop, flip, crop-flip, resized-crop"):
        held.batches(held.w, 8, generator(), augment="cutout")
    with pytest.raises(ValueError, match="draws from a generator"):
        held.batches(held.w, 8, augment="crop")


def test_streamed_and_held_sets_are_the_same_images(held: Data, streamed: Data) -> None:
    assert isinstance(streamed.w.pool, Streamed)
    assert torch.equal(streamed.mean, held.mean)
    assert torch.equal(streamed.std, held.std)
    for name in ("w", "theta", "validation", "test", "training"):
        assert equal(list(streamed.batches(getattr(streamed, name), 9)), list(held.batches(getattr(held, name), 9)))


def read_all(data: Data) -> None:
    for split in (data.w, data.theta, data.validation, data.test):
        list(data.batches(split, 4))


class Recorder:
    """A source of images that are filled with their own index, which remembers what was decoded."""

    def __init__(self, count: int, seconds: float = 0.0) -> None:
        self.decoded: list[int] = []
        self.seconds = seconds
        self.source = Source(np.arange(count) % 2, ("a", "b"), self.decode, lambda: "recorder")

    def decode(self, i: int) -> np.ndarray:
        time.sleep(self.seconds)
        self.decoded.append(i)
        return np.full((1, 8, 8), i, np.uint8)

    def data(self) -> Data:
        labels = self.source.labels
        pool = Streamed(
            self.source, np.arange(len(labels)), (1, 8, 8), np.dtype(np.uint8), torch.device("cpu"), "recorder"
        )
        split = Split(pool, torch.arange(len(labels)), torch.from_numpy(labels))
        mean, std = torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1)
        return Data("recorder", ("a", "b"), (1, 1, 8, 8), split, split, split, split, mean, std, "", Shares())


def test_a_stream_decodes_only_what_is_asked_for() -> None:
    recorder = Recorder(100)
    data = recorder.data()
    batches = list(data.batches(data.w, 10, generator(), 7, start=4, ranks=(1, 2)))
    order = torch.randperm(100, generator=generator()).view(10, 10)
    assert sorted(recorder.decoded) == sorted(order[4:7, 1::2].flatten().tolist())
    assert [x[:, 0, 0, 0].int().tolist() for x, _ in batches] == order[4:7, 1::2].tolist()


def test_a_stream_runs_a_few_batches_ahead_and_stops_when_it_is_closed() -> None:
    recorder = Recorder(400, seconds=0.0005)
    data = recorder.data()
    batches = data.batches(data.w, 10)
    assert not recorder.decoded
    next(batches)
    time.sleep(0.1)
    assert len(recorder.decoded) == 10 * (AHEAD + 1)
    assert decoders()
    batches.close()  # type: ignore[attr-defined]
    assert not decoders()


def test_no_thread_outlives_an_exception_in_the_loop() -> None:
    data = Recorder(400).data()

    def step() -> None:
        for _ in data.batches(data.w, 10):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        step()
    assert not decoders()


def test_waiting_is_counted_and_reset() -> None:
    data = Recorder(16, seconds=0.005).data()
    list(data.batches(data.w, 16))
    waited = data.wait_s()
    assert waited >= 16 * 0.005  # one thread decodes these 16
    assert data.wait_s() == 0

    begun = time.perf_counter()
    for _ in data.batches(data.w, 16):
        time.sleep(waited)
    assert data.wait_s() <= time.perf_counter() - begun - waited  # what the step takes between batches is no waiting


def test_an_image_that_breaks_in_mid_stream_is_named(tmp_path: Path) -> None:
    for label in "ab":
        (tmp_path / label).mkdir()
        for i in range(40):
            Image.new("L", (9, 9), i).save(tmp_path / label / f"{i}.png")
    data = load_data(str(tmp_path), SHAPE, seed=0, held_bytes=0)
    (tmp_path / "b" / "7.png").write_bytes(b"not an image")
    with pytest.raises(DataError, match=r"b/7.png: not a readable image; remove or replace it"):
        read_all(data)
    assert not decoders()
    (tmp_path / "b" / "7.png").unlink()
    with pytest.raises(DataError, match=r"image not found: .*b/7.png"):
        read_all(data)


def test_a_streamed_set_is_known_by_names_and_sizes(tmp_path: Path) -> None:
    for label in "ab":
        (tmp_path / label).mkdir()
        for i in range(10):
            Image.new("RGB", (9, 9), (i, 0, 0)).save(tmp_path / label / f"{i}.bmp")

    def fingerprint() -> str:
        return load_data(str(tmp_path), SHAPE, seed=0, held_bytes=0).fingerprint

    first = fingerprint()
    assert fingerprint() == first
    Image.new("RGB", (10, 10)).save(tmp_path / "a" / "3.bmp")
    larger = fingerprint()
    assert larger != first
    (tmp_path / "a" / "3.bmp").rename(tmp_path / "a" / "33.bmp")
    assert fingerprint() not in (first, larger)
