"""Finds where tests touch what is private: names, modules and attributes that begin with one underscore.

A test that uses a private name breaks when the code behind it is rewritten, though nothing that users see has changed.
Counted are imports of private names and modules, attributes `x._name`, and names given as text to setattr and its
like. Not counted are `self._name` and `cls._name` of a test's own classes, names with two underscores at both ends,
and the few names of the standard library that are public in spite of their underscore.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

PUBLIC = {"_asdict", "_exit", "_fields", "_make", "_replace"}
"""Documented names: of named tuples, and os._exit."""
BY_TEXT = {"delattr", "getattr", "hasattr", "patch", "setattr"}
"""Functions and methods that take an attribute's name as text."""


def private_uses(tests: Path) -> list[str]:
    """Return where tests use private names, as `file:line: what`, files relative to the folder of tests."""
    return [
        f"{path.relative_to(tests)}:{line}: {what}"
        for path in sorted(tests.rglob("*.py"))
        for line, what in sorted(_uses(ast.parse(path.read_text(encoding="utf-8"), str(path))))
    ]


def _is_private(name: str) -> bool:
    """Whether the last part of a dotted name is private."""
    last = name.rpartition(".")[2]
    return last.startswith("_") and not (last.startswith("__") and last.endswith("__")) and last not in PUBLIC


def _uses(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, f"import {each.name}") for each in names if _is_private(each.name))
            case ast.ImportFrom(module=module, names=names):
                if module and any(_is_private(part) for part in module.split(".")):
                    yield node.lineno, f"from {module} import …"
                else:
                    found = (each.name for each in names if _is_private(each.name))
                    yield from ((node.lineno, f"from {module} import {name}") for name in found)
            case ast.Attribute(value=value, attr=attr):
                is_own = isinstance(value, ast.Name) and value.id in ("self", "cls")
                if _is_private(attr) and not is_own:
                    yield node.lineno, f"{ast.unparse(value)}.{attr}"
            case ast.Call(func=ast.Name(id=called) | ast.Attribute(attr=called), args=arguments):
                texts = [each.value for each in arguments[:2] if isinstance(each, ast.Constant)]
                if called in BY_TEXT:
                    private = (text for text in texts if isinstance(text, str) and _is_private(text))
                    yield from ((node.lineno, f"{called} {text!r}") for text in private)


def main() -> None:
    """Print each use and how many a folder has."""
    found = private_uses(Path(__file__).parents[1] / "tests")
    print(*found, sep="\n")
    folders: dict[str, int] = {}
    for line in found:
        folder = line.partition(":")[0].rpartition("/")[0] or "."
        folders[folder] = folders.get(folder, 0) + 1
    print({"private_uses": len(found), **folders})


if __name__ == "__main__":
    main()
