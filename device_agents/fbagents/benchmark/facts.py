"""Device facts: what a device tells of itself where no agent of ours runs, by constant shell scripts.

The scripts print lines of a word and its values; what is read and where are those of the agents (on-device/agent.py).
"""

import re
from typing import NamedTuple

from fbagents.agent.protocol import MAX_CORES
from fbagents.errors import DeviceError
from fbagents.posix.scripts import script

FACTS, STATE = script(__package__, "facts"), script(__package__, "state")


class Facts(NamedTuple):
    """What a device tells by FACTS: its machine (`uname -m`), the cores that are on, also by highest clock."""

    machine: str
    soc: str
    system: str
    online: tuple[int, ...]
    clusters: dict[int, list[int]]

    @property
    def clusters_told(self) -> list[dict[str, object]] | None:
        """The clusters as a hello tells them, None where the device tells none."""
        return [{"max_khz": khz, "cores": cores} for khz, cores in self.clusters.items()] or None

    def named_cores(self, text: str) -> list[int]:
        """Return the cores that a text of `check_cores` means here. Raises DeviceError."""
        if text == "all":
            found = list(self.online)
        elif text in ("big", "middle", "little"):
            kinds = [*self.clusters.values()]
            chosen = {"big": kinds[-1:], "middle": kinds[1:-1], "little": kinds[:1]}[text]
            found = sorted(core for cores in chosen for core in cores)
        else:
            found = [int(part) for part in text.split(",")]
        if not found:
            raise DeviceError(
                f"which cores are {text} is not known: the device tells {len(self.clusters)} kinds of cores; name them "
                "by numbers, such as --cores 4-7"
            )
        return found


def parse_facts(text: str) -> Facts:
    """Return what a device tells by FACTS; what it does not is `unknown`, or empty."""
    lines = [line.partition(" ")[::2] for line in text.splitlines()]
    told = {word: rest.strip()[:200] for word, rest in reversed(lines)}
    by_khz: dict[int, list[int]] = {}
    online: list[int] = []
    for word, rest in lines:
        match = re.fullmatch(r"(\d{1,4}) 1 (\d{1,9})", rest)
        if word == "core" and match and int(match[1]) < MAX_CORES:
            online.append(int(match[1]))
            if int(match[2]):
                by_khz.setdefault(int(match[2]), []).append(int(match[1]))
    clusters = {khz: sorted(by_khz[khz]) for khz in sorted(by_khz)}
    machine = told.get("machine", "unknown")
    return Facts(machine, told.get("soc") or machine, told.get("system", "unknown"), tuple(sorted(online)), clusters)


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
