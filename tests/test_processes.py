"""The processes that tests fork from a server end as those that Python starts: words, streams, codes, signals."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from peers.processes import PIPE, Python, run

SHOW = "import os, sys; print(sys.argv, os.getcwd(), os.environ.get('X'), sys.path[0], sys.stdin.read()); sys.exit(3)"
WAIT = """
import time
print("waits", flush=True)
while True:
    time.sleep(0.05)  # a signal that comes right before a sleep does not end it
"""


def test_it_gets_what_a_process_of_python_gets_and_ends_as_it_ends(tmp_path: Path) -> None:
    environment = os.environ | {"X": "y", "PYTHONPATH": ""}
    argv = ["-c", SHOW, "one", "two words"]
    ours = run(argv, "told", cwd=tmp_path, env=environment)
    started = subprocess.run(
        [sys.executable, *argv], input="told", capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    assert (ours.returncode, ours.stderr) == (started.returncode, started.stderr) == (3, "")
    assert ours.stdout == started.stdout.replace(" y  told", f" y {tmp_path} told")  # python's '' is where it is


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, -2), (signal.SIGTERM, -15), (signal.SIGKILL, -9)])
def test_signals_reach_it(number: signal.Signals, code: int) -> None:
    with Python(["-c", WAIT], stdout=PIPE, stderr=PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waits\n"
        assert process.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.01)
        process.send_signal(number)
        _, error = process.communicate(30)
    assert process.returncode == code
    assert ("KeyboardInterrupt" in error) == (number == signal.SIGINT)
