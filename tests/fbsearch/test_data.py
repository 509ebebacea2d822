"""Splits, statistics and every kind of bad input."""

import io
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fbsearch.errors import DataError
from fbsearch.images.data import Data, load_data
from fbsearch.images.split import Shares, Split

SHAPE = (1, 3, 8, 8)


def images_of(split: Split) -> torch.Tensor:
    return next(split.pool.read([split.indices]))


def rows(split: Split) -> set[bytes]:
    return {image.numpy().tobytes() for image in images_of(split)}


def save(path: Path, **arrays: object) -> str:
    np.savez(path, **arrays)
    return str(path)


def images(count: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8)


def test_digits_are_split_without_overlap_and_by_class() -> None:
    data = load_data("digits", SHAPE, seed=0)
    splits = (data.w, data.theta, data.validation, data.test)
    assert sum(map(len, splits)) == 1797
    assert len(data.test) == pytest.approx(0.2 * 1797, abs=5)
    assert len(data.validation) == pytest.approx(0.1 * 0.8 * 1797, abs=5)
    assert len(data.theta) == pytest.approx(0.2 * 0.9 * 0.8 * 1797, abs=5)
    for one, other in itertools.combinations(splits, 2):
        assert not rows(one) & rows(other)
    for split in splits:
        share = torch.bincount(split.labels, minlength=10) / len(split)
        torch.testing.assert_close(share, torch.full((10,), 0.1), atol=0.01, rtol=0)
    assert rows(data.training) == rows(data.w) | rows(data.theta)


@pytest.mark.parametrize(("w_share", "validation_share", "sizes"), [(0.8, 0.1, (72, 18, 10)), (0.5, 0.2, (40, 40, 20))])
def test_shares_are_those_asked_for(
    w_share: float, validation_share: float, sizes: tuple[int, ...], tmp_path: Path
) -> None:
    x, y = images(120, 6, 6), np.arange(120) % 2
    name = save(tmp_path / "d.npz", x_train=x[:100], y_train=y[:100], x_test=x[100:], y_test=y[100:])
    data = load_data(name, SHAPE, seed=0, shares=Shares(w_share, validation_share))
    assert (len(data.w), len(data.theta), len(data.validation)) == sizes
    assert len(data.test) == 20


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, float("nan")])
def test_no_split_may_be_empty(share: float) -> None:
    with pytest.raises(DataError, match=r"validation split's share must lie between 0 and 1"):
        load_data("digits", SHAPE, seed=0, shares=Shares(validation=share))
    with pytest.raises(DataError, match=r"w split's share must lie between 0 and 1"):
        load_data("digits", SHAPE, seed=0, shares=Shares(w=share))


def test_splits_follow_from_the_seed() -> None:
    first, again, other = (load_data("digits", SHAPE, seed) for seed in (1, 1, 2))
    assert first.fingerprint == again.fingerprint
    assert torch.equal(images_of(first.w), images_of(again.w))
    assert first.fingerprint != other.fingerprint


def test_only_the_w_split_normalises() -> None:
    data = load_data("digits", SHAPE, seed=0)
    assert data.mean.flatten().tolist() == pytest.approx([images_of(data.w).mean().item()] * 3)
    x = torch.cat([x for x, _ in data.batches(data.w, 100)])
    assert x.shape == (len(data.w), 3, 8, 8)
    assert x.mean().item() == pytest.approx(0, abs=1e-4)
    assert x.std().item() == pytest.approx(1, abs=1e-3)


def test_batches_cover_the_split_once_and_never_hold_one_image(digits: Data) -> None:
    split = Split(digits.w.pool, digits.w.indices[:65], digits.w.labels[:65])
    sizes = [len(y) for _, y in digits.batches(split, 64)]
    assert sizes == [33, 32]
    shuffled = list(digits.batches(split, 16, torch.Generator().manual_seed(0)))
    labels = torch.cat([y for _, y in shuffled])
    assert not torch.equal(labels, split.labels)
    assert torch.equal(labels.sort().values, split.labels.sort().values)
    assert len(list(digits.batches(split, 16, limit=2))) == 2


def test_images_are_resized_to_the_space() -> None:
    data = load_data("digits", (1, 3, 32, 32), seed=0, limit=100)
    x, _ = next(data.batches(data.w, 4))
    assert x.shape == (4, 3, 32, 32)
    assert len(data.w) + len(data.theta) + len(data.validation) == 100
    assert len(data.test) == 100


@pytest.mark.parametrize("shape", [(6, 6), (6, 6, 1), (1, 6, 6), (6, 6, 3), (3, 6, 6)])
def test_npz_layouts(shape: tuple[int, ...], tmp_path: Path) -> None:
    x, y = images(40, *shape), np.arange(40) % 2 + 5
    data = load_data(save(tmp_path / "d.npz", x_train=x, y_train=y), SHAPE, seed=0)
    assert data.classes == ("5", "6")
    assert images_of(data.w).dtype == torch.uint8
    assert images_of(data.w).shape[1:] == (3 if 3 in shape else 1, 6, 6)
    assert (len(data.w), len(data.theta), len(data.validation), len(data.test)) == (22, 6, 4, 8)


def test_npz_keeps_its_own_test_images(tmp_path: Path) -> None:
    x, y = images(40, 6, 6), np.arange(40) % 2
    name = save(tmp_path / "d.npz", x_train=x[:30], y_train=y[:30], x_test=x[30:], y_test=y[30:])
    data = load_data(name, SHAPE, seed=0)
    assert (len(data.w), len(data.theta), len(data.validation), len(data.test)) == (22, 6, 2, 10)
    assert rows(data.test) == {image.tobytes() for image in x[30:]}
    assert rows(data.training) | rows(data.validation) == {image.tobytes() for image in x[:30]}


def test_class_folders(tmp_path: Path) -> None:
    for label, colour in (("red", (255, 0, 0)), ("blue", (0, 0, 255))):
        (tmp_path / label).mkdir()
        for i in range(5):
            Image.new("RGB", (10 + i, 12), colour).save(tmp_path / label / f"{i}.png")
    data = load_data(str(tmp_path), SHAPE, seed=0)
    assert data.classes == ("blue", "red")
    assert images_of(data.w).shape == (4, 3, 8, 8)
    for image, label in zip(images_of(data.w), data.w.labels, strict=True):
        assert image[0].eq(255 * label).all()
        assert image[2].eq(255 * (1 - label)).all()


def test_images_of_folders_keep_the_middle_square(tmp_path: Path) -> None:
    """Of 16×8 and 8×16 pixels the middle 8×8 are kept as they are."""
    middle = images(1, 8, 8, 3)[0]
    for label in "ab":
        (tmp_path / label).mkdir()
        for i in range(4):
            wide = np.pad(middle, ((0, 0), (4, 4), (0, 0)), constant_values=i)
            tall = np.pad(middle, ((4, 4), (0, 0), (0, 0)), constant_values=i)
            Image.fromarray(wide if label == "a" else tall).save(tmp_path / label / f"{i}.png")
    data = load_data(str(tmp_path), SHAPE, seed=0)
    assert rows(data.training) == rows(data.test) == {middle.transpose(2, 0, 1).tobytes()}


def test_large_jpegs_are_decoded_at_a_fraction_of_their_size(tmp_path: Path) -> None:
    """A smooth image of 256×256 looks the same at 8×8 by the short cut as by its own means of 32×32 pixels."""
    rise = np.linspace(0, 255, 256)
    large = np.stack(
        [np.broadcast_to(rise, (256, 256)), np.broadcast_to(rise[:, None], (256, 256)), np.zeros((256, 256))], 2
    )
    for label in "ab":
        (tmp_path / label).mkdir()
        for i in range(4):
            Image.fromarray(large.astype(np.uint8)).save(tmp_path / label / f"{i}.jpg", quality=95)
    found = images_of(load_data(str(tmp_path), SHAPE, seed=0).w)[0].float().numpy()
    means = large.reshape(8, 32, 8, 32, 3).mean((1, 3)).transpose(2, 0, 1)
    np.testing.assert_allclose(found[:, 1:-1, 1:-1], means[:, 1:-1, 1:-1], atol=4)


@pytest.mark.parametrize("name", ["test", "val"])
def test_class_folders_below_train_and_test(name: str, tmp_path: Path) -> None:
    for part, count in (("train", 5), (name, 2)):
        for label, colour in enumerate(("black", "white")):
            (tmp_path / part / colour).mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", (8, 8), (255 * label, count, i)).save(tmp_path / part / colour / f"{i}.png")
    data = load_data(str(tmp_path), SHAPE, seed=0)
    assert data.classes == ("black", "white")
    assert (len(data.training) + len(data.validation), len(data.test)) == (10, 4)
    assert images_of(data.test)[:, 1].unique().tolist() == [2]
    assert images_of(data.training)[:, 1].unique().tolist() == [5]
    assert (images_of(data.test)[:, 0, 0, 0] == 255 * data.test.labels).all()

    (tmp_path / name / "white").rename(tmp_path / name / "grey")
    with pytest.raises(DataError, match=r"has classes that .*train has not: grey"):
        load_data(str(tmp_path), SHAPE, seed=0)


def test_jpeg_archive(shared: Path) -> None:
    data = load_data(str(shared / "data" / "cifar10_jpegs.npz"), (1, 3, 32, 32), seed=0, limit=100)
    assert data.classes[3] == "cat"
    assert (len(data.w), len(data.theta), len(data.validation), len(data.test)) == (70, 20, 10, 100)
    assert torch.bincount(data.w.labels).tolist() == [7] * 10


def _one_class(path: Path) -> str:
    (path / "only").mkdir()
    Image.new("RGB", (8, 8)).save(path / "only" / "a.png")
    return str(path)


def _empty_class(path: Path) -> str:
    (path / "a").mkdir()
    (path / "b").mkdir()
    return str(path)


def _broken_image(path: Path) -> str:
    for label in "ab":
        (path / label).mkdir()
        for i in range(4):
            (path / label / f"{i}.png").write_bytes(b"not an image")
    return str(path)


def _not_npz(path: Path) -> str:
    (path / "d.npz").write_bytes(b"PK broken")
    return str(path / "d.npz")


def _two_sizes(path: Path) -> str:
    files = []
    for i in range(16):
        file = io.BytesIO()
        Image.new("RGB", (8 + (i == 5), 8)).save(file, "png")
        files.append(file.getvalue())
    ends = np.cumsum([0, *map(len, files)])
    return save(
        path / "d.npz", jpg_train=np.frombuffer(b"".join(files), np.uint8), off_train=ends, y_train=np.arange(16) % 2
    )


def _npz(**arrays: object) -> object:
    return lambda path: save(path / "d.npz", **arrays)


Y = np.arange(10) % 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: str(path / "no.npz"), "neither `digits` nor an existing"),
        (lambda path: str(path), "0 class folders"),
        (lambda path: f"folders:{path / 'no'}", "cannot read .*/no: No such file"),
        (lambda path: "nosuch:x", "what the `datasets` library reads is called hf:NAME"),
        (_one_class, "1 class folder; it needs"),
        (_empty_class, "has no images"),
        (_broken_image, r"[ab]/\d.png: not a readable image"),
        (_not_npz, "is not an .npz file"),
        (_npz(a=Y, b=Y), "it has a, b"),
        (_npz(x_train=images(9, 6, 6), y_train=Y), "9 images but 10 labels"),
        (_npz(x_train=images(10, 6, 6, 2), y_train=Y), "N,H,W,C"),
        (_npz(x_train=images(10, 6, 6), y_train=Y + 0.5), "whole numbers"),
        (_npz(x_train=images(10, 6, 6), y_train=Y * 0), "one class only"),
        (
            _npz(x_train=images(10, 6, 6), y_train=np.arange(10)),
            "class '0' of .* has 1 image left where the splits w, θ, validation, test need one each",
        ),
        (_npz(x_train=np.full((10, 6, 6), np.nan), y_train=Y), "not finite"),
        (_npz(x_train=images(10, 6, 6), y_train=Y, x_test=images(10, 6, 6), y_test=Y + 1), "y_train has not: 2"),
        (
            _npz(jpg_train=np.zeros(5, np.uint8), off_train=np.array([0, 3, 2, 5]), y_train=Y[:3]),
            "off_train must rise from 0 to the 5 bytes of jpg_train",
        ),
        (
            _npz(jpg_train=np.zeros(5, np.uint8), off_train=np.array([0, 2, 4]), y_train=Y[:2]),
            "off_train must rise from 0 to the 5 bytes",
        ),
        (_two_sizes, "image 5 of jpg_train is 9×8, but image 0 is 8×8; all need one size"),
        (_npz(x_train=np.array([object()] * 10), y_train=Y), "is not an .npz file of plain arrays"),
    ],
)
def test_bad_input_is_one_clear_error(make: object, message: str, tmp_path: Path) -> None:
    name = make(tmp_path)
    with pytest.raises(DataError, match=message):
        load_data(name, SHAPE, seed=0)
