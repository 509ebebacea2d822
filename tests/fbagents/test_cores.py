"""Core clusters: what both agents make of big, little and masks on the devices they know by the system's files."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from fbagents.agent.cores import check_cores
from fbagents.agent.protocol import Hello, parse_reply
from fbagents.connect import load_profile
from fbagents.errors import ProfileError
from fbagents.native import build as native
from fbagents.native.script import agent_script
from fbbase.errors import FbError

GALAXY_S8 = {core: 1690000 if core < 4 else 2314000 for core in range(8)}
THREE_CLUSTERS = {core: 1785600 if core < 4 else 2419200 if core < 7 else 2841600 for core in range(8)}
ALLOWED = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
needs_two_cores = pytest.mark.skipif(ALLOWED[:2] != [0, 1], reason="needs cores 0 and 1 to bind to")


def make_sys(folder: Path, max_khz: dict[int, int | None], online: dict[int, int] | None = None) -> Path:
    """Write the files by which a system tells its cores; None is a core that does not tell its highest clock."""
    for core, khz in max_khz.items():
        path = folder / f"devices/system/cpu/cpu{core}"
        path.mkdir(parents=True)
        if khz is not None:
            (path / "cpufreq").mkdir()
            (path / "cpufreq/cpuinfo_max_freq").write_text(f"{khz}\n")
    for core, on in (online or {}).items():
        (folder / f"devices/system/cpu/cpu{core}/online").write_text(f"{on}\n")
    for name in ("cpufreq", "cpuidle"):  # a system has these beside its cores
        (folder / f"devices/system/cpu/{name}").mkdir(parents=True)
    return folder


def first_line(argv: list[str], folder: Path, *options: str, **process: Any) -> dict[str, Any]:
    """Start an agent on a device with these files, and return the first thing it says."""
    argv = [*argv, "--sys", str(folder), *options]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=30, **process)
    line: dict[str, Any] = json.loads(done.stdout.splitlines()[0])
    assert done.returncode == (0 if line["event"] == "hello" else 3)
    return line


def clusters(argv: list[str], folder: Path) -> list[tuple[int | None, tuple[int, ...]]] | None:
    """Return what an agent's hello says of the clusters, as the host reads it."""
    hello = parse_reply(json.dumps(first_line(argv, folder)).encode())
    assert isinstance(hello, Hello)
    return None if hello.clusters is None else [(cluster.max_khz, cluster.cores) for cluster in hello.clusters]


def test_the_clusters_of_a_galaxy_s8(agent_argv: list[str], tmp_path: Path) -> None:
    found = clusters(agent_argv, make_sys(tmp_path, GALAXY_S8))
    assert found == [(1690000, (0, 1, 2, 3)), (2314000, (4, 5, 6, 7))]


def test_the_clusters_of_a_device_with_three(agent_argv: list[str], tmp_path: Path) -> None:
    found = clusters(agent_argv, make_sys(tmp_path, THREE_CLUSTERS))
    assert found == [(1785600, (0, 1, 2, 3)), (2419200, (4, 5, 6)), (2841600, (7,))]


def test_big_cores_may_be_the_first_and_numbers_are_not_letters(agent_argv: list[str], tmp_path: Path) -> None:
    found = clusters(agent_argv, make_sys(tmp_path, {core: 3000000 if core < 2 else 900000 for core in range(12)}))
    assert found == [(900000, tuple(range(2, 12))), (3000000, (0, 1))]


def test_a_core_that_is_off_is_in_no_cluster(agent_argv: list[str], tmp_path: Path) -> None:
    found = clusters(agent_argv, make_sys(tmp_path, GALAXY_S8, online={3: 1, 5: 0, 6: 0, 7: 1}))
    assert found == [(1690000, (0, 1, 2, 3)), (2314000, (4, 7))]


def test_a_device_without_clocks_tells_no_clusters(agent_argv: list[str], tmp_path: Path) -> None:
    assert clusters(agent_argv, make_sys(tmp_path, dict.fromkeys(range(4)))) is None
    assert clusters(agent_argv, tmp_path / "none") is None


def test_a_core_that_does_not_tell_its_clock_is_in_no_cluster(agent_argv: list[str], tmp_path: Path) -> None:
    found = clusters(agent_argv, make_sys(tmp_path, {0: 1000, 1: None, 2: 0, 3: -5, 4: 1000}))
    assert found == [(1000, (0, 4))]


@needs_two_cores
@pytest.mark.parametrize(
    ("wanted", "bound"),
    [("big", [1]), ("little", [0]), ("all", [0, 1]), ("0-1", [0, 1]), ("1,0", [0, 1]), ("0x2", [1]), ("0X1", None)],
)
def test_an_agent_is_bound_to_what_was_meant(
    agent_argv: list[str], tmp_path: Path, wanted: str, bound: list[int] | None
) -> None:
    line = first_line(agent_argv, make_sys(tmp_path, {0: 1690000, 1: 2314000}), "--cores", wanted)
    assert line.get("cores") == bound


@needs_two_cores
def test_with_one_cluster_all_cores_are_big_and_none_is_little(agent_argv: list[str], tmp_path: Path) -> None:
    folder = make_sys(tmp_path, {0: 1500000, 1: 1500000})
    assert first_line(agent_argv, folder, "--cores", "big")["cores"] == [0, 1]
    for word in ("little", "middle"):
        message = first_line(agent_argv, folder, "--cores", word)["message"]
        assert message == f"there are no {word} cores: the device tells 1 cluster"


@needs_two_cores
def test_all_are_the_cores_that_are_on_with_clocks_or_without(agent_argv: list[str], tmp_path: Path) -> None:
    folder = make_sys(tmp_path, {0: None, 1: None}, online={0: 0})
    assert first_line(agent_argv, folder, "--cores", "all")["cores"] == [1]


@needs_two_cores
def test_middle_cores_are_all_between_big_and_little(agent_argv: list[str], tmp_path: Path) -> None:
    folder = make_sys(tmp_path, {0: 20, 1: 30, 2: 10, 3: 40})
    assert first_line(agent_argv, folder, "--cores", "middle")["cores"] == [0, 1]


@pytest.mark.skipif(not ALLOWED, reason="this system binds no process to cores")
@pytest.mark.parametrize(
    ("device", "wanted", "meant"),
    [
        ({core + 900: khz for core, khz in GALAXY_S8.items()}, "big", "904,905,906,907 (big)"),
        ({core + 900: khz for core, khz in GALAXY_S8.items()}, "little", "900,901,902,903 (little)"),
        ({core + 900: khz for core, khz in THREE_CLUSTERS.items()}, "big", "907 (big)"),
        ({core + 900: khz for core, khz in THREE_CLUSTERS.items()}, "middle", "904,905,906 (middle)"),
        ({core + 900: khz for core, khz in THREE_CLUSTERS.items()}, "big,middle", "904,905,906,907 (big,middle)"),
        ({core + 900: khz for core, khz in THREE_CLUSTERS.items()}, "little,907", "900,901,902,903,907 (little,907)"),
        ({900: None, 1000: None, 1024: None}, "all", "900,1000 (all)"),
        ({}, "902,900-901", "900,901,902"),
        ({}, "0x3" + "0" * 225, "900,901"),
    ],
)
def test_cores_that_cannot_be_had_are_named(
    agent_argv: list[str], tmp_path: Path, device: dict[int, int | None], wanted: str, meant: str
) -> None:
    line = first_line(agent_argv, make_sys(tmp_path, device), "--cores", wanted)
    assert line["message"] == f"cannot bind to cores {meant}: Invalid argument"


@pytest.mark.parametrize("word", ["big", "middle", "little"])
def test_words_for_cores_that_the_system_does_not_tell_suggest_numbers(
    agent_argv: list[str], tmp_path: Path, word: str
) -> None:
    line = first_line(agent_argv, make_sys(tmp_path, dict.fromkeys(range(4))), "--cores", word)
    assert f"so which are {word} is not known; name them by numbers, such as 4-7" in line["message"]


def test_all_where_no_cores_are_listed_suggests_numbers(agent_argv: list[str], tmp_path: Path) -> None:
    assert "lists no cores; name them by numbers" in first_line(agent_argv, tmp_path, "--cores", "all")["message"]


def test_two_clusters_have_no_middle(agent_argv: list[str], tmp_path: Path) -> None:
    line = first_line(agent_argv, make_sys(tmp_path, GALAXY_S8), "--cores", "middle")
    assert line["message"] == "there are no middle cores: the device tells 2 clusters"


@pytest.mark.parametrize(
    "text",
    [
        *("", "BIG", "3-1", ",0", "1-", "0 ", "0x0", "1024"),
        *(pytest.param(t, marks=pytest.mark.full) for t in ("x", "0,", " 0", "+1", "0x", "0xg", "0-1024", "9" * 99)),
    ],
)
def test_what_is_no_set_of_cores_is_told_by_the_agents_too(agent_argv: list[str], tmp_path: Path, text: str) -> None:
    line = first_line(agent_argv, tmp_path, "--cores", text)
    assert line["message"].startswith("cores are big, middle, little, all, numbers such as 0-3,6 or a mask, not ")


AS_NOBODY = """
import argparse, codecs, importlib.util, os, sys
spec = importlib.util.spec_from_file_location("agent", sys.argv.pop(1))
agent = importlib.util.module_from_spec(spec)
spec.loader.exec_module(agent)
agent.RUNTIMES.clear()
codecs.lookup("ascii"), argparse.ArgumentParser()  # they import as they go
os.setuid(65534)
sys.exit(agent.main())
"""


@pytest.mark.parametrize("kind", ["python", "native"])
def test_clusters_that_may_not_be_read_are_unknown(kind: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to start the agent as nobody")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        process: dict[str, Any] = {}
        if kind == "python":  # Python itself may lie where nobody may read
            argv = [sys.executable, "-c", AS_NOBODY, str(shutil.copy(agent_script(), folder))]
        elif shutil.which("cc") is None:
            pytest.skip("no C compiler cc is on the PATH")
        else:
            argv, process = [str(shutil.copy(native.build(native.host_target()), folder))], {"user": 65534}
            Path(argv[0]).chmod(0o755)
        make_sys(folder / "sys", GALAXY_S8)
        assert first_line(argv, folder / "sys", **process)["clusters"] is not None
        for path in folder.rglob("cpuinfo_max_freq"):
            path.chmod(0)
        assert first_line(argv, folder / "sys", **process)["clusters"] is None
        refused = first_line(argv, folder / "sys", "--cores", "big", **process)
        assert "so which are big is not known" in refused["message"]
        assert first_line(argv, folder / "sys", "--cores", str(ALLOWED[0]), **process)["cores"] == ALLOWED[:1]


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("0", "0"),
        ("0,2", "0,2"),
        ("4-7", "4,5,6,7"),
        ("1,0-2", "0,1,2"),
        (" 7, 6 ", "6,7"),
        ("0xf0", "4,5,6,7"),
        ("0XF0", "4,5,6,7"),
        ("007", "7"),
        ("big", "big"),
        ("Little", "little"),
        ("middle", "middle"),
        ("all", "all"),
        ("little, Big", "big,little"),
        ("2,big,0-1", "big,0,1,2"),
        ("middle,0xc", "middle,2,3"),
    ],
)
def test_every_spelling_of_cores_has_one_text(text: str, canonical: str) -> None:
    assert check_cores(text) == canonical
    assert check_cores(canonical) == canonical


@pytest.mark.parametrize(
    "text", ["", "a", "3-1", "0;1", "-1", "0x", "0x0", "0xg", "f0", "1024", "0-9999", "²", "any", "big,"]
)
def test_other_cores_are_refused(text: str) -> None:
    with pytest.raises(FbError, match="core"):
        check_cores(text)


@pytest.mark.parametrize("name", ["galaxy-s8", "pixel-3"])
def test_the_phones_are_measured_on_their_big_cores(name: str) -> None:
    assert load_profile(name).cores == "big"


def test_a_profiles_cores_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    path.write_text('description = "x"\ntransport = "local"\ncores = "0xc"\n')
    assert load_profile(str(path)).cores == "2,3"
    path.write_text('description = "x"\ntransport = "local"\ncores = "bigger"\n')
    with pytest.raises(ProfileError, match=r"cores: .*cores are big, middle, little, all, numbers and ranges"):
        load_profile(str(path))
