"""Files that are never half written, names that are found by file, errors with exit codes."""

import errno
import os
import sys
from pathlib import Path

import click
import pytest

from fbbase.commandline import run
from fbbase.errors import CheckError, FbError, PartialError, StorageError, UnknownNameError
from fbbase.files import atomic_write, read_text, write_text
from fbbase.plugins import PluginFolder


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def write_half() -> None:
        with atomic_write(path) as file:
            file.write(b"half")
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        write_half()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]  # noqa: PTH208  # hidden files too


def test_a_full_disk_is_a_storage_error_and_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"cannot write .*a.txt: No space left"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_missing_parents_are_made_and_the_umask_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "b" / "c" / "a.txt"
    old = os.umask(0o027)
    try:
        write_text(path, "x")
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == 0o640


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(FbError, match=r"latency table not found: .*no.csv"):
        read_text(tmp_path / "no.csv", "latency table")
    with pytest.raises(FbError, match="is a folder"):
        read_text(tmp_path, "latency table")
    (tmp_path / "b").write_bytes(b"a\xff\x00")
    with pytest.raises(FbError, match="byte 1 is not UTF-8"):
        read_text(tmp_path / "b", "latency table")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PluginFolder:
    package = tmp_path / "plugged"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "_private.py").touch()
    (package / "single_path.py").write_text("x = 42")
    (package / "broken.py").write_text("import a_package_nobody_has")
    (package / "table-one.toml").write_text("x = 1")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "plugged", raising=False)
    return PluginFolder("strategy", "plugged")


def test_a_file_is_a_plug_in(folder: PluginFolder) -> None:
    assert folder.names() == ["broken", "single-path"]
    assert folder.module("single-path").x == 42
    assert "plugged.broken" not in sys.modules


def test_a_data_file_is_a_plug_in_too(folder: PluginFolder) -> None:
    tables = PluginFolder("space", "plugged", suffix=".toml")
    assert tables.names() == ["table-one"]
    assert tables.path("table-one").read_text() == "x = 1"
    with pytest.raises(UnknownNameError, match=r"unknown space 'table-on'. Did you mean 'table-one'"):
        tables.path("table-on")


def test_an_unknown_name_lists_the_known_and_suggests_the_nearest(folder: PluginFolder) -> None:
    with pytest.raises(UnknownNameError, match=r"Did you mean 'single-path'\? Known: broken, single-path"):
        folder.module("single-pat")


def test_a_missing_package_is_named_with_its_remedy(folder: PluginFolder) -> None:
    with pytest.raises(FbError, match="needs the package 'a_package_nobody_has': pip install a-package-nobody-has"):
        folder.module("broken")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (FbError("x"), 2),
        (CheckError("x"), 1),
        (StorageError("x"), 3),
        (PartialError("x"), 4),
        (KeyboardInterrupt(), 130),
        (OSError(errno.ENOSPC, "full"), 3),
    ],
)
def test_every_foreseen_error_is_one_message_and_its_exit_code(
    error: BaseException, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    @click.group()
    def tool() -> None: ...

    @tool.command()
    def go() -> None:
        raise error

    assert run(tool, ["go"]) == code
    err = capsys.readouterr().err
    assert "error: " in err
    assert "Traceback" not in err


def test_a_bug_is_not_swallowed() -> None:
    @click.group()
    def tool() -> None: ...

    @tool.command()
    def go() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(tool, ["go"])
