"""Plug-ins: the file name is the plug-in's name on the command line, and there is no registry to edit."""

import functools
import importlib
import importlib.metadata
import importlib.resources
import importlib.util
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar

from fbbase.errors import FbError, UnknownNameError, suggestion
from fbbase.options import Option, check_options, declared_options, declared_value, options_of

T = TypeVar("T")

EXTRAS = {
    "torch": "torch", "scipy": "torch",
    "PIL": "search", "sklearn": "search", "tensorboard": "search",
    "matplotlib": "report", "plotly": "report",
    "adb_shell": "adb", "usb1": "adb", "datasets": "data", "yaml": "yaml", "ziglang": "native",
    "ncnn": "ncnn",
    "executorch": "executorch",
}  # fmt: skip
"""The extra of this project (pyproject.toml) that brings a package, by the name under which it is imported."""


def needs(error: ModuleNotFoundError, extra: str | None = None) -> str:
    """Return in words which package something needs and how it is installed: by the extra that brings it, if one does.

    `extra` is another one that brings all that is needed.
    """
    missing = (error.name or "").partition(".")[0]
    extra = EXTRAS.get(missing) and (extra or EXTRAS[missing])
    remedy = f"pip install 'fbnet-lab[{extra}]'" if extra else f"pip install {missing.replace('_', '-')}"
    return f"needs the package {missing!r}: {remedy}"


@functools.lru_cache(maxsize=1)
def _installed(path: tuple[str, ...]) -> "importlib.metadata.SelectableGroups":  # EntryPoints from Python 3.12 on
    """Return the entry points of all packages on sys.path, read once: that takes 10 ms, and commands ask often."""
    return importlib.metadata.entry_points()


@functools.lru_cache(maxsize=32)
def _entry_points(group: str, path: tuple[str, ...]) -> importlib.metadata.EntryPoints:
    return _installed(path).select(group=group)


@functools.lru_cache(maxsize=64)
def _found(folders: tuple[tuple[Path, int], ...], suffix: str) -> dict[str, Path]:
    """Return the files of folders by name, read once for each time at which they changed: runtimes are asked often."""
    files = (path for folder, _ in folders for path in folder.glob(f"*{suffix}"))
    return {path.stem.replace("_", "-"): path for path in files if not path.name.startswith(("_", "."))}


@dataclass(frozen=True, slots=True)
class PluginFolder:
    """The plug-ins of one kind: the modules of `package`, or its data files with another `suffix`.

    Names are scanned without importing anything. A package outside this project joins with an entry point whose
    group is `package` and whose value is a module; for data files it is the package that holds `NAME` + `suffix`.
    `single_path.py` is called `single-path`; names that begin with an underscore are private.
    """

    kind: str
    package: str
    suffix: str = ".py"

    def names(self) -> list[str]:
        """Return the known names, sorted."""
        return sorted({*self._files(), *_entry_points(self.package, tuple(sys.path)).names})

    def listed(self) -> str:
        """Return the names as help texts list them, `a, b or c`."""
        *others, last = self.names() or ["none"]
        return f"{', '.join(others)} or {last}" if others else last

    def __contains__(self, name: str) -> bool:
        """Whether there is such a plug-in."""
        return self._is_file(name) or self._entry(name) is not None

    def module(self, name: str) -> ModuleType:
        """Import the plug-in's module. Raises UnknownNameError, or FbError: no Python, a package is not installed."""
        try:
            if self._is_file(name):
                return importlib.import_module(f"{self.package}.{name.replace('-', '_')}")
            entry = self._entry(name)
            if entry is None:
                raise UnknownNameError(self.kind, name, self.names())
            return importlib.import_module(entry.module)
        except SyntaxError as error:
            raise FbError(
                f"{self.kind} {name!r} is no Python: {error.filename}, line {error.lineno}: {error.msg}; mend the file"
            ) from error
        except ModuleNotFoundError as error:
            raise FbError(f"{self.kind} {name!r} {needs(error)}") from error

    def path(self, name: str) -> Path:
        """Return the file of a plug-in. Raises UnknownNameError, or FbError for an entry point without its file."""
        own = self._files().get(name.replace("_", "-"))
        if own is not None:
            return own
        entry = self._entry(name)
        if entry is None:
            raise UnknownNameError(self.kind, name, self.names())
        folder = Path(str(importlib.resources.files(entry.module)))
        for stem in (name, name.replace("-", "_")):
            if (folder / f"{stem}{self.suffix}").is_file():
                return folder / f"{stem}{self.suffix}"
        raise FbError(f"the entry point of {self.kind} {name!r} names {entry.value}, which has no {name}{self.suffix}")

    def options(self) -> dict[str, list[tuple[str, Option]]]:
        """Return the options that plug-ins declare in their files, by name, each with the plug-ins that declare it.

        No plug-in and no package of this project's is imported: help must not wait for torch.
        """
        found: dict[str, list[tuple[str, Option]]] = {}
        for name in self.names():
            source = self._source(name)
            for option in declared_options(source) if source is not None else ():
                found.setdefault(option.name, []).append((name, option))
        return found

    def declared(self, name: str) -> dict[str, Any]:
        """Return what plug-ins' files say of a capability with a literal, by plug-in, without importing anything."""
        sources = ((plugin, self._source(plugin)) for plugin in self.names())
        values = ((plugin, declared_value(source, name)) for plugin, source in sources if source is not None)
        return {plugin: value for plugin, value in values if value is not None}

    def _entry(self, name: str) -> importlib.metadata.EntryPoint | None:
        return next(iter(_entry_points(self.package, tuple(sys.path)).select(name=name)), None)

    def _is_file(self, name: str) -> bool:
        """Whether it is one of the project's own: to be asked first, as reading entry points takes 10 ms once."""
        return name in self._files()

    def _files(self) -> dict[str, Path]:
        """Return the project's own ones by name."""
        spec = importlib.util.find_spec(self.package)
        folders = (spec.submodule_search_locations if spec is not None else None) or ()
        changed = tuple((each, each.stat().st_mtime_ns) for each in map(Path, folders) if each.is_dir())
        return _found(changed, self.suffix)

    def _source(self, name: str) -> Path | None:
        if self._is_file(name):
            return self.path(name)
        entry = self._entry(name)
        try:
            spec = importlib.util.find_spec(entry.module) if entry is not None else None
        except ImportError:  # an entry point of a package that is broken: loading it will say so
            return None
        return Path(spec.origin) if spec is not None and spec.origin else None


@dataclass(frozen=True, slots=True)
class Plugins(PluginFolder, Generic[T]):
    """Plug-ins that are classes: each module of the folder holds one class that derives from `base`.

    `base` documents every method and every capability with its default. A class that lacks what `base` requires, or
    has a public name that `base` does not know, is refused when it is loaded: a misspelt capability is an error.
    The module of `base` may hold further bases that derive from it.
    An entry point's value is a module with one such class, or `module:Class`.
    """

    base: type[T] = field(kw_only=True)

    def find(self, name: str) -> type[T]:
        """Return the class of a plug-in, checked against `base`. Raises as `module` does, and FbError."""
        module = self.module(name)
        entry = None if self._is_file(name) else self._entry(name)
        if entry is not None and entry.attr:
            found = [getattr(module, entry.attr, None)]
        else:
            found = [value for value in vars(module).values() if self._is_own(value, module)]
        if len(found) != 1 or not isinstance(found[0], type) or not issubclass(found[0], self.base):
            raise FbError(
                f"{self.kind} {name!r}: {module.__name__} must hold one class that derives from "
                f"{self.base.__module__}.{self.base.__name__}, and holds {len(found)}"
            )
        _check(found[0], self.base, f"{self.kind} {name!r} ({module.__name__}.{found[0].__name__})")
        return found[0]

    def load(self, name: str, **options: Any) -> T:
        """Return a plug-in made with its own options. Raises as `find` does, and FbError for a wrong option."""
        cls = self.find(name)
        check_options(f"{self.kind} {name!r}", options_of(cls), options)
        return cls(**options)

    def load_with(self, name: str, options: Mapping[str, Any]) -> T:
        """Return a plug-in made with those of the options that are its own. Raises as `load` does."""
        own = {each.name for each in options_of(self.find(name))}
        return self.load(name, **{option: value for option, value in options.items() if option in own})

    def _is_own(self, value: Any, module: ModuleType) -> bool:
        is_public = isinstance(value, type) and not value.__name__.startswith("_")
        return is_public and issubclass(value, self.base) and value.__module__ == module.__name__


def _check(cls: type[Any], base: type[Any], what: str) -> None:
    """Refuse a class that lacks what `base` requires or has a public name that it does not know. Raises FbError."""
    bases = [each for each in cls.__mro__ if each in base.__mro__ or each.__module__ == base.__module__]
    known = {name for each in bases for name in (*vars(each), *vars(each).get("__annotations__", ()))}
    options = {option.name for option in options_of(cls)}
    for each in (each for each in cls.__mro__ if each not in bases):
        for name in (*vars(each), *vars(each).get("__annotations__", ())):
            if not name.startswith("_") and name not in known | options:
                public = sorted(each for each in known if not each.startswith("_"))
                raise FbError(f"{what} has {name!r}, which {base.__name__} does not know.{suggestion(name, public)}")
    hints = [hint for each in bases for hint in vars(each).get("__annotations__", {}).items()]
    capabilities = {name for name, hint in hints if "ClassVar" in str(hint)}
    missing = set(getattr(cls, "__abstractmethods__", ()))
    missing |= {name for name in capabilities if not hasattr(cls, name) and name not in options}
    if missing:
        raise FbError(f"{what} lacks {', '.join(map(repr, sorted(missing)))}, which every {base.__name__} has")
    for name in known:
        default, value = getattr(base, name, None), getattr(cls, name, None)
        if isinstance(default, bool | int | float | str | tuple) and not name.startswith("_"):
            wanted = (int, float) if isinstance(default, float) else type(default)
            if not isinstance(value, wanted) or (isinstance(value, bool) and not isinstance(default, bool)):
                raise FbError(f"{what}: {name!r} must be of type {type(default).__name__}, and is {value!r}")
