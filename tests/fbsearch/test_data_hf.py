"""hf: by the real `datasets` library, from Parquet files, folders and data saved to disk. No hub is reached."""

import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fbsearch.errors import DataError
from fbsearch.images.data import Data, load_data

datasets: Any = None
SHAPE = (1, 3, 12, 12)


@pytest.fixture(autouse=True, scope="module")
def library() -> None:
    """Import the library here: it takes seconds, and every worker collects this file."""
    globals()["datasets"] = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the library's copies out of the user's cache, and the library off the network."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()


def pixels(i: int) -> np.ndarray:
    return np.random.default_rng(i).integers(0, 256, (12, 12, 3), dtype=np.uint8)


def table(count: int, first: int = 0, **more: Any) -> Any:
    """Images `first` … with labels 0, 1, 0, 1 …"""
    features = {"img": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])}
    columns = {
        "img": [Image.fromarray(pixels(first + i)) for i in range(count)],
        "label": [i % 2 for i in range(count)],
    }
    for name, (feature, values) in more.items():
        features[name], columns[name] = feature, values
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features))


def check(data: Data, test: Sequence[int]) -> None:
    """Every image is there under its label, lossless at its own size."""
    assert data.classes == ("cat", "dog")
    for split in (data.training, data.validation):
        for image, label in zip(next(split.pool.read([split.indices])), split.labels, strict=True):
            i = next(i for i in range(20) if np.array_equal(image.numpy().transpose(1, 2, 0), pixels(i)))
            assert label == i % 2
    assert len(data.training) + len(data.validation) == 20
    images = next(data.test.pool.read([data.test.indices])).numpy().transpose(0, 2, 3, 1)
    assert np.array_equal(images, [pixels(i) for i in test])


def test_a_folder_of_parquet_files_with_its_own_test_split(tmp_path: Path) -> None:
    table(12).to_parquet(tmp_path / "train-00000-of-00002.parquet")
    table(8, 12).to_parquet(tmp_path / "train-00001-of-00002.parquet")
    table(6, 100).to_parquet(tmp_path / "test-00000-of-00001.parquet")
    held = load_data(f"hf:{tmp_path}", SHAPE, seed=0)
    check(held, range(100, 106))
    streamed = load_data(f"hf:{tmp_path}", SHAPE, seed=0, held_bytes=0)
    for name in ("w", "theta", "validation", "test"):
        for (x, y), (u, v) in zip(
            held.batches(getattr(held, name), 5), streamed.batches(getattr(streamed, name), 5), strict=True
        ):
            assert torch.equal(x, u)
            assert torch.equal(y, v)
    assert streamed.fingerprint == load_data(f"hf:{tmp_path}", SHAPE, seed=0, held_bytes=0).fingerprint


def test_one_parquet_file(tmp_path: Path) -> None:
    table(40).to_parquet(tmp_path / "any.parquet")
    data = load_data(f"hf:{tmp_path / 'any.parquet'}", SHAPE, seed=0)
    assert sum(map(len, (data.w, data.theta, data.validation, data.test))) == 40
    assert len(data.test) == 8


def test_an_image_folder(tmp_path: Path) -> None:
    for i in range(26):
        part = "train" if i < 20 else "test"
        folder = tmp_path / part / ("cat", "dog")[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels(i)).save(folder / f"{i:02}.png")
    check(load_data(f"hf:{tmp_path}", SHAPE, seed=0), [20, 22, 24, 21, 23, 25])


def test_data_saved_to_disk(tmp_path: Path) -> None:
    datasets.DatasetDict({"train": table(20), "validation": table(4, 50)}).save_to_disk(tmp_path / "d")
    check(load_data(f"hf:{tmp_path / 'd'}", SHAPE, seed=0), range(50, 54))


def test_a_test_split_without_labels_is_passed_over(tmp_path: Path) -> None:
    hidden = table(4, 70).map(lambda row: {"label": -1})
    datasets.DatasetDict({"train": table(20), "test": hidden, "validation": table(4, 50)}).save_to_disk(tmp_path / "d")
    check(load_data(f"hf:{tmp_path / 'd'}", SHAPE, seed=0), range(50, 54))


def test_of_coarse_and_fine_labels_the_finest_are_taken(tmp_path: Path) -> None:
    fine = (datasets.ClassLabel(names=["a", "b", "c", "d"]), [i % 4 for i in range(40)])
    both = table(40, fine=fine).rename_column("label", "coarse")
    both.save_to_disk(tmp_path / "d")
    assert load_data(f"hf:{tmp_path / 'd'}", SHAPE, seed=0).classes == ("a", "b", "c", "d")


def _columns(path: Path) -> None:
    datasets.Dataset.from_dict({"text": ["a", "b"], "label": [0, 1]}).to_parquet(path / "train.parquet")


def _two_images(path: Path) -> None:
    mask = (datasets.Image(), [Image.fromarray(pixels(i)) for i in range(20)])
    table(20, mask=mask).to_parquet(path / "train.parquet")


def _unlabelled(path: Path) -> None:
    table(20).map(lambda row, i: {"label": -1 if i < 3 else 0}, with_indices=True).to_parquet(path / "train.parquet")


def _corrupt(path: Path) -> None:
    encoded = io.BytesIO()
    Image.fromarray(pixels(0)).save(encoded, "png")
    cells = [
        {"bytes": encoded.getvalue()[:60] if i == 7 else encoded.getvalue(), "path": f"{i}.png"} for i in range(20)
    ]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    labels = [i % 2 for i in range(20)]
    datasets.Dataset.from_dict({"image": cells, "label": labels}, features=features).to_parquet(path / "train.parquet")


def _empty(path: Path) -> None:
    datasets.Dataset.from_dict({"img": [], "label": []}, features=table(2).features).to_parquet(path / "train.parquet")


def _splits(path: Path) -> None:
    datasets.DatasetDict({"one": table(20), "two": table(20)}).save_to_disk(path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_columns, r"one of type ClassLabel; it has text \(Value\), label \(Value\)"),
        (_two_images, r"it has img \(Image\), label \(ClassLabel\), mask \(Image\)"),
        (_unlabelled, "split 'train' has 3 images without a label"),
        (_corrupt, r"row 7 \(7.png\): "),
        (_empty, "cannot read hf:.*corresponds to no data"),
        (lambda path: table(4).select([]).save_to_disk(path), "cannot read hf:"),
        (_splits, "has the splits one, two; one called train is needed"),
        (lambda path: None, "cannot read hf:.*: The directory at .* doesn't contain any data files"),
        (lambda path: (path / "train.parquet").write_bytes(b"PAR1"), "cannot read hf:"),
    ],
)
def test_what_cannot_be_used_is_one_clear_error(make: Any, message: str, tmp_path: Path) -> None:
    make(tmp_path)
    with pytest.raises(DataError, match=message):
        load_data(f"hf:{tmp_path}", SHAPE, seed=0)


def test_a_name_on_a_hub_that_is_not_reached_and_a_file_of_another_kind(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the datasets library cannot read hf:nobody/nothing:small: "):
        load_data("hf:nobody/nothing:small", SHAPE, seed=0)
    (tmp_path / "a.zip").write_bytes(b"")
    with pytest.raises(DataError, match=r"a file must be a \.parquet file"):
        load_data(f"hf:{tmp_path / 'a.zip'}", SHAPE, seed=0)
    with pytest.raises(DataError, match="hf: needs a path or a name"):
        load_data("hf:", SHAPE, seed=0)


def test_without_the_library_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r'pip install "fbnet-lab\[data\]"'):
        load_data("hf:cifar10", SHAPE, seed=0)
