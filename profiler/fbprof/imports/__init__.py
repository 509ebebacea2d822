"""One file per format in which others publish latencies; what a file does not say is unknown."""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from fbbase.parsing import number
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
    has none, `warnings` what the table says of itself. `entries` is how many latencies the file has, and `unused` names
    those of them that are of no operator of the space.
    """

    latency_us: dict["OpSpec", float]
    how: str
    network_us: float = 0.0
    fixed: dict["OpSpec", str] = field(default_factory=dict)
    notes: dict["OpSpec", str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    entries: int = 0
    unused: tuple[str, ...] = ()


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


def number_of(text: str, complaint: str) -> float:
    """Return the number that a cell holds. Raises LutError with the complaint where it holds none that is finite."""
    value = number(text)
    if value is None:
        comma = " (a decimal comma? write a point)" if re.fullmatch(r"\s*[0-9]+,[0-9]+\s*", text) else ""
        raise LutError(complaint + comma)
    return value


def look_up(
    latencies: Mapping[str, float],
    keys_of: Callable[["OpSpec"], Sequence[str | tuple[str, ...]]],
    space: "Space",
    name: str,
    how: str,
) -> Imported:
    """Return what a file of keys says of a space's operators; `how` is the context its latencies are of.

    `keys_of` tells in which ways an operator may be called; several keys are added up. Raises LutError where the file
    has none of them, and where it has one in two ways with different latencies.
    """
    wanted = {spec: [(way,) if isinstance(way, str) else way for way in keys_of(spec)] for spec in space.operators()}
    found: dict[OpSpec, float] = {}
    used: set[str] = set()
    for spec, ways in wanted.items():
        for keys in (keys for keys in ways if all(key in latencies for key in keys)):
            latency_us = sum(latencies[key] for key in keys)
            if found.setdefault(spec, latency_us) != latency_us:
                raise LutError(f"{name}: {' + '.join(keys)[:200]!r} and another key are both {spec.key()}; keep one")
            used.update(keys)
    if not found:
        example = next((" + ".join(ways[0]) for ways in wanted.values() if ways), "none")
        first = next(iter(latencies), "nothing")
        raise LutError(
            f"{name}: it has no operator of space {space.name}: looked for keys such as {example!r}, and found "
            f"{len(latencies)}, such as {first[:200]!r}; name the space it is of with --space"
        )
    unused = tuple(key for key in latencies if key not in used)
    return Imported(found, how, entries=len(latencies), unused=unused)
