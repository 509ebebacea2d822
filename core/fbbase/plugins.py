"""A folder of plug-ins: the file name is the plug-in's name on the command line, and there is no registry to edit."""

import importlib
import importlib.metadata
import importlib.resources
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from fbbase.errors import FbError, UnknownNameError


@dataclass(frozen=True, slots=True)
class PluginFolder:
    """The plug-ins of one kind: the modules of `package`, or its data files with another `suffix`.

    Names are scanned without importing anything. A package outside this project joins with an entry point whose
    group is `package`. `single_path.py` is called `single-path`; names that begin with an underscore are private.
    """

    kind: str
    package: str
    suffix: str = ".py"

    def names(self) -> list[str]:
        """Return the known names, sorted."""
        found = {name.replace("_", "-") for name in self._files()}
        found.update(entry.name for entry in importlib.metadata.entry_points(group=self.package))
        return sorted(found)

    def __contains__(self, name: str) -> bool:
        """Whether there is such a plug-in."""
        return self._is_file(name) or bool(importlib.metadata.entry_points(group=self.package, name=name))

    def load(self, name: str) -> ModuleType:
        """Import the plug-in. Raises UnknownNameError, or FbError naming a package that is not installed."""
        try:
            if self._is_file(name):
                return importlib.import_module(f"{self.package}.{name.replace('-', '_')}")
            for entry in importlib.metadata.entry_points(group=self.package, name=name):
                return importlib.import_module(entry.value)
            raise UnknownNameError(self.kind, name, self.names())
        except ModuleNotFoundError as error:
            missing = (error.name or "").partition(".")[0]
            raise FbError(f"{self.kind} {name!r} needs the package {missing!r}: {_remedy(missing)}") from error

    def path(self, name: str) -> Path:
        """Return the file of a plug-in. Raises UnknownNameError."""
        files = self._files()
        for stem in (name, name.replace("-", "_")):
            if stem in files:
                return files[stem]
        raise UnknownNameError(self.kind, name, self.names())

    def _is_file(self, name: str) -> bool:
        """Whether it is one of the project's own: to be asked first, as reading entry points takes 10 ms."""
        return name in {stem.replace("_", "-") for stem in self._files()}

    def _files(self) -> dict[str, Path]:
        folder = Path(str(importlib.resources.files(self.package)))
        return {p.stem: p for p in folder.glob(f"*{self.suffix}") if not p.name.startswith(("_", "."))}


def _remedy(missing: str) -> str:
    """Say how to install a missing package, by the extra of this project that holds it if there is one."""
    for line in importlib.metadata.requires("fbnet-lab") or []:
        requirement, _, marker = line.partition(";")
        if requirement.replace("-", "_").startswith(missing) and "extra ==" in marker:
            return f"pip install 'fbnet-lab[{marker.split('extra ==')[1].strip(' ()').strip(chr(34) + chr(39))}]'"
    return f"pip install {missing.replace('_', '-')}"
