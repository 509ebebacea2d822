"""One connection of the OpenSSH client: every command shares it, and it is opened again when it broke."""

import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import IO, Annotated

import pydantic

from fbagents.agent.channel import Finished, last_words
from fbagents.errors import AgentLostError, ConnectionLostError, DeviceError, UnreachableError
from fbagents.posix.connection import Connection, cannot_be_run, how_it_ended
from fbagents.posix.process import ProcessChannel, finished

OPTIONS = {
    "StrictHostKeyChecking": "yes",
    "VerifyHostKeyDNS": "no",
    "NoHostAuthenticationForLocalhost": "no",
    "UpdateHostKeys": "no",
    "BatchMode": "yes",
    "ConnectTimeout": "10",
    "ServerAliveInterval": "2",
    "ServerAliveCountMax": "3",
    "ControlPersist": "60",
    "LogLevel": "INFO",
    "RequestTTY": "no",
    "RemoteCommand": "none",
    "ForwardAgent": "no",
    "ForwardX11": "no",
    "ClearAllForwardings": "yes",
    "PermitLocalCommand": "no",
}
"""Of whatever the user's configuration says, this is not left to it."""
OPEN_TIMEOUT_S = 30.0
MAX_PARENT_LENGTH = 60
"""A socket's path has at most 103 characters, and the client adds 17 to ours while it opens one."""

_Name = Annotated[str, pydantic.Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.:%+-]*$", max_length=255)]
_Jumps = Annotated[str, pydantic.Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.:%+@,\[\]-]*$", max_length=1000)]
_File = Annotated[str, pydantic.Field(pattern=r'^[^"\\$\x00-\x1f]+$', max_length=1000)]


class Address(pydantic.BaseModel, extra="forbid", frozen=True, strict=True):
    """Where a device is; what is left out comes from the user's OpenSSH configuration, where `host` may be an alias."""

    host: _Name
    port: Annotated[int, pydantic.Field(ge=1, le=65535)] | None = None
    user: _Name | None = None
    key_file: _File | None = None
    config_file: _File | None = None
    known_hosts_file: _File | None = None
    jump: _Jumps | None = None

    def __str__(self) -> str:
        port = f" port {self.port}" if self.port else ""
        return f"{self.user}@{self.host}{port}" if self.user else f"{self.host}{port}"

    def options(self) -> list[str]:
        """Return the client's options, each value an argument of its own."""
        options = [argument for name, value in OPTIONS.items() for argument in ("-o", f"{name}={value}")]
        if self.config_file:
            options += ["-F", _path(self.config_file)]
        if self.port:
            options += ["-p", str(self.port)]
        if self.user:
            options += ["-l", self.user]
        if self.key_file:
            options += ["-o", "IdentitiesOnly=yes", "-i", _path(self.key_file).replace("%", "%%")]
        if self.known_hosts_file:
            options += ["-o", f'UserKnownHostsFile="{_path(self.known_hosts_file).replace("%", "%%")}"']
        return options + (["-J", self.jump] if self.jump else [])


class OpenSsh(Connection):
    """A shared connection whose socket lies in a private folder; it ends by itself a minute after its last command."""

    def __init__(self, address: Address, open_timeout_s: float = OPEN_TIMEOUT_S) -> None:
        self.address = address
        self._open_timeout_s = open_timeout_s
        self._tries = 0
        parent = tempfile.gettempdir()
        self._folder = Path(
            tempfile.mkdtemp(prefix="fbssh-", dir=parent if len(parent) < MAX_PARENT_LENGTH else "/tmp")
        )

    def __str__(self) -> str:
        return str(self.address)

    def argv(self, script: str, *arguments: str) -> list[str]:
        """Return the command that runs a constant POSIX shell script on the device; data are its arguments.

        OpenSSH hands one string to the user's shell there, whatever it is given: every argument is quoted for it.
        """
        remote = shlex.join(["sh", "-c", script, "sh", *arguments])
        return [*self._client(), "-o", "ControlMaster=no", "-T", "--", self.address.host, remote]

    def run(self, script: str, *arguments: str, stdin: IO[bytes] | None = None, timeout_s: float) -> Finished:
        """Run a script. Raises ConnectionLostError, AgentTimeoutError."""
        done = finished(self.argv(script, *arguments), timeout_s, self.address, stdin)
        if done.code == 255:
            raise self.lost()
        return done

    def start(self, script: str, *arguments: str) -> "SshChannel":
        """Start a script and return its streams."""
        return SshChannel(self, script, *arguments)

    def is_open(self) -> bool:
        """Return whether the connection is open, as far as the client knows by now."""
        return self._control("check")

    def forward(self, target: str) -> str:
        """Return a socket that only this user can open and that leads to `host:port` as seen from there.

        Raises UnreachableError. The client is asked without any configuration: that may ask for forwardings of its own.
        """
        forwarded = self._folder / f"forward{self._tries}"
        if not forwarded.exists():
            socket, log = (str(self._folder / name) for name in (f"socket{self._tries}", "control"))
            argv = ["ssh", "-F", "none", "-S", socket.replace("%", "%%"), "-E", log, "-O", "forward"]
            listening = str(forwarded).replace(":", "\\:")
            argv += ["-L", f"{listening}:{target}", "--", self.address.host]
            try:
                code = _quietly(argv, OPEN_TIMEOUT_S)
            except (OSError, subprocess.TimeoutExpired):
                code = -1
            if code != 0:
                raise UnreachableError(f"the OpenSSH client does not forward a socket to {target} on {self.address}")
        return str(forwarded)

    def lost(self) -> ConnectionLostError:
        """Describe how the connection ended."""
        return ConnectionLostError(f"the connection to {self.address} was lost: {self._words()}")

    def close(self) -> None:
        """End the connection and remove its folder; never raises."""
        if self._tries:
            self._control("exit")
        shutil.rmtree(self._folder, ignore_errors=True)

    def open(self) -> None:
        """Log in, and leave the client in the background to serve the commands. Raises DeviceError."""
        self._tries += 1
        argv = [*self._client(), "-o", "ControlMaster=yes", "-fN", "--", self.address.host]
        try:
            code = _quietly(argv, self._open_timeout_s)
        except FileNotFoundError:
            raise DeviceError(
                "the OpenSSH client ssh is not installed on this machine: install openssh-client"
            ) from None
        except subprocess.TimeoutExpired:
            raise UnreachableError(f"{self.address} did not log in within {self._open_timeout_s:.0f} s") from None
        if code != 0:
            raise explain(self._words(), self.address)

    def _client(self, log: str = "log") -> list[str]:
        """Return the client's command up to the host; each connection has a socket and a log of its own."""
        socket, log = (str(self._folder / f"{kind}{self._tries}") for kind in ("socket", log))
        return ["ssh", *self.address.options(), "-S", socket.replace("%", "%%"), "-E", log]

    def _control(self, request: str) -> bool:
        try:
            return _quietly([*self._client("control"), "-O", request, "--", self.address.host], OPEN_TIMEOUT_S) == 0
        except (OSError, subprocess.TimeoutExpired):
            return False

    def _words(self) -> str:
        """Return what the client said last about this connection."""
        try:
            return last_words((self._folder / f"log{self._tries}").read_bytes()) or "the client gave no reason"
        except OSError:
            return "the client gave no reason"


class SshChannel(ProcessChannel):
    """A script's streams through a client process, whose exit code says what ended: the script or the connection."""

    def __init__(self, connection: OpenSsh, script: str, *arguments: str) -> None:
        super().__init__(connection.argv(script, *arguments), dict(os.environ))
        self._connection = connection

    def _lost(self) -> AgentLostError:
        lost, code = super()._lost(), self._process.returncode
        if code is None or code < 0:
            return lost
        if code == 255 and not self._connection.is_open():
            return self._connection.lost()
        ended = str(lost).replace(f"ended with {code}", how_it_ended(code))
        return AgentLostError(ended + cannot_be_run(code, self._connection))


def explain(words: str, address: Address) -> DeviceError:
    """Turn the client's words about a login that failed into what happened and what to do next."""
    known_hosts = address.known_hosts_file or "~/.ssh/known_hosts"
    port = f"-p {address.port} " if address.port else ""
    host = f"[{address.host}]:{address.port}" if address.port not in (None, 22) else address.host
    if "has changed and you have requested strict checking" in words:
        return DeviceError(
            f"the host key of {address} is not the one in {known_hosts}: either the device was set up anew, or "
            "something else answers in its place. Compare the fingerprint with the device's own "
            "(ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub, on the device), and only if they are equal remove the "
            f"old key with: ssh-keygen -R '{host}' -f {known_hosts}"
        )
    if "Host key verification failed" in words:
        return DeviceError(
            f"the host key of {address} is unknown: it is not in {known_hosts}, and no key is accepted unseen. Show it "
            f"with: ssh-keyscan {port}{address.host} | ssh-keygen -lf - ; compare it with the device's own "
            "(ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub, on the device); then connect once by hand with ssh"
        )
    if "Permission denied" in words or "Too many authentication failures" in words:
        key = f"the key {address.key_file}" if address.key_file else "the keys of your OpenSSH configuration or agent"
        return DeviceError(
            f"{address} does not let us in with {key} ({words}). Put the public key there with ssh-copy-id; a key with "
            "a passphrase has to be in ssh-agent, since nobody is asked while measuring"
        )
    if "Could not resolve hostname" in words:
        return UnreachableError(
            f"the name {address.host} is not known here: {words}. Check address.host, or give an IP"
        )
    for sign, advice in (
        ("Connection refused", "no SSH server listens there: is it on, and is the port right?"),
        ("timed out", "no answer: is the device on, and in this network?"),
        ("No route to host", "no way there: is the device on, and in this network?"),
    ):
        if sign in words:
            return UnreachableError(f"cannot reach {address}: {advice} ({words})")
    return UnreachableError(f"cannot connect to {address}: {words}")


def _quietly(argv: list[str], timeout_s: float) -> int:
    """Run a client of which only the exit code and the log matter; without a terminal nobody can be asked."""
    environment = os.environ | {"SSH_ASKPASS_REQUIRE": "never"}
    null = subprocess.DEVNULL
    return subprocess.run(
        argv, stdin=null, stdout=null, stderr=null, timeout=timeout_s, env=environment, start_new_session=True
    ).returncode


def _path(text: str) -> str:
    return str(Path(text).expanduser())
