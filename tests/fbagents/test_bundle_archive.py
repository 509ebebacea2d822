"""Archives of bundles: carried to another machine, the same every time, and refused where they are no such."""

import copy
import dataclasses
import hashlib
import io
import json
import lzma
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from fbagents.errors import DeviceError
from fbagents.native import archive as bundle_archive
from fbagents.native import build as native
from fbagents.native import bundle
from fbagents.native.bundle import Bundle
from fbbase.commandline import run
from fbprof.cli import fbprof

HOST = native.host_target()
Packed = dict[str, tuple[tarfile.TarInfo, bytes]]
Change = Callable[[dict[str, tarfile.TarInfo], dict[str, bytes]], None]


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
