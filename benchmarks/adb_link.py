"""What adb costs: pushing a file, a command's round trip, and its share of a run, against the real adbd on loopback.

usage: PYTHONPATH=tests python benchmarks/adb_link.py [--quick] [--space NAME]

The adbd is the tests' own (tests/peers/adbd.py), which takes root on Debian x86-64; elsewhere there are no
figures, and `missing` says why. A push is all of `Transport.push`: hash here, send, write, hash there, rename.
Models of a run go by `Transport.send` instead, which leaves out what the device has; both count as its pushes.

A second run starts with the native agent's bundle on the device (--keep), checked again by its hashes: from connecting
to the first samples.

The share of a run: `fbprof measure` spends its time in the transport's calls, in which the device is busy (the samples,
loading models, as the agent tells them), and in its own work. What is in the calls and no device's business is starting
the agent, its work between samples, and the link. The same run with the same agent as a child process has all of that
but adb; the difference of both, over the wall clock of the run over adb, is the overhead of link and protocol. Sending
models costs the same however long they are measured: the goal is for a run with the default settings; one of seconds
(--quick, fbnet-tiny) shows a larger share.
"""

import argparse
import contextlib
import io
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from _report import Figure, report

import fbprof.measure.run
from fbagents.adb.address import Address
from fbagents.adb.connection import AdbConnection
from fbagents.adb.keys import signer
from fbagents.agent.channel import Channel
from fbagents.agent.client import AgentClient, Planned
from fbagents.agent.pieces import Content, Write
from fbagents.connect import connect, load_profile
from fbagents.posix.connection import Connection
from fbagents.posix.scripts import HASH
from fbagents.profile import Profile, check_address
from fbagents.transport import Transport
from fbbase.commandline import run
from fbexport.export import export_spec
from fbprof.cli import fbprof as command
from fbspace.opspec import OpSpec
from peers import adbd as peer
from peers.runs import write_profile

PUSH_BYTES = 36_000_000

_T = TypeVar("_T")


class Clock:
    """Seconds spent in a transport's calls, and those of them in which the device was busy by its own account."""

    def __init__(self) -> None:
        self.calls_s = dict.fromkeys(("push", "start", "send", "receive", "close"), 0.0)
        self.busy_s = 0.0
        self._is_in_call = False

    def timed(self, name: str, call: Callable[..., _T], *arguments: Any) -> _T:
        """Call, and add the time it took; a call within another is part of that one."""
        if self._is_in_call:
            return call(*arguments)
        self._is_in_call = True
        start = time.perf_counter()
        try:
            return call(*arguments)
        finally:
            self.calls_s[name] += time.perf_counter() - start
            self._is_in_call = False

    def listen(self, line: bytes) -> bytes:
        """Add what a reply of the agent tells of its own time."""
        reply = json.loads(line)
        self.busy_s += (sum(reply.get("wall_ns", [])) + reply.get("load_ns", 0)) / 1e9
        return line


class TimedChannel:
    """An agent's streams, on a clock."""

    def __init__(self, channel: Channel, clock: Clock) -> None:
        self._channel, self._clock = channel, clock

    def send(self, line: bytes, following: bytes = b"") -> None:
        """Send one line, and bytes that follow it."""
        self._clock.timed("send", self._channel.send, line, following)

    def receive(self, timeout_s: float) -> bytes:
        """Return the next line."""
        return self._clock.listen(self._clock.timed("receive", self._channel.receive, timeout_s))

    def close(self) -> None:
        """End the agent."""
        self._clock.timed("close", self._channel.close)


class TimedTransport:
    """A transport, on a clock."""

    def __init__(self, transport: Transport, clock: Clock) -> None:
        self._transport, self._clock = transport, clock
        self.copies = transport.copies

    def push(self, path: Path) -> str:
        """Push a file."""
        return self._clock.timed("push", self._transport.push, path)

    def send(self, content: Content, write: Write) -> str:
        """Push a file by the agent."""
        return self._clock.timed("push", self._transport.send, content, write)

    def start(self, options: Sequence[str]) -> TimedChannel:
        """Start the agent."""
        return TimedChannel(self._clock.timed("start", self._transport.start, options), self._clock)

    def close(self) -> None:
        """Release the device."""
        self._clock.timed("close", self._transport.close)


def timed_run(device: str, table: Path, arguments: list[str]) -> dict[str, Any]:
    """Run `fbprof measure` and return where its seconds went."""
    clock = Clock()
    fbprof.measure.run.connect = lambda profile: TimedTransport(connect(profile), clock)  # type: ignore[attr-defined]
    argv = ["measure", "--fresh", "--device", device, *arguments, "-o", str(table)]
    start = time.perf_counter()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            code = run(command, argv)
    finally:
        fbprof.measure.run.connect = connect  # type: ignore[attr-defined]
    if code != 0:
        sys.exit(f"fbprof measure --device {device} ended with {code}")
    wall_s = time.perf_counter() - start
    beyond_s = sum(clock.calls_s.values()) - clock.busy_s
    return {"wall_s": wall_s, "busy_s": clock.busy_s, "beyond_s": beyond_s, "calls_s": clock.calls_s}


def push_seconds(transport: Transport, folder: Path, repeats: int) -> list[float]:
    """Return how long each push of a new file took."""
    path, seconds = folder / "pushed.bin", []
    for _ in range(repeats):
        path.write_bytes(os.urandom(PUSH_BYTES))
        start = time.perf_counter()
        transport.push(path)
        seconds.append(time.perf_counter() - start)
    return seconds


def command_seconds(connection: Connection, script: str, argument: str, repeats: int) -> list[float]:
    """Return how long each run of a script took."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        done = connection.run(script, argument, timeout_s=30)
        seconds.append(time.perf_counter() - start)
        assert done.code == 0, done
    return seconds


def start_seconds(profile: Profile, folder: Path, repeats: int) -> list[float]:
    """Return how long each run takes from connecting to the first samples, where an earlier one kept the bundle."""
    kept = profile.model_copy(update={"agent": "native", "keep": True})
    spec = OpSpec("ir", 16, 24, 32, 32, kernel=3, stride=2, expansion=3)
    model = folder / "model.tflite"
    model.write_bytes(export_spec(spec, "tflite"))
    seconds = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        with contextlib.closing(connect(kept)) as transport, AgentClient(transport) as agent:
            agent.load("model", transport.push(model), "litert", spec.input_shape)
            list(agent.run([Planned("model", 3)]))
            seconds.append(time.perf_counter() - start)
    return seconds[1:]


@contextlib.contextmanager
def phone(folder: Path) -> Iterator[Profile]:
    """Run adbd, and yield the profile by which it is reached. Raises UnavailableError."""
    root = peer.prepare()
    key = folder / "adbkey"
    signer(key)
    shutil.copy(f"{key}.pub", folder / "adb_keys")
    adbd = peer.Adbd(root, folder)
    try:
        yield Profile(
            name="adbd",
            description="adbd on this machine",
            transport="adb",
            address={"host": "127.0.0.1", "port": adbd.port, "key_file": str(key)},
            folder=str(folder / "device"),
            agent="python",
            python=sys.executable,
            environment=load_profile("local").environment,
        )
    finally:
        adbd.stop()


def measured(folder: Path, quick: bool, space: str) -> tuple[list[Figure], dict[str, Any]]:
    """Return the figures, and what they were made of. Raises UnavailableError."""
    with phone(folder) as profile:
        with contextlib.closing(connect(profile)) as transport:
            pushes = push_seconds(transport, folder, 3 if quick else 15)
        with contextlib.closing(AdbConnection(check_address(profile, Address))) as connection:
            connection.ensure()
            hashes = command_seconds(connection, HASH + 'hash <"$1" >/dev/null', str(folder / "pushed.bin"), 3)
            commands = command_seconds(connection, "exit 0", "", 30 if quick else 300)
        starts = start_seconds(profile, folder, 1 if quick else 5)
        arguments = ["--space", space, *(["--quick"] if quick else [])]
        device = write_profile(folder / "adbd.toml", profile)
        over_adb = timed_run(device, folder / "adb.csv", arguments)
        local = timed_run("local", folder / "local.csv", arguments)
    push_s = statistics.median(pushes)
    figures = [
        Figure("push_mb_per_s", PUSH_BYTES / 1e6 / push_s, "MB/s", 150, "at_least"),
        Figure("command_ms", 1e3 * statistics.median(commands), "ms", 5),
        Figure("second_run_start_s", statistics.median(starts), "s", 2),
        Figure("link_overhead_percent", 100 * (over_adb["beyond_s"] - local["beyond_s"]) / over_adb["wall_s"], "%", 5),
    ]
    details = {
        "push_ms": {
            "median": 1e3 * push_s,
            "slowest": 1e3 * max(pushes),
            "hash_there": 1e3 * statistics.median(hashes),
        },
        "command_slowest_ms": 1e3 * max(commands),
        "run_over_adb": over_adb,
        "run_local": local,
    }
    return figures, details


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few repeats, and runs with --quick")
    parser.add_argument("--space", help="what the runs measure  [default: fbnet, with --quick fbnet-tiny]")
    options = parser.parse_args()
    space = options.space or ("fbnet-tiny" if options.quick else "fbnet")
    with tempfile.TemporaryDirectory() as folder:
        try:
            figures, details = measured(Path(folder), options.quick, space)
        except peer.UnavailableError as error:
            figures, details = [], {"missing": [f"no adbd: {error}"]}
    report("adb_link", figures, quick=options.quick, space=space, push_bytes=PUSH_BYTES, **details)


if __name__ == "__main__":
    main()
