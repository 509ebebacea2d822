"""keys: a JSON object of operator keys and latencies, as numbers or as text such as `12.3 +- 0.4`."""

import re
from typing import Any

from fbbase.parsing import parse_json
from fblut.errors import LutError
from fbprof.imports import Imported, Importer, look_up, number_of
from fbspace.space import Space


class Keys(Importer):
    """Keys of operators, as `OpSpec.key` writes them."""

    suffixes = (".json",)

    def read(self, text: str, name: str, space: Space, unit_us: float) -> Imported:
        """Read keys as `OpSpec.key` writes them; a value may also be an object with a `latency`. Raises LutError."""
        content = parse_json(text, name, LutError)
        if not isinstance(content, dict):
            raise LutError(f"{name}: expected an object of keys and latencies, found a {type(content).__name__}")
        latencies = {key: _number(value, f"{name}: {key[:80]}") * unit_us for key, value in content.items()}
        return look_up(latencies, lambda spec: [spec.key()], space, name, "by key")


def _number(value: Any, where: str) -> float:
    if isinstance(value, dict):
        if "latency" not in value and any(isinstance(each, dict) and "latency" in each for each in value.values()):
            raise LutError(
                f"{where}: this is a profile of nn-Meter, whose kernels have numbers and shapes but no keys of "
                "operators; write an object of operator keys and latencies (docs/measuring/import.md)"
            )
        value = value.get("latency")
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise LutError(f"{where}: a {type(value).__name__} is not a latency; write a number, or an object with one")
    complaint = f"{where}: {str(value)[:60]!r} is not a latency; write a number, or an object with one"
    return number_of(re.split(r"\+-|±", str(value))[0], complaint)
