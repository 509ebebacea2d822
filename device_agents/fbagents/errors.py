"""Errors of fbagents: a mistake in a profile, exit code 2, and what is the device's or its agent's, exit code 3."""

from fbbase.errors import FbError


class ProfileError(FbError):
    """A profile file that does not describe a device."""


class DeviceError(FbError):
    """A device that cannot be reached or used as asked."""

    exit_code = 3


class AgentLostError(DeviceError):
    """The agent's process ended, or the connection to it broke; the message carries its last words."""


class ConnectionLostError(AgentLostError):
    """The connection to the device broke: no fault of what the agent was doing."""


class UnreachableError(DeviceError):
    """Nobody answers at the device's address now; that may change."""


class AgentTimeoutError(DeviceError):
    """The agent did not answer in time."""


class AgentReplyError(DeviceError):
    """The agent answered with an error, or with what is not an answer; the message carries the raw text."""
