"""Script: where the agents' files lie: the Python agent, which is sent as it is, and the native agent's sources."""

from collections.abc import Callable
from pathlib import Path

import fbagents
from fbagents.errors import DeviceError
from fbexport.runtimes import agent_sources


def python_agent(push: Callable[[Path], str]) -> list[str]:
    """Return the Python agent and the runtimes of packages outside, each by the path that `push` gives its file."""
    return [push(agent_script()), *(word for path in agent_sources() for word in ("--runtime", push(path)))]


def agent_script() -> Path:
    """Return the Python agent's file."""
    return on_device("agent.py") / "agent.py"


def on_device(name: str) -> Path:
    """Return the folder `on-device` that holds a file, in the checkout or the installed package. Raises DeviceError."""
    package = Path(fbagents.__file__).parent
    for folder in (package / "on-device", package.parent / "on-device"):
        if (folder / name).is_file():
            return folder
    raise DeviceError(f"the agent's file on-device/{name} is missing beside {package}: install the package again")
