"""JSON, TOML and numbers as others write them: what is none, or cannot be meant, is a sentence with its line."""

import json
import math
import re
import tomllib
from collections.abc import Callable, Iterator
from typing import Any

from fbbase.errors import FbError

_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_UNWRITABLE = re.compile(r"[\0\ud800-\udfff]")


def number(text: str) -> float | None:
    """Return the number that a text is, in plain digits; None where it is none, or none that is finite."""
    if not _NUMBER.fullmatch(text.strip()):
        return None
    value = float(text)
    return value if math.isfinite(value) else None


def parse_json(text: str, where: str, error: type[FbError] = FbError) -> Any:
    """Return what a JSON text says. Raises `error` with the place, which `where` begins.

    A key that is there twice is refused: nobody can tell which of both was meant. So is what no file or terminal takes.
    """

    def without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            keys = [key for key, _ in pairs]
            double = next(key for number, key in enumerate(keys) if key in keys[:number])
            raise error(f"{where}: key {double[:80]!r} is there twice{_lines_of(double, text)}: keep one")
        return found

    try:
        value = json.loads(text, object_pairs_hook=without_doubles)
        if "\\u" in text:
            _check_writable(value)
    except json.JSONDecodeError as reason:
        raise error(f"{where}: line {reason.lineno}, column {reason.colno}: {reason.msg}") from None
    except (RecursionError, ValueError) as reason:
        raise error(f"{where}: {_impossible(reason)}") from None
    return value


def parse_toml(text: str, where: str, error: type[FbError] = FbError) -> dict[str, Any]:
    """Return what a TOML text says. Raises `error` with the place, which `where` begins."""
    try:
        value = tomllib.loads(text)
        if "\\u" in text or "\\U" in text:
            _check_writable(value)
    except tomllib.TOMLDecodeError as reason:
        raise error(f"{where}: {reason}") from None
    except (RecursionError, ValueError) as reason:
        raise error(f"{where}: {_impossible(reason)}") from None
    return value


def json_lines(text: str, name: str, take: Callable[[Any], Any], error: type[FbError] = FbError) -> Iterator[Any]:
    """Yield what `take` makes of every line of JSON. Raises `error` with the line where it cannot take one."""
    for line_number, line in enumerate(text.splitlines(), start=1):
        where = f"{name}: line {line_number}"
        value = parse_json(line, where, error)
        try:
            yield take(value)
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as reason:
            first = (str(reason).splitlines() or [""])[0]
            raise error(f"{where}: not as expected ({type(reason).__name__}: {first[:100]})") from None


def _lines_of(key: str, text: str) -> str:
    """Say in which lines a key of JSON stands, if it stands in two places alone."""
    found = [match.start() for match in re.finditer(re.escape(json.dumps(key, ensure_ascii=False)) + r"\s*:", text)]
    if len(found) != 2:
        return ""
    first, second = (text.count("\n", 0, place) + 1 for place in found)
    return f", in line {first} and in line {second}"


def _check_writable(value: Any) -> None:
    """Raise ValueError for a string with a NUL or half a surrogate pair, which no name can have."""
    if isinstance(value, str):
        if match := _UNWRITABLE.search(value):
            raise ValueError(f"a text has the character U+{ord(match[0]):04X}, which no file or terminal takes")
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_writable(key)
            _check_writable(item)
    elif isinstance(value, list):
        for item in value:
            _check_writable(item)


def _impossible(reason: Exception) -> str:
    if isinstance(reason, RecursionError):
        return "it is nested too deep"
    return "it has a number of thousands of digits" if "digits" in str(reason) else str(reason)
