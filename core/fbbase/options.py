"""Options that a plug-in declares in its own file: shown by --help without importing it, checked when it is made.

@dataclass(frozen=True)
class Power(Loss):
beta: float = option(0.6, "exponent of the cost", above=0)
"""

import ast
import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fbbase.errors import FbError, suggestion

TYPES: dict[str, type[Any]] = {"float": float, "int": int, "bool": bool, "str": str}


@dataclass(frozen=True, slots=True)
class Option:
    """One option: its name in Python, type, default, help, and bounds; `above` and `below` are excluded themselves.

    One whose default is None may be None.
    """

    name: str
    type: type[Any]
    default: Any
    help: str
    above: float | None = None
    least: float | None = None
    most: float | None = None
    below: float | None = None
    choices: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        self.check(self.default, f"the default of {self.flag}")

    @property
    def flag(self) -> str:
        """The option as a person types it, `--latency-weight`."""
        return f"--{self.name.replace('_', '-')}"

    def check(self, value: Any, called: str | None = None) -> None:
        """Raise FbError for a value of another type or out of bounds; it is `called` so, if not by its flag."""
        wanted = None if value is None and self.default is None else self._wanted(value)
        if wanted:
            raise FbError(f"{called or self.flag} must be {wanted}, not {value}")

    def _wanted(self, value: Any) -> str | None:
        """Return what a value had to be and is not."""
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (number if self.type in (int, float) else isinstance(value, self.type)):
            return f"of type {self.type.__name__}"
        if self.type is int and not isinstance(value, int):
            return "a whole number"
        if number and not (self._is_within(value) and math.isfinite(value)):
            return self._bounds()
        if self.choices is not None and value not in self.choices:
            return f"one of {', '.join(self.choices)}"
        return None

    def _is_within(self, value: float) -> bool:
        over = (self.above is None or value > self.above) and (self.least is None or value >= self.least)
        return over and (self.most is None or value <= self.most) and (self.below is None or value < self.below)

    def _bounds(self) -> str:
        if self.least is not None and self.most is not None:
            return f"between {self.least:g} and {self.most:g}"
        if self.above is not None and self.below is not None:
            return f"between {self.above:g} and {self.below:g}, neither of them"
        bounds = (("above", self.above), ("at least", self.least), ("at most", self.most), ("below", self.below))
        said = [f"{words} {bound:g}" for words, bound in bounds if bound is not None]
        return "a positive number" if said == ["above 0"] else " and ".join(said) or "a finite number"


def option(default: Any, help: str, **bounds: Any) -> Any:
    """Return a dataclass field that is an option; all arguments are literals in a plug-in. `bounds` are Option's."""
    return dataclasses.field(default=default, metadata={"help": help, **bounds})


def options_of(cls: type[Any]) -> list[Option]:
    """Return the options of a plug-in's class, inherited ones too. Raises FbError where @dataclass was forgotten."""
    for name, value in vars(cls).items():
        if isinstance(value, dataclasses.Field):
            raise FbError(f"{cls.__module__}.{cls.__name__} has an option {name!r} but is no dataclass; add @dataclass")
    if not dataclasses.is_dataclass(cls):
        return []
    declared = [each for each in dataclasses.fields(cls) if "help" in each.metadata]
    return [Option(each.name, _type(each.type), each.default, **each.metadata) for each in declared]


def declared_options(source: Path) -> list[Option]:
    """Return the options that a plug-in's file declares, read from its text. Raises FbError for one not so readable.

    Those of a base that it imports from a file beside it are its options too. Classes and imports stand outermost.
    """
    body, found = _tree(source).body, {}
    classes = [node for node in body if isinstance(node, ast.ClassDef)]
    bases = {base.id for each in classes for base in each.bases if isinstance(base, ast.Name)}
    for node in body:
        if isinstance(node, ast.ImportFrom) and node.module and any(each.name in bases for each in node.names):
            beside = source.with_name(f"{node.module.rpartition('.')[2]}.py")
            if beside.is_file() and beside != source:
                found.update({each.name: each for each in declared_options(beside)})
    own = (_declared(node, source) for each in classes for node in each.body if _is_declaration(node))
    return list((found | {each.name: each for each in own}).values())


def declared_value(source: Path, name: str) -> Any:
    """Return the literal that a plug-in's file gives to a capability; None where it gives none."""
    for node in ast.walk(_tree(source)):
        for each in node.body if isinstance(node, ast.ClassDef) else ():
            if isinstance(each, ast.Assign) and ast.unparse(each.targets[0]) == name:
                return each.value.value if isinstance(each.value, ast.Constant) else None
    return None


def check_options(what: str, known: Sequence[Option], given: Mapping[str, Any], as_flags: bool = True) -> None:
    """Raise FbError for an option that is not known, or a value that it does not take; `as_flags` it is called so."""
    by_name = {each.name: each for each in known}
    for name, value in given.items():
        if name not in by_name:
            names = [each.flag if as_flags else each.name for each in known]
            called = f"--{name.replace('_', '-')}" if as_flags else name
            has = f"it has {', '.join(names)}" if names else "it has none"
            raise FbError(
                f"{what} has no {'option' if as_flags else 'parameter'} {called}; {has}.{suggestion(called, names)}"
            )
        by_name[name].check(value, None if as_flags else name)


def _tree(source: Path) -> ast.Module:
    """Return a file's syntax; nothing of one that is no Python, of which loading it tells."""
    try:
        return ast.parse(source.read_text(encoding="utf-8"), str(source))
    except (SyntaxError, ValueError):
        return ast.Module([], [])


def _type(annotation: Any) -> type[Any]:
    """Return the type of an annotation: one of TYPES, perhaps ` | None`; str of a Literal. Raises KeyError."""
    text = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    return str if text.startswith("typing.Literal") else TYPES[text.removesuffix(" | None")]


def _is_declaration(node: ast.stmt) -> bool:
    if not isinstance(node, ast.AnnAssign) or not isinstance(node.value, ast.Call):
        return False
    function = node.value.func
    return isinstance(function, ast.Name) and function.id == "option"


def _declared(node: Any, source: Path) -> Option:
    try:
        arguments = [ast.literal_eval(each) for each in node.value.args]
        keywords = {each.arg: ast.literal_eval(each.value) for each in node.value.keywords}
        return Option(node.target.id, _type(ast.unparse(node.annotation)), *arguments, **keywords)
    except FbError as error:
        raise FbError(f"{source}, line {node.lineno}: {error}") from None
    except (ValueError, KeyError, AttributeError, TypeError):
        raise FbError(
            f"{source}, line {node.lineno}: an option is written NAME: TYPE = option(DEFAULT, HELP, …), TYPE is one of "
            f"{', '.join(TYPES)}, and all values are literals"
        ) from None
