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
    """One option: its name in Python, type, default, help, and bounds: `above` is excluded, the others are not."""

    name: str
    type: type[Any]
    default: Any
    help: str
    above: float | None = None
    least: float | None = None
    most: float | None = None
    choices: tuple[str, ...] | None = None

    @property
    def flag(self) -> str:
        """The option as a person types it, `--latency-weight`."""
        return f"--{self.name.replace('_', '-')}"

    def check(self, value: Any, called: str | None = None) -> None:
        """Raise FbError for a value of another type or out of bounds; it is `called` so, if not by its flag."""
        wanted = self._wanted(value)
        if wanted:
            raise FbError(f"{called or self.flag} must be {wanted}, not {value}")

    def _wanted(self, value: Any) -> str | None:
        """Return what a value had to be and is not."""
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (number if self.type in (int, float) else isinstance(value, self.type)):
            return f"of type {self.type.__name__}"
        if self.type is int and not isinstance(value, int):
            return "a whole number"
        if number and not math.isfinite(value):
            return "a finite number"
        if self.above is not None and not value > self.above:
            return "a positive number" if self.above == 0 else f"above {self.above:g}"
        if self.least is not None and self.most is not None and not self.least <= value <= self.most:
            return f"between {self.least:g} and {self.most:g}"
        if self.least is not None and value < self.least:
            return f"at least {self.least:g}"
        if self.most is not None and value > self.most:
            return f"at most {self.most:g}"
        if self.choices is not None and value not in self.choices:
            return f"one of {', '.join(self.choices)}"
        return None


def option(
    default: Any,
    help: str,
    *,
    above: float | None = None,
    least: float | None = None,
    most: float | None = None,
    choices: tuple[str, ...] | None = None,
) -> Any:
    """Return a dataclass field that is an option of the plug-in; all arguments are literals."""
    bounds = {"above": above, "least": least, "most": most, "choices": choices}
    return dataclasses.field(default=default, metadata={"help": help, **bounds})


def options_of(cls: type[Any]) -> list[Option]:
    """Return the options of a plug-in's class, inherited ones too. Raises FbError where @dataclass was forgotten."""
    for name, value in vars(cls).items():
        if isinstance(value, dataclasses.Field):
            raise FbError(f"{cls.__module__}.{cls.__name__} has an option {name!r} but is no dataclass; add @dataclass")
    if not dataclasses.is_dataclass(cls):
        return []
    return [
        Option(each.name, _type_of(each.type), each.default, **each.metadata)
        for each in dataclasses.fields(cls)
        if "help" in each.metadata
    ]


def _type_of(annotation: Any) -> type[Any]:
    """Return the type of an option from its annotation, which is a text under `from __future__ import annotations`."""
    found: type[Any] = TYPES.get(annotation, annotation)
    return found


def declared_options(source: Path) -> list[Option]:
    """Return the options that a plug-in's file declares, read from its text. Raises FbError for one not so readable."""
    found = []
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"), str(source))):
        if isinstance(node, ast.ClassDef):
            found += [_declared(each, source) for each in node.body if _is_declaration(each)]
    return found


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


def _is_declaration(node: ast.stmt) -> bool:
    if not isinstance(node, ast.AnnAssign) or not isinstance(node.value, ast.Call):
        return False
    function = node.value.func
    return isinstance(function, ast.Name) and function.id == "option"


def _declared(node: Any, source: Path) -> Option:
    try:
        arguments = [ast.literal_eval(each) for each in node.value.args]
        keywords = {each.arg: ast.literal_eval(each.value) for each in node.value.keywords}
        return Option(node.target.id, TYPES[node.annotation.id], *arguments, **keywords)
    except (ValueError, KeyError, AttributeError, TypeError):
        raise FbError(
            f"{source}, line {node.lineno}: an option is written NAME: TYPE = option(DEFAULT, HELP, …), TYPE is one of "
            f"{', '.join(TYPES)}, and all values are literals"
        ) from None
