"""The native agent on a device without Python: its bundle is sent once, whole, and removed; real OpenSSH server."""

import contextlib
import os
import platform
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fbagents.agent.client import AgentClient
from fbagents.connect import connect
from fbagents.errors import DeviceError
from fbagents.native import build as native
from fbagents.native import bundle
from fbagents.posix import remote
from fbagents.posix.openssh import OpenSsh
from fbagents.posix.scripts import UPLOAD
from fbagents.transport import Transport
from fbbase.progress import Waiting
from fbexport.runtimes import RUNTIMES
from fbprof.measure.run import collect
from fbprof.plan.plan import Plan
from fbspace.space import load_space
from peers.given import SPEC
from peers.sending import check_pieces


@pytest.fixture(scope="session", autouse=True)
def built() -> bundle.Bundle:
    """This machine's bundle, so that no test waits for it to be built."""
    if platform.system() != "Linux":
        pytest.skip("a bundle runs on Linux")
    return bundle.build(native.host_target())


@pytest.fixture
def uploads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are sent, as they are sent."""
    sent: list[str] = []
    run = OpenSsh.run

    def recording(self: OpenSsh, script: str, *arguments: str, **more: Any) -> Any:
        if script == UPLOAD:
            sent.append(Path(arguments[0]).name)
        return run(self, script, *arguments, **more)

    monkeypatch.setattr(OpenSsh, "run", recording)
    return sent


@contextlib.contextmanager
def agent_on(profile: Any) -> Iterator[tuple[Transport, AgentClient]]:
    with contextlib.closing(connect(profile)) as transport, AgentClient(transport) as agent:
        yield transport, agent


def check_outputs(transport: Transport, agent: AgentClient, local: Transport, models: dict[str, Path]) -> None:
    """Hold the outputs on the device against those on this machine."""
    assert agent.hello.agent.startswith("native ")
    with AgentClient(local) as here:
        for runtime in ("litert", "onnxruntime"):
            assert agent.hello.runtimes[runtime] == here.hello.runtimes[runtime]
            there = agent.load("m", transport.push(models[runtime]), runtime, SPEC.input_shape)
            local_sum = here.load("m", str(models[runtime]), runtime, SPEC.input_shape)
            assert there.outputs == local_sum.outputs
            assert there.output_sum == pytest.approx(local_sum.output_sum, abs=1e-9 * local_sum.output_abs_sum)


@pytest.mark.full
def test_a_network_is_sent_as_what_its_operators_lack(sshd: Any, tmp_path: Path) -> None:
    with contextlib.closing(connect(sshd.profile(agent="native"))) as transport:
        check_pieces(transport, tmp_path)


def test_it_is_sent_once_gives_this_machines_outputs_and_only_what_is_missing_or_damaged_is_sent_again(
    sshd: Any, built: bundle.Bundle, uploads: list[str], local: Transport, models: dict[str, Path]
) -> None:
    profile = sshd.profile(agent="native", python="/no/python", keep=True)
    with agent_on(profile) as (transport, agent):
        assert sorted(uploads) == sorted(built.files)
        check_outputs(transport, agent, local, models)
    uploads.clear()
    with agent_on(profile):
        assert uploads == []
    folder = sshd.folder / "device" / f"bundle-{built.digest[:16]}"
    assert {stat.S_IMODE(path.stat().st_mode) for path in [folder, *folder.iterdir()]} == {0o700}
    os.truncate(folder / "libLiteRt.so", 1000)
    (folder / "agent").unlink()
    with agent_on(profile) as (_, agent):
        assert set(agent.hello.runtimes) == {"litert", "onnxruntime"}
    assert sorted(uploads) == ["agent", "libLiteRt.so"]


@pytest.mark.parametrize("there", [True, False])
def test_a_bundle_that_is_much_is_told_beforehand_and_sent_compressed_to_where_gzip_is(
    sshd: Any,
    built: bundle.Bundle,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    there: bool,
) -> None:
    sent, run = [], OpenSsh.run

    def recording(self: OpenSsh, script: str, *arguments: str, **more: Any) -> Any:
        if script == UPLOAD:
            sent.append(os.fstat(more["stdin"].fileno()).st_size)
        return run(self, script if there else script.replace("command -v gzip", "false"), *arguments, **more)

    monkeypatch.setattr(OpenSsh, "run", recording)
    monkeypatch.setattr(remote, "MUCH_MB", 1)
    monkeypatch.setattr(RUNTIMES.find("litert"), "lighter", "featherweight")
    with Waiting("board", "starting"), agent_on(sshd.profile(agent="native")) as (_, agent):
        assert set(agent.hello.runtimes) == {"litert", "onnxruntime"}
    size = sum((built.folder / name).stat().st_size for name in built.files)
    assert (sum(sent) < size / 2) == there
    assert (sum(sent) == size) == (not there)
    words = "with --keep it stays there for the next run; the lighter way is --runtime featherweight"
    assert capsys.readouterr().err.splitlines()[:2] == [
        f"board: {size / 1e6:.0f} MB are to be sent for litert and onnxruntime; {words}",
        f"board: sending {sum(sent) / 1e6:.0f} MB",
    ]


@pytest.mark.full
def test_everything_is_removed_unless_it_is_to_be_kept(sshd: Any) -> None:
    with agent_on(sshd.profile(agent="native")):
        assert len(list((sshd.folder / "device").iterdir())) == 2
    assert list((sshd.folder / "device").iterdir()) == []


def test_a_push_that_was_cut_is_finished_by_the_next_run(
    sshd: Any, built: bundle.Bundle, uploads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection goes while the bundle is sent."""
    upload = OpenSsh.run

    def cut(self: OpenSsh, script: str, *arguments: str, **more: Any) -> Any:
        if script == UPLOAD and len(uploads) == 3:
            self.close()
        return upload(self, script, *arguments, **more)

    profile = sshd.profile(agent="native", keep=True)
    with monkeypatch.context() as patch, contextlib.closing(connect(profile)) as transport:
        patch.setattr(OpenSsh, "run", cut)
        with pytest.raises(DeviceError):
            AgentClient(transport)
    sent = len(uploads)
    with agent_on(profile):
        assert len(uploads) == len(built.files) + (sent - 3)


@pytest.mark.parametrize(
    ("system", "machine"),
    [
        ("Linux", "armv7l"),
        *(pytest.param(*other, marks=pytest.mark.full) for other in (("Darwin", "arm64"), ("Linux", "riscv64"))),
    ],
)
def test_a_wrong_architecture_is_told(new_sshd: Callable[..., Any], tmp_path: Path, system: str, machine: str) -> None:
    """A program `uname` that says what the device is stands in for such a device."""
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "uname").write_text(f"#!/bin/sh\ncase $1 in -s) echo {system} ;; -m) echo {machine} ;; esac\n")
    (programs / "uname").chmod(0o755)
    server = new_sshd(PATH=f"{programs}:{os.environ['PATH']}")
    message = rf"is {system} {machine}, .*aarch64 and x86_64: set agent = 'python'.* or program"
    with (
        contextlib.closing(connect(server.profile(agent="native"))) as transport,
        pytest.raises(DeviceError, match=message),
    ):
        AgentClient(transport)
    assert list((server.folder / "device").iterdir()) == []


def test_torchscript_is_measured_by_the_python_agent_of_a_native_device_that_has_one(sshd: Any, tmp_path: Path) -> None:
    space = load_space("fbnet-tiny")
    plan = Plan(
        space=space.name,
        device="board",
        runtime="torch",
        precision="float32",
        threads=1,
        cores=None,
        runs=2,
        dropped=1,
        seed=0,
        operators=tuple(space.operators()[:2]),
        rounds=1,
    )
    content = collect(plan, sshd.profile(agent="native", python=sys.executable), tmp_path / "t.journal.jsonl")
    assert content.sessions[0].hello.agent.startswith("python ")
    assert content.failed == {}


def test_a_program_that_lies_on_the_device_is_the_agent(sshd: Any, tmp_path: Path) -> None:
    program = tmp_path / "an agent"
    shutil.copy(native.build(native.host_target()), program)
    with agent_on(sshd.profile(program=str(program), agent="native")) as (_, agent):
        assert agent.hello.agent.startswith("native ")
        assert agent.hello.runtimes == {}
