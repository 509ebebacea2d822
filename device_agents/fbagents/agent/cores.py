"""Which cores an agent is bound to, as text: words that the device resolves, or numbers in one canonical form."""

import re
from collections.abc import Sequence

from fbagents.agent.protocol import MAX_CORES, Hello
from fbagents.errors import DeviceError
from fbbase.errors import FbError

WORDS = ("big", "middle", "little", "all")
"""What the agent resolves, because only it sees the device (docs/devices/agent-protocol.md)."""


def check_cores(text: str) -> str:
    """Return the canonical text: words in one order, then numbers, ranges and hexadecimal masks as a list `4,5,6,7`.

    Raises FbError.
    """
    text = text.strip().lower()
    parts = [part.strip() for part in text.split(",")]
    numbers = {core for part in parts if part not in WORDS for core in _numbers(part, text)}
    return ",".join([*(word for word in WORDS if word in parts), *map(str, sorted(numbers))])


def has_words(text: str | None) -> bool:
    """Return whether a text of `check_cores` leaves it to the device which cores are meant."""
    return text is not None and not set(WORDS).isdisjoint(text.split(","))


def meant_cores(text: str, kinds: Sequence[Sequence[int]], online: Sequence[int]) -> list[int]:
    """Return the cores that a text of `check_cores` means on a device of such kinds of cores, the weakest first.

    Where there is one kind, all its cores are big and none is little. Raises DeviceError.
    """
    chosen: set[int] = set()
    for part in text.split(","):
        if part not in WORDS:
            chosen.add(int(part))
            continue
        needed = {"big": 1, "little": 2, "middle": 3}.get(part, 0)
        if len(kinds) < needed or (part == "all" and not online):
            told = f"{len(kinds)} kind{'s' * (len(kinds) != 1)} of cores" if needed else "no cores"
            raise DeviceError(
                f"which cores are {part} is not known: the device tells {told}; name them by "
                "numbers, such as --cores 4-7"
            )
        found = {"big": kinds[-1:], "middle": kinds[1:-1], "little": kinds[:1], "all": [online]}[part]
        chosen |= {core for cores in found for core in cores}
    return sorted(chosen)


def too_many_threads(threads: int, bound: Sequence[int], kinds: Sequence[Sequence[int]] = ()) -> str | None:
    """Say which cores to take instead where there are more threads than cores that they may run on, else None.

    `kinds` are the device's cores by kind, the weakest first, where they are known.
    """
    if threads <= len(bound):
        return None
    more: set[int] = set()
    for kind in reversed(kinds):
        more |= set(kind)
        if len(more) >= threads:
            break
    fewer = f"--threads {len(bound)}"
    remedy = f"--cores {spelled(sorted(more))}, or {fewer}" if len(more) >= threads else fewer
    return (
        f"{threads} threads cannot run side by side on {len(bound)} core{'s' * (len(bound) != 1)} ({spelled(bound)}): "
        f"use {remedy}"
    )


def check_claims(hello: Hello, threads: int, cores: str | None) -> None:
    """Raise DeviceError where an agent does not have the threads and cores asked for, or more threads than cores.

    It may have fewer cores than were asked for, as some may be off. A replay has what was recorded.
    """
    if hello.recorded_at is not None:
        return
    if hello.threads != threads:
        raise DeviceError(f"the agent says that it has {hello.threads} threads; asked for were {threads}")
    if hello.cores is None:
        return
    kinds = [cluster.cores for cluster in hello.clusters or ()]
    if cores is not None and (not has_words(cores) or (kinds and "all" not in cores)):
        meant = meant_cores(cores, kinds, ())
        if not hello.cores or not set(hello.cores) <= set(meant):
            raise DeviceError(
                f"the agent says that it is bound to cores {spelled(hello.cores) or 'none'}; asked for were "
                f"{spelled(meant)}{f' ({cores})' if has_words(cores) else ''}"
            )
    if wrong := too_many_threads(threads, hello.cores, kinds):
        raise DeviceError(wrong)


def spelled(cores: Sequence[int]) -> str:
    """Return cores in ascending order as a person writes them, such as 0-3,6."""
    ranges: list[list[int]] = []
    for core in cores:
        if ranges and core == ranges[-1][-1] + 1:
            ranges[-1] = [ranges[-1][0], core]
        else:
            ranges.append([core])
    return ",".join("-".join(map(str, each)) for each in ranges)


def _numbers(part: str, text: str) -> set[int]:
    if re.fullmatch(rf"0x[0-9a-f]{{1,{MAX_CORES // 4}}}", part):
        mask = int(part, 16)
        if mask == 0:
            raise FbError(f"the mask of cores {part} has no core in it")
        return {core for core in range(MAX_CORES) if mask >> core & 1}
    match = re.fullmatch(r"([0-9]{1,4})(?:-([0-9]{1,4}))?", part)
    if match is None:
        raise FbError(
            f"cores are {', '.join(WORDS)}, numbers and ranges such as 0, 0,2 or 4-7, or a mask such as 0xf0, "
            f"not {text!r}"
        )
    first, last = int(match[1]), int(match[2] or match[1])
    if first > last:
        raise FbError(f"the range {part!r} in cores {text!r} runs backwards")
    if last >= MAX_CORES:
        raise FbError(f"there is no core {last}, in cores {text!r}: the last one is {MAX_CORES - 1}")
    return set(range(first, last + 1))
