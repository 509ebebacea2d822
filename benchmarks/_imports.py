"""Who imports whom: the modules of the product's folders, and the circles among them, read from their source."""

import ast
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).parents[1]
FLOORS = ("core", "luts device_agents", "profiler search")
"""Top-level folders, the lowest first; a folder imports from its own floor's package and from lower floors only."""


class Imports:
    """All modules of some folders by name, and what each imports, inside functions and for type checking too."""

    def __init__(self, root: Path = ROOT) -> None:
        self.files: dict[str, Path] = {}
        self.folder_of: dict[str, str] = {}
        for floor in FLOORS:
            for folder in floor.split():
                for path in sorted((root / folder).rglob("*.py")):
                    parts = path.relative_to(root / folder).with_suffix("").parts
                    if "on-device" not in parts:  # sent to devices as a file of its own
                        name = ".".join(parts).removesuffix(".__init__")
                        self.files[name], self.folder_of[name] = path, folder

    @cached_property
    def arrows(self) -> dict[str, set[str]]:
        """Module → modules that it imports."""
        return {name: set(self._imported(name)) for name in self.files}

    def upward(self) -> list[str]:
        """Return the imports from a folder into another one that is not on a lower floor."""
        floor = {folder: number for number, names in enumerate(FLOORS) for folder in names.split()}
        return [
            f"{source} imports {target}"
            for source, targets in self.arrows.items()
            for target in sorted(targets)
            if self.folder_of[source] != self.folder_of[target]
            and floor[self.folder_of[source]] <= floor[self.folder_of[target]]
        ]

    def rooms(self, package: str, depth: int) -> dict[str, set[str]]:
        """Return who imports whom among the modules and folders that lie directly in a package."""
        found: dict[str, set[str]] = {}
        for source, targets in self.arrows.items():
            if source.startswith(f"{package}."):
                room = source.split(".")[depth]
                inside = {t.split(".")[depth] for t in targets if t.startswith(f"{package}.")}
                found.setdefault(room, set()).update(inside - {room})
        return found

    def circles(self) -> list[list[str]]:
        """Return the circles of modules, and those of the rooms of every package, folders inside it included."""
        found = circles(self.arrows)
        packages = [name for name, path in self.files.items() if path.name == "__init__.py"]
        for package in packages:
            rooms = self.rooms(package, package.count(".") + 1)
            found += [[f"{package}.{room}" for room in circle] for circle in circles(rooms)]
        return [list(circle) for circle in dict.fromkeys(map(tuple, found))]

    def _imported(self, name: str) -> Iterable[str]:
        for node in ast.walk(ast.parse(self.files[name].read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                for alias in node.names:
                    inner = f"{node.module}.{alias.name}"
                    yield from (each for each in [inner if inner in self.files else node.module] if each in self.files)
            elif isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names if alias.name in self.files)


def circles(arrows: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """Return the strongly connected parts of more than one node (Tarjan, 1972), each sorted."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in arrows.get(node, ()):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            part = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(part) > 1:
                found.append(sorted(part))

    for node in sorted(arrows):
        if node not in index:
            visit(node)
    return found
