"""cifar: the official CIFAR-10 and CIFAR-100 files, Python or binary version, as a folder or as the .tar.gz."""

import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fbbase.files import open_regular, read_bytes
from fbsearch.errors import DataError
from fbsearch.sources import Array, Indices, Opener, Source, array_source
from fbsearch.sources._cifar_pickle import load_cifar_pickle

PIXELS = 3 * 32 * 32
MOST_BYTES = 512 << 20
"""No official file is larger, packed or not."""


@dataclass(frozen=True, slots=True)
class _Edition:
    """One form in which the data are published; `labels` is the pickle's key, or the bytes before a record's pixels."""

    folder: str
    train: tuple[str, ...]
    test: str
    names: str
    labels: bytes | int
    names_key: bytes = b""

    def read(self, get: Callable[[str], bytes], where: str) -> tuple[Source, Source]:
        names = self._names(get, where)
        parts = []
        for files in (self.train, (self.test,)):
            pieces = [self._file(get(name), f"{where}/{name}", len(names)) for name in files]
            images = np.concatenate([images for images, _ in pieces])
            labels = np.concatenate([labels for _, labels in pieces])
            parts.append(array_source(images, labels, names, f"{self.folder} {files}"))
        return parts[0], parts[1]

    def _names(self, get: Callable[[str], bytes], where: str) -> tuple[str, ...]:
        content, what = get(self.names), f"{where}/{self.names}"
        if isinstance(self.labels, int):
            lines = content.decode("ascii", "replace").split("\n")
            return tuple(line.strip() for line in lines if line.strip())
        values = load_cifar_pickle(content, what).get(self.names_key)
        if not isinstance(values, list) or not all(isinstance(value, bytes) for value in values):
            raise DataError(f"{what} has no list {self.names_key.decode()}; fetch the official file again")
        return tuple(value.decode("ascii", "replace") for value in values)

    def _file(self, content: bytes, what: str, classes: int) -> tuple[Array, Indices]:
        if isinstance(self.labels, int):
            record = self.labels + PIXELS
            if not content or len(content) % record:
                raise DataError(
                    f"{what} has {len(content)} bytes, which is no multiple of {record}; it is cut short or another "
                    "file: fetch it again"
                )
            rows = np.frombuffer(content, np.uint8).reshape(-1, record)
            images, labels = rows[:, self.labels :], rows[:, self.labels - 1].astype(np.int64)
        else:
            batch = load_cifar_pickle(content, what)
            data, found = batch.get(b"data"), batch.get(self.labels)
            if not isinstance(data, np.ndarray) or data.shape[1:] != (PIXELS,) or not isinstance(found, list):
                raise DataError(f"{what} lacks data (N, {PIXELS}) or {self.labels.decode()}: fetch it again")
            if len(found) != len(data) or not all(type(label) is int and 0 <= label < 256 for label in found):
                raise DataError(f"{what} has {len(data)} images, {len(found)} labels or labels of another kind")
            images, labels = data, np.array(found, dtype=np.int64)
        if not len(labels) or labels.min() < 0 or labels.max() >= classes:
            raise DataError(f"{what} has no images, or labels outside 0 … {classes - 1}: fetch it again")
        return images.reshape(-1, 3, 32, 32), labels


_BATCHES = tuple(f"data_batch_{i}" for i in range(1, 6))
EDITIONS = (
    _Edition("cifar-10-batches-py", _BATCHES, "test_batch", "batches.meta", b"labels", b"label_names"),
    _Edition(
        "cifar-10-batches-bin", tuple(f"{name}.bin" for name in _BATCHES), "test_batch.bin", "batches.meta.txt", 1
    ),
    _Edition("cifar-100-python", ("train",), "test", "meta", b"fine_labels", b"fine_label_names"),
    _Edition("cifar-100-binary", ("train.bin",), "test.bin", "fine_label_names.txt", 2),
)


class Cifar(Opener):
    """All files are read at once; of CIFAR-100 the 100 fine classes."""

    def recognises(self, path: Path) -> bool:
        """Tell whether the path is a folder of official files, the folder above it, or an archive."""
        return path.name.endswith((".tar.gz", ".tgz", ".tar")) or _locate(path) is not None

    def open(self, rest: str, size: int) -> tuple[Source, Source]:
        """Read all files."""
        path = Path(rest)
        if path.is_file():
            return _open_archive(path)
        located = _locate(path)
        if located is None:
            raise _none_of(path)
        folder, edition = located

        def get(name: str) -> bytes:
            if not (folder / name).exists():
                raise DataError(f"{folder} lacks {name} of {edition.folder}; unpack the official archive again")
            return read_bytes(folder / name, "file of CIFAR", MOST_BYTES, DataError)

        return edition.read(get, str(folder))


def _locate(path: Path) -> tuple[Path, _Edition] | None:
    """Return the folder and edition, where a file to train with and the names of the classes, or the test file, are."""
    for folder, edition in [(path, each) for each in EDITIONS] + [(path / each.folder, each) for each in EDITIONS]:
        others = folder / edition.names, folder / edition.test
        if (folder / edition.train[0]).is_file() and any(file.is_file() for file in others):
            return folder, edition
    return None


def _open_archive(path: Path) -> tuple[Source, Source]:
    """Read the files from a .tar.gz without unpacking it to disk."""
    try:
        with (
            open_regular(path, "archive of CIFAR", MOST_BYTES, DataError) as file,
            tarfile.open(fileobj=file) as archive,
        ):
            files, folders = dict[str, bytes](), {edition.folder for edition in EDITIONS}
            for member in archive:
                name = member.name.removeprefix("./")
                is_ours = member.isreg() and name.rpartition("/")[0] in folders
                if member.size > MOST_BYTES:
                    raise DataError(f"{path}: {member.name} is too large for a file of CIFAR; fetch it again")
                content = archive.extractfile(member) if is_ours else None
                if content:
                    files[name] = content.read()
    except (tarfile.TarError, OSError, EOFError, ValueError, zlib.error) as error:
        raise DataError(f"{path} is not a whole tar archive ({error}); fetch it again") from None
    for edition in EDITIONS:
        if f"{edition.folder}/{edition.train[0]}" in files:

            def get(name: str, folder: str = edition.folder) -> bytes:
                if f"{folder}/{name}" not in files:
                    raise DataError(f"{path} lacks {folder}/{name}; fetch the archive again")
                return files[f"{folder}/{name}"]

            return edition.read(get, str(path))
    raise _none_of(path)


def _none_of(path: Path) -> DataError:
    return DataError(f"{path} holds none of the official CIFAR folders ({', '.join(e.folder for e in EDITIONS)})")
