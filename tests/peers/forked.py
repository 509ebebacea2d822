"""Agents of this machine that tests fork from the server of processes, which has numpy and the runtimes already."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import IO, Any

from peers.processes import Python

RUN = "import runpy, sys; del sys.argv[0]; runpy.run_path(sys.argv[0], run_name='__main__')"
PROGRAMS: dict[str, list[str]] = {sys.executable: []}
"""What to give Python instead of a program that starts it: a script that takes the program's words, or nothing."""


class Forked(Python):
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


FORKING = SimpleNamespace(**vars(subprocess) | {"Popen": popen})
"""The module subprocess, by which agents are forked."""
