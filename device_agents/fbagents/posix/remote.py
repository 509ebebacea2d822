"""RemoteTransport: files and an agent on a device that runs POSIX shell scripts, whatever connection leads there."""

import contextlib
import os
import re
import secrets
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from fbagents.agent.channel import Channel, Finished
from fbagents.agent.pieces import Content, Places, Write
from fbagents.errors import AgentReplyError, DeviceError, ProfileError
from fbagents.native import bundle
from fbagents.native.bundle import Bundle
from fbagents.native.script import python_agent
from fbagents.posix.connection import COMMAND_TIMEOUT_S, Connection
from fbagents.posix.packing import UNPACK, megabytes, packed
from fbagents.posix.scripts import CHECK, DAMAGED, MISSING, PREPARE, REMOVE, START, UPLOAD
from fbagents.profile import Profile
from fbagents.transport import Transport
from fbbase.files import file_sha256
from fbbase.progress import Waiting, progress
from fbexport.runtimes import RUNTIMES

SLOWEST_BYTES_PER_S = 100_000
SLOWEST_HASH_BYTES_PER_S = 3_000_000
MUCH_MB = 100
"""So much of a bundle is told before it is sent, and compressed for the way."""
BAR_MB = 5
"""Files of so much or more are sent with a bar."""
LOOK_S = 0.5
BUNDLES = {("Linux", "aarch64"): "aarch64-linux", ("Linux", "x86_64"): "x86_64-linux"}
"""What `uname` says, and the bundle that runs there."""


class RemoteTransport(Transport):
    """Keeps the agent and its models in a private folder of this run, and removes it in the end.

    The native agent's bundle lies beside it under a name of its own hash, so that what is there already is not sent.
    """

    runs_programs = True

    def __init__(self, profile: Profile, connection: Connection, default_folder: str) -> None:
        super().__init__(profile)
        check_fields(profile)
        self._connection = connection
        self._parent = folder_argument(profile.folder or default_folder)
        self._folder = f"{self._parent}/fbnet-lab-{secrets.token_hex(8)}"
        self._bundle_folder: str | None = None
        self._prepared_in = 0
        self._system = ("", "")
        self._there: dict[str, int] = {}
        self._numbers: dict[tuple[str, ...], str] = {}  # the files with agents' process numbers, by their options
        self._places = Places()

    def push(self, path: Path) -> str:
        """Copy a file under the hash of its content, unless it is there whole."""
        return self._place(path, mode="600")

    def install(self, program: Path) -> str:
        """Copy a program likewise, and prepare the device."""
        remote = self._place(program, mode="700")
        self._begin(self._connection, self._parent)
        return remote

    def run(self, script: str, *arguments: str, timeout_s: float) -> Finished:
        """Run a script."""
        self._prepare()
        return self._connection.run(script, *arguments, timeout_s=timeout_s)

    def _place(self, path: Path, mode: str) -> str:
        digest = file_sha256(path)
        remote = self._name(path, digest)
        connection = self._prepare()
        if self._there.get(remote) != connection:
            known = remote in self._there and self._run(CHECK, remote, digest).code == 0
            if not known:
                self._upload(path, remote, digest, mode)
            self._there[remote] = connection
        return remote

    def send(self, content: Content, write: Write) -> str:
        """Have the agent write a file under the hash of its content, unless it is there whole."""
        remote = self._name(content.path, content.known[0])
        connection = self._prepare()
        if self._there.get(remote) != connection:
            try:
                self._write(content, remote, write)
            except AgentReplyError:
                self._places.forget()  # what is there may not be what it was: send all of it
                try:
                    self._write(content, remote, write)
                except AgentReplyError as error:
                    raise self._cannot_write(content.path, error) from error
            self._there[remote] = connection
        return remote

    def start(self, options: Sequence[str]) -> Channel:
        """Start the agent."""
        self._prepare()
        agent = self._agent()
        self._begin(self._connection, self._parent)
        environment = [f"{name}={value}" for name, value in self.profile.environment.items()]
        count = len(self._numbers)
        number = self._numbers.setdefault(tuple(options), f"{self._folder}/agent{f'-{count + 1}' * bool(count)}.pid")
        return self._connection.start(START, number, *environment, "--", *agent, *options)

    def close(self) -> None:
        """Put back what was changed, remove what was pushed unless the profile keeps it, and end the connection."""
        try:
            self._end()
            if self._prepared_in and not self.profile.keep:
                self._connection.ensure(patient=False)
                self._run(REMOVE, self._folder, *filter(None, [self._bundle_folder]))
        except DeviceError:
            pass  # the device is gone; a later run removes the folder
        finally:
            self._connection.close()

    def _begin(self, connection: Connection, folder: str) -> None:
        """Prepare the device for an agent that starts now; `folder` is there and stays. Raises DeviceError."""

    def _end(self) -> None:
        """Put back what was changed for agents; never raises."""

    def _agent(self) -> list[str]:
        """Return the agent's command on the device, with its files there."""
        if self.profile.program is not None:
            return [self.profile.program]
        if self.profile.agent == "python":
            return [self.profile.python or "python3", *python_agent(self.push)]
        target = BUNDLES.get(self._system)
        if target is None:
            raise DeviceError(
                f"{self._connection} is {' '.join(self._system)}, and the native agent is built for Linux on "
                f"{' and '.join(machine for _, machine in BUNDLES)}: set agent = 'python' in the profile, or program "
                "to an agent that you built for it"
            )
        return self._push_bundle(bundle.build(target, self.runtimes))

    def _push_bundle(self, built: Bundle) -> list[str]:
        """Send what the device lacks of a bundle, and return the agent's command."""
        self._prepare()
        self._bundle_folder = folder = f"{self._parent}/bundle-{built.digest[:16]}"
        pairs = [text for pair in built.files.items() for text in pair]
        size = sum((built.folder / name).stat().st_size for name in built.files)
        timeout_s = COMMAND_TIMEOUT_S + size / SLOWEST_HASH_BYTES_PER_S
        done = self._connection.run(MISSING, folder, *pairs, timeout_s=timeout_s)
        if done.code != 0:
            raise DeviceError(f"cannot make a folder in {self._parent!r} on {self._connection}: {done.words}")
        told = set(done.stdout.splitlines())
        paths = [built.folder / name for name in sorted(built.files.keys() & told)]
        with contextlib.ExitStack() as stack:
            smaller: Mapping[Path, Path] = {}
            if megabytes(paths) >= MUCH_MB:
                stack.enter_context(Waiting.told(self._much(built, megabytes(paths))))
                if "+gzip" in told:
                    smaller = stack.enter_context(packed(paths))
                Waiting.tell(f"sending {megabytes([smaller.get(path, path) for path in paths]):.0f} MB")
            for path in paths:
                self._upload(path, f"{folder}/{path.name}", built.files[path.name], "700", smaller.get(path))
        return built.command(folder)

    def _much(self, built: Bundle, mb: float) -> str:
        keep = "" if self.profile.keep else "; with --keep it stays there for the next run"
        lighter = sorted({name for each in built.versions if (name := RUNTIMES.find(each).lighter)})
        instead = "".join(f"; the lighter way is --runtime {name}" for name in lighter)
        return f"{mb:.0f} MB are to be sent for {' and '.join(built.versions)}{keep}{instead}"

    def _prepare(self) -> int:
        """Make sure of the connection and of the folder, and return the connection's number."""
        connection = self._connection.ensure()
        if connection != self._prepared_in:
            done = self._run(PREPARE, self._parent, self._folder)
            if done.code != 0:
                raise DeviceError(f"cannot make a folder in {self._parent!r} on {self._connection}: {done.words}")
            system, _, machine = done.stdout.strip().partition("\n")
            self._system = (system[:40], machine[:40])
            self._prepared_in = connection
        return connection

    def _name(self, path: Path, digest: str) -> str:
        suffix = path.suffix if re.fullmatch(r"\.[a-z0-9]{1,12}", path.suffix) else ""
        return f"{self._folder}/{digest}{suffix}"

    def _write(self, content: Content, remote: str, write: Write) -> None:
        digest, stretches = content.known
        pieces = self._places.pieces(stretches)
        write(remote, digest, pieces, content.sent(pieces))
        self._places.add(remote, stretches)

    def _upload(self, path: Path, remote: str, digest: str, mode: str, smaller: Path | None = None) -> None:
        timeout_s = COMMAND_TIMEOUT_S + path.stat().st_size / SLOWEST_BYTES_PER_S
        arguments = (remote, digest, mode, *[UNPACK] * (smaller is not None))
        for _ in range(2):
            with (smaller or path).open("rb") as file, _shown(file, f"{self.profile.name}: sending {path.name} (MB)"):
                done = self._connection.run(UPLOAD, *arguments, stdin=file, timeout_s=timeout_s)
            if done.code != DAMAGED:
                break
        if done.code == DAMAGED:
            raise DeviceError(f"{path.name} arrived damaged on {self._connection} twice {done.words}".rstrip())
        if done.code != 0:
            raise self._cannot_write(path, done.words or done.code)

    def _cannot_write(self, path: Path, reason: object) -> DeviceError:
        return DeviceError(
            f"{path.name} cannot be written to {self._parent!r} on {self._connection}: {reason}. "
            "Make room there, or set folder in the profile; the same command continues"
        )

    def _run(self, script: str, *arguments: str) -> Finished:
        return self._connection.run(script, *arguments, timeout_s=COMMAND_TIMEOUT_S)


@contextlib.contextmanager
def _shown(file: BinaryIO, title: str) -> Iterator[None]:
    """Show how much of a large file has been read by whoever sends it: all who have it open share its position."""
    total_mb = os.fstat(file.fileno()).st_size // 1_000_000
    if total_mb < BAR_MB:
        yield
        return
    ended = threading.Event()
    with progress(title, total_mb) as advance:

        def watch() -> None:
            done = 0
            while not ended.wait(LOOK_S):
                now = os.lseek(file.fileno(), 0, os.SEEK_CUR) // 1_000_000
                advance(now - done)
                done = now

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()


def check_fields(profile: Profile) -> None:
    """Raise ProfileError for what no command line can hold."""
    for name, value in profile.environment.items():
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) or "\0" in value:
            raise ProfileError(f"device {profile.name}: environment: {name!r} cannot be set on the device")
    for field in ("folder", "python", "program"):
        text = getattr(profile, field)
        if text is not None and (not text or "\0" in text):
            raise ProfileError(f"device {profile.name}: {field} {text!r} is not a path")


def folder_argument(text: str) -> str:
    """Return a path that no command takes for an option; a relative one begins in the home folder there."""
    text = text.removeprefix("~/").rstrip("/") or "/"
    return text if text.startswith("/") else f"./{text}"
