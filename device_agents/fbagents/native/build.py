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
from collections.abc import Mapping
from pathlib import Path

from fbagents.errors import DeviceError
from fbagents.native.script import on_device
from fbbase import __version__
from fbbase.progress import Waiting
from fbexport.runtimes import native_libraries

FLAGS = ("-std=c11", "-O2", "-Wall", "-Wextra", "-Wpedantic")
ZIG_TARGETS = {
    "x86_64-linux": "x86_64-linux-gnu.2.28",
    "aarch64-linux": "aarch64-linux-gnu.2.28",
    "aarch64-macos": "aarch64-macos",
}
CROSS_COMPILERS = {"x86_64-linux": "x86_64-linux-gnu-gcc", "aarch64-linux": "aarch64-linux-gnu-gcc"}
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
            _compile([*command, *FLAGS, f'-DAGENT_VERSION="{__version__}"'], sources, program, target)
    return program


def compiler(target: str) -> list[str]:
    """Return the compiler's command: the system's own, a cross compiler, or ziglang. Raises DeviceError."""
    names = [os.environ.get("CC"), "cc", "gcc", "clang"] if target == host_target() else []
    for name in [*names, CROSS_COMPILERS.get(target)]:
        if name and (found := shutil.which(name)):
            return [found]
    if importlib.util.find_spec("ziglang") is not None:
        return [sys.executable, "-m", "ziglang", "cc", "-target", ZIG_TARGETS[target]]
    raise DeviceError(
        f"no C compiler for {target}: install one that needs nothing else with pip install 'fbnet-lab[native]'"
        + (f", or put {CROSS_COMPILERS[target]} on the PATH" if target in CROSS_COMPILERS else "")
    )


def source_files() -> list[Path]:
    """Return the agent's C files and headers, in the checkout or in the installed package."""
    folder = on_device("agent.c")
    return sorted([*folder.glob("*.c"), *folder.glob("*.h")])


def cache_folder() -> Path:
    """Return the folder that keeps programs between runs."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fbnet-lab"


def runtime_options() -> list[str]:
    """Return the agent's options that name this machine's runtimes: the libraries inside the installed wheels."""
    folders, versions = [], {}
    for name, (package, library) in native_libraries().items():
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            installed = importlib.metadata.distribution(package)
            folders.append(str(Path(str(installed.locate_file(library.place))).parent))
            versions[name] = installed.version
    return library_options(":".join(folders), versions)


def library_options(path: str, versions: Mapping[str, str]) -> list[str]:
    """Return the agent's options that say where libraries are, and their versions: not every library tells its own."""
    told = [text for name, version in versions.items() for text in ("--runtime-version", f"{name}={version}")]
    return ["--library-path", path, *told]


def _compile(command: list[str], sources: list[Path], program: Path, target: str) -> None:
    """Compile to the side and move: another process may build the same."""
    c_files = [str(path) for path in sources if path.suffix == ".c"]
    libraries = [] if target.endswith("macos") else ["-ldl", "-lm"]
    try:
        program.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".build-", dir=program.parent) as folder:
            built = Path(folder) / "agent"
            argv = [*command, *c_files, *libraries, "-o", str(built)]
            done = subprocess.run(argv, capture_output=True, text=True, errors="replace", timeout=BUILD_TIMEOUT_S)
            if done.returncode != 0:
                raise DeviceError(
                    f"cannot build the native agent for {target} with {command[0]}:\n{done.stderr[-2000:]}"
                )
            built.replace(program)
    except OSError as error:
        raise DeviceError(
            f"cannot build the native agent into {program.parent}: {error.strerror}; "
            "set XDG_CACHE_HOME to a folder that is writable"
        ) from error
    except subprocess.TimeoutExpired:
        raise DeviceError(f"{command[0]} did not build the native agent within {BUILD_TIMEOUT_S} s") from None
