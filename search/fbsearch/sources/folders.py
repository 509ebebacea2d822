"""folders: one folder of images per class, or such folders below train/ and test/ (or val/)."""

import hashlib
from pathlib import Path

import numpy as np

from fbbase.files import read_bytes
from fbsearch.errors import DataError
from fbsearch.sources import Array, Opener, Source, tell_unused
from fbsearch.sources._decoding import IMAGE_BYTES, decode_image

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".webp")
TEST_FOLDERS = ("test", "val", "validation")
"""Names of the folder of test images; the first that exists is used."""


class Folders(Opener):
    """Files are listed at once and decoded when they are needed."""

    def open(self, rest: str, size: int) -> tuple[Source, Source | None]:
        """List the files; each image is brought to `size` when it is decoded."""
        path = Path(rest)
        train = path / "train"
        if not train.is_dir() or not _subfolders(train):
            return _source(path, _classes(path), size), None
        titles = _classes(train)
        for name in TEST_FOLDERS:
            if (path / name).is_dir():
                tell_unused(str(path), [f"{each}/" for each in TEST_FOLDERS if each != name and (path / each).is_dir()])
                present = {p.name for p in _subfolders(path / name)}
                unseen = sorted(present - set(titles))
                if unseen:
                    raise DataError(f"{path / name} has classes that {train} has not: {', '.join(unseen[:5])}")
                if not present:
                    raise DataError(f"{path / name} has no class folders; give it those of {train}, or remove it")
                return _source(train, titles, size), _source(path / name, titles, size, present)
        return _source(train, titles, size), None


def _subfolders(path: Path) -> list[Path]:
    return sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))


def _classes(path: Path) -> tuple[str, ...]:
    folders = _subfolders(path)
    if len(folders) < 2:
        raise DataError(
            f"{path} has {len(folders)} class folder{'s' * (len(folders) != 1)}; it needs one folder of images per "
            "class, at least two"
        )
    return tuple(folder.name for folder in folders)


def _source(path: Path, titles: tuple[str, ...], size: int, present: set[str] | None = None) -> Source:
    files: list[Path] = []
    labels: list[int] = []
    for label, title in enumerate(titles):
        if present is not None and title not in present:
            continue
        images = sorted(p for p in (path / title).iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
        if not images:
            raise DataError(f"class folder {path / title} has no images ({', '.join(IMAGE_SUFFIXES)})")
        files += images
        labels += [label] * len(images)

    def decode(i: int) -> Array:
        return decode_image(read_bytes(files[i], "image", IMAGE_BYTES, DataError), str(files[i]), size)

    def identity() -> str:
        digest = hashlib.sha256()
        for file in files:
            digest.update(f"{file.relative_to(path)}\0{file.stat().st_size}\0".encode())
        return digest.hexdigest()

    return Source(np.array(labels, dtype=np.int64), titles, decode, identity)
