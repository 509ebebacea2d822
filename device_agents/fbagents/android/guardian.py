"""Guardian: a script on the phone that changes its settings and puts them back when whoever asked for it is gone."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from fbagents.agent.channel import Channel, last_words
from fbagents.errors import AgentReplyError, DeviceError
from fbagents.posix.connection import COMMAND_TIMEOUT_S, Connection
from fbagents.posix.scripts import script

READY_TIMEOUT_S = 30.0
END_TIMEOUT_S = 15.0
STAY_ON, FIXED_PERFORMANCE = "stay_on", "fixed_performance"
"""What can be changed, by the names that the script and the profile use."""

_FUNCTIONS = script(__package__, "guardian")
GUARD = _FUNCTIONS + script(__package__, "guard")
"""Changes settings, and waits for a line, the end of its input or a signal to put all back."""
RESTORE = _FUNCTIONS + "end_guardian; restore"
"""Puts back what a guardian recorded, once that has ended."""


class Change(NamedTuple):
    """What became of one setting: `set` (with the old value), `denied` (with the phone's words), or `absent`."""

    outcome: str
    words: str


class Guardian:
    """A guardian that runs on the phone; `changes` says what it did."""

    def __init__(self, connection: Connection, prefix: str, names: Sequence[str]) -> None:
        """Start it and wait until it is ready. Raises DeviceError."""
        self.changes: dict[str, Change] = {}
        self._channel: Channel = connection.start(GUARD, prefix, *names)
        try:
            while (line := self._receive(READY_TIMEOUT_S)) != "ready":
                self._note(line, names)
        except BaseException:
            self._channel.close()
            raise

    def end(self) -> bool:
        """Let it put the settings back and return whether it says it did; never raises."""
        try:
            self._channel.send(b"end")
            return self._receive(END_TIMEOUT_S) == "restored"
        except DeviceError:
            return False
        finally:
            self._channel.close()

    def abandon(self) -> None:
        """Close its streams, where the connection broke; never raises."""
        self._channel.close()

    def _receive(self, timeout_s: float) -> str:
        return last_words(self._channel.receive(timeout_s)[:1000])

    def _note(self, line: str, names: Sequence[str]) -> None:
        name, _, rest = line.partition(" ")
        outcome, _, words = rest.partition(" ")
        is_known = name in names and name not in self.changes and outcome in ("set", "denied", "absent")
        if not is_known or (outcome == "set" and not re.fullmatch(r"null|[0-9]{1,2}|false", words)):
            raise AgentReplyError(f"the script that changes the phone's settings said {line[:200]!r}")
        self.changes[name] = Change(outcome, words)


def restore(connection: Connection, prefix: str) -> bool:
    """Put back what a guardian recorded, and return whether that worked. Raises DeviceError."""
    return connection.run(RESTORE, prefix, timeout_s=COMMAND_TIMEOUT_S).code == 0


def by_hand(changes: dict[str, Change]) -> str:
    """Return the commands by which a person puts the settings back."""
    commands = []
    if (change := changes.get(STAY_ON)) and change.outcome == "set":
        what = "delete" if change.words == "null" else "put"
        value = "" if change.words == "null" else f" {change.words}"
        commands.append(f"adb shell settings {what} global stay_on_while_plugged_in{value}")
    if (change := changes.get(FIXED_PERFORMANCE)) and change.outcome == "set":
        commands.append("adb shell cmd power set-fixed-performance-mode-enabled false")
    return " ; ".join(commands)
