"""npz: arrays x_train, y_train (and x_test, y_test), or JPEG or PNG bytes as jpg_train, off_train, y_train."""

from pathlib import Path

import numpy as np

from fbbase.arrays import read_arrays
from fbsearch.errors import DataError
from fbsearch.sources import Array, Indices, Opener, Source, array_source, tell_unused
from fbsearch.sources._decoding import as_labels, decode_image


class Npz(Opener):
    """Images keep their size."""

    def open(self, rest: str, size: int) -> tuple[Source, Source | None]:
        """Read the file."""
        path = Path(rest)
        arrays = read_arrays(path, "images", DataError)
        if "y_train" not in arrays or not ("x_train" in arrays or {"jpg_train", "off_train"} <= arrays.keys()):
            raise DataError(
                f"{path} needs x_train and y_train (and may have x_test, y_test), or jpg_train, off_train and y_train; "
                f"it has {', '.join(sorted(arrays)) or 'nothing'}"
            )
        tell_unused(str(path), sorted(name for name in arrays if name.endswith(("_val", "_valid", "_validation"))))
        values = as_labels(arrays["y_train"], f"{path}: y_train")
        known = np.unique(values)
        names = arrays.get("classes", np.array([]))
        is_named = names.ndim == 1 and known.min() >= 0 and known.max() < len(names)
        classes = tuple(map(str, names[known] if is_named else known))
        has_test = "y_test" in arrays and ("x_test" in arrays or {"jpg_test", "off_test"} <= arrays.keys())
        train = _part(path, arrays, "train", known, classes)
        return train, _part(path, arrays, "test", known, classes) if has_test else None


def _part(path: Path, arrays: dict[str, Array], part: str, known: Indices, classes: tuple[str, ...]) -> Source:
    labels = as_labels(arrays[f"y_{part}"], f"{path}: y_{part}")
    unseen = np.setdiff1d(labels, known)
    if len(unseen):
        raise DataError(f"{path}: y_{part} has labels that y_train has not: {', '.join(map(str, unseen[:5]))}")
    labels = np.searchsorted(known, labels).astype(np.int64)
    identity = f"{path.name} {path.stat().st_size} {part}"
    if f"x_{part}" in arrays:
        images = _as_nchw(arrays[f"x_{part}"], f"{path}: x_{part}")
        count, source = len(images), array_source(images, labels, classes, identity)
    else:
        data, offsets = arrays[f"jpg_{part}"], arrays[f"off_{part}"]
        _check_offsets(path, part, data, offsets)
        count, source = len(offsets) - 1, _encoded(path, part, data, offsets, labels, classes, identity)
    if count != len(labels):
        raise DataError(f"{path}: {count} images but {len(labels)} labels in its {part} part; they must correspond")
    return source


def _encoded(
    path: Path, part: str, data: Array, offsets: Array, labels: Indices, classes: tuple[str, ...], identity: str
) -> Source:
    def read(i: int) -> Array:
        return decode_image(data[offsets[i] : offsets[i + 1]].tobytes(), f"{path}: image {i} of jpg_{part}")

    shape = read(0).shape

    def decode(i: int) -> Array:
        image = read(i)
        if image.shape != shape:
            raise DataError(
                f"{path}: image {i} of jpg_{part} is {image.shape[2]}×{image.shape[1]}, but image 0 is "
                f"{shape[2]}×{shape[1]}; all need one size (a folder of class folders may have several)"
            )
        return image

    return Source(labels, classes, decode, lambda: identity)


def _check_offsets(path: Path, part: str, data: Array, offsets: Array) -> None:
    if data.ndim != 1 or data.dtype != np.uint8:
        raise DataError(f"{path}: jpg_{part} must be bytes (uint8), not {data.dtype} {data.shape}")
    right = offsets.ndim == 1 and len(offsets) > 1 and np.issubdtype(offsets.dtype, np.integer)
    if not right or offsets[0] != 0 or (np.diff(offsets) < 0).any() or offsets[-1] != len(data):
        raise DataError(
            f"{path}: off_{part} must rise from 0 to the {len(data)} bytes of jpg_{part}, one per image + 1"
        )


def _as_nchw(images: Array, what: str) -> Array:
    if images.ndim == 3:
        images = images[:, None]
    elif images.ndim == 4 and images.shape[3] in (1, 3):
        images = images.transpose(0, 3, 1, 2)
    elif images.ndim != 4 or images.shape[1] not in (1, 3):
        raise DataError(f"{what} must be N,H,W or N,H,W,C or N,C,H,W with 1 or 3 channels, not {images.shape}")
    if 0 in images.shape[1:]:
        raise DataError(f"{what} has images of no pixels: {images.shape}")
    if images.dtype != np.uint8:
        if not np.issubdtype(images.dtype, np.number) or np.iscomplexobj(images):
            raise DataError(f"{what} must hold numbers, not {images.dtype}")
        images = images.astype(np.float32)
        if not np.isfinite(images).all():
            raise DataError(f"{what} has values that are not finite")
    return np.ascontiguousarray(images)
