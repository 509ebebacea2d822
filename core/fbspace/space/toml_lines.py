"""Where something stands in a TOML file, for error messages; tomllib tells it for bad syntax alone."""

import re
import tomllib
from collections.abc import Sequence
from typing import Any

_HIDDEN = re.compile(r'""".*?"""|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\'|#[^\n]*', re.DOTALL)
"""Strings and comments, whose brackets are none."""


def line_of(text: str, path: Sequence[str | int]) -> int:
    """Return the line, from 1, of a path such as ("stages", 2, "channels"), or of as much of it as is there.

    It is the first line up to which the file, with its open brackets closed, has the path.
    """
    lines = text.splitlines()
    begun = [_begun("\n".join(lines[:number])) for number in range(1, len(lines) + 1)]
    for length in range(len(path), 0, -1):
        for number, content in enumerate(begun, start=1):
            if _has(content, path[:length]):
                return number
    return 1


def _begun(text: str) -> Any:
    """Return what the beginning of a file holds; nothing where it breaks off within a value other than a list."""
    closing: list[str] = []
    for bracket in re.findall(r"[][{}]", _HIDDEN.sub("", text)):
        if bracket in "[{":
            closing.insert(0, "]" if bracket == "[" else "}")
        elif closing:
            closing.pop(0)
    try:
        return tomllib.loads("\n".join([text, "".join(closing)]))
    except tomllib.TOMLDecodeError:
        return {}


def _has(content: Any, path: Sequence[str | int]) -> bool:
    for part in path:
        try:
            content = content[part]
        except (LookupError, TypeError):
            return False
    return True
