"""The main job as the Makefile's demo does it, only shorter: table, search, verified network."""

import json
import re
import shlex
import subprocess
from pathlib import Path

from peers import processes

ROOT = Path(__file__).parents[1]
SHORTER = {
    "measure": ["--quick"],
    "run": ["--epochs", "2", "--train-epochs", "2", "--limit", "300", "--steps", "4"],
    "verify": ["--rounds", "5"],
}


def test_the_demos_own_commands_end_in_a_verified_network(tmp_path: Path) -> None:
    recipe = subprocess.run(
        ["make", "--dry-run", "--assume-old=.venv/.installed", "demo", f"DEMO={tmp_path}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    commands = [shlex.split(line)[1:] for line in recipe.splitlines() if re.search(r"/fb(prof|search) ", line)]
    tools = re.findall(r"/(fbprof|fbsearch) ", recipe)
    assert [(tool, command[0]) for tool, command in zip(tools, commands, strict=True)] == [
        ("fbprof", "measure"),
        ("fbsearch", "run"),
        ("fbprof", "verify"),
    ]
    out = ""
    for tool, command in zip(tools, commands, strict=True):
        done = processes.run(["-m", tool, *command, *SHORTER[command[0]]], timeout=300)
        assert done.returncode == 0, done.stderr
        out = done.stdout
    architecture = json.loads((tmp_path / "search" / "arch.json").read_text())
    choices = [line.split()[1] for line in out.splitlines() if re.match(r" +\d+  ", line)]
    assert choices == architecture["choices"]
    shown_ms = float(re.search(r"^predicted +([\d.]+) ms", out, re.M)[1])  # type: ignore[index]
    assert abs(shown_ms * 1000 - architecture["predicted"]["latency_us"]) <= 0.5 + 1e-9
    assert re.search(r"^measured +[\d.]+ ms", out, re.M)
    assert re.search(r"^difference +[+-][\d.]+ %", out, re.M)
    assert re.search(r"^test accuracy: [\d.]+ %", out, re.M)
    assert f"network {tmp_path}/search/arch.json, table {tmp_path}/local.csv" in out
