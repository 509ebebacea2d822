"""Transport: the base class of every way to reach a device (docs/extend/transport.md)."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from fbagents.agent.channel import Channel, Finished
from fbagents.agent.pieces import Content, Write
from fbagents.errors import DeviceError
from fbagents.profile import Profile


@dataclass(frozen=True, slots=True)
class Attached:
    """A device that is plugged in, whether or not a profile names it.

    `state` is what whoever sees it says of it, `by` who that is (and `server` where); `remedy` says what to do where it
    cannot be used, and is empty where nothing is known that keeps it from being measured. `places` tell it from others
    of its serial, such as `usb:1-1.4`.
    """

    device: str
    """What --device takes, empty where it cannot be named."""
    serial: str
    model: str
    state: str
    by: str
    server: str = ""
    remedy: str = ""
    places: tuple[str, ...] = field(default=(), compare=False)

    @property
    def name(self) -> str:
        """What tells it from all others that are attached: its serial, or a place; empty where it cannot be named."""
        return self.device.partition(":")[2]

    @property
    def is_usable(self) -> bool:
        """Whether nothing is known that would keep it from being measured."""
        return not self.remedy

    def __str__(self) -> str:
        at = f" at {self.name}" if self.name not in ("", self.serial) else ""
        return f"{self.serial or 'one without a serial number'}{at} ({self.model or 'model not known'}, {self.state})"


class Transport(ABC):
    """A device that a profile reaches.

    A file in `fbagents/transports/` holds one class that derives from this one; the file's name is what a profile
    writes after `transport =`. The class answers for this way to reach devices, an instance for the device of its
    profile. Only `push` and `start` have to be written.
    """

    is_this_machine: ClassVar[bool] = False
    """Whether every profile means this machine, which is not measured twice at once."""
    has_phone_settings: ClassVar[bool] = False
    """Whether a profile may have the table `[phone]`."""
    runs_programs: ClassVar[bool] = False
    """Whether `install` and `run` work, so that the device can be measured with benchmark_model."""
    copies: bool = True
    """Whether the device has files of its own; False where the agent opens this machine's."""

    def __init__(self, profile: Profile) -> None:
        """Take the device of a profile; nothing is sent yet. Raises ProfileError, DeviceError."""
        self.profile = profile
        self.runtimes: tuple[str, ...] = ()
        """Those that its agent has to have."""

    @classmethod
    def named(cls, where: str) -> dict[str, Any] | None:
        """Return the fields of the profile that `--device TRANSPORT:WHERE` stands for, None where nothing is so named.

        Raises ProfileError.
        """
        return None

    @classmethod
    def attached(cls) -> list[Attached]:
        """Return the devices that are plugged in; nothing is started. Raises DeviceError where that is not known."""
        return []

    @classmethod
    def identity(cls, device: Attached) -> str:
        """Return what an attached device tells of itself and no other does, empty where it does not; never raises."""
        return ""

    @classmethod
    def check(cls, profile: Profile, timeout_s: float) -> None:
        """Raise DeviceError where a device does not answer now; nothing runs on it."""
        cls(profile).close()

    @abstractmethod
    def push(self, path: Path) -> str:
        """Make a file available on the device and return the path by which the agent opens it. Raises DeviceError."""

    def send(self, content: Content, write: Write) -> str:
        """Do the same by a running agent, sending it what the device lacks. Raises DeviceError and as `write` does."""
        return self.push(content.path)

    @abstractmethod
    def start(self, options: Sequence[str]) -> Channel:
        """Start the agent with these options. Raises DeviceError."""

    def install(self, program: Path) -> str:
        """Make a program available, prepare the device for it, and return its path there. Raises DeviceError."""
        raise DeviceError(f"{self.profile.name} runs no programs")

    def run(self, script: str, *arguments: str, timeout_s: float) -> Finished:
        """Run a constant POSIX shell script; data are its arguments. Raises ConnectionLostError, AgentTimeoutError."""
        raise DeviceError(f"{self.profile.name} runs no programs")

    def close(self) -> None:  # noqa: B027 - not every transport has something to release
        """Release the device and remove what was pushed; never raises."""
