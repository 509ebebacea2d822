"""One file per format in which others publish latencies; nothing is measured, and what a file does not say is unknown.

A format is a module with `SUFFIXES`, the endings it is recognised by, `HAS_UNIT`, whether it says its unit itself, and
`read(text, name, space, unit_us) -> Imported`; `name` is what errors call the file, `unit_us` its unit in microseconds.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fbbase.plugins import PluginFolder

if TYPE_CHECKING:
    from fbspace.opspec import OpSpec

IMPORTS = PluginFolder("format of published latencies", "fbprof.imports")
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
