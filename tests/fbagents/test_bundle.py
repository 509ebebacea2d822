"""The bundle: it runs by its own loader and nothing else, is kept, mended and carried, and says what it lacks."""

import copy
import dataclasses
import hashlib
import importlib.metadata
import io
import json
import lzma
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from fbagents.agent.client import AgentClient
from fbagents.errors import DeviceError
from fbagents.native import archive as bundle_archive
from fbagents.native import build as native
from fbagents.native import bundle, libraries
from fbagents.native.bundle import Bundle
from fbagents.native.elf import read_elf
from fbagents.posix.process import ProcessChannel
from fbagents.transport import Transport
from fbbase.commandline import run
from fbprof.cli import fbprof
from peers.given import SPEC
from peers.unavailable import unavailable

HOST = native.host_target()
Packed = dict[str, tuple[tarfile.TarInfo, bytes]]
Change = Callable[[dict[str, tarfile.TarInfo], dict[str, bytes]], None]
BUILD = "import sys; from fbagents.native import bundle; print(bundle.build(sys.argv[1]).digest)"


@pytest.fixture(scope="module")
def built() -> Bundle:
    """This machine's own bundle, from the user's cache if it is there; nothing is fetched for it."""
    if HOST not in libraries.LOADERS or shutil.which("cc") is None:
        unavailable(f"needs Linux on x86-64 or aarch64 and a C compiler, not {HOST}")
    return bundle.build(HOST)


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
    wait_for(marker.exists)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    monkeypatch.setenv("CC", str(script(tmp_path / "quick", 'exec cc "$@" -O0')))
    argv = [sys.executable, "-c", BUILD, HOST]
    pair = [subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    digests = {process.communicate(timeout=60)[0].strip() for process in pair}
    assert digests == {bundle.build(HOST).digest}
    left = {path.name for path in (tmp_path / "cache/fbnet-lab").glob(".bundle-*") if not path.name.endswith(".lock")}
    assert left == set()


@pytest.fixture(scope="module")
def archive(built: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of the agent and its C library; without the runtimes it is packed in a second."""
    work = tmp_path_factory.mktemp("small")
    large = {"libLiteRt.so", "libonnxruntime.so.1", "libstdc++.so.6"}
    manifest = bundle.Manifest.model_validate_json((built.folder / "manifest.json").read_text())
    files = {name: entry for name, entry in manifest.files.items() if name not in large}
    (work / "files").mkdir()
    for name in files:
        shutil.copy(built.folder / name, work / "files")
    small = bundle.install(manifest.model_copy(update={"files": files}), work / "files", work / "bundle")
    assert bundle_archive.write(small, work / "bundle.tar.xz") == (work / "bundle.tar.xz").stat().st_size
    return work / "bundle.tar.xz"


def test_an_archive_brings_a_bundle_where_there_is_no_compiler(
    built: Bundle, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", "/nonexistent")
    assert run(fbprof, ["agent", "bundle", HOST, "--from", str(archive), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    brought = bundle.build(HOST)
    assert (told["digest"], told["folder"]) == (brought.digest, str(brought.folder))
    assert brought.files.items() <= built.files.items()
    done = subprocess.run(brought.command(str(brought.folder)), input=b"", capture_output=True, timeout=30)
    assert built.files["agent"][:12] in json.loads(done.stdout)["agent"]
    assert {path.name: path.read_bytes() for path in brought.folder.iterdir()} == {
        name: content for name, (_, content) in members(archive).items()
    }


@pytest.fixture(scope="module")
def tiny(built: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle of three files' beginnings, of which archives are made at once."""
    work = tmp_path_factory.mktemp("tiny")
    manifest = bundle.Manifest.model_validate_json((built.folder / "manifest.json").read_text())
    files = {}
    (work / "files").mkdir()
    for name in ("agent", "libc.so.6", "libm.so.6"):
        content = (built.folder / name).read_bytes()[:1000]
        (work / "files" / name).write_bytes(content)
        told = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        files[name] = manifest.files[name].model_copy(update=told)
    return bundle.install(manifest.model_copy(update={"files": files}), work / "files", work / "bundle")


def test_the_same_bundle_gives_the_same_archive(tiny: Bundle, tmp_path: Path) -> None:
    """Whenever and by whomever its files were written."""
    shutil.copytree(tiny.folder, tmp_path / "copy", copy_function=shutil.copyfile)
    for path in (tmp_path / "copy").iterdir():
        os.utime(path, (1, 1))
    archives = [tmp_path / "one.tar.xz", tmp_path / "other.tar.xz"]
    for folder, archive in zip((tiny.folder, tmp_path / "copy"), archives, strict=True):
        assert bundle_archive.write(dataclasses.replace(tiny, folder=folder), archive) == archive.stat().st_size
    assert archives[0].read_bytes() == archives[1].read_bytes()


def members(archive: Path) -> Packed:
    """Return what an archive holds: the members by name, each with its content."""
    with tarfile.open(archive) as packed:
        return {member.name: (member, packed.extractfile(member).read()) for member in packed}  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def packed_files(tiny: Bundle) -> Packed:
    """What the archive of the tiny bundle holds."""
    bundle_archive.write(tiny, tiny.folder.parent / "bundle.tar.xz")
    return members(tiny.folder.parent / "bundle.tar.xz")


def rename(members: dict[str, tarfile.TarInfo], contents: dict[str, bytes]) -> None:
    members["libm.so.6"].name = "../libm.so.6"


def link(members: dict[str, tarfile.TarInfo], contents: dict[str, bytes]) -> None:
    members["libm.so.6"].type, members["libm.so.6"].linkname, members["libm.so.6"].size = tarfile.SYMTYPE, "/etc", 0


def extra(members: dict[str, tarfile.TarInfo], contents: dict[str, bytes]) -> None:
    members["more"] = tarfile.TarInfo("more")
    contents["more"] = b""


def twice(members: dict[str, tarfile.TarInfo], contents: dict[str, bytes]) -> None:
    members["again"], contents["again"] = members["agent"], contents["agent"]


def flip(members: dict[str, tarfile.TarInfo], contents: dict[str, bytes]) -> None:
    contents["agent"] = contents["agent"][:-1] + bytes([contents["agent"][-1] ^ 1])


def drop(members: dict[str, tarfile.TarInfo], contents: dict[str, bytes]) -> None:
    del members["agent"]


def no_manifest(members: dict[str, tarfile.TarInfo], contents: dict[str, bytes]) -> None:
    del members["manifest.json"]


def rewritten(change: Callable[[dict[str, object]], object]) -> Change:
    """Change the manifest itself."""

    def apply(members: dict[str, tarfile.TarInfo], contents: dict[str, bytes]) -> None:
        manifest = json.loads(contents["manifest.json"])
        change(manifest)
        contents["manifest.json"] = json.dumps(manifest).encode()
        members["manifest.json"].size = len(contents["manifest.json"])

    return apply


path_in_manifest = rewritten(lambda manifest: manifest["files"].update({"../x": manifest["files"]["agent"]}))  # type: ignore[attr-defined,index]
newer_runtime = rewritten(lambda manifest: manifest["made_of"].update({"onnxruntime": "9.9"}))  # type: ignore[attr-defined]
other_target = rewritten(lambda manifest: manifest.update({"target": "riscv-linux"}))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (rename, "'../libm.so.6', which its manifest does not list"),
        (link, "'libm.so.6', which its manifest does not list as that"),
        (extra, "'more', which its manifest does not list"),
        (twice, "'agent', which its manifest does not list"),
        (flip, "agent is damaged"),
        (drop, "it lacks agent"),
        (no_manifest, "it does not begin with manifest.json"),
        (path_in_manifest, "its manifest.json is not one"),
        (newer_runtime, "onnxruntime 9.9 in it"),
        (other_target, "it is for riscv-linux, not for"),
    ],
)
def test_a_hostile_archive_is_refused_and_leaves_nothing(
    packed_files: Packed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Change, words: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    headers = {name: copy.copy(member) for name, (member, _) in packed_files.items()}
    contents = {name: content for name, (_, content) in packed_files.items()}
    change(headers, contents)
    with (
        lzma.open(tmp_path / "hostile.tar.xz", "wb", preset=0) as file,
        tarfile.open(fileobj=file, mode="w") as packed,
    ):
        for name, member in headers.items():
            packed.addfile(member, io.BytesIO(contents[name]))
    with pytest.raises(DeviceError, match=re.escape(words)):
        bundle_archive.bring(HOST, tmp_path / "hostile.tar.xz")
    assert [path.name for path in (tmp_path / "cache/fbnet-lab").iterdir() if path.suffix != ".lock"] == []
    assert {path.name for path in tmp_path.iterdir()} == {"cache", "hostile.tar.xz"}


def test_what_is_no_archive_is_refused(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    cut = tmp_path / "cut.tar.xz"
    cut.write_bytes(archive.read_bytes()[:500_000])
    for path, words in ((cut, "is no bundle"), (Path(__file__), "is no bundle"), (tmp_path / "none", "cannot read")):
        with pytest.raises(DeviceError, match=words):
            bundle_archive.bring(HOST, path)


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


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
