"""CIFAR's official files: made here by their published layout, Python 2's pickles byte by byte."""

import os
import pickle
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from fbsearch.errors import DataError
from fbsearch.images.data import Data, load_data

SHAPE = (1, 3, 32, 32)
NAMES_10 = [b"airplane", b"automobile"]
Files = dict[str, bytes]


def pixels(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 3072), dtype=np.uint8)


def text(value: bytes) -> bytes:
    return b"U" + bytes([len(value)]) + value  # SHORT_BINSTRING, as Python 2 wrote its strings


def numbers(values: list[int]) -> bytes:
    return b"](" + b"".join(b"K" + bytes([value]) for value in values) + b"e"


def python2_batch(data: np.ndarray, labels: list[int], key: bytes) -> bytes:
    """A batch as cPickle's protocol 2 wrote it: batch_label, labels, data, filenames."""
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        + (b"(K\x01M" + struct.pack("<H", len(data)) + b"M\x00\x0c\x86")
        + b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        + (b"\x89T" + struct.pack("<I", data.nbytes) + data.tobytes() + b"tb")
    )
    names = b"](" + b"".join(text(b"%d.png" % i) for i in range(len(data))) + b"e"
    return (
        b"\x80\x02}("
        + text(b"batch_label")
        + text(b"training batch 1 of 5")
        + (text(key) + numbers(labels) + text(b"data") + array + text(b"filenames") + names + b"u.")
    )


def python2_names(key: bytes, names: list[bytes]) -> bytes:
    return b"\x80\x02}(" + text(key) + b"](" + b"".join(map(text, names)) + b"eu."


def labels_of(count: int) -> list[int]:
    return [i % 2 for i in range(count)]


def python_10() -> Files:
    files = {f"data_batch_{i}": python2_batch(pixels(10, i), labels_of(10), b"labels") for i in range(1, 6)}
    files["test_batch"] = python2_batch(pixels(8, 6), labels_of(8), b"labels")
    return files | {"batches.meta": python2_names(b"label_names", NAMES_10)}


def record(data: np.ndarray, *labels: list[int]) -> bytes:
    return b"".join(bytes(each) + row.tobytes() for *each, row in zip(*labels, data, strict=True))


def binary_10() -> Files:
    files = {f"data_batch_{i}.bin": record(pixels(10, i), labels_of(10)) for i in range(1, 6)}
    files["test_batch.bin"] = record(pixels(8, 6), labels_of(8))
    return files | {"batches.meta.txt": b"\n".join(NAMES_10) + b"\n\n"}


def fifty() -> np.ndarray:
    return np.concatenate([pixels(10, i) for i in range(1, 6)])


def python_100() -> Files:
    names = python2_names(b"fine_label_names", [b"apple", b"bee"])
    return {
        "train": python2_batch(fifty(), labels_of(50), b"fine_labels"),
        "test": python2_batch(pixels(8, 6), labels_of(8), b"fine_labels"),
        "meta": names,
    }


def binary_100() -> Files:
    coarse = [19] * 50
    return {
        "train.bin": record(fifty(), coarse, labels_of(50)),
        "test.bin": record(pixels(8, 6), coarse[:8], labels_of(8)),
        "fine_label_names.txt": b"apple\nbee\n",
        "coarse_label_names.txt": b"x\n",
    }


EDITIONS: dict[str, Callable[[], Files]] = {
    "cifar-10-batches-py": python_10,
    "cifar-10-batches-bin": binary_10,
    "cifar-100-python": python_100,
    "cifar-100-binary": binary_100,
}


def write(path: Path, files: Files) -> Path:
    path.mkdir()
    for name, content in files.items():
        (path / name).write_bytes(content)
    return path


def check(data: Data) -> None:
    """All images are there, each under its label."""
    assert (len(data.w), len(data.theta), len(data.validation), len(data.test)) == (36, 8, 6, 8)
    expected = {row.tobytes(): i % 2 for i, row in enumerate(fifty())}
    found = {}
    for split in (data.w, data.theta, data.validation):
        images = next(split.pool.read([split.indices]))
        assert images.shape[1:] == (3, 32, 32)
        found |= {image.numpy().tobytes(): int(y) for image, y in zip(images, split.labels, strict=True)}
    assert found == expected
    test = next(data.test.pool.read([data.test.indices]))
    assert np.array_equal(test.numpy().reshape(8, 3072), pixels(8, 6))
    assert data.test.labels.tolist() == labels_of(8)


@pytest.mark.parametrize("edition", EDITIONS)
@pytest.mark.parametrize("form", ["folder", "parent", "archive"])
def test_every_edition_in_every_form(edition: str, form: str, tmp_path: Path) -> None:
    folder = write(tmp_path / edition, EDITIONS[edition]())
    path = {"folder": folder, "parent": tmp_path, "archive": tmp_path / "cifar.tar.gz"}[form]
    if form == "archive":
        with tarfile.open(path, "w:gz") as archive:
            archive.add(folder, edition)
    data = load_data(str(path), SHAPE, seed=0)
    assert data.classes == (("apple", "bee") if "100" in edition else ("airplane", "automobile"))
    check(data)


def test_the_handmade_pickle_is_one_that_pickle_reads() -> None:
    found = pickle.loads(python2_batch(pixels(3, 0), [0, 1, 0], b"labels"), encoding="bytes")  # noqa: S301  # made here
    assert np.array_equal(found.pop(b"data"), pixels(3, 0))
    assert found == {
        b"batch_label": b"training batch 1 of 5",
        b"labels": [0, 1, 0],
        b"filenames": [b"0.png", b"1.png", b"2.png"],
    }


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickles_of_todays_python_and_numpy(protocol: int, tmp_path: Path) -> None:
    batches = {
        f"data_batch_{i}": {b"data": np.asfortranarray(pixels(10, i)), b"labels": labels_of(10)} for i in range(1, 6)
    }
    today = {name: pickle.dumps(batch, protocol) for name, batch in batches.items()}
    folder = write(tmp_path / "cifar-10-batches-py", python_10() | today)
    if protocol == 5:  # there numpy names another function
        with pytest.raises(DataError, match="which no CIFAR file needs"):
            load_data(str(folder), SHAPE, seed=0)
        return
    check(load_data(str(folder), SHAPE, seed=0))


class Hostile:
    def __init__(self, *call: object) -> None:
        self.call = call

    def __reduce__(self) -> tuple[object, ...]:
        return self.call[0], self.call[1:]


@pytest.mark.parametrize(
    "what",
    [
        lambda path: Hostile(os.mkdir, str(path)),
        lambda path: Hostile(eval, f"__import__('os').mkdir({str(path)!r})"),
        lambda path: Hostile(np.memmap, str(path), "uint8", "w+", 0, 8),
        lambda path: Hostile(getattr, np.ndarray, "tofile"),
    ],
)
def test_a_pickle_that_asks_for_more_is_refused_and_nothing_runs(
    what: Callable[[Path], object], tmp_path: Path
) -> None:
    victim = tmp_path / "made-by-pickle"
    files = python_10() | {"data_batch_3": pickle.dumps({b"data": what(victim)}, 2)}
    folder = write(tmp_path / "cifar", files)
    with pytest.raises(DataError, match=r"cifar/data_batch_3 is not a file of CIFAR's Python version: it asks for "):
        load_data(str(folder), SHAPE, seed=0)
    assert not victim.exists()


def _cut(content: bytes) -> bytes:
    return content[:-1000]


@pytest.mark.parametrize(
    ("edition", "changes", "message"),
    [
        ("cifar-10-batches-py", {"data_batch_2": None}, "lacks data_batch_2 of cifar-10-batches-py"),
        ("cifar-10-batches-py", {"data_batch_2": _cut}, "data_batch_2 is not a file of CIFAR's Python version"),
        ("cifar-10-batches-py", {"data_batch_1": b""}, "data_batch_1 is not a file of CIFAR's Python version"),
        ("cifar-10-batches-py", {"data_batch_1": pickle.dumps([1], 2)}, "holds a list, not the dictionary"),
        ("cifar-10-batches-py", {"data_batch_1": pickle.dumps({b"labels": [0]}, 2)}, r"lacks data \(N, 3072\)"),
        (
            "cifar-10-batches-py",
            {"data_batch_1": pickle.dumps({b"data": pixels(2, 0).astype(np.float32), b"labels": [0, 1]}, 2)},
            "its elements are not uint8",
        ),
        ("cifar-10-batches-py", {"data_batch_1": python2_batch(pixels(3, 0), [0, 1], b"labels")}, "3 images, 2 labels"),
        ("cifar-10-batches-py", {"test_batch": python2_batch(pixels(2, 0), [0, 7], b"labels")}, "outside 0 … 1"),
        ("cifar-10-batches-py", {"batches.meta": python2_names(b"names", [b"a"])}, "has no list label_names"),
        ("cifar-10-batches-bin", {"data_batch_4.bin": _cut}, "29730 bytes, which is no multiple of 3073"),
        ("cifar-10-batches-bin", {"test_batch.bin": None}, "lacks test_batch.bin"),
        ("cifar-10-batches-bin", {"data_batch_5.bin": record(pixels(1, 0), [9])}, "outside 0 … 1"),
        ("cifar-100-binary", {"train.bin": b""}, "train.bin has 0 bytes"),
    ],
)
def test_files_that_are_missing_cut_or_wrong(edition: str, changes: Files, message: str, tmp_path: Path) -> None:
    files = EDITIONS[edition]()
    for name, change in changes.items():
        if change is None:
            del files[name]
        else:
            files[name] = change(files[name]) if callable(change) else change
    folder = write(tmp_path / edition, files)
    with pytest.raises(DataError, match=message):
        load_data(str(folder), SHAPE, seed=0)


def test_an_archive_that_is_cut_or_another(tmp_path: Path) -> None:
    folder, path = write(tmp_path / "cifar-10-batches-bin", binary_10()), tmp_path / "cifar.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(folder, "other")
    with pytest.raises(DataError, match="holds none of the official CIFAR folders"):
        load_data(str(path), SHAPE, seed=0)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DataError, match="is not a whole tar archive"):
        load_data(str(path), SHAPE, seed=0)


def test_official_files_and_class_folders_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="0 class folders"):
        load_data(str(tmp_path), SHAPE, seed=0)
    with pytest.raises(DataError, match="holds none of the official CIFAR folders"):
        load_data(f"cifar:{tmp_path}", SHAPE, seed=0)
    assert torch.is_tensor(load_data(str(write(tmp_path / "any-name", binary_100())), SHAPE, seed=0).mean)
