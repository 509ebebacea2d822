"""ssh: a board, phone or server reached by the OpenSSH client; docs/ssh.md says what it needs."""

import hashlib
import os
import re
import secrets
from collections.abc import Sequence
from pathlib import Path

from fbagents.errors import AgentLostError, DeviceError, ProfileError
from fbagents.profile import Profile
from fbagents.transports._openssh import Connection, address_of
from fbagents.transports.local import ProcessChannel, agent_script

DEFAULT_FOLDER = ".cache/fbnet-lab"
COMMAND_TIMEOUT_S = 30.0
SLOWEST_BYTES_PER_S = 100_000

# The scripts are constants; whatever comes from a profile or a file reaches them as "$1", "$2", … and is never parsed.
PREPARE = """
umask 077
mkdir -p -- "$1" || exit
find "$1" -maxdepth 1 -type d -name 'fbnet-lab-????????????????' -mtime +6 -exec rm -r -- {} +
[ -d "$2" ] || mkdir -m 700 -- "$2"
"""
_HAS_HASH = """
has_hash() {
  if command -v sha256sum >/dev/null; then hash=$(sha256sum <"$1"); else hash=$(shasum -a 256 <"$1"); fi
  [ "${hash%% *}" = "$2" ]
}
"""
CHECK = _HAS_HASH + '[ -f "$1" ] && has_hash "$1" "$2"'
UPLOAD = (
    _HAS_HASH
    + """
umask 077
cat >"$1.part" || { rm -f -- "$1.part"; exit 3; }
has_hash "$1.part" "$2" || { rm -f -- "$1.part"; exit 4; }
mv -f -- "$1.part" "$1" || exit 3
"""
)
DAMAGED = 4
START = """
umask 077
pid=$1; shift
if [ -s "$pid" ]; then
  old=$(cat "$pid")
  command=$({ tr '\\0' ' ' <"/proc/$old/cmdline" || ps -o args= -p "$old"; } 2>/dev/null)
  case $command in *"${pid%/*}"*) kill -KILL "$old" ;; esac
  rm -f -- "$pid"
fi
while [ "$1" != -- ]; do export "$1"; shift; done
shift
exec 3<&0
"$@" <&3 3<&- &
echo $! >"$pid"
wait $!
"""
"""Ends an agent that a broken connection left behind, and stays beside the new one to tell how it ends."""
REMOVE = 'rm -rf -- "$1"'


def connect(profile: Profile) -> "SshTransport":
    """Return a transport to the host of the profile's address. Raises ProfileError; nothing is sent yet."""
    return SshTransport(profile)


class SshTransport:
    """Keeps the agent and its models in a private folder of this run, and removes it in the end."""

    def __init__(self, profile: Profile) -> None:
        _check(profile)
        self._profile = profile
        self._parent = _folder(profile.folder or DEFAULT_FOLDER)
        self._folder = f"{self._parent}/fbnet-lab-{secrets.token_hex(8)}"
        self._connection = Connection(address_of(profile))
        self._prepared_in = 0
        self._there: dict[str, int] = {}

    def push(self, path: Path) -> str:
        """Copy a file under the hash of its content, unless it is there whole."""
        with Path(path).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        suffix = path.suffix if re.fullmatch(r"\.[a-z0-9]{1,12}", path.suffix) else ""
        remote = f"{self._folder}/{digest}{suffix}"
        connection = self._prepare()
        if self._there.get(remote) != connection:
            known = remote in self._there and self._run(CHECK, remote, digest)[0] == 0
            if not known:
                self._upload(path, remote, digest)
            self._there[remote] = connection
        return remote

    def start(self, options: Sequence[str]) -> "SshChannel":
        """Start the agent."""
        agent = self._agent()
        self._prepare()
        environment = [f"{name}={value}" for name, value in self._profile.environment.items()]
        return SshChannel(self._connection, [f"{self._folder}/agent.pid", *environment, "--", *agent, *options])

    def close(self) -> None:
        """Remove the run's folder and end the connection."""
        try:
            if self._prepared_in:
                self._connection.ensure(patient=False)
                self._run(REMOVE, self._folder)
        except DeviceError:
            pass  # the device is gone; a later run removes the folder
        finally:
            self._connection.close()

    def _agent(self) -> list[str]:
        """Return the agent's command on the device, with its files there."""
        if self._profile.agent == "native":
            raise DeviceError(
                f"device {self._profile.name}: over ssh there is no native agent yet; use agent = 'python'"
            )
        return [self._profile.python or "python3", self.push(agent_script())]

    def _prepare(self) -> int:
        """Make sure of the connection and of the folder, and return the connection's number."""
        connection = self._connection.ensure()
        if connection != self._prepared_in:
            code, words = self._run(PREPARE, self._parent, self._folder)
            if code != 0:
                raise DeviceError(f"cannot make a folder in {self._parent!r} on {self._connection.address}: {words}")
            self._prepared_in = connection
        return connection

    def _upload(self, path: Path, remote: str, digest: str) -> None:
        timeout_s = COMMAND_TIMEOUT_S + path.stat().st_size / SLOWEST_BYTES_PER_S
        code, words = 0, ""
        for _ in range(2):
            with path.open("rb") as file:
                code, words = self._connection.run(UPLOAD, remote, digest, stdin=file, timeout_s=timeout_s)
            if code != DAMAGED:
                break
        if code == DAMAGED:
            raise DeviceError(f"{path.name} arrived damaged on {self._connection.address} twice {words}".rstrip())
        if code != 0:
            raise DeviceError(
                f"{path.name} cannot be written to {self._parent!r} on {self._connection.address}: {words or code}. "
                "Make room there, or set folder in the profile; the same command continues"
            )

    def _run(self, script: str, *arguments: str) -> tuple[int, str]:
        return self._connection.run(script, *arguments, timeout_s=COMMAND_TIMEOUT_S)


class SshChannel(ProcessChannel):
    """The agent's streams through a client process, whose exit code says what ended: the agent or the connection."""

    def __init__(self, connection: Connection, arguments: Sequence[str]) -> None:
        super().__init__(connection.argv(START, *arguments), dict(os.environ))
        self._connection = connection

    def _lost(self) -> AgentLostError:
        lost = super()._lost()
        code, where = self._process.returncode, self._connection.address
        if code == 255 and not self._connection.is_open():
            return self._connection.lost()
        if code in (126, 127):
            return AgentLostError(f"{lost}. The agent's program cannot be run on {where}: set python in the profile")
        if code is not None and 128 < code < 160:
            cause = ", as the system does when memory runs out" if code == 137 else ""
            return AgentLostError(str(lost).replace(f"ended with {code}", f"was killed by signal {code - 128}{cause}"))
        return lost


def _check(profile: Profile) -> None:
    """Raise ProfileError for what no command line can hold."""
    for name, value in profile.environment.items():
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) or "\0" in value:
            raise ProfileError(f"device {profile.name}: environment: {name!r} cannot be set on the device")
    for field, text in (("folder", profile.folder), ("python", profile.python)):
        if text is not None and (not text or "\0" in text):
            raise ProfileError(f"device {profile.name}: {field} {text!r} is not a path")


def _folder(text: str) -> str:
    """Return a path that no command takes for an option; a relative one begins in the home folder there."""
    text = text.removeprefix("~/").rstrip("/") or "/"
    return text if text.startswith("/") else f"./{text}"
