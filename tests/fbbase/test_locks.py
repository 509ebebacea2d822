"""Locks and folders of a run, which end with the process that holds them: with real processes that are killed."""

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
