"""Benchmark binary: which `benchmark_model` a profile names, with which arguments, and what a table says of it."""

import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fbagents.errors import DeviceError, ProfileError
from fbagents.profile import Profile
from fbbase.files import file_sha256

NAME = "benchmark_model"
RUNTIME = "litert"
"""The runtime that it has within it."""
DEFAULTS = {"warmup_runs": "2", "warmup_min_secs": "0.1", "num_runs": "10", "min_secs": "0.1"}
"""Arguments unless others are given. The program's own (half a second of warm-up, then a second) are for one model;
a table takes thousands of processes."""
OURS = ("graph", "num_threads")
HARMFUL = {
    "help": "prints no result",
    "dry_run": "runs nothing",
    "enable_op_profiling": "slows down what is measured",
    "use_profiler": "slows down what is measured",
    "gpu_invoke_loop_times": "divides what is measured",
}
DELEGATES = {
    "use_gpu": "GPU",
    "use_nnapi": "NNAPI",
    "use_hexagon": "Hexagon",
    "use_coreml": "CoreML",
    "use_npu": "NPU",
    "external_delegate_path": "EXTERNAL",
}
"""Arguments that ask for a delegate, and the name under which the program speaks of it."""

_ARGUMENT = re.compile(r"--([a-z][a-z0-9_]*)(?:=(.*))?", re.DOTALL)
_MACHINES = {
    3: ("i386", ("i386", "i686", "x86_64")),
    40: ("32-bit Arm", ("armv7l", "armv8l", "aarch64")),
    62: ("x86_64", ("x86_64",)),
    183: ("aarch64", ("aarch64", "arm64")),
    243: ("RISC-V", ("riscv64",)),
}
"""The machine that an ELF file is for, by its number: its name, and the machines (`uname -m`) that run it."""


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A binary of this machine that is there, and all its arguments but the model and the threads."""

    binary: Path
    sha256: str
    arguments: tuple[str, ...]

    @property
    def version(self) -> str:
        """What is known of the runtime inside: the program does not tell its version."""
        return f"unknown, in {NAME} sha256:{self.sha256[:12]}"

    @property
    def agent(self) -> str:
        """What a table says has measured it."""
        return f"{NAME} sha256:{self.sha256[:12]} {shlex.join(self.arguments)}"

    @property
    def visit_min_s(self) -> float:
        """How long a process takes at least."""
        values = parse_arguments(self.arguments)
        return sum(float(values[name]) for name in ("warmup_min_secs", "min_secs"))

    @property
    def asked_for(self) -> list[str]:
        """The delegates that the arguments ask for."""
        values = parse_arguments(self.arguments)
        return [name for key, name in DELEGATES.items() if values.get(key, "false").lower() not in ("false", "0", "")]


def program_of(agent: str) -> str | None:
    """Return the program, with its arguments, that a table's agent is (`Benchmark.agent`); None for one of ours."""
    return agent if agent.startswith(f"{NAME} ") else None


def benchmark_of(profile: Profile) -> Benchmark | None:
    """Return the binary of a profile, None where it has another agent. Raises ProfileError."""
    if profile.agent != NAME:
        if profile.binary or profile.binary_arguments:
            raise ProfileError(f"device {profile.name}: binary and binary_arguments go with agent = {NAME!r}")
        return None
    if not profile.binary or profile.program:
        raise ProfileError(
            f"device {profile.name}: agent {NAME!r} needs binary, the path of the program, and no program"
        )
    path = Path(profile.binary).expanduser()
    if path.exists() and not path.is_file() and not path.is_dir():
        raise ProfileError(f"the {NAME} binary {path} cannot be read: it is no regular file")
    try:
        digest = file_sha256(path)
    except OSError as error:
        raise ProfileError(f"the {NAME} binary {path} cannot be read: {error.strerror}") from None
    given = parse_arguments(profile.binary_arguments)
    defaults = [f"--{name}={value}" for name, value in DEFAULTS.items() if name not in given]
    return Benchmark(path, digest, (*defaults, *profile.binary_arguments))


def with_binary(profile: Profile, binary: Path, arguments: str) -> Profile:
    """Return a profile that is measured with a binary. Raises ProfileError."""
    try:
        words = shlex.split(arguments)
    except ValueError as error:
        raise ProfileError(f"the arguments {arguments!r} cannot be split into words: {error}") from None
    changed = {"agent": NAME, "binary": str(binary), "binary_arguments": tuple(words), "program": None}
    result = profile.model_copy(update=changed)
    benchmark_of(result)
    return result


def parse_arguments(words: Iterable[str]) -> dict[str, str]:
    """Return arguments by name; one without a value is `true`. Raises ProfileError for those that cannot be had."""
    found: dict[str, str] = {}
    for word in words:
        match = _ARGUMENT.fullmatch(word)
        if match is None or "\0" in word:
            raise ProfileError(f"{word!r} is no argument of {NAME}: they are --name=value, such as --use_gpu=true")
        name, value = match[1], "true" if match[2] is None else match[2]
        if name in found:
            raise ProfileError(f"the argument --{name} of {NAME} is given twice")
        if name in OURS:
            raise ProfileError(f"--{name} is set by fbprof; leave it out (--threads sets the threads)")
        if name in HARMFUL and value.lower() not in ("false", "0"):
            raise ProfileError(f"--{name} of {NAME} {HARMFUL[name]}; leave it out")
        if name in DEFAULTS:
            _check_number(name, value)
        found[name] = value
    return found


def check_machine(benchmark: Benchmark, machine: str, where: object) -> None:
    """Raise DeviceError where a binary is for other machines than one that calls itself so (`uname -m`).

    A script is left to the device.
    """
    with benchmark.binary.open("rb") as file:
        head = file.read(20)
    if head[:2] == b"#!":
        return
    if head[:4] != b"\x7fELF" or len(head) < 20:
        raise DeviceError(
            f"{benchmark.binary} is no program for Linux or Android (no ELF file): take {NAME} for {machine}"
        )
    number = int.from_bytes(head[18:20], "big" if head[5] == 2 else "little")
    name, runs_on = _MACHINES.get(number, (f"machine {number}", ()))
    if machine not in runs_on:
        raise DeviceError(
            f"{benchmark.binary} is a program for {name}, and {where} is {machine}: take {NAME} for {machine}"
        )


def _check_number(name: str, value: str) -> None:
    whole = name.endswith("_runs")
    if not re.fullmatch(r"\d{1,6}" if whole else r"\d{1,4}(?:\.\d{1,6})?", value) or (whole and int(value) < 1):
        kind = "a number of inferences from 1 on" if whole else "a number of seconds"
        raise ProfileError(f"--{name}={value} of {NAME}: it takes {kind}")
