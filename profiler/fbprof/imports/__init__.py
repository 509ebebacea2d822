"""One file per format in which others publish latencies; what a file does not say is unknown."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from fbbase.plugins import Plugins
from fblut.errors import LutError

if TYPE_CHECKING:
    from fbspace.opspec import OpSpec
    from fbspace.space import Space

UNITS_US = {"ns": 1e-3, "us": 1.0, "ms": 1e3, "s": 1e6}


@dataclass(frozen=True, slots=True)
class Imported:
    """What a file says, in microseconds: operators, what every network costs, and what is part of that (`fixed`).

    `how` is the context its latencies are of, `notes` what a row says beside its latency, `fixed` why such an operator
    has none, `warnings` what the table says of itself.
    """

    latency_us: dict["OpSpec", float]
    how: str
    network_us: float = 0.0
    fixed: dict["OpSpec", str] = field(default_factory=dict)
    notes: dict["OpSpec", str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


class Importer(ABC):
    """A format: the endings its files are recognised by, and whether they say their unit themselves."""

    suffixes: ClassVar[tuple[str, ...]] = ()
    """Endings in lower case, none that another format has; without any the format has to be named."""
    has_unit: ClassVar[bool] = False
    """Whether a file tells the unit of its latencies; if not, --unit has to."""

    @abstractmethod
    def read(self, text: str, name: str, space: "Space", unit_us: float) -> Imported:
        """Return what a file says; `name` is what errors call it, `unit_us` its unit. Raises LutError with the place.

        What a format needs and is not always installed is imported here: all formats are loaded to tell endings apart.
        """


IMPORTS = Plugins("format of published latencies", "fbprof.imports", base=Importer)


def finite(text: str) -> float | None:
    """Return the number that a cell holds, None where it holds none, or none that is finite."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def number_of(text: str, complaint: str) -> float:
    """Return the number that a cell holds. Raises LutError with the complaint where it is not `finite`."""
    value = finite(text)
    if value is None:
        raise LutError(complaint)
    return value


def look_up(
    latencies: Mapping[str, float], keys_of: Callable[["OpSpec"], list[str]], space: "Space", name: str
) -> dict["OpSpec", float]:
    """Return the latencies of a space's operators from a file of keys. Raises LutError where it has none of them."""
    wanted = {spec: keys_of(spec) for spec in space.operators()}
    found = {spec: latencies[key] for spec, keys in wanted.items() for key in keys if key in latencies}
    if not found:
        example = next((keys[0] for keys in wanted.values() if keys), "none")
        first = next(iter(latencies), "nothing")
        raise LutError(
            f"{name}: it has no operator of space {space.name}: looked for keys such as {example!r}, and found "
            f"{len(latencies)}, such as {first!r}; name the space it is of with --space"
        )
    return found
