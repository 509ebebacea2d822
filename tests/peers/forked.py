"""Agents and trial runs of this machine, forked from the server of processes, which has numpy and runtimes already."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import IO, Any

import pytest

from fbagents.posix import process
from fbmodel import trial
from peers import processes

RUN = "import runpy, sys; del sys.argv[0]; runpy.run_path(sys.argv[0], run_name='__main__')"
PROGRAMS: dict[str, list[str]] = {sys.executable: []}
"""What to give Python instead of a program that starts it: a script that takes the program's words, or nothing."""


class Forked(processes.Python):
    """A process of a script, with pipes as subprocess.Popen makes them of bytes without a buffer."""

    def __init__(
        self, words: Sequence[str], stderr: IO[bytes], env: Mapping[str, str], start_new_session: bool
    ) -> None:
        read, ours = os.pipe()
        mine, write = os.pipe()
        super().__init__(["-c", RUN, *words], read, write, stderr, env, start_new_session=start_new_session)
        os.close(read)
        os.close(write)
        self.stdin = os.fdopen(ours, "wb", 0)
        self.stdout = os.fdopen(mine, "rb", 0)  # type: ignore[assignment]


def popen(argv: Sequence[str], **options: Any) -> Any:
    """Start a process as subprocess.Popen does, forked where it is a Python that runs the agent."""
    program, *words = argv
    if program not in PROGRAMS or not (PROGRAMS[program] or words[0].endswith("agent.py")):
        return subprocess.Popen(argv, **options)
    del options["stdin"], options["stdout"], options["bufsize"]
    return Forked([*PROGRAMS[program], *words], **options)


def run(argv: Sequence[str], *, input: str, timeout: float, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a script to its end as subprocess.run does that captures text."""
    python, safe_path, *words = argv
    assert (python, safe_path) == (sys.executable, "-P")
    return processes.run(["-c", RUN, *words], input, timeout)


def fork(patch: pytest.MonkeyPatch) -> None:
    """Have agents and trial runs forked from now on, until the patch is undone."""
    forking = SimpleNamespace(**vars(subprocess) | {"Popen": popen, "run": run})
    for module in (process, trial):
        patch.setattr(module, "subprocess", forking)
