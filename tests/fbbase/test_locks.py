"""Locks and folders of a run, which end with the process that holds them: with real processes that are killed."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

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
