"""Which benchmark_model a profile names, its arguments, and for which machine it is."""

import hashlib
import struct
from pathlib import Path

import pytest

from fbagents.benchmark.binary import Benchmark, benchmark_of, check_machine, parse_arguments, with_binary
from fbagents.connect import load_profile
from fbagents.errors import DeviceError, ProfileError
from fbagents.profile import with_agent_for

DEFAULTS = ("--warmup_runs=2", "--warmup_min_secs=0.1", "--num_runs=10", "--min_secs=0.1")


def test_a_profile_gets_a_binary_and_what_it_is_called_with(tmp_path: Path) -> None:
    binary = tmp_path / "benchmark_model"
    binary.write_bytes(b"#!/bin/sh\n")
    digest = hashlib.sha256(b"#!/bin/sh\n").hexdigest()
    assert benchmark_of(load_profile("local")) is None
    profile = with_binary(load_profile("local"), binary, "--use_gpu=true --num_runs=50 --min_secs=2 --a='x y'")
    benchmark = benchmark_of(profile)
    arguments = (
        "--warmup_runs=2",
        "--warmup_min_secs=0.1",
        "--use_gpu=true",
        "--num_runs=50",
        "--min_secs=2",
        "--a=x y",
    )
    assert benchmark == Benchmark(binary, digest, arguments)
    assert benchmark.agent == (
        f"benchmark_model sha256:{digest[:12]} --warmup_runs=2 --warmup_min_secs=0.1 --use_gpu=true --num_runs=50 "
        "--min_secs=2 '--a=x y'"
    )
    assert benchmark.visit_min_s == pytest.approx(2.1)
    assert benchmark.asked_for == ["GPU"]
    assert with_agent_for(profile, "torch") == profile  # never another agent in its place


def test_a_profile_file_may_name_the_binary(tmp_path: Path) -> None:
    (tmp_path / "bm").write_bytes(b"#!/bin/sh\n")
    file = tmp_path / "gpu.toml"
    head = 'description = "x"\ntransport = "local"\n'
    file.write_text(
        f'{head}agent = "benchmark_model"\nbinary = "{tmp_path}/bm"\nbinary_arguments = ["--use_gpu=true"]\n'
    )
    benchmark = benchmark_of(load_profile(str(file)))
    assert benchmark is not None
    assert benchmark.arguments == (*DEFAULTS, "--use_gpu=true")
    needs = "needs binary, the path of the program, and no program"
    for wrong, message in (
        ('binary = "bm"', "binary and binary_arguments go with agent = 'benchmark_model'"),
        ('binary_arguments = ["--use_gpu"]', "binary and binary_arguments go with agent = 'benchmark_model'"),
        ('agent = "benchmark_model"', needs),
        ('agent = "benchmark_model"\nbinary = "a"\nprogram = "b"', needs),
    ):
        file.write_text(f"{head}{wrong}\n")
        with pytest.raises(ProfileError, match=message):
            benchmark_of(load_profile(str(file)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("use_gpu", "'use_gpu' is no argument"),
        ("-v", "'-v' is no argument"),
        ("--graph=other.tflite", "--graph is set by fbprof"),
        ("--num_threads=4", "--num_threads is set by fbprof"),
        ("--use_gpu=true --use_gpu=false", "--use_gpu of benchmark_model is given twice|given twice"),
        ("--enable_op_profiling=true", "slows down"),
        ("--dry_run", "runs nothing"),
        ("--num_runs=0", "a number of inferences from 1 on"),
        ("--warmup_runs=0", "a number of inferences from 1 on"),
        ("--min_secs=-1", "a number of seconds"),
        ("--min_secs=1e9", "a number of seconds"),
        ("--a='", "cannot be split into words"),
    ],
)
def test_arguments_that_cannot_be_had_are_told(arguments: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "bm").write_bytes(b"#!/bin/sh\n")
    with pytest.raises(ProfileError, match=message):
        with_binary(load_profile("local"), tmp_path / "bm", arguments)


def test_profiling_may_be_switched_off() -> None:
    assert parse_arguments(["--enable_op_profiling=false"]) == {"enable_op_profiling": "false"}


def test_a_binary_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"none cannot be read: No such file"):
        with_binary(load_profile("local"), tmp_path / "none", "")
    with pytest.raises(ProfileError, match=r"cannot be read: Is a directory"):
        with_binary(load_profile("local"), tmp_path, "")


@pytest.mark.parametrize(
    ("number", "machine", "runs"),
    [
        (183, "aarch64", True),
        (62, "x86_64", True),
        (40, "aarch64", True),
        (40, "armv7l", True),
        (183, "x86_64", False),
        (62, "aarch64", False),
        (183, "armv7l", False),
        (8, "x86_64", False),
    ],
)
def test_a_binary_for_other_machines_is_refused(number: int, machine: str, runs: bool, tmp_path: Path) -> None:
    binary = tmp_path / "bm"
    binary.write_bytes(b"\x7fELF\x02\x01" + bytes(10) + struct.pack("<HH", 3, number))
    benchmark = Benchmark(binary, "0" * 64, ())
    if runs:
        check_machine(benchmark, machine, "board")
    else:
        with pytest.raises(DeviceError, match=f"and board is {machine}: take benchmark_model for {machine}"):
            check_machine(benchmark, machine, "board")


@pytest.mark.parametrize("content", [b"", b"MZ\x90", b"PK\x03\x04 an apk, say, is no program", b"\x7fELF"])
def test_what_is_no_program_is_refused(content: bytes, tmp_path: Path) -> None:
    binary = tmp_path / "bm"
    binary.write_bytes(content)
    with pytest.raises(DeviceError, match=r"no program for Linux or Android"):
        check_machine(Benchmark(binary, "0" * 64, ()), "aarch64", "phone")
