"""Errors of fbagents.

FbError
├── ProfileError            2  a device profile that is not one
└── DeviceError             3  the device cannot be used as asked
    ├── AgentLostError      3  the agent's process ended or its connection broke
    │   └── ConnectionLostError 3  the connection broke, whatever the agent was doing
    ├── UnreachableError    3  nobody answers at the device's address now
    ├── AgentTimeoutError   3  the agent did not answer in time
    └── AgentReplyError     3  the agent answered with an error, or with what is not an answer
"""

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
