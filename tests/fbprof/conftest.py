"""A small space, and agents that do what a test wants."""

import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fbagents.connect import load_profile
from fbagents.profile import Profile
from peers import forked
from peers.given import SPACE


@pytest.fixture(autouse=True)
def children(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fork agents, which need not import what they load models with: 0.3 s each, and 3 s for torch."""
    forked.fork(monkeypatch)


@pytest.fixture
def space(tmp_path: Path) -> str:
    """The file of a space of two layers."""
    file = tmp_path / "two.toml"
    file.write_text(SPACE)
    return str(file)


@pytest.fixture
def python_that(tmp_path: Path) -> Callable[[str], str]:
    """Return a function that writes a Python which runs the real agent, changed by a body before it starts."""

    def write(body: str) -> str:
        changed = tmp_path / "changed.py"
        changed.write_text(
            "import os, runpy, sys\n"
            "sys.argv = sys.argv[1:]\n"
            "space = runpy.run_path(sys.argv[0], run_name='agent')\n"
            f"Agent, RUNTIMES = space['Agent'], space['RUNTIMES']\n{body}\n"
            "os._exit(space['main']())\n"
        )
        python = tmp_path / "python"
        python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{changed}" "$@"\n')
        python.chmod(python.stat().st_mode | stat.S_IXUSR)
        forked.PROGRAMS[str(python)] = [str(changed)]
        return str(python)

    return write


VISIT = """
run = Agent.run
def changed(self, number, request):
    answered = self.reply
    def reply(**message):
        if message["event"] == "visit":
            index, model = message["index"], message["model"]
            message |= {"cpu_ns": [CPU_NS] * 3, "wall_ns": [WALL_NS] * 3, "freq_khz": None}
        answered(**message)
    self.reply = reply
    try:
        run(self, number, request)
    finally:
        self.reply = answered
Agent.run = changed
"""


@pytest.fixture
def python_that_takes(python_that: Callable[[str], str]) -> Callable[..., str]:
    """Return a function that writes a Python whose agent tells other times for the three runs of a visit.

    `wall_ns` is an expression of the visit's `index` and `model`, `cpu_ns` too; `before` is executed first.
    """

    def write(wall_ns: str, cpu_ns: str, before: str = "") -> str:
        return python_that(before + VISIT.replace("WALL_NS", wall_ns).replace("CPU_NS", cpu_ns))

    return write


@pytest.fixture
def agent_that(python_that: Callable[[str], str]) -> Callable[[str], Profile]:
    """Return a function that gives a profile whose agent is changed by a body."""
    return lambda body: load_profile("local").model_copy(update={"python": python_that(body)})
