"""Runtimes whose library is built, not taken out of a package: in the native agent, and in bundles of their own."""

import ctypes
import importlib.metadata
import json
import shutil
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from fbagents.agent.client import AgentClient, Input, Planned
from fbagents.errors import AgentReplyError, DeviceError
from fbagents.native import build as native
from fbagents.native import bundle, libraries
from fbagents.native.elf import read_elf
from fbagents.posix.process import ProcessChannel
from fbagents.transport import Transport
from fbbase.commandline import run
from fbexport.runtimes import RUNTIMES, NativeLibrary
from fblut.reading import read_lut
from fbprof.cli import fbprof
from peers.compiler import needs_compiler
from peers.given import SPEC
from peers.installed import need
from peers.unavailable import unavailable

HOST = native.host_target()
OURS = Input("input", SPEC.input_shape, "float32")


class Started:
    """A transport to an agent that a command starts."""

    def __init__(self, *command: str) -> None:
        self._command = command

    def start(self, options: Sequence[str]) -> ProcessChannel:
        self.channel = ProcessChannel([*self._command, *options], {"PATH": "/nonexistent"})
        return self.channel


@needs_compiler
def test_models_are_loaded_refused_and_forgotten_under_sanitizers(
    sanitized: Path, models: dict[str, Path], local: Transport, tmp_path: Path
) -> None:
    runtime = "executorch"
    need(runtime)
    path = str(models[runtime])
    started = Started(str(sanitized), *native.runtime_options([runtime]))
    with AgentClient(started) as agent:
        assert agent.hello.runtimes[runtime] == importlib.metadata.version(runtime)
        # the third takes the first's place
        first, _, third = (agent.load(name, path, runtime, (), inputs=[OURS]) for name in "aba")
        assert first.outputs == third.outputs == 24 * 8 * 8
        assert (first.output_sum, first.output_abs_sum) == (third.output_sum, third.output_abs_sum)
        for inputs, why in (
            (
                [Input("input", (1, 16, 16, 8), "float32")],
                r"\[1, 16, 16, 16\] in the file, \[1, 16, 16, 8\] was asked for",
            ),
            ([Input("input", SPEC.input_shape, "int8")], "float32 in the file, int8 was asked for"),
            ([OURS, OURS], "the model has 1 inputs, 2 were asked for"),
        ):
            with pytest.raises(AgentReplyError, match=why):
                agent.load("c", path, runtime, (), inputs=inputs)
        whole = models[runtime].read_bytes()
        for content in (b"", b"NCNN", whole[:-1], whole[:100], whole[1000:], b"\xff\0\0\0NCNN", b"x" * 300):
            (tmp_path / "broken").write_bytes(content)
            with pytest.raises(AgentReplyError):
                agent.load("c", str(tmp_path / "broken"), runtime, SPEC.input_shape)
        visits = [*agent.run([Planned("a", 3), Planned("b", 2)] * 2)]
        assert [len(visit.wall_ns) for visit in visits] == [3, 2, 3, 2]
        agent.unload("a")
    with AgentClient(local) as python:
        theirs = python.load("m", path, runtime, SPEC.input_shape)
    assert third.output_sum == pytest.approx(theirs.output_sum, abs=1e-6 * theirs.output_abs_sum)
    assert third.output_abs_sum == pytest.approx(theirs.output_abs_sum, rel=1e-6)


@pytest.mark.full  # test_phone.py runs another machine's
def test_a_runtime_that_is_asked_for_has_a_bundle_of_its_own(
    models: dict[str, Path], local: Transport, capsys: pytest.CaptureFixture[str]
) -> None:
    runtime = "executorch"
    need(runtime)
    assert run(fbprof, ["agent", "bundle", HOST, "--runtime", runtime, "--json"]) == 0
    asked, plain = bundle.build(HOST, [runtime]), bundle.build(HOST)
    assert json.loads(capsys.readouterr().out)["digest"] == asked.digest
    assert {"libLiteRt.so", "libonnxruntime.so.1"} <= plain.files.keys() - asked.files.keys()
    assert bundle.build(HOST, ["litert"]) == plain
    started = Started(*asked.command(str(asked.folder)))
    with AgentClient(local) as python, AgentClient(started) as agent:
        assert agent.hello.runtimes == {runtime: importlib.metadata.version(runtime)}
        path = str(models[runtime])
        ours, theirs = (each.load("m", path, runtime, SPEC.input_shape) for each in (agent, python))
        assert ours.output_sum == pytest.approx(theirs.output_sum, abs=1e-6 * theirs.output_abs_sum)
        maps = Path(f"/proc/{started.channel.pid}/maps").read_text()
    mapped = {line.split(maxsplit=5)[5] for line in maps.splitlines() if ".so" in line}
    assert {str(Path(path).parent) for path in mapped} == {str(asked.folder)}


def test_torch_is_sent_to_others_in_a_version_that_is_small_and_only_when_it_is_asked_for() -> None:
    other = next(target for target in ("aarch64-linux", "aarch64-macos") if target != HOST)
    here = importlib.metadata.version("torch")
    expected = {"aarch64-linux": "2.9.1"}.get(other, here)
    assert libraries.runtime_versions(other, ["torch"]) == {"torch": expected}
    assert libraries.runtime_versions(HOST, ["torch"]) == {"torch": here}
    assert "torch" not in libraries.runtime_versions(other)
    assert "torch" not in libraries.runtime_versions(other, ["litert"])


@needs_compiler
def test_a_library_that_is_named_and_never_called_is_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    built = native.build_empty(HOST, "libz.so.1")
    assert built.name == "libz.so.1"
    assert not hasattr(ctypes.CDLL(str(built)), "inflate")
    assert read_elf(built).libraries == ()


def test_what_the_native_agent_does_not_run_is_in_no_bundle(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(RUNTIMES.find("torch"), "native", None)
    assert run(fbprof, ["agent", "bundle", HOST, "--runtime", "torch"]) == 2
    assert "--runtime torch: the native agent runs executorch, litert" in capsys.readouterr().err


def test_a_table_tells_how_ncnn_was_set(space: str, tmp_path: Path) -> None:
    need("ncnn")
    table = tmp_path / "ncnn.csv"
    options = ["--runtime", "ncnn", "--precision", "float16", "--quick", "--rounds", "2"]
    assert run(fbprof, ["measure", "--space", space, *options, "-o", str(table)]) == 0
    halves = "use_fp16_packed=1 use_fp16_storage=1 use_fp16_arithmetic=1"
    others = "use_packing_layout=1 use_winograd_convolution=1 lightmode=1"
    assert read_lut(table).metadata.runtime_options == f"{halves} {others}"


def test_a_library_is_built_from_the_source_of_its_package_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("cmake") is None or shutil.which("c++") is None:
        unavailable("needs CMake and a C++ compiler")
    index = tmp_path / "index"
    source = tmp_path / "tiny-1.0.7"
    index.mkdir()
    source.mkdir()
    (source / "PKG-INFO").write_text("Name: tiny\nVersion: 1.0.2026\n")  # pip would refuse it
    (source / "CMakeLists.txt").write_text("project(tiny C CXX)\nadd_library(tiny SHARED tiny.c)\n")
    (source / "tiny.c").write_text("int patch(void) { return PATCH; }\n")
    with tarfile.open(index / "tiny-1.0.7.tar.gz", "w:gz") as archive:
        archive.add(source, source.name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    library = NativeLibrary("libtiny.so", flags=("-DCMAKE_C_FLAGS=-DPATCH={patch}",))
    target = native.host_target()
    built = native.build_library(library, "tiny", "1.0.7", target, tmp_path, "")
    assert ctypes.CDLL(str(built)).patch() == 7
    with pytest.raises(DeviceError, match=r"there is no source of tiny 1\.0\.8"):
        native.build_library(library, "tiny", "1.0.8", target, tmp_path, "")
    monkeypatch.setenv("PIP_FIND_LINKS", "/nonexistent")
    assert native.build_library(library, "tiny", "1.0.7", target, tmp_path, "") == built
