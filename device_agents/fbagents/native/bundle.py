"""The hermetic bundle: a folder that runs the native agent on any Linux of one architecture, whatever its libc."""

import contextlib
import fcntl
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pydantic

from fbagents.errors import DeviceError
from fbagents.native import build as native
from fbagents.native import libraries as _libraries
from fbbase import __version__
from fbbase.files import file_sha256
from fbbase.progress import Waiting
from fbexport.runtimes import bundled_libraries, native_libraries

FORMAT = 1
AGENT = "agent"
MANIFEST = "manifest.json"
MAX_FILE_BYTES = 512 << 20
# a plain file's name: no path, not hidden, not an option
FileName = Annotated[str, pydantic.Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.+-]{0,99}$")]


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle on this machine; `files` are names with their SHA-256, `digest` that of all names and contents.

    `versions` are those of its runtimes, by name.
    """

    folder: Path
    target: str
    versions: Mapping[str, str]
    files: Mapping[str, str]
    digest: str

    def command(self, folder: str) -> list[str]:
        """Return the argv that starts the agent where the bundle lies at `folder` on a device."""
        loader = f"{folder}/{_libraries.LOADERS[self.target]}"
        options = native.library_options(folder, self.versions)
        return [loader, "--library-path", folder, f"{folder}/{AGENT}", *options]


class FileEntry(pydantic.BaseModel, frozen=True, extra="forbid"):
    """One file of a bundle, as the manifest lists it."""

    sha256: Annotated[str, pydantic.Field(pattern=r"^[0-9a-f]{64}$")]
    bytes: Annotated[int, pydantic.Field(ge=0, le=MAX_FILE_BYTES)]
    origin: Annotated[str, pydantic.Field(max_length=2000)]


class Manifest(pydantic.BaseModel, frozen=True, extra="forbid"):
    """What a bundle is made of, and its files; kept beside them, not sent to devices."""

    format: Literal[1] = 1
    target: str
    made_of: dict[str, str]
    files: Annotated[dict[FileName, FileEntry], pydantic.Field(max_length=64)]


def build(target: str, asked: Iterable[str] = ()) -> Bundle:
    """Return the bundle for `target` ("aarch64-linux", "x86_64-linux"), built into the cache unless it is there.

    It has the runtimes of `fbexport.runtimes.bundled_libraries(asked)`.
    It holds this machine's versions of the runtimes, and is built anew when they or the agent change or a file of it is
    damaged. Fetches packages; raises DeviceError.
    """
    made_of = ingredients(target, asked)
    folder = place(target, made_of)
    if bundle := load(folder):
        return bundle
    words = f"making the bundle for {target}, for which packages are fetched: this is done once"
    with locked(folder) as work, Waiting.told(words):
        if bundle := load(folder):  # another process was first
            return bundle
        shutil.copyfile(_program(target), work / AGENT)
        origins = {AGENT: f"fbnet-lab {__version__}"}
        origins |= _libraries.add_runtimes(target, work, asked)
        origins |= _libraries.add_c_libraries(target, work)
        files = {
            path.name: FileEntry(sha256=file_sha256(path), bytes=path.stat().st_size, origin=origins[path.name])
            for path in sorted(work.iterdir())
        }
        return install(Manifest(target=target, made_of=made_of, files=files), work, folder)


def _program(target: str) -> Path:
    try:
        return native.build(target)
    except DeviceError as error:
        raise DeviceError(
            f"{error}; or bring the bundle from another machine: fbprof agent bundle {target} --from FILE"
        ) from error


def ingredients(target: str, asked: Iterable[str] = ()) -> dict[str, str]:
    """Return what a bundle's content depends on: versions and the agent's sources. Raises DeviceError."""
    if target not in _libraries.LOADERS:
        raise DeviceError(f"there are no bundles for {target!r}; known: {', '.join(_libraries.LOADERS)}")
    sources = hashlib.sha256(repr(native.FLAGS).encode())
    for path in native.source_files():
        sources.update(path.name.encode() + path.read_bytes())
    made_of = {"fbnet-lab": __version__, "agent's sources": sources.hexdigest()}
    for name, (_, library) in bundled_libraries(asked).items():
        if library.is_built:
            made_of[f"{name}'s library"] = hashlib.sha256(repr((library.source, library.flags)).encode()).hexdigest()
    return made_of | _libraries.runtime_versions(target, asked)


def place(target: str, made_of: Mapping[str, str]) -> Path:
    """Return the folder in the cache where the bundle of these ingredients lies, or will."""
    name = hashlib.sha256(json.dumps([FORMAT, target, sorted(made_of.items())]).encode()).hexdigest()
    return native.cache_folder() / f"bundle-{target}-{name[:12]}"


def load(folder: Path) -> Bundle | None:
    """Return the bundle in `folder`; None if there is none, or a file is missing or of another size."""
    try:
        manifest = Manifest.model_validate_json((folder / MANIFEST).read_bytes())
        whole = all((folder / name).stat().st_size == entry.bytes for name, entry in manifest.files.items())
    except (OSError, pydantic.ValidationError):
        return None
    return as_bundle(manifest, folder) if whole else None


def as_bundle(manifest: Manifest, folder: Path) -> Bundle:
    """Return a manifest's bundle in `folder`."""
    files = {name: entry.sha256 for name, entry in sorted(manifest.files.items())}
    digest = hashlib.sha256(json.dumps(files).encode()).hexdigest()
    packages = {name: package for name, (package, _) in native_libraries().items()}
    versions = {name: manifest.made_of[each] for name, each in packages.items() if each in manifest.made_of}
    return Bundle(folder, manifest.target, versions, files, digest)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[Path]:
    """Lend an empty folder to build `folder` in, to one process at a time; the others wait.

    What a killed process left is removed by the next one. Raises DeviceError when the cache is not writable.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with (folder.parent / f".{folder.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for left in folder.parent.glob(f".{folder.name}.build-*"):
                shutil.rmtree(left, ignore_errors=True)
            with tempfile.TemporaryDirectory(prefix=f".{folder.name}.build-", dir=folder.parent) as work:
                inner = Path(work) / "bundle"
                inner.mkdir()
                yield inner
    except OSError as error:
        raise DeviceError(
            f"cannot keep a bundle in {folder.parent}: {error.strerror or error}; "
            "set XDG_CACHE_HOME to a folder that is writable and has 100 MB free, 500 MB for torch"
        ) from error


def install(manifest: Manifest, work: Path, folder: Path) -> Bundle:
    """Move the files in `work`, with their manifest, to `folder`, which the caller has locked."""
    for path in work.iterdir():
        path.chmod(0o755)
    (work / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n")
    shutil.rmtree(folder, ignore_errors=True)
    work.rename(folder)
    return as_bundle(manifest, folder)
