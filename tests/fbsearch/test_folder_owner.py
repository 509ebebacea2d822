"""A run folder has one owner: a second process is refused by name, and a kill lets the folder go."""

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from fbbase.commandline import run
from fbsearch.cli import fbsearch
from fbspace.architecture import Architecture
from peers.processes import PIPE, Python

HOLD = """
import sys, time
from pathlib import Path
from fbsearch.machine.checkpoint import owned
with owned(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""
FEW = ["--threads", "1", "--epochs", "2", "--batch", "40", "--limit", "200"]


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[Python]:
    """Another process that has the folder `run`."""
    command = ["-c", HOLD, str(tmp_path / "run")]
    with Python(command, stdout=PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


@pytest.mark.parametrize("kind", ["run", pytest.param("train", marks=pytest.mark.full)])
def test_a_folder_that_another_process_writes_is_refused_until_it_is_killed(
    kind: str,
    holder: Python,
    micro_file: Path,
    micro_lut_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "run"
    Architecture(name="small", space=str(micro_file), choices=("k3_e1", "k5_e3")).save(tmp_path / "arch.json")
    what = {"run": ["--lut", str(micro_lut_file), "--space", str(micro_file)], "train": [str(tmp_path / "arch.json")]}
    command = [kind, *what[kind], "-o", str(folder), *FEW]
    assert run(fbsearch, command) == 2
    assert re.search(rf"process {holder.pid} \(.+\) is writing {folder}; wait for it", capsys.readouterr().err)
    assert [path.name for path in folder.iterdir()] == [".owner"]
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert run(fbsearch, command) == 0
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines if line["stage"] == ("search" if kind == "run" else "train")] == [0, 1]
    assert run(fbsearch, command) == 0  # it was let go at the end, too
