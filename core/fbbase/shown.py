"""Text of others as it may be shown: what a terminal obeys, and what a spreadsheet computes, is spelled out."""

from typing import Any

_ESCAPES = {
    code: (f"\\x{code:02x}" if code < 32 else f"\\u{code:04x}")
    for code in (*range(32), *range(127, 160), *range(0x202A, 0x202F), *range(0x2066, 0x206A))
    if chr(code) not in "\n\t"
}
"""Control characters, and those that turn the direction of what is read; as JSON has them where they can be in it."""

_COMPUTED = ("=", "+", "-", "@", "\t")


def escaped(text: str) -> str:
    r"""Return a text in which every control character is spelled out: `\x1b` for the one that begins an escape."""
    return text.translate(_ESCAPES)


def cell(text: str) -> str:
    """Return a text on one line, as a cell that no spreadsheet takes for a formula."""
    words = escaped(" ".join(text.split()))
    return f"'{words}" if words.startswith(_COMPUTED) else words


class Shown:
    """A text stream to people: what is written there is escaped, and what it cannot encode is spelled out."""

    encoding = "utf-8"

    def __init__(self, stream: Any) -> None:
        """Write to `stream`."""
        self.stream = stream

    def write(self, text: str) -> int:
        """Write a text."""
        safe = text.translate(_ESCAPES)
        try:
            self.stream.write(safe)
        except UnicodeEncodeError:
            encoding = self.stream.encoding or "ascii"
            self.stream.write(safe.encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)
