"""benchmark_model over a real OpenSSH server: the program is sent, bound, ended in time, and removed."""

import stat
import time
from pathlib import Path
from typing import Any

import pytest

from fbagents.agent.client import AgentClient, Planned
from fbagents.benchmark.binary import with_binary
from fbagents.connect import connect
from fbagents.errors import AgentTimeoutError, DeviceError
from fbagents.profile import Profile
from peers.given import SPEC

QUICK = "--warmup_runs=1 --warmup_min_secs=0 --num_runs=5 --min_secs=0"


def profile(sshd: Any, binary: Path, arguments: str = "", **changes: object) -> Profile:
    return with_binary(sshd.profile(**changes), binary, f"{QUICK} {arguments}")


def test_the_program_is_sent_run_on_its_cores_and_removed(
    sshd: Any, benchmark_model: Path, models: dict[str, Path], tmp_path: Path
) -> None:
    log = tmp_path / "two words; log"
    environment = sshd.profile().environment | {"STAND_IN_LOG": str(log)}
    transport = connect(profile(sshd, benchmark_model, environment=environment))
    with AgentClient(transport, cores="0") as agent:
        assert agent.hello.cores == (0,)
        sent = list((sshd.folder / "device").rglob("*"))
        programs = [path for path in sent if path.is_file() and path.read_bytes() == benchmark_model.read_bytes()]
        assert [stat.S_IMODE(path.stat().st_mode) for path in programs] == [0o700]
        agent.load("m", transport.push(models["litert"]), "litert", SPEC.input_shape)
        visits = list(agent.run([Planned("m", 1)] * 2))
        assert agent.state().affinity == (0,)
    told = [line.split(" ", 1) for line in log.read_text().splitlines()]
    assert [visit.wall_ns for visit in visits] == [(round(1e3 * float(us)),) for us, _ in told[1:]]
    assert {rest for _, rest in told} == {"[0] 1"}
    transport.close()
    assert list((sshd.folder / "device").iterdir()) == []


def test_a_process_that_hangs_is_ended_on_the_device(
    sshd: Any, benchmark_model: Path, models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("fbagents.agent.client.LOAD_TIMEOUT_S", 1.0)
    transport = connect(profile(sshd, benchmark_model, "--stand_in_fault=hang"))
    start = time.monotonic()
    with pytest.raises(AgentTimeoutError, match=r"did not finish within 1 s"), AgentClient(transport) as agent:
        agent.load("m", transport.push(models["litert"]), "litert", SPEC.input_shape)
    assert time.monotonic() - start < 8
    folder = str(sshd.folder / "device").encode()
    assert not [
        path for path in Path("/proc").glob("[0-9]*/cmdline") if b"hang" in (line := read(path)) and folder in line
    ]
    transport.close()


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_a_program_of_another_machine_is_not_sent(sshd: Any, tmp_path: Path) -> None:
    binary = tmp_path / "riscv"
    binary.write_bytes(b"\x7fELF\x02\x01" + bytes(10) + (3).to_bytes(2, "little") + (243).to_bytes(2, "little"))
    transport = connect(profile(sshd, binary))
    with pytest.raises(DeviceError, match=r"riscv is a program for RISC-V, and board is"):
        AgentClient(transport)
    transport.close()
