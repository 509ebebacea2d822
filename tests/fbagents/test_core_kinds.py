"""Kinds of cores: both agents and the host's script find the same on the same files of a system."""

import importlib.util
import itertools
import json
import random
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest

from fbagents.agent.protocol import Hello
from fbagents.benchmark.facts import FACTS, FAMILIES, Facts, parse_facts
from fbagents.errors import DeviceError
from fbagents.native import build as native
from fbagents.native.script import agent_script

Kinds = list[tuple[int | None, int | None, list[int]]]
A53, A55, A73, A78, X1, UNKNOWN = 0xD03, 0xD05, 0xD09, 0xD41, 0xD44, 0xFFF


class Core(NamedTuple):
    """What a system tells of a core; None is what it does not. `part` is in MIDR_EL1, or in /proc/cpuinfo."""

    khz: int | None = None
    capacity: int | None = None
    part: int | None = None


ODROID_N2 = [Core(1896000, 592)] * 2 + [Core(1800000, 1024)] * 4
OLD_ODROID_N2 = [Core(1896000, part=A53)] * 2 + [Core(1800000, part=A73)] * 4  # its 4.9 kernel knows no capacity
SD888 = [Core(1804800, part=A55)] * 4 + [Core(2419200, part=A78)] * 3 + [Core(2841600, part=X1)]
RASPBERRY_PI_4 = [Core(1500000, 1024, 0xD08)] * 4
HELIO_P35 = [Core(2300000, 1024, A53)] * 4 + [Core(1800000, 1024, A53)] * 4
DEVICES: dict[str, tuple[list[Core], Kinds]] = {
    "capacity before clock": (ODROID_N2, [(592, 1896000, [0, 1]), (1024, 1800000, [2, 3, 4, 5])]),
    "part before clock": (OLD_ODROID_N2, [(None, 1896000, [0, 1]), (None, 1800000, [2, 3, 4, 5])]),
    "three kinds": (SD888, [(None, 1804800, [0, 1, 2, 3]), (None, 2419200, [4, 5, 6]), (None, 2841600, [7])]),
    "one kind": (RASPBERRY_PI_4, [(None, 1500000, [0, 1, 2, 3])]),
    "one part at two clocks": (HELIO_P35, [(None, 1800000, [4, 5, 6, 7]), (None, 2300000, [0, 1, 2, 3])]),
    "a part that is not known": (
        [Core(2000000, part=UNKNOWN), Core(1000000, part=X1)],
        [(None, 1000000, [1]), (None, 2000000, [0])],
    ),
    "a capacity that one core lacks": ([Core(2, 100), Core(1)], [(None, 1, [1]), (None, 2, [0])]),
    "capacity without clocks": ([Core(capacity=1024), Core(capacity=300)], [(300, None, [1]), (1024, None, [0])]),
    "parts without clocks": ([Core(part=A53)] * 2, [(None, None, [0, 1])]),
    "one capacity and nothing else": ([Core(capacity=1024)] * 2, []),
    "nothing": ([Core()] * 4, []),
}


def write_system(root: Path, cores: list[Core], in_cpuinfo: bool = False) -> Path:
    """Write the files of a system with these cores, and return the folder that stands for /sys."""
    cpuinfo = ""
    for number, core in enumerate(cores):
        folder = root / f"sys/devices/system/cpu/cpu{number}"
        texts = {"cpufreq/cpuinfo_max_freq": core.khz, "cpu_capacity": core.capacity}
        if core.part is not None and not in_cpuinfo:
            texts["regs/identification/midr_el1"] = f"0x{0x410F0000 | core.part << 4 | 4:016x}"  # type: ignore[assignment]
        if core.part is not None and in_cpuinfo:
            cpuinfo += (
                f"processor\t: {number}\nCPU implementer\t: 0x41\nCPU variant\t: 0x0\nCPU part\t: {core.part:#x}\n\n"
            )
        folder.mkdir(parents=True)
        for name, value in texts.items():
            if value is not None:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_text(f"{value}\n")
    (root / "proc").mkdir()
    (root / "proc/cpuinfo").write_text(cpuinfo)
    return root / "sys"


@pytest.fixture(scope="module")
def python_agent() -> ModuleType:
    spec = importlib.util.spec_from_file_location("agent", agent_script())
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def kinds(python_agent: ModuleType) -> Callable[[Path], Kinds]:
    """Ask both agents and the host for the kinds of cores of a system; they agree."""
    try:
        program = str(native.build(native.host_target()))
    except DeviceError:
        program = None

    def ask(folder: Path) -> Kinds:
        told = facts(folder).clusters_told
        assert told == (python_agent.clusters(str(folder)) or None)
        if program is not None:
            argv = [program, "--sys", str(folder)]
            line = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=True).stdout
            assert json.loads(line)["clusters"] == told
        clusters = Hello.model_validate(HELLO | {"clusters": told}).clusters or ()
        return [(cluster.capacity, cluster.max_khz, list(cluster.cores)) for cluster in clusters]

    return ask


HELLO = {
    "event": "hello", "protocol": 2, "agent": "a", "runtimes": {}, "threads": 1, "cores": [0], "clocks": ["wall"],
    "soc": "s", "system": "s",
}  # fmt: skip


def facts(folder: Path) -> Facts:
    argv = ["sh", "-c", FACTS, "sh", str(folder)]
    return parse_facts(subprocess.run(argv, capture_output=True, text=True, timeout=30, check=True).stdout)


@pytest.mark.parametrize("in_cpuinfo", [False, True])
@pytest.mark.parametrize("name", DEVICES)
def test_capacity_decides_then_the_part_then_the_clock(
    name: str, in_cpuinfo: bool, tmp_path: Path, kinds: Callable[[Path], Kinds]
) -> None:
    cores, expected = DEVICES[name]
    assert kinds(write_system(tmp_path, cores, in_cpuinfo)) == expected


def test_agents_and_host_agree_on_whatever_a_system_tells(tmp_path: Path, kinds: Callable[[Path], Kinds]) -> None:
    rng = random.Random(0)
    for number in range(12):
        parts = rng.choice([[None], [A53, A73, X1], [A55, UNKNOWN], [0xD8C, 0xD8B, 0xD8A]])
        capacities = rng.choice([[None], [1024], [200, 500, 1024], [None, 300]])
        cores = [
            Core(rng.choice([None, 1000000, 2000000]), rng.choice(capacities), rng.choice(parts))
            for _ in range(rng.randint(1, 12))
        ]
        found = [
            core
            for _, _, cores in kinds(write_system(tmp_path / f"{number}", cores, number % 2 == 0))
            for core in cores
        ]
        assert len(set(found)) == len(found) <= len(cores)


@pytest.mark.parametrize(
    ("cores", "text", "meant"),
    [
        (ODROID_N2, "big", [2, 3, 4, 5]),
        (ODROID_N2, "little", [0, 1]),
        (ODROID_N2, "big,little", [0, 1, 2, 3, 4, 5]),
        (OLD_ODROID_N2, "big", [2, 3, 4, 5]),
        (SD888, "big", [7]),
        (SD888, "middle", [4, 5, 6]),
        (SD888, "big,middle", [4, 5, 6, 7]),
        (SD888, "big,0,1", [0, 1, 7]),
        (RASPBERRY_PI_4, "big", [0, 1, 2, 3]),
        (HELIO_P35, "big", [0, 1, 2, 3]),
    ],
)
def test_words_mean_the_same_for_the_host_and_the_agent(
    cores: list[Core], text: str, meant: list[int], tmp_path: Path, python_agent: ModuleType
) -> None:
    folder = write_system(tmp_path, cores)
    assert facts(folder).named_cores(text) == meant
    assert python_agent.named_cores(text, str(folder)) == meant


@pytest.mark.parametrize("word", ["little", "middle", "big,little"])
def test_where_all_cores_are_one_kind_none_is_little(word: str, tmp_path: Path, python_agent: ModuleType) -> None:
    folder = write_system(tmp_path, RASPBERRY_PI_4)
    with pytest.raises(DeviceError, match="is not known: the device tells 1 kind of cores; name them by numbers"):
        facts(folder).named_cores(word)
    with pytest.raises(ValueError, match=r"there are no (little|middle) cores: the device tells 1 cluster"):
        python_agent.named_cores(word, str(folder))


def test_every_known_part_is_in_one_family_and_in_both_agents(python_agent: ModuleType) -> None:
    parts = list(itertools.chain.from_iterable(family.split() for family in python_agent.FAMILIES))
    assert len(set(parts)) == len(parts)
    assert FAMILIES == python_agent.FAMILIES
    source = (agent_script().parent / "cores.c").read_text()
    assert re.findall(r"\b[45][1-9][0-9a-f]{3}\b", source) == parts
    assert {UNKNOWN} & {int(part, 16) & 0xFFF for part in parts} == set()
