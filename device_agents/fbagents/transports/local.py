"""local: this machine; the agent is a child process, models are opened where they lie."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from fbagents.agent.channel import Finished
from fbagents.errors import DeviceError
from fbagents.native import build as native
from fbagents.native.script import python_agent
from fbagents.posix.process import ProcessChannel, finished
from fbagents.transport import Transport


class Local(Transport):
    """Starts the Python agent with this Python or the one the profile names, or builds and starts the native one."""

    is_this_machine = True
    runs_programs = True
    copies = False

    def push(self, path: Path) -> str:
        """Return the path itself."""
        return str(Path(path).resolve())

    def start(self, options: Sequence[str]) -> ProcessChannel:
        """Start the agent."""
        if self.profile.program is not None:
            agent = [self.profile.program]
        elif self.profile.agent == "native":
            agent = [str(native.build(native.host_target())), *native.runtime_options(self.runtimes)]
        else:
            agent = [self.profile.python or sys.executable, *python_agent(self.push)]
        return ProcessChannel([*agent, *options], os.environ | self.profile.environment)

    def install(self, program: Path) -> str:
        """Return the program's path. Raises DeviceError where it may not be executed."""
        path = self.push(program)
        if not os.access(path, os.X_OK):
            raise DeviceError(f"{program} is not executable: chmod +x {program}")
        return path

    def run(self, script: str, *arguments: str, timeout_s: float) -> Finished:
        """Run a script."""
        return finished(["sh", "-c", script, "sh", *arguments], timeout_s, "this machine")
