"""Guardian: a script on the phone that changes its settings and puts them back when whoever asked for it is gone."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from fbagents.agent.channel import Channel, last_words
from fbagents.errors import AgentReplyError, DeviceError
from fbagents.posix.connection import COMMAND_TIMEOUT_S, Connection

READY_TIMEOUT_S = 30.0
END_TIMEOUT_S = 15.0
STAY_ON, FIXED_PERFORMANCE = "stay_on", "fixed_performance"
"""What can be changed, by the names that the script and the profile use."""

# "$1" is where the files' names begin. Values are digits or null, checked before they are written anywhere.
_FUNCTIONS = """
umask 077
set -f
prefix=$1; shift
is_value() { case $1 in null|[0-9]|[0-9][0-9]) ;; *) return 1 ;; esac; }
is_guardian() {
  [ "$1" != $$ ] && case $({ tr '\\0' ' ' <"/proc/$1/cmdline"; } 2>/dev/null) in *"$prefix"*) ;; *) return 1 ;; esac
}
end_guardian() {
  other=$(cat "$prefix.pid" 2>/dev/null)
  case $other in ''|*[!0-9]*) return ;; esac
  tries=0
  while is_guardian "$other" && [ $tries -lt 50 ]; do
    [ $tries -gt 0 ] || kill "$other"
    sleep 0.2
    tries=$((tries + 1))
  done
}
record() { echo "$2" >"$prefix.$1.new" && mv -f "$prefix.$1.new" "$prefix.$1"; }
read_stay_on() { settings get global stay_on_while_plugged_in 2>&1; }
write_stay_on() {
  if [ "$1" = null ]; then settings delete global stay_on_while_plugged_in
  else settings put global stay_on_while_plugged_in "$1"; fi 2>&1
}
write_fixed_performance() { cmd power set-fixed-performance-mode-enabled "$1" 2>&1; }
restore() {
  failed=
  if [ -f "$prefix.stay_on" ]; then
    old=$(cat "$prefix.stay_on")
    if is_value "$old" && { write_stay_on "$old" >/dev/null; [ "$(read_stay_on)" = "$old" ]; }
    then rm -f "$prefix.stay_on"; else failed=yes; fi
  fi
  if [ -f "$prefix.fixed_performance" ]; then
    if write_fixed_performance false >/dev/null; then rm -f "$prefix.fixed_performance"; else failed=yes; fi
  fi
  rm -f "$prefix.pid"
  [ -z "$failed" ]
}
"""
GUARD = (
    _FUNCTIONS
    + """
change_stay_on() {
  command -v settings >/dev/null || { echo stay_on absent; return; }
  now=$(read_stay_on)
  is_value "$now" || { echo stay_on denied $now; return; }
  old=
  if [ "$now" = 7 ] && [ -f "$prefix.stay_on" ]; then old=$(cat "$prefix.stay_on"); fi
  is_value "$old" || old=$now
  words=$(record stay_on "$old" 2>&1) || { echo stay_on denied $words; return; }
  words=$(write_stay_on 7)
  if [ "$(read_stay_on)" = 7 ]; then echo "stay_on set $old"
  else rm -f "$prefix.stay_on"; echo stay_on denied $words; fi
  input keyevent KEYCODE_WAKEUP >/dev/null 2>&1
}
change_fixed_performance() {
  words=$(record fixed_performance false 2>&1) || { echo fixed_performance denied $words; return; }
  if words=$(write_fixed_performance true); then echo fixed_performance set false
  else rm -f "$prefix.fixed_performance"; echo fixed_performance denied $words; fi
}
trap '' PIPE
exec 3<&0 </dev/null
head -n 1 <&3 >/dev/null 2>&1 &
reader=$!
trap 'kill $reader 2>/dev/null' HUP INT TERM
end_guardian
echo $$ >"$prefix.pid"
for name; do "change_$name"; done
echo ready
wait $reader
wait $reader 2>/dev/null
trap '' HUP INT TERM
exec 3<&-
if restore; then echo restored; else echo failed; fi
"""
)
"""Records each old value, changes it, and waits for a line, the end of its input or a signal to put all back.

A value that was recorded before counts while the setting is still as a guardian left it, so that one that was killed
or a restart of the phone loses nothing. The mode of fixed performance cannot be read; it is off unless somebody
switched it on since the phone started.
"""
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
