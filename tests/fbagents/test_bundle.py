"""The bundle: it runs by its own loader and nothing else, is kept and mended, and says what it lacks."""

import importlib.metadata
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from fbagents.agent.client import AgentClient
from fbagents.errors import DeviceError
from fbagents.native import build as native
from fbagents.native import bundle, libraries
from fbagents.native.bundle import Bundle
from fbagents.native.elf import read_elf
from fbagents.posix.process import ProcessChannel
from fbagents.transport import Transport
from peers.given import SPEC
from peers.runs import wait_until
from peers.unavailable import unavailable

HOST = native.host_target()
BUILD = "import sys; from fbagents.native import bundle; print(bundle.build(sys.argv[1]).digest)"


@pytest.fixture
def own_home(tmp_path: Path, built: Bundle, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    """The same bundle in a cache that the test may spoil, beside the agent's program."""
    cache = tmp_path / "cache" / "fbnet-lab"
    shutil.copytree(built.folder, cache / built.folder.name)
    shutil.copy(native.build(HOST), cache)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return bundle.build(HOST)


class Bundled:
    """A transport to this machine that starts the agent of a bundle which lies at `folder`."""

    def __init__(self, built: Bundle, folder: Path) -> None:
        self._command = built.command(str(folder))

    def push(self, path: Path) -> str:
        return str(path)

    def start(self, options: Sequence[str]) -> ProcessChannel:
        self.channel = ProcessChannel([*self._command, *options], {"PATH": "/nonexistent"})
        return self.channel

    def close(self) -> None: ...


def test_it_runs_where_only_its_own_files_lie(
    built: Bundle, local: Transport, models: dict[str, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "on device"
    folder.mkdir()
    for name in built.files:
        shutil.copy(built.folder / name, folder)
    bundled = Bundled(built, folder)
    with AgentClient(local) as python, AgentClient(bundled) as agent:
        for runtime, package in (("litert", "ai-edge-litert"), ("onnxruntime", "onnxruntime")):
            assert agent.hello.runtimes[runtime] == importlib.metadata.version(package)
            ours = agent.load(runtime, str(models[runtime]), runtime, SPEC.input_shape)
            theirs = python.load(runtime, str(models[runtime]), runtime, SPEC.input_shape)
            assert ours.output_abs_sum > 0
            assert ours.output_sum == pytest.approx(theirs.output_sum, abs=1e-6 * theirs.output_abs_sum)
        assert f"sha256:{built.files['agent'][:12]}" in agent.hello.agent
        maps = Path(f"/proc/{bundled.channel.pid}/maps").read_text()
    mapped = {line.split(maxsplit=5)[5] for line in maps.splitlines() if ".so" in line}
    assert len(mapped) >= 5
    assert {str(Path(path).parent) for path in mapped} == {str(folder)}


def test_a_second_call_needs_neither_network_nor_compiler(built: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    assert bundle.build(HOST) == built


def test_its_hashes_are_those_of_its_files(built: Bundle) -> None:
    told = subprocess.run(["sha256sum", *built.files], cwd=built.folder, capture_output=True, text=True, check=True)
    assert {line.split()[1]: line.split()[0] for line in told.stdout.splitlines()} == built.files
    assert {path.name for path in built.folder.iterdir()} == {*built.files, "manifest.json"}


@pytest.mark.skipif(shutil.which("readelf") is None, reason="needs binutils to compare with")
@pytest.mark.parametrize("name", ["libLiteRt.so", "libstdc++.so.6", "agent"])
def test_what_a_library_needs_is_read_as_readelf_does(built: Bundle, name: str) -> None:
    told = subprocess.run(
        ["readelf", "-W", "-d", "-V", built.folder / name], capture_output=True, text=True, check=True
    ).stdout
    elf = read_elf(built.folder / name)
    assert list(elf.libraries) == re.findall(r"\(NEEDED\).*\[(.*)\]", told)
    _, _, needs = told.partition("Version needs section")
    assert {version for _, version in elf.needs} == set(re.findall(r"Name: (\S+)  Flags: none", needs))
    definitions = re.search(r"Version definition section.*?(?=\nVersion needs|\Z)", told, re.DOTALL)
    assert elf.provides == set(re.findall(r"Cnt: \d+  Name: (\S+)", definitions[0]) if definitions else [])


@pytest.mark.parametrize("absent", ["libm.so.6", "libstdc++.so.6"])
def test_a_library_that_is_needed_and_not_there_is_named(built: Bundle, tmp_path: Path, absent: str) -> None:
    for name in built.files.keys() - {absent}:
        shutil.copy(built.folder / name, tmp_path)
    assert f"libLiteRt.so needs {absent}" in libraries.missing(tmp_path)
    shutil.copy(built.folder / "libdl.so.2", tmp_path / absent)  # a library, but not with these versions
    told = libraries.missing(tmp_path)
    assert any(line.startswith("libLiteRt.so needs GLIBC") and line.endswith(f" of {absent}") for line in told)


def spoil_by_cutting(folder: Path) -> None:
    os.truncate(folder / "libLiteRt.so", 1000)


def spoil_by_removing(folder: Path) -> None:
    (folder / "libc.so.6").unlink()


def spoil_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text('{"format": 1, "files": {"../x": 3}}')


@pytest.mark.parametrize(
    "spoil",
    [spoil_by_cutting, *(pytest.param(how, marks=pytest.mark.full) for how in (spoil_by_removing, spoil_manifest))],
)
def test_a_damaged_bundle_is_built_again(own_home: Bundle, built: Bundle, spoil: Callable[[Path], None]) -> None:
    spoil(own_home.folder)
    again = bundle.build(HOST)
    assert again.files == built.files
    assert (again.folder / "libLiteRt.so").stat().st_size == (built.folder / "libLiteRt.so").stat().st_size


@pytest.mark.usefixtures("built")
def test_two_at_once_and_one_after_a_killed_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    marker = tmp_path / "compiling"
    stuck = script(tmp_path / "stuck", f"touch '{marker}'; exec sleep 60")
    killed = subprocess.Popen(
        [sys.executable, "-c", BUILD, HOST], env=os.environ | {"CC": str(stuck)}, start_new_session=True
    )
    wait_until(marker.exists, 30, "the build")
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    monkeypatch.setenv("CC", str(script(tmp_path / "quick", 'exec cc "$@" -O0')))
    argv = [sys.executable, "-c", BUILD, HOST]
    pair = [subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    digests = {process.communicate(timeout=60)[0].strip() for process in pair}
    assert digests == {bundle.build(HOST).digest}
    left = {path.name for path in (tmp_path / "cache/fbnet-lab").glob(".bundle-*") if not path.name.endswith(".lock")}
    assert left == set()


@pytest.mark.full  # test_phone.py runs one
def test_a_bundle_for_boards_and_phones_is_complete(tmp_path: Path) -> None:
    """Run elsewhere, on an emulated phone."""
    try:
        built = bundle.build("aarch64-linux")
    except DeviceError as error:
        unavailable(f"no bundle for aarch64-linux can be made here: {error}")
    assert {read_elf(built.folder / name).machine for name in built.files} == {"aarch64"}
    for name in built.files:
        shutil.copy(built.folder / name, tmp_path)
    assert libraries.missing(tmp_path) == []
    assert {"agent", "ld-linux-aarch64.so.1", "libLiteRt.so", "libonnxruntime.so.1"} <= built.files.keys()
    assert sum((built.folder / name).stat().st_size for name in built.files) < 40e6
    assert built.command("/x")[:4] == ["/x/ld-linux-aarch64.so.1", "--library-path", "/x", "/x/agent"]


@pytest.mark.full  # test_debian.py unpacks packages
def test_debians_libraries_stand_in_where_the_compiler_has_none(
    built: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = script(
        tmp_path / "gcc",
        f'case "$1" in -print-file-name=*) echo "${{1#*=}}";; *) exec {native.compiler(HOST)[0]} "$@";; esac',
    )
    monkeypatch.setenv("CC", str(compiler))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    try:
        other = bundle.build(HOST)
    except DeviceError as error:
        unavailable(f"no Debian packages here: {error}")
    manifest = json.loads((other.folder / "manifest.json").read_text())
    assert manifest["files"]["libc.so.6"]["origin"].startswith("Debian: libc6_2.36")
    done = subprocess.run(other.command(str(other.folder)), input=b"", capture_output=True, timeout=30)
    assert json.loads(done.stdout)["runtimes"].keys() == {"litert", "onnxruntime"}


def test_errors_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = "aarch64-linux" if HOST == "x86_64-linux" else "x86_64-linux"
    with pytest.raises(DeviceError, match="no bundles for 'aarch64-macos'; known: aarch64-linux, x86_64-linux"):
        bundle.build("aarch64-macos")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with monkeypatch.context() as patch:
        patch.setenv("PATH", "/nonexistent")
        patch.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(DeviceError, match=r"no C compiler .*agent bundle .* --from FILE"):
            bundle.build(other)
    work = tmp_path / "cache" / "work"
    work.mkdir(parents=True)
    with pytest.raises(DeviceError, match=f"(?s)pip cannot fetch .* for {other}.*agent bundle {other} --from FILE"):
        libraries.add_runtimes(other, work)


def test_without_a_c_library_every_source_is_told(
    built: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    for name in ("agent", "libLiteRt.so"):
        shutil.copy(built.folder / name, work)
    script(tmp_path / "cc", 'echo "${1#*=}"')
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(DeviceError, match=r"(?s)no ld-linux.* found\n- .*apt-get is missing.*--from FILE"):
        libraries.add_c_libraries(HOST, work)
    assert {path.name for path in work.iterdir()} == {"agent", "libLiteRt.so"}


@pytest.mark.usefixtures("built")
def test_a_cache_that_is_not_writable_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(DeviceError, match="set XDG_CACHE_HOME"):
        bundle.build(HOST)


def script(path: Path, body: str) -> Path:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path
