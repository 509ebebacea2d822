"""Bundles as files: writes one as a .tar.xz, and brings one that another machine made into the cache."""

import lzma
import shutil
import tarfile
from collections.abc import Iterable, Iterator
from io import BytesIO
from pathlib import Path

import pydantic

from fbagents.errors import DeviceError
from fbagents.native import bundle as bundles
from fbagents.native import libraries as _libraries
from fbagents.native.bundle import MANIFEST, Bundle, Manifest
from fbagents.native.elf import read_elf
from fbbase.files import atomic_write, file_sha256

MAX_MANIFEST_BYTES = 1 << 20


def write(bundle: Bundle, path: Path) -> int:
    """Write a bundle as `path`, a .tar.xz; return its size in bytes. The same bundle gives the same bytes.

    Raises StorageError.
    """
    with atomic_write(path) as file:
        with (
            lzma.open(file, "wb") as compressed,
            tarfile.open(fileobj=compressed, mode="w", format=tarfile.USTAR_FORMAT) as archive,
        ):
            for name in (MANIFEST, *sorted(bundle.files)):
                content = (bundle.folder / name).read_bytes()
                member = tarfile.TarInfo(name)  # of nobody, of no time
                member.size, member.mode = len(content), 0o755
                archive.addfile(member, BytesIO(content))
        return file.tell()


def bring(target: str, path: Path, asked: Iterable[str] = ()) -> Bundle:
    """Unpack an archive of `write` into the cache, in place of what is there; return the bundle.

    Refused is what is not such an archive, and a bundle that is not of this machine's versions. Raises DeviceError.
    """
    wanted = bundles.ingredients(target, asked)
    folder = bundles.place(target, wanted)
    try:
        with path.open("rb") as file, bundles.locked(folder) as work:
            with lzma.open(file) as plain, tarfile.open(fileobj=plain, mode="r|") as archive:
                members = iter(archive)
                manifest = _manifest(archive, members)
                _same(manifest, target, wanted)
                _unpack(archive, members, manifest, work)
            for name in manifest.files:
                machine = read_elf(work / name).machine
                if machine != target.removesuffix("-linux"):
                    raise DeviceError(f"{name} is for {machine}, not for {target}")
            if absent := _libraries.missing(work):
                raise DeviceError(f"incomplete: {'; '.join(absent[:3])}")
            return bundles.install(manifest, work, folder)
    except OSError as error:
        raise DeviceError(f"cannot read {path}: {error.strerror or error}") from None
    except (tarfile.TarError, lzma.LZMAError, EOFError) as error:
        raise DeviceError(f"{path} is no bundle: {error}") from None
    except DeviceError as error:
        raise DeviceError(f"{path} is refused: {error}") from None


def _manifest(archive: tarfile.TarFile, members: Iterator[tarfile.TarInfo]) -> Manifest:
    first = next(members, None)
    if first is None or first.name != MANIFEST or not first.isreg() or first.size > MAX_MANIFEST_BYTES:
        raise DeviceError(f"it does not begin with {MANIFEST}")
    source = archive.extractfile(first)
    assert source is not None
    try:
        return Manifest.model_validate_json(source.read())
    except pydantic.ValidationError as error:
        raise DeviceError(f"its {MANIFEST} is not one: {error.errors()[0]['msg']}") from None


def _same(manifest: Manifest, target: str, wanted: dict[str, str]) -> None:
    if manifest.target != target:
        raise DeviceError(f"it is for {manifest.target}, not for {target}")
    differences = [
        f"{name} {manifest.made_of.get(name, 'none')[:12]} in it, {wanted.get(name, 'none')[:12]} here"
        for name in sorted(manifest.made_of.keys() | wanted.keys())
        if manifest.made_of.get(name) != wanted.get(name)
    ]
    if differences:
        raise DeviceError(f"it is of other versions: {'; '.join(differences)}; install the same on both machines")


def _unpack(archive: tarfile.TarFile, members: Iterator[tarfile.TarInfo], manifest: Manifest, work: Path) -> None:
    """Write the manifest's files, each checked against its hash; nothing else is read."""
    left = dict(manifest.files)
    for member in members:
        entry = left.pop(member.name, None)
        if entry is None or not member.isreg() or member.size != entry.bytes or member.size > bundles.MAX_FILE_BYTES:
            raise DeviceError(f"it holds {member.name!r}, which its manifest does not list as that")
        source = archive.extractfile(member)
        assert source is not None
        with (work / member.name).open("xb") as copy:
            shutil.copyfileobj(source, copy)
        if file_sha256(work / member.name) != entry.sha256:
            raise DeviceError(f"{member.name} is damaged")
    if left:
        raise DeviceError(f"it lacks {', '.join(left)}")
