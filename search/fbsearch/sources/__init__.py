"""Kinds of image sets. A new kind is one file here: `open_source(rest, size)` → images to train with, and to test with.

On the command line it is `--data KIND:REST`; files and folders are recognised without their kind.
"""

from pathlib import Path

from fbbase.plugins import PluginFolder
from fbsearch.errors import DataError
from fbsearch.sources._source import Source

SOURCES = PluginFolder("data source", "fbsearch.sources")


def open_source(name: str, size: int) -> tuple[Source, Source | None]:
    """Return the images to train with and, where the set brings its own, those to test with. Raises DataError.

    `size` is the side that images of differing sizes are brought to while they are decoded.
    """
    kind, _, rest = name.partition(":")
    if not Path(name).exists():
        if kind not in SOURCES.names():
            raise DataError(
                f"data not found: {name!r} is neither `digits` nor an existing .npz file, CIFAR archive or folder; "
                "what the `datasets` library reads is called hf:NAME"
            )
        if kind != "digits" and not rest:
            raise DataError(f"--data {kind}: needs a path or name after the colon, {kind}:NAME")
    else:
        kind, rest = _kind_of(Path(name)), name
    train, test = SOURCES.load(kind).open_source(rest, size)
    return train, test


def _kind_of(path: Path) -> str:
    from fbsearch.sources.cifar import is_cifar

    if is_cifar(path):
        return "cifar"
    return "folders" if path.is_dir() else "npz"
