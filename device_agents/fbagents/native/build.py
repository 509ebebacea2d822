"""Builds the native agent for a target, with the compiler at hand, and keeps what is built in a cache."""

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from fbagents.errors import DeviceError
from fbagents.native import source_package
from fbagents.native.script import on_device
from fbbase import __version__
from fbbase.progress import Waiting
from fbexport.runtimes import NativeLibrary, bundled_libraries

FLAGS = ("-std=c11", "-O2", "-Wall", "-Wextra", "-Wpedantic")
ZIG_TARGETS = {
    "x86_64-linux": "x86_64-linux-gnu.2.28",
    "aarch64-linux": "aarch64-linux-gnu.2.28",
    "aarch64-macos": "aarch64-macos",
}
CROSS_COMPILERS = {"x86_64-linux": "x86_64-linux-gnu-gcc", "aarch64-linux": "aarch64-linux-gnu-gcc"}
CROSS_CXX = {"x86_64-linux": "x86_64-linux-gnu-g++", "aarch64-linux": "aarch64-linux-gnu-g++"}
BUILD_TIMEOUT_S = 300


def host_target() -> str:
    """Return the target of this machine; it need not be one that can be built for."""
    machine = {"arm64": "aarch64", "amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    return f"{machine}-{ {'Darwin': 'macos'}.get(platform.system(), platform.system().lower()) }"


def build(target: str, folder: Path | None = None) -> Path:
    """Return the agent's program for `target`, built into `folder` (the cache) unless it is there. Raises DeviceError.

    The file's name holds a hash of the sources, the flags and the compiler: a change builds anew.
    """
    if target not in ZIG_TARGETS:
        raise DeviceError(f"the native agent has no target {target!r}; known: {', '.join(ZIG_TARGETS)}")
    sources = source_files()
    command = compiler(target)
    digest = hashlib.sha256(repr((__version__, FLAGS, command)).encode())
    for path in sources:
        digest.update(path.name.encode() + path.read_bytes())
    folder = folder or cache_folder()
    program = folder / f"agent-{target}-{digest.hexdigest()[:12]}"
    if not program.exists():
        with Waiting.told(f"building the native agent for {target}"):
            c_files = [str(path) for path in sources if path.suffix == ".c"]
            libraries = [] if target.endswith("macos") else ["-ldl", "-lm"]
            flags = [*command, *FLAGS, f'-DAGENT_VERSION="{__version__}"']
            _compile([*flags, *c_files, *libraries], program, "native agent")
    return program


def build_library(library: NativeLibrary, package: str, version: str, target: str, site: Path, libraries: str) -> Path:
    """Return a library that a runtime's package lacks, built unless the cache has it.

    The package of this version is in `site`; if it has libraries, they will lie in `libraries`. Raises DeviceError.
    """
    cxx = cxx_compiler(target)
    flags = [f.format(site=site, libraries=libraries, patch=version.rpartition(".")[2]) for f in library.flags]
    made_of = repr((library.source, library.flags, package, version, libraries, cxx)).encode()
    built = cache_folder() / f"library-{target}-{hashlib.sha256(made_of).hexdigest()[:12]}" / library.name
    if built.exists():
        return built
    if library.source:
        Waiting.tell(f"compiling {library.name} for {target}")
        _compile([cxx, *flags, "-x", "c++", "-"], built, library.name, library.source)
        return built
    Waiting.tell(f"building {library.name} for {target} from its source, which takes long: this is done once")
    tools = [f"-DCMAKE_C_COMPILER={compiler(target)[0]}", f"-DCMAKE_CXX_COMPILER={cxx}"]
    if target != host_target():
        tools += ["-DCMAKE_SYSTEM_NAME=Linux", f"-DCMAKE_SYSTEM_PROCESSOR={target.removesuffix('-linux')}"]
    with _making(built, library.name) as work:
        shutil.copyfile(source_package.build(package, version, [*tools, *flags], library.name, work), work / "library")
        (work / "library").replace(built)
    return built


def build_empty(target: str, name: str) -> Path:
    """Return a library of that name with nothing in it. Raises DeviceError."""
    built = cache_folder() / f"empty-{target}" / name
    if not built.exists():
        flags = ["-shared", "-nostdlib", f"-Wl,-soname,{name}", "-x", "c", "-"]
        _compile([*compiler(target), *flags], built, name, "/* empty */")
    return built


def compiler(target: str) -> list[str]:
    """Return the compiler's command: the system's own, a cross compiler, or ziglang. Raises DeviceError."""
    names = [os.environ.get("CC"), "cc", "gcc", "clang"] if target == host_target() else []
    if (found := _first_found([*names, CROSS_COMPILERS.get(target)])) is not None:
        return [found]
    if importlib.util.find_spec("ziglang") is not None:
        return [sys.executable, "-m", "ziglang", "cc", "-target", ZIG_TARGETS[target]]
    raise DeviceError(
        f"no C compiler for {target}: install one that needs nothing else with pip install 'fbnet-lab[native]'"
        + (f", or put {CROSS_COMPILERS[target]} on the PATH" if target in CROSS_COMPILERS else "")
    )


def cxx_compiler(target: str) -> str:
    """Return the C++ compiler's command: the system's own, or a cross compiler. Raises DeviceError."""
    own = target == host_target()
    names = [os.environ.get("CXX"), "c++", "g++", "clang++"] if own else []
    if (found := _first_found([*names, CROSS_CXX.get(target)])) is not None:
        return found
    package = "g++" if own else f"g++-{target.replace('_', '-')}-gnu"
    raise DeviceError(
        f"no C++ compiler for {target}: apt install {package}; or bring the bundle from another machine: fbprof agent "
        f"bundle {target} --from FILE; or set agent = 'python' in the profile of a device that has Python"
    )


def _first_found(names: Iterable[str | None]) -> str | None:
    return next((found for name in names if name and (found := shutil.which(name))), None)


def source_files() -> list[Path]:
    """Return the agent's C files and headers, in the checkout or in the installed package."""
    folder = on_device("agent.c")
    return sorted([*folder.glob("*.c"), *folder.glob("*.h")])


def cache_folder() -> Path:
    """Return the folder that keeps programs between runs."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fbnet-lab"


def runtime_options(asked: Iterable[str] = ()) -> list[str]:
    """Return the agent's options that name this machine's runtimes: the libraries inside the installed wheels.

    Those that have to be compiled are there only where they are `asked` for. Raises DeviceError.
    """
    folders, versions = [], {}
    for name, (package, library) in (bundled_libraries() | bundled_libraries(asked)).items():
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            installed = importlib.metadata.distribution(package)
            site = installed_site(installed)
            places = [site / place for place in library.places]
            if library.is_built:
                folder = str(places[0].parent) if places else ""
                places = [build_library(library, package, installed.version, host_target(), site, folder)]
            folders.append(str(places[0].parent))
            versions[name] = installed.version
    return library_options(":".join(folders), versions)


def installed_site(installed: importlib.metadata.Distribution) -> Path:
    """Return the folder that an installed package lies in."""
    return Path(str(installed.locate_file("")))


def library_options(path: str, versions: Mapping[str, str]) -> list[str]:
    """Return the agent's options that say where libraries are, and their versions: not every library tells its own."""
    told = [text for name, version in versions.items() for text in ("--runtime-version", f"{name}={version}")]
    return ["--library-path", path, *told]


def _compile(command: list[str], program: Path, what: str, source: str | None = None) -> None:
    """Compile; `source` is what the compiler reads."""
    with _making(program, what) as work:
        built = work / "built"
        argv = [*command, "-o", str(built)]
        try:
            done = subprocess.run(
                argv, input=source, capture_output=True, text=True, errors="replace", timeout=BUILD_TIMEOUT_S
            )
        except subprocess.TimeoutExpired:
            raise DeviceError(f"{command[0]} did not build the {what} within {BUILD_TIMEOUT_S} s") from None
        if done.returncode != 0:
            raise DeviceError(f"cannot build the {what} with {command[0]}:\n{done.stderr[-2000:]}")
        built.replace(program)


@contextlib.contextmanager
def _making(path: Path, what: str) -> Iterator[Path]:
    """Lend a folder beside `path` to make it in, and to move it from: another process may make the same."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".build-", dir=path.parent) as folder:
            yield Path(folder)
    except OSError as error:
        raise DeviceError(
            f"cannot build the {what} into {path.parent}: {error.strerror}; "
            "set XDG_CACHE_HOME to a folder that is writable"
        ) from error
