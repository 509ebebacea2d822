"""Locks and folders of a run, which end with the process that holds them: with real processes that are killed."""

import fcntl
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from fbbase.files import write_text
from fbbase.locks import HeldError, open_locked, scratch_folder

HOLD = """
import sys, time
from pathlib import Path
from fbbase.locks import open_locked, scratch_folder
open_locked(Path(sys.argv[1]))
with scratch_folder() as folder:
    (folder / "model").write_bytes(bytes(1000))
    print(folder, flush=True)
    time.sleep(60)
"""


def test_what_a_killed_process_held_and_left_is_free_and_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    file = tmp_path / "journal"
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", HOLD, str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        other = Path(process.stdout.readline().strip())
        with pytest.raises(HeldError, match=rf"process {process.pid} \(.*python.* -c .*\) is writing {file}"):
            open_locked(file)
        with scratch_folder() as mine:
            assert (other / "model").exists()
            assert mine.exists()
        assert not mine.exists()
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert other.exists()
    with scratch_folder():
        assert not other.exists()
    os.close(open_locked(file))


def test_what_a_process_left_that_was_killed_while_it_tidied_up_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    code = """
import os
from fbbase.locks import scratch_folder
with scratch_folder() as folder:
    (folder / "model").write_bytes(bytes(1000))
    os.rmdir = lambda *_, **__: os._exit(9)
"""
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False, timeout=60).returncode == 9
    assert list(tmp_path.iterdir()) != []
    with scratch_folder() as mine:
        assert list(tmp_path.iterdir()) == [mine.parent]
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_not_found_before_it_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that begins at the same moment removes what nobody holds."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    hold, begun = fcntl.flock, list[int]()

    def hold_late(handle: int, kind: int) -> None:
        if not begun:
            begun.append(1)
            with scratch_folder():
                pass
        hold(handle, kind)

    monkeypatch.setattr(fcntl, "flock", hold_late)
    with scratch_folder() as mine:
        assert mine.exists()
        assert begun


def test_a_file_that_is_moved_away_while_it_is_opened_is_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold, file = fcntl.flock, tmp_path / "journal"

    def move_away_once(handle: int, kind: int) -> None:
        hold(handle, kind)
        if not (tmp_path / "old").exists():
            file.rename(tmp_path / "old")

    monkeypatch.setattr(fcntl, "flock", move_away_once)
    handle = open_locked(file)
    assert os.path.samestat(os.fstat(handle), file.stat())
    os.close(handle)


def test_a_folder_of_others_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "fbprof-notes").mkdir()
    with scratch_folder():
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["fbprof-notes"]


WRITE = """
import sys, time
from pathlib import Path
from fbbase.files import atomic_write
with atomic_write(Path(sys.argv[1])) as file:
    file.write(b"half of it")
    file.flush()
    print("written", flush=True)
    time.sleep(60)
"""


def test_what_a_killed_process_left_of_a_file_is_removed_when_it_is_written_again(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    (tmp_path / ".t.csv.mine").touch()
    with subprocess.Popen([sys.executable, "-c", WRITE, str(table)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        (left,) = tmp_path.glob(".t.csv.????????")
        os.utime(left, (0, 0))
        write_text(table, "1")
        assert left.read_text() == "half of it"  # it is being written still
        process.kill()
    write_text(table, "2")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".t.csv.mine", "t.csv"]
    assert table.read_text() == "2"
