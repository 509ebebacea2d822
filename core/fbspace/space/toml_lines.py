"""Where something stands in a TOML file, for error messages; tomllib tells it for bad syntax alone."""

import functools
import re
import tomllib
from collections.abc import Sequence
from typing import Any

_HIDDEN = re.compile(r'""".*?"""|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\'|#[^\n]*', re.DOTALL)
"""Strings and comments, whose brackets are none."""
TRIED = 50
"""So many lines are looked at for one where a value ends; a longer one makes the place inexact."""


def line_of(text: str, path: Sequence[str | int]) -> int:
    """Return the line, from 1, of a path such as ("stages", 2, "channels"), or of as much of it as is there.

    It is the first line up to which the file, with its open brackets closed, has the path.
    """
    lines = text.splitlines()
    begun = functools.cache(lambda count: _begun("\n".join(lines[:count])))
    for length in range(len(path), 0, -1):
        if not _has(begun(len(lines)), path[:length]):
            continue
        low, high, found = 1, len(lines) - 1, len(lines)
        while low <= high:
            half = (low + high) // 2
            tried = range(half, min(half + TRIED, high + 1))
            whole = next((count for count in tried if begun(count) is not None), None)
            if whole is None and tried.stop <= high:
                low = tried.stop
            elif whole is None or _has(begun(whole), path[:length]):
                high, found = half - 1, whole or found
            else:
                low = whole + 1
        return found
    return 1


def _begun(text: str) -> Any:
    """Return what the beginning of a file holds; None where it breaks off within a value other than a list."""
    closing: list[str] = []
    for bracket in re.findall(r"[][{}]", _HIDDEN.sub("", text)):
        if bracket in "[{":
            closing.append("]" if bracket == "[" else "}")
        elif closing:
            closing.pop()
    try:
        return tomllib.loads("\n".join([text, "".join(reversed(closing))]))
    except (tomllib.TOMLDecodeError, RecursionError, ValueError):
        return None


def _has(content: Any, path: Sequence[str | int]) -> bool:
    for part in path:
        try:
            content = content[part]
        except (LookupError, TypeError):
            return False
    return True
