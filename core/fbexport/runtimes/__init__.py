"""Runtimes: what runs model files, on this machine and on devices; one class in one file each.

docs/extend/runtime.md shows how one is added. Nothing else lists runtimes: their names are those of the files here and
of the entry points of this group.
"""

import contextlib
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypeAlias

from fbbase.errors import FbError
from fbbase.plugins import EXTRAS, Plugins
from fbexport.errors import ExportError

if TYPE_CHECKING:
    from fbexport.graph import Array

Run: TypeAlias = "Callable[..., list[Array]]"
"""Maps inputs N, C, H, W, as many images as the model was written for, to every output: N, C, H, W or N, C."""
DEFAULT = "litert"
"""The runtime that is measured where none is named."""


@dataclass(frozen=True, slots=True)
class NativeLibrary:
    """The library by which the native agent runs a runtime's models (on-device/NAME.c opens it).

    `name` is that of its file in a bundle. `places` are patterns: where the runtime's package holds it. Where it does
    not, the library is built with `flags`, and is in a bundle only if it is asked for. If the package holds libraries
    that a C program cannot call, these are in `places`, and `source` is C++ that gives them a C interface; `{site}` in
    flags is the folder that the package lies in, `{libraries}` that of its libraries. Without `source` it is built by
    CMake from the package's own source; `{patch}` in flags is the last part of its version.

    `beside` are patterns of libraries that only some builds of the package bring along. Those in `unused` are named by
    its libraries, which call nothing of them: empty ones stand in. `versions` is, by target, the version of the package
    that other machines get instead of the one installed here.
    """

    name: str
    places: tuple[str, ...] = ()
    source: str = ""
    flags: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_built(self) -> bool:
        """Whether it is not in the runtime's package."""
        return bool(self.flags)


class Runtime(ABC):
    """Runs the model files of one format. What a runtime does not say has the default below."""

    package: ClassVar[str]
    """What is to be installed to run it, as pip names it."""
    format: ClassVar[str]
    """The format of the files that it runs, e.g. `onnx`."""
    precisions: ClassVar[tuple[str, ...]] = ()
    """Those it can run, if not all that its format is written in."""
    options: ClassVar[Mapping[str, Mapping[str, bool]]] = {}
    """How it runs models of each precision, where it can be set: tables tell it."""
    environment: ClassVar[tuple[str, ...]] = ()
    """Variables that its process should have before its package is imported, each `NAME=VALUE`."""
    native: ClassVar[NativeLibrary | None] = None
    """Its library, if the native agent can run it, too; otherwise only the Python agent can."""
    lighter: ClassVar[str | None] = None
    """The runtime to take where only the native agent runs, and this one is not in it or takes much to send."""
    agent_source: ClassVar[Path | None] = None
    """The file with its class for the Python agent, unless that is in agent.py; it is sent along."""

    @abstractmethod
    def load(self, content: bytes, threads: int) -> Run:
        """Return a function that runs a model file here; what is int8 in it is converted on the way in and out.

        Import the runtime's package in here, not in the head of the file. Whatever it raises is told as an ExportError.
        """

    def fallbacks(self, content: bytes, precision: str) -> Iterable[str]:
        """Yield what of a model file does not run in the kernels that its precision promises, e.g. `Max in float`.

        None where that is not known.
        """
        return ()


RUNTIMES = Plugins("runtime", "fbexport.runtimes", base=Runtime)


def load_model(content: bytes, runtime: str, threads: int = 1) -> Run:
    """Return a function that runs a model file in a runtime of this machine.

    Raises UnknownNameError for a runtime that is not known, ExportError where it is not installed or refuses the file.
    """
    found = RUNTIMES.load(runtime)
    with _told(runtime, found.package):
        return found.load(content, threads)


def fallbacks(content: bytes, runtime: str, precision: str) -> list[str]:
    """Return what runs otherwise than a model's precision promises, each kind of operator once, in order.

    Other devices may place operators otherwise. Raises as `load_model` does.
    """
    found = RUNTIMES.load(runtime)
    with _told(runtime, found.package):
        return list(dict.fromkeys(found.fallbacks(content, precision)))


def remedy(package: str) -> str:
    """Return how a runtime's package is installed beside this project: by an extra, if one brings it."""
    return f"pip install 'fbnet-lab[{EXTRAS[package]}]'" if package in EXTRAS else f"pip install {package}"


@contextlib.contextmanager
def _told(name: str, package: str) -> Iterator[None]:
    """Tell in words that a runtime is not installed here, or does not take a model."""
    try:
        yield
    except FbError:
        raise
    except ModuleNotFoundError as error:
        raise ExportError(f"runtime {name} is not installed here: {remedy(package)}") from error
    except Exception as error:  # a runtime's errors have no base class of their own
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ExportError(f"runtime {name} refuses the model: {reason}") from error


def loadable() -> dict[str, type[Runtime]]:
    """Return the runtimes by name, but for those of a package that is broken: who asks for such a one is told."""
    found = {}
    for name in RUNTIMES.names():
        with contextlib.suppress(Exception):
            found[name] = RUNTIMES.find(name)
    return found


def process_variables() -> dict[str, str]:
    """Return the variables that runtimes ask for of a process in which they run."""
    return dict(text.split("=", 1) for each in loadable().values() for text in each.environment)


def prepare_process() -> None:
    """Set these variables here, where they are not set: for a program, a library leaves its process alone."""
    os.environ.update(process_variables() | os.environ)


def native_libraries() -> dict[str, tuple[str, NativeLibrary]]:
    """Return the runtimes of the native agent by name, each with its package and its library in there."""
    return {name: (each.package, each.native) for name, each in loadable().items() if each.native is not None}


def bundled_libraries(asked: Iterable[str] = ()) -> dict[str, tuple[str, NativeLibrary]]:
    """Return those in a bundle: what `asked` names, if one of it has to be built; else all that have not."""
    known = native_libraries()
    wanted = {name for name in asked if name in known}
    own = {name for name, (_, library) in known.items() if not library.is_built}
    return {name: each for name, each in known.items() if name in (own if wanted <= own else wanted)}


def agent_sources() -> list[Path]:
    """Return the files that the Python agent needs beside its own."""
    return [each.agent_source for each in loadable().values() if each.agent_source is not None]


def runtime_of(format_name: str) -> str:
    """Return the runtime that runs files of a format, the first by name. Raises ExportError where none does."""
    for name, each in loadable().items():
        if each.format == format_name:
            return name
    raise ExportError(f"no runtime that is known here runs files of format {format_name!r}")
