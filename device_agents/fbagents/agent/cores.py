"""Which cores an agent is bound to, as text: words that the device resolves, or numbers in one canonical form."""

import re

from fbagents.agent.protocol import MAX_CORES
from fbagents.errors import DeviceError

WORDS = ("big", "middle", "little", "all")
"""What the agent resolves, because only it sees the device (docs/devices/agent-protocol.md)."""


def check_cores(text: str) -> str:
    """Return the canonical text: a word as it is, numbers, ranges and hexadecimal masks as a sorted list `4,5,6,7`.

    Raises DeviceError.
    """
    text = text.strip().lower()
    return text if text in WORDS else ",".join(map(str, sorted(_numbers(text))))


def _numbers(text: str) -> set[int]:
    if re.fullmatch(rf"0x[0-9a-f]{{1,{MAX_CORES // 4}}}", text):
        mask = int(text, 16)
        if mask == 0:
            raise DeviceError(f"the mask of cores {text} has no core in it")
        return {core for core in range(MAX_CORES) if mask >> core & 1}
    cores: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"([0-9]{1,4})(?:-([0-9]{1,4}))?", part.strip())
        if match is None:
            raise DeviceError(
                f"cores are {', '.join(WORDS)}, numbers and ranges such as 0, 0,2 or 4-7, or a mask such as 0xf0, "
                f"not {text!r}"
            )
        first, last = int(match[1]), int(match[2] or match[1])
        if first > last:
            raise DeviceError(f"the range {part!r} in cores {text!r} runs backwards")
        if last >= MAX_CORES:
            raise DeviceError(f"there is no core {last}, in cores {text!r}: the last one is {MAX_CORES - 1}")
        cores |= set(range(first, last + 1))
    return cores
