"""Where something stands in a TOML file, for error messages; tomllib tells it for bad syntax alone."""

import re
from collections.abc import Sequence

_HIDDEN = re.compile(r'"(?:\\.|[^"\\\n])*"(?!\s*[=.\]])|\'[^\'\n]*\'(?!\s*[=.\]])|#[^\n]*')
"""Comments, and strings that are no keys."""

Span = tuple[int, int]
"""Where a value or a table begins and ends in the text."""


def line_of(text: str, path: Sequence[str | int]) -> int:
    """Return the line, from 1, of a path such as ("stages", 2, "channels"), or of as much of it as is there."""
    bare = _HIDDEN.sub(lambda match: " " * len(match[0]), text)
    span, name = (0, len(bare)), ""
    for part in path:
        if isinstance(part, str):
            found, name = _key(bare, span, part), part
        else:
            found = _table(bare, name, part) or _item(bare, span, part)
        if found is None:
            break
        span = found
    return bare.count("\n", 0, span[0]) + 1


def _key(text: str, span: Span, name: str) -> Span | None:
    """Return the place of a key, or of the header of a table, with what belongs to it."""
    quoted = rf"(?<![\w-])[\"']?{re.escape(name)}[\"']?\s*"
    match = re.compile(quoted + r"([=.\]])").search(text, *span)
    if match is None:
        return None
    if match[1] == "]":
        return match.start(), _end_of_table(text, match.end())
    return match.start(), max(_end_of_value(text, match.end()), match.end())


def _table(text: str, name: str, index: int) -> Span | None:
    """Return the place of one of the tables that begin with [[name]]."""
    headers = list(re.finditer(rf"\[\[\s*{re.escape(name)}\s*\]\]", text))
    return (headers[index].start(), _end_of_table(text, headers[index].end())) if index < len(headers) else None


def _item(text: str, span: Span, index: int) -> Span | None:
    """Return the place of an item of the list that is in `span`."""
    at, number = text.find("[", *span) + 1, 0
    while 0 < at < span[1]:
        at += len(text[at:]) - len(text[at:].lstrip())
        end = _end_of_value(text, at)
        if text[at] == "]" or end == at:
            break
        if number == index:
            return at, end
        at, number = end + 1 + len(text[end:]) - len(text[end:].lstrip()), number + 1
    return None


def _end_of_table(text: str, start: int) -> int:
    following = re.compile(r"^\s*\[", re.M).search(text, start)
    return len(text) if following is None else following.start()


def _end_of_value(text: str, start: int) -> int:
    """Return the end of a value: at the bracket that closes it, or before a comma, a bracket or the end of the line."""
    depth = 0
    for at in range(start, len(text)):
        if text[at] in "[{":
            depth += 1
        elif text[at] in "]}":
            depth -= 1
            if depth <= 0:
                return at + 1 if depth == 0 else at
        elif depth == 0 and text[at] in ",\n":
            return at
    return len(text)
