"""Where a bundle's libraries come from: the runtimes from PyPI's wheels, the C library from a compiler or Debian."""

import importlib.metadata
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path

from fbagents.errors import DeviceError
from fbagents.native import build as native
from fbagents.native import debian
from fbagents.native.elf import read_elf
from fbbase import __version__
from fbexport.runtimes import NativeLibrary, bundled_libraries

LOADERS = {"aarch64-linux": "ld-linux-aarch64.so.1", "x86_64-linux": "ld-linux-x86-64.so.2"}
DEBIAN_ARCHITECTURES = {"aarch64-linux": "arm64", "x86_64-linux": "amd64"}
DEBIAN_SUITE = "bookworm"
DEBIAN_PACKAGES = ("libc6", "libgcc-s1", "libgomp1", "libstdc++6")
# pip takes a wheel only if its tag is listed. Tags promise little about what is inside: `missing` looks there.
GLIBC_MINORS = range(17, 45)
PIP_TIMEOUT_S = 600
STRIPPED_BYTES = 100 << 20


def runtime_versions(target: str, asked: Iterable[str] = ()) -> dict[str, str]:
    """Return the versions of the runtimes' packages in a bundle: mostly those on this machine. Raises DeviceError."""
    return {package: _version(target, package, library) for package, library in bundled_libraries(asked).values()}


def _version(target: str, package: str, library: NativeLibrary) -> str:
    if target != native.host_target() and target in library.versions:
        return library.versions[target]
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        raise DeviceError(f"{package} is not installed here, so its version is unknown: pip install it") from None


def add_runtimes(target: str, folder: Path, asked: Iterable[str] = ()) -> dict[str, str]:
    """Copy the runtimes' libraries into `folder`; return where each came from. Raises DeviceError."""
    origins = {}
    with tempfile.TemporaryDirectory(prefix=".wheels-", dir=folder.parent) as work:
        libraries = dict(bundled_libraries(asked).values())
        for package, (site, origin) in _packages(target, libraries, Path(work)).items():
            library = libraries[package]
            for place in library.places:
                found = sorted(site.glob(place))
                if not found:
                    raise DeviceError(f"{origin} holds no {place}: install it again, or another version")
                name = found[0].name if library.is_built else library.name
                _copy(target, found[0], folder / name)
                origins[name] = origin
            for path in (path for place in library.beside for path in site.glob(place)):
                _copy(target, path, folder / path.name)
                origins[path.name] = origin
            for name in library.unused:
                shutil.copyfile(native.build_empty(target, name), folder / name)
                origins[name] = f"empty, of fbnet-lab {__version__}"
            if library.is_built:
                version = _version(target, package, library)
                built = native.build_library(library, package, version, target, site, "$ORIGIN")
                shutil.copyfile(built, folder / library.name)
                origins[library.name] = f"built by fbnet-lab {__version__} of {package} {version}"
    return origins


def _copy(target: str, source: Path, copy: Path) -> None:
    """Copy a library, a large one without the names that only debuggers read, if there is a program for that."""
    shutil.copyfile(source, copy)
    strip = shutil.which(f"{target}-gnu-strip")
    if strip is not None and source.stat().st_size > STRIPPED_BYTES:
        subprocess.run([strip, "--strip-unneeded", str(copy)], capture_output=True)  # in place, or not at all


def add_c_libraries(target: str, folder: Path) -> dict[str, str]:
    """Copy the loader and all that the files in `folder` need into it; return where each came from.

    The compiler's own libraries suit what it compiled; where it has none, or too old ones for the runtimes, Debian's
    are taken. Raises DeviceError.
    """
    reasons = []
    for source in (_from_compiler, _from_debian):
        given = {path.name for path in folder.iterdir()}
        try:
            with tempfile.TemporaryDirectory(prefix=".libraries-", dir=folder.parent) as work:
                find, origin = source(target, Path(work))
                added = _close(target, folder, find)
                if not (absent := missing(folder)):
                    return dict.fromkeys(added, origin)
                reasons.append(f"{origin}: {'; '.join(absent[:3])}")
        except DeviceError as error:
            reasons.append(str(error))
        for path in folder.iterdir():
            if path.name not in given:
                path.unlink()
    raise DeviceError(
        f"no C library for {target}:\n- " + "\n- ".join(reasons) + "\nInstall "
        f"{native.CROSS_COMPILERS[target]} or set DEBIAN_MIRROR, or make the bundle on another machine with fbprof "
        f"agent bundle {target} -o FILE and bring it here with --from FILE"
    )


def missing(folder: Path) -> list[str]:
    """Return what the files in `folder` need and no file there provides: libraries, versions of their symbols."""
    files = {path.name: read_elf(path) for path in sorted(folder.iterdir())}
    absent = []
    for name, file in files.items():
        absent += [f"{name} needs {library}" for library in file.libraries if library not in files]
        absent += [
            f"{name} needs {version} of {library}"
            for library, version in sorted(file.needs)
            if library in files and version not in files[library].provides
        ]
    return absent


def _close(target: str, folder: Path, find: Callable[[str], Path | None]) -> list[str]:
    """Copy the loader and what is needed, in turn, as far as it is found; return the names of what was copied."""
    added = []
    wanted = [LOADERS[target], *_needed(folder.iterdir())]
    while wanted:
        name = wanted.pop()
        if not (folder / name).exists() and (found := find(name)):
            shutil.copyfile(found, folder / name)
            added.append(name)
            wanted += _needed([folder / name])
    if LOADERS[target] not in added:
        raise DeviceError(f"no {LOADERS[target]} found")
    return added


def _needed(paths: Iterable[Path]) -> list[str]:
    return [library for path in paths for library in read_elf(path).libraries if "/" not in library]


def _from_compiler(target: str, _work: Path) -> tuple[Callable[[str], Path | None], str]:
    command = native.compiler(target)
    if len(command) > 1:
        raise DeviceError("ziglang brings no C library to run with")

    def find(name: str) -> Path | None:
        argv = [*command, f"-print-file-name={name}"]
        told = subprocess.run(argv, capture_output=True, text=True, timeout=60).stdout.strip()
        path = Path(told)
        return path if path.is_absolute() and path.is_file() else None  # the bare name: it has none

    return find, f"libraries of {Path(command[0]).name}"


def _from_debian(target: str, work: Path) -> tuple[Callable[[str], Path | None], str]:
    packages = debian.unpack(DEBIAN_PACKAGES, DEBIAN_SUITE, DEBIAN_ARCHITECTURES[target], work)
    folders = [work / parent / f"{target}-gnu" for parent in ("lib", "usr/lib")]

    def find(name: str) -> Path | None:
        return next((folder / name for folder in folders if (folder / name).is_file()), None)

    return find, f"Debian: {', '.join(packages)}"


def _packages(target: str, libraries: Mapping[str, NativeLibrary], work: Path) -> dict[str, tuple[Path, str]]:
    """Return where the packages lie, and what they are called: those installed here, or wheels unpacked in `work`."""
    if target == native.host_target():
        installed = {package: importlib.metadata.distribution(package) for package in libraries}
        return {
            package: (native.installed_site(each), f"{package} {each.version}, as installed")
            for package, each in installed.items()
        }
    wanted = [f"{name}=={_version(target, name, library)}" for name, library in libraries.items() if library.places]
    _download(target, wanted, work)
    wheels = {path.name.partition("-")[0].replace("_", "-"): path for path in work.glob("*.whl")}
    for package in wheels:
        library = libraries[package]
        with zipfile.ZipFile(wheels[package]) as wheel:
            for member in wheel.namelist():
                is_header = library.source and "/include/" in member
                if is_header or any(fnmatch(member, place) for place in (*library.places, *library.beside)):
                    wheel.extract(member, work / package)
    return {package: (work / package, wheels[package].name if package in wheels else "") for package in libraries}


def _download(target: str, wanted: Sequence[str], folder: Path) -> None:
    """Fetch the wheels for `target` of packages, each `NAME==VERSION`."""
    machine = target.removesuffix("-linux")
    tags = [f"manylinux2014_{machine}", *(f"manylinux_2_{minor}_{machine}" for minor in GLIBC_MINORS)]
    if not wanted:
        return
    argv = [sys.executable, "-m", "pip", "--quiet", "--no-input", "--disable-pip-version-check", "download"]
    argv += ["--no-deps", "--only-binary=:all:", "--implementation=cp", "--dest", str(folder)]
    argv += [f"--python-version={sys.version_info.major}.{sys.version_info.minor}"]
    argv += [f"--platform={tag}" for tag in tags]
    try:
        done = subprocess.run([*argv, *wanted], capture_output=True, text=True, errors="replace", timeout=PIP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise DeviceError(f"pip did not fetch {' '.join(wanted)} within {PIP_TIMEOUT_S} s") from None
    if done.returncode != 0:
        remedy = "python -m ensurepip" if "No module named pip" in done.stderr else "is there a network?"
        raise DeviceError(
            f"pip cannot fetch {' '.join(wanted)} for {target}: {done.stderr.strip()[-500:]}\n{remedy}; or bring the "
            f"bundle from another machine: fbprof agent bundle {target} --from FILE"
        )
