"""keys: a JSON object of operator keys and latencies, as numbers or as text such as `12.3 +- 0.4`."""

import json
from typing import Any

from fblut.errors import LutError
from fbprof.imports import Imported, Importer, look_up, number_of
from fbspace.space import Space


class Keys(Importer):
    """Keys of operators, as `OpSpec.key` writes them."""

    suffixes = (".json",)

    def read(self, text: str, name: str, space: Space, unit_us: float) -> Imported:
        """Read keys as `OpSpec.key` writes them; a value may also be an object with a `latency`. Raises LutError."""
        try:
            content = json.loads(text)
        except json.JSONDecodeError as error:
            raise LutError(f"{name}: line {error.lineno}, column {error.colno}: {error.msg}") from None
        if not isinstance(content, dict):
            raise LutError(f"{name}: expected an object of keys and latencies, found a {type(content).__name__}")
        latencies = {key: _number(value, f"{name}: {key[:80]}") * unit_us for key, value in content.items()}
        return Imported(look_up(latencies, lambda spec: [spec.key()], space, name), "by key")


def _number(value: Any, where: str) -> float:
    if isinstance(value, dict):
        value = value.get("latency")
    complaint = f"{where}: {str(value)[:60]!r} is not a latency; write a number, or an object with one"
    return number_of(str(value).partition("+-")[0], complaint)
