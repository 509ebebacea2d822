"""The scripts that run benchmark_model and look at a device, in the shells of phones and boards."""

import os
import subprocess
import time
from pathlib import Path

import pytest

from fbagents.benchmark.facts import FACTS, STATE, parse_facts, parse_state
from fbagents.benchmark.process import BOUND, RUN
from peers import android_commands


@pytest.fixture(params=["dash", "mksh", "busybox"])
def shell(request: pytest.FixtureRequest) -> list[str]:
    return android_commands.shells()[request.param]


def run(shell: list[str], script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [*shell, "-c", script, "sh", *arguments]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20)


def test_a_programs_output_and_exit_code_come_through_in_order(shell: list[str]) -> None:
    done = run(
        shell,
        RUN,
        "9",
        "",
        "",
        "A=two words; $(x)",
        "--",
        "sh",
        "-c",
        'echo "$A"; echo err >&2; echo "$1"; exit 3',
        "sh",
        "-a b",
    )
    assert (done.returncode, done.stdout, done.stderr) == (3, "two words; $(x)\nerr\n-a b\n", "")


def test_a_bound_process_says_so_first(shell: list[str]) -> None:
    core = max(os.sched_getaffinity(0))
    done = run(shell, RUN, "9", "", f"{1 << core:x}", "--", "sh", "-c", "grep Cpus_allowed_list /proc/self/status")
    first, second = done.stdout.splitlines()
    assert first == f"{BOUND}{core}"
    assert second.split() == ["Cpus_allowed_list:", str(core)]
    assert done.returncode == 0


def test_a_process_is_killed_when_its_time_is_up_and_nothing_else_is_left(shell: list[str], tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(Path("/bin/sleep").read_bytes())
    program.chmod(0o755)
    start = time.monotonic()
    assert run(shell, RUN, "1", f"{program}.pid", "", "--", str(program), "30").returncode == 137
    assert 0.9 < time.monotonic() - start < 5
    limit = f"77.{time.time_ns()}"
    assert run(shell, RUN, limit, "", "", "--", "true").returncode == 0
    time.sleep(0.2)  # for the sleep to end that would have killed it
    left = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not [line for line in left if limit.encode() in line or str(program).encode() in line]


def test_a_program_that_is_not_there_is_127_and_one_that_cannot_be_run_126(shell: list[str], tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("")
    assert run(shell, RUN, "9", "", "", "--", str(tmp_path / "none")).returncode == 127
    assert run(shell, RUN, "9", "", "", "--", str(plain)).returncode == 126


def test_facts_and_states_are_read(shell: list[str]) -> None:
    facts = run(shell, FACTS)
    told = parse_facts(facts.stdout)
    assert (facts.returncode, facts.stderr) == (0, "")
    assert (told.machine, told.system.split()[0]) == (os.uname().machine, "Linux")
    assert set(os.sched_getaffinity(0)) <= set(told.online)
    state = run(shell, STATE)
    assert (state.returncode, state.stderr) == (0, "")
    memory = parse_state(state.stdout)["memory_available_bytes"]
    assert isinstance(memory, int)
    assert 1 << 20 < memory < 1 << 50
