"""Where images come from: scikit-learn's digits, an .npz file, a folder of class folders."""

import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fbsearch.errors import DataError

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".webp")

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Source:
    """Labels, and a function that decodes chosen images: indices → N, C, H, W, uint8 or float32.

    `labels` are 0 … len(classes) − 1.
    """

    labels: Indices
    classes: tuple[str, ...]
    decode: Callable[[Indices], Tensor]


def open_source(name: str, size: int) -> tuple[Source, Source | None]:
    """Return training images and, where the data has them, test images. Raises DataError.

    `size` is the side that images of a folder are resized to while decoding, because theirs differ.
    """
    if name == "digits":
        return _digits(), None
    path = Path(name)
    if path.is_dir():
        return _folder(path, size), None
    if not path.exists():
        raise DataError(f"data not found: {name!r} is neither `digits` nor an existing .npz file or folder")
    return _npz(path)


def _digits() -> Source:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = torch.from_numpy(digits.images.astype(np.float32))[:, None]
    return Source(digits.target.astype(np.int64), tuple("0123456789"), lambda i: images[torch.from_numpy(i)])


def _npz(path: Path) -> tuple[Source, Source | None]:
    try:
        loaded = np.load(path, allow_pickle=False)
        if not isinstance(loaded, np.lib.npyio.NpzFile):
            raise DataError(f"{path} holds one array; an .npz with x_train and y_train is needed")
        with loaded as file:
            arrays = {key: file[key] for key in file.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is not an .npz file of plain arrays: {error}") from None
    if "y_train" not in arrays or not ("x_train" in arrays or {"jpg_train", "off_train"} <= arrays.keys()):
        raise DataError(
            f"{path} needs x_train and y_train (and may have x_test, y_test), or jpg_train, off_train and y_train; "
            f"it has {', '.join(sorted(arrays)) or 'nothing'}"
        )
    values = _labels(arrays["y_train"], f"{path}: y_train")
    known = np.unique(values)
    names = arrays.get("classes")
    if names is not None and names.ndim == 1 and known.min() >= 0 and known.max() < len(names):
        classes = tuple(str(names[value]) for value in known)
    else:
        classes = tuple(str(value) for value in known)
    train = _npz_part(path, arrays, "train", known, classes)
    has_test = "y_test" in arrays and ("x_test" in arrays or {"jpg_test", "off_test"} <= arrays.keys())
    return train, _npz_part(path, arrays, "test", known, classes) if has_test else None


def _npz_part(path: Path, arrays: dict[str, Any], part: str, known: Indices, classes: tuple[str, ...]) -> Source:
    labels = _labels(arrays[f"y_{part}"], f"{path}: y_{part}")
    unseen = np.setdiff1d(labels, known)
    if len(unseen):
        raise DataError(f"{path}: y_{part} has labels that y_train has not: {', '.join(map(str, unseen[:5]))}")
    if f"x_{part}" in arrays:
        images = _as_nchw(arrays[f"x_{part}"], f"{path}: x_{part}")
        count = len(images)

        def decode(indices: Indices) -> Tensor:
            return images[torch.from_numpy(indices)]
    else:
        data, offsets = arrays[f"jpg_{part}"], arrays[f"off_{part}"]
        count = len(offsets) - 1

        def decode(indices: Indices) -> Tensor:
            return torch.stack(
                [
                    _decode_image(data[offsets[i] : offsets[i + 1]].tobytes(), f"{path}: image {i} of jpg_{part}")
                    for i in indices
                ]
            )

    if count != len(labels):
        raise DataError(f"{path}: {count} images but {len(labels)} labels in its {part} part; they must correspond")
    return Source(np.searchsorted(known, labels).astype(np.int64), classes, decode)


def _labels(labels: npt.NDArray[Any], what: str) -> Indices:
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer) or not len(labels):
        raise DataError(f"{what} must be a list of whole numbers, one per image, not {labels.dtype} {labels.shape}")
    return labels.astype(np.int64)


def _as_nchw(images: npt.NDArray[Any], what: str) -> Tensor:
    if images.ndim == 3:
        images = images[:, None]
    elif images.ndim == 4 and images.shape[3] in (1, 3):
        images = images.transpose(0, 3, 1, 2)
    elif images.ndim != 4 or images.shape[1] not in (1, 3):
        raise DataError(f"{what} must be N,H,W or N,H,W,C or N,C,H,W with 1 or 3 channels, not {images.shape}")
    if images.dtype != np.uint8:
        if not np.issubdtype(images.dtype, np.number) or np.iscomplexobj(images):
            raise DataError(f"{what} must hold numbers, not {images.dtype}")
        images = images.astype(np.float32)
        if not np.isfinite(images).all():
            raise DataError(f"{what} has values that are not finite")
    return torch.from_numpy(np.ascontiguousarray(images))


def _folder(path: Path, size: int) -> Source:
    folders = sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
    if len(folders) < 2:
        raise DataError(
            f"{path} has {len(folders)} class folder{'s' * (len(folders) != 1)}; it needs one folder of images per "
            "class, at least two"
        )
    files: list[Path] = []
    labels: list[int] = []
    for label, folder in enumerate(folders):
        images = sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
        if not images:
            raise DataError(f"class folder {folder} has no images ({', '.join(IMAGE_SUFFIXES)})")
        files += images
        labels += [label] * len(images)

    def decode(indices: Indices) -> Tensor:
        return torch.stack([_decode_image(files[i].read_bytes(), str(files[i]), size) for i in indices])

    return Source(np.array(labels, dtype=np.int64), tuple(folder.name for folder in folders), decode)


def _decode_image(content: bytes, what: str, size: int | None = None) -> Tensor:
    """Return 3, H, W uint8; `size` resizes (bilinear) and squares it."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content)) as image:
            rgb = image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = "not a readable image" if "cannot identify" in str(error) else str(error)
        raise DataError(f"{what}: {reason}; remove or replace it") from None
    if size is not None:
        rgb = rgb.resize((size, size), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.asarray(rgb).copy()).permute(2, 0, 1)
