"""Device facts: what a device tells of itself where no agent of ours runs, by constant shell scripts.

The scripts print lines of a word and its values; what is read and where are those of the agents (on-device/agent.py).
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from fbagents.agent.cores import meant_cores
from fbagents.agent.protocol import MAX_CORES, Cluster
from fbagents.posix.scripts import script

FACTS, STATE = script(__package__, "facts"), script(__package__, "state")


# Arm's cores by implementer and part, as in MIDR_EL1: little, middle, big.
FAMILIES = (
    "41c05 41c07 41d01 41d02 41d03 41d04 41d05 41d46 41d80 41d88 41d8a 51201 51211 51801 51803 51805",
    "41c08 41c09 41c0d 41c0e 41c0f 41d07 41d08 41d09 41d0a 41d0b 41d0d 41d0e 41d41 41d42 41d47 41d4b 41d4d 41d81 "
    "41d87 41d8b 51001 51205 51800 51802 51804",
    "41d44 41d48 41d4c 41d4e 41d82 41d85 41d8c 41d90 53001 53002 53003 53004",
)


class Facts(NamedTuple):
    """What a device tells by FACTS: its machine (`uname -m`), its cores that are on, by kind the weakest first."""

    machine: str
    soc: str
    system: str
    online: tuple[int, ...]
    clusters: tuple[Cluster, ...]
    device_model: str | None = None

    @property
    def clusters_told(self) -> list[dict[str, object]] | None:
        """The clusters as a hello tells them, None where the device tells none."""
        return [cluster.model_dump(mode="json") for cluster in self.clusters] or None

    def named_cores(self, text: str) -> list[int]:
        """Return the cores that a text of `check_cores` means here. Raises DeviceError."""
        return meant_cores(text, [cluster.cores for cluster in self.clusters], self.online)


class _Core(NamedTuple):
    number: int
    max_khz: int
    capacity: int
    part: str


def parse_facts(text: str) -> Facts:
    """Return what a device tells by FACTS; what it does not is `unknown`, or empty."""
    lines = [line.partition(" ")[::2] for line in text.splitlines()]
    told = {word: known for word, rest in reversed(lines) if (known := rest.strip()[:200]) not in ("", "unknown")}
    cores = _cores(lines)
    machine, system = told.get("machine", "unknown"), told.get("system", "unknown")
    if (release := told.get("ro.build.version.release")) is not None:
        build = f" ({told['ro.build.id']})" if "ro.build.id" in told else ""
        system = f"Android {release}{build}, {system}"
    phone = _named(told, "ro.product.manufacturer", "ro.product.model")
    others = (told.get(name) for name in ("ro.board.platform", "ro.hardware", "soc", "board"))
    soc = _named(told, "ro.soc.manufacturer", "ro.soc.model") or next(filter(None, others), machine)
    online = tuple(core.number for core in cores)
    return Facts(machine, soc, system, online, _clusters(cores), phone or told.get("board"))


def _named(told: Mapping[str, str], maker: str, model: str) -> str | None:
    """Return what Android calls a model, with its maker before it."""
    name, by = told.get(model), told.get(maker, "")
    return f"{by} {name}".strip() if name and not name.lower().startswith(by.lower()) else name


def _cores(lines: Iterable[tuple[str, str]]) -> list[_Core]:
    """Return the cores that are on, in ascending order."""
    cores: list[_Core] = []
    parts: dict[str, str] = {}
    now = implementer = ""
    for word, rest in lines:
        match = re.fullmatch(r"(\d{1,4}) 1 (\d{1,9})(?: (\d{1,9}) (\w{1,20}))?", rest)
        if word == "processor":
            now = rest
        elif word == "implementer":
            implementer = rest.removeprefix("0x")
        elif word == "part":
            parts[now] = f"{implementer}{rest.removeprefix('0x'):0>3}"
        elif word == "core" and match and int(match[1]) < MAX_CORES:
            midr = int(match[4], 16) if re.fullmatch(r"0x[0-9a-f]{1,16}", match[4] or "") else 0
            part = f"{midr >> 24 & 0xFF:x}{midr >> 4 & 0xFFF:03x}" if midr else parts.get(match[1], "")
            cores.append(_Core(int(match[1]), int(match[2]), int(match[3] or 0), part))
    return sorted(cores)


def _clusters(cores: Sequence[_Core]) -> tuple[Cluster, ...]:
    """Return the kinds of cores as the agents do: by capacity, else by Arm's family, else by clock."""
    families = [next((n for n, family in enumerate(FAMILIES, 1) if core.part in family.split()), 0) for core in cores]
    by_capacity = all(core.capacity for core in cores) and len({core.capacity for core in cores}) > 1
    by_family = all(families)
    kinds: dict[tuple[int, int, int], list[int]] = {}
    for core, family in zip(cores, families, strict=True):
        kind = core.capacity if by_capacity else 0, family if by_family else 0, core.max_khz
        if any(kind):
            kinds.setdefault(kind, []).append(core.number)
    return tuple(Cluster(capacity=k[0] or None, max_khz=k[2] or None, cores=tuple(kinds[k])) for k in sorted(kinds))


def parse_state(text: str) -> dict[str, object]:
    """Return the fields of a state that a device tells by STATE."""
    freq_khz: dict[str, int] = {}
    temperature_c: dict[str, float] = {}
    denied: set[str] = set()
    memory: int | None = None
    for line in text.splitlines():
        if match := re.fullmatch(r"freq (\d{1,4}) (\d{1,9})", line):
            freq_khz[match[1]] = int(match[2])
        elif match := re.fullmatch(r"temp (thermal|power_supply)/(\S{1,100}) (-?\d{1,9}) ?(.{0,100})", line):
            value = int(match[3])
            name = f"{match[2]} {match[4]}".strip()
            per_degree = 10 if match[1] == "power_supply" else 1000 if abs(value) >= 1000 else 1
            temperature_c[name] = value / per_degree
        elif match := re.fullmatch(r"memory (\d{1,12})", line):
            memory = 1024 * int(match[1])
        elif match := re.fullmatch(r"denied (freq_khz|temperature_c)", line):
            denied.add(match[1])
    return {
        "freq_khz": freq_khz or None,
        "temperature_c": temperature_c or None,
        "memory_available_bytes": memory,
        "denied": sorted(denied),
    }
