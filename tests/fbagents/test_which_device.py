"""Which device it was: what both agents and the host's script tell of an Android phone, a board, and anything else."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from fbagents.agent.protocol import Hello
from fbagents.benchmark.facts import FACTS, parse_facts

GALAXY_S21 = {
    "ro.product.manufacturer": "samsung",
    "ro.product.model": "SM-G998B",
    "ro.soc.manufacturer": "QTI",
    "ro.soc.model": "SM8350",
    "ro.board.platform": "lahaina",
    "ro.hardware": "qcom",
    "ro.build.version.release": "14",
    "ro.build.id": "UP1A.231005.007",
}
KERNEL = " ".join((os.uname().sysname, os.uname().release, os.uname().machine))


class Told:
    """What an agent of this machine tells where `getprop` answers with these properties, and what FACTS comes to."""

    def __init__(self, argv: list[str], folder: Path, properties: dict[str, str] | None, board: str = "") -> None:
        (folder / "proc/device-tree").mkdir(parents=True)
        (folder / "sys/devices/system/cpu").mkdir(parents=True)
        if board:
            (folder / "proc/device-tree/model").write_bytes(board.encode() + b"\0")
        if properties is not None:
            (folder / "bin").mkdir()
            (folder / "bin/getprop").write_text(
                "#!/bin/sh\ncase $1 in\n" + "".join(f"{k}) echo '{v}' ;;\n" for k, v in properties.items()) + "esac\n"
            )
            (folder / "bin/getprop").chmod(0o755)
        environment = os.environ | {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
        argv = [*argv, "--sys", str(folder / "sys")]
        done = subprocess.run(argv, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
        hello = Hello.model_validate(json.loads(done.stdout))
        self.agent = (hello.device_model, hello.soc, hello.system)
        argv = ["sh", "-c", FACTS, "sh", str(folder / "sys")]
        done = subprocess.run(argv, env=environment, capture_output=True, timeout=60, check=True)
        facts = parse_facts(done.stdout.decode())
        self.host = (facts.device_model, facts.soc, facts.system)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ("samsung SM-G998B", "QTI SM8350", f"Android 14 (UP1A.231005.007), {KERNEL}")),
        ({"ro.soc.model": "", "ro.build.id": ""}, ("samsung SM-G998B", "lahaina", f"Android 14, {KERNEL}")),
        ({"ro.soc.model": "unknown", "ro.board.platform": ""}, ("samsung SM-G998B", "qcom", None)),
        (
            {"ro.product.manufacturer": "Google", "ro.product.model": "google Pixel"},
            ("google Pixel", "QTI SM8350", None),
        ),
        ({"ro.product.manufacturer": "", "ro.soc.manufacturer": ""}, ("SM-G998B", "SM8350", None)),
    ],
)
def test_an_android_phone_is_called_as_its_properties_say(
    agent_argv: list[str], tmp_path: Path, changes: dict[str, str], expected: tuple[str, str, str | None]
) -> None:
    told = Told(agent_argv, tmp_path, GALAXY_S21 | changes)
    assert told.agent == told.host
    assert told.agent[: 2 if expected[2] is None else 3] == tuple(filter(None, expected))


def test_a_board_is_called_as_its_device_tree_says(agent_argv: list[str], tmp_path: Path) -> None:
    told = Told(agent_argv, tmp_path, None, "Hardkernel ODROID-N2")
    assert told.agent == told.host
    assert (told.agent[0], told.agent[2]) == ("Hardkernel ODROID-N2", KERNEL)


def test_a_machine_that_tells_nothing_has_no_model(agent_argv: list[str], tmp_path: Path) -> None:
    told = Told(agent_argv, tmp_path, None)
    assert told.agent == told.host
    assert told.agent[0] is None
    assert told.agent[1]


def test_a_getprop_that_tells_nothing_is_no_android(agent_argv: list[str], tmp_path: Path) -> None:
    told = Told(agent_argv, tmp_path, {})
    assert told.agent == told.host
    assert (told.agent[0], told.agent[2]) == (None, KERNEL)


def test_what_a_kernel_alone_tells_is_what_is_left() -> None:
    facts = parse_facts("machine aarch64\nsystem Linux 6.1 aarch64\ncore 0 1 1700000\n")
    assert (facts.soc, facts.device_model) == ("aarch64", None)
    board = parse_facts("machine aarch64\nboard Hardkernel ODROID-N2\nsystem Linux 6.1 aarch64\n")
    assert (board.soc, board.device_model) == ("Hardkernel ODROID-N2",) * 2
