"""docs/extend/transport.md, followed literally: one file adds a transport, in the folder or in another package."""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from fblut.reading import read_lut
from fbspace.space import load_space
from peers import processes
from peers.extending import copy_sources, examples, page

PAGE = page("transport")
CODE = examples(PAGE, "python")[0]
PROFILE, ENTRY_POINTS = examples(PAGE, "toml")
NICE = """#!/bin/sh
echo "$1 $2" >>"$SEEN"
exec {nice} "$@"
"""


class Host:
    """A folder to work in, a `nice` that tells how it was called, and fbprof with packages before the project's own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.seen = folder, folder / "seen"
        program = folder / "bin" / "nice"
        program.parent.mkdir()
        program.write_text(NICE.format(nice=shutil.which("nice")))
        program.chmod(0o755)

    def python(self, words: list[str], packages: Path) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {
            "PYTHONPATH": f"{packages}:{os.environ.get('PYTHONPATH', '')}",
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "SEEN": str(self.seen),
        }
        return processes.run(words, cwd=self.folder, env=environment)

    def fbprof(self, words: list[str], packages: Path) -> subprocess.CompletedProcess[str]:
        return self.python(["-m", "fbprof", *words], packages)

    def measure(self, words: list[str], space: str, packages: Path) -> None:
        """Measure, and see that the table is whole."""
        done = self.fbprof([*words, "--rounds", "1", "--calibrate", "0"], packages)
        assert done.returncode == 0, done.stderr
        lut = read_lut(self.folder / words[-1])
        assert lut.missing(load_space(space).operators()) == []


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


@pytest.fixture
def agents(tmp_path: Path) -> Path:
    """The sources of fbagents, to add a file to."""
    return copy_sources(tmp_path, ["device_agents"]) / "device_agents"


def test_a_file_in_the_folder(host: Host, agents: Path) -> None:
    (agents / "fbagents/transports/nice.py").write_text(CODE)
    (host.folder / "slow.toml").write_text(PROFILE)
    (command,) = re.findall(r"^    fbprof (.*)$", PAGE, re.MULTILINE)
    host.measure(command.split(), "fbnet-tiny", agents)
    assert set(host.seen.read_text().splitlines()) == {"-n 10"}


WRONG = [
    ("is_this_machine", "is_this_maschine", "Did you mean 'is_this_machine'?"),
    ("def push", "def push_file", "has 'push_file', which Transport does not know"),
    ("def start", "def _start", "lacks 'start', which every Transport has"),
    ("copies = False", 'copies = "no"', "'copies' must be of type bool"),
]
LOAD = """
import sys
from fbagents.transports import TRANSPORTS
from fbbase.errors import FbError
for name in sys.argv[1:]:
    try:
        TRANSPORTS.find(name)
    except FbError as error:
        print(error)
"""


def test_what_does_not_fit_the_base_is_refused(host: Host, agents: Path) -> None:
    for number, (right, misspelt, _) in enumerate(WRONG):
        assert right in CODE
        (agents / f"fbagents/transports/wrong{number}.py").write_text(CODE.replace(right, misspelt))
    done = host.python(["-c", LOAD, *(f"wrong{number}" for number in range(len(WRONG)))], agents)
    told = done.stdout.splitlines()
    assert len(told) == len(WRONG), done
    for number, (line, (_, _, words)) in enumerate(zip(told, WRONG, strict=True)):
        assert line.startswith(f"transport 'wrong{number}' (fbagents.transports.wrong{number}.Nice)")
        assert words in line


@pytest.mark.full
def test_a_package_of_ones_own(host: Host, space: str) -> None:
    packages = host.folder / "packages"
    package, info = packages / "lab_devices", packages / "lab_devices-1.dist-info"
    for folder in (package, info):
        folder.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "nice.py").write_text(CODE)
    (package / "slow.toml").write_text(PROFILE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lab-devices\nVersion: 1\n")
    groups = tomllib.loads(ENTRY_POINTS)["project"]["entry-points"]
    lines = [f"[{group}]\n" + "".join(f"{n} = {v}\n" for n, v in names.items()) for group, names in groups.items()]
    (info / "entry_points.txt").write_text("\n".join(lines))
    host.measure(["measure", "--device", "slow", "--space", space, "-o", "a.csv"], space, packages)
    assert set(host.seen.read_text().splitlines()) == {"-n 10"}
    listed = host.fbprof(["devices", "--check"], packages)
    assert listed.returncode == 0, listed.stderr
    assert re.search(r"^  slow +nice +this machine, politely\n +reachable$", listed.stdout, re.MULTILINE)
    twice = host.fbprof(["measure", "--device", "nice:7", "--device", "local", "--space", space], packages)
    assert twice.returncode == 2
    assert "nice-7 and local are the same device" in twice.stderr
    code = "from fbagents.connect import connect, load_profile; connect(load_profile('nice:x'))"
    assert "address.niceness is not usable" in host.python(["-c", code], packages).stderr
