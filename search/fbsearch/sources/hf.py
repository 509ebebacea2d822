"""hf: anything the `datasets` library reads: Parquet files, folders, data saved to disk, names on the Hugging Face hub.

Needs the extra `data`. The library keeps a copy of what it has read in its own cache.
"""

from pathlib import Path
from typing import Any

import numpy as np

from fbbase.files import read_bytes
from fbsearch.errors import DataError
from fbsearch.sources import Array, Indices, Opener, Source, tell_unused
from fbsearch.sources._decoding import IMAGE_BYTES, decode_image

TEST_SPLITS = ("test", "validation", "valid", "val")
"""Names of the split to test with; the first that exists and has labels is used."""


class HuggingFace(Opener):
    """What the library decodes is brought to one size."""

    def recognises(self, path: Path) -> bool:
        """Tell whether the path is a Parquet file, by its name."""
        return path.suffix == ".parquet"

    def open(self, rest: str, size: int) -> tuple[Source, Source | None]:
        """Read NAME, NAME:CONFIG or PATH; each image is brought to `size` when it is decoded."""
        if not rest:
            raise DataError("hf: needs a path or a name, hf:NAME")
        splits = _load(rest)
        title = "train" if "train" in splits or len(splits) != 1 else next(iter(splits))
        if title not in splits:
            raise DataError(f"hf:{rest} has the splits {', '.join(splits)}; one called train is needed")
        image, label, classes = _columns(splits[title], rest)
        labels = _labels(splits[title], label)
        if labels.min() < 0:
            raise DataError(f"hf:{rest}: split {title!r} has {int((labels < 0).sum())} images without a label")
        train = _source(splits[title], image, labels, classes, f"hf:{rest} {title}", size)
        for name in TEST_SPLITS:
            if name in splits and name != title and {image, label} <= splits[name].features.keys():
                labels = _labels(splits[name], label)
                if len(labels) and labels.min() >= 0:
                    tell_unused(f"hf:{rest}", [s for s in TEST_SPLITS if s in splits and s not in (name, title)])
                    return train, _source(splits[name], image, labels, classes, f"hf:{rest} {name}", size)
        return train, None


def _load(rest: str) -> dict[str, Any]:
    try:
        import datasets
    except ModuleNotFoundError:
        raise DataError(f'hf:{rest} needs the package datasets: pip install "fbnet-lab[data]"') from None
    path = Path(rest)
    if path.is_file() and path.suffix != ".parquet":
        raise DataError(f"hf:{rest}: a file must be a .parquet file; name the folder that it lies in")
    try:
        if path.is_file():
            loaded = datasets.load_dataset("parquet", data_files={"train": str(path)})
        elif (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():
            loaded = datasets.load_from_disk(str(path))
        elif path.is_dir():
            loaded = datasets.load_dataset(str(path))
        else:
            name, _, config = rest.partition(":")
            loaded = datasets.load_dataset(name, config or None)
    except (OSError, ValueError, LookupError, datasets.exceptions.DatasetsError) as error:
        reason = str(error.__cause__ or error).strip().split("\n")[0]
        raise DataError(f"the datasets library cannot read hf:{rest}: {reason}") from None
    return dict(loaded) if isinstance(loaded, dict) else {"train": loaded}


def _columns(split: Any, rest: str) -> tuple[str, str, tuple[str, ...]]:
    """Return the columns of images and of labels, by the type they are declared with, and the classes' names."""
    import datasets

    images = [name for name, feature in split.features.items() if isinstance(feature, datasets.Image)]
    labels = [name for name, feature in split.features.items() if isinstance(feature, datasets.ClassLabel)]
    # Several sets of labels (coarse and fine): the one called label, else the finest.
    labels.sort(key=lambda name: (name != "label", -split.features[name].num_classes))
    if len(images) != 1 or not labels:
        columns = ", ".join(f"{name} ({type(feature).__name__})" for name, feature in split.features.items())
        raise DataError(
            f"hf:{rest} needs one column of type Image and one of type ClassLabel; it has {columns or 'no columns'}. "
            "Give the columns these types with the datasets library (cast_column) and save them again"
        )
    if not len(split):
        raise DataError(f"hf:{rest} has no images to train with")
    return images[0], labels[0], tuple(split.features[labels[0]].names)


def _labels(split: Any, column: str) -> Indices:
    """Return the labels, −1 where one is missing."""
    return np.array([-1 if label is None else label for label in split[column][:]], dtype=np.int64)


def _source(split: Any, image: str, labels: Indices, classes: tuple[str, ...], what: str, size: int) -> Source:
    import datasets

    encoded = split.select_columns([image]).cast_column(image, datasets.Image(decode=False))

    def decode(i: int) -> Array:
        value = encoded[i][image]
        if value is None:
            raise DataError(f"{what}: row {i} has no image; remove it")
        if value["bytes"] is not None:
            return decode_image(value["bytes"], f"{what}: row {i} ({value['path'] or 'unnamed'})", size)
        content = read_bytes(Path(value["path"]), f"image of {what}, row {i},", IMAGE_BYTES, DataError)
        return decode_image(content, value["path"], size)

    return Source(labels, classes, decode, lambda: f"{what} {len(split)} {split.info.dataset_size}")
