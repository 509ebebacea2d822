"""Progress of several threads on one stderr: lines elsewhere, one row for each thread on a terminal."""

import io
import sys
import threading

import pytest

from fbbase import progress as module
from fbbase.progress import progress, shared_screen


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_elsewhere_every_line_begins_with_its_title(capsys: pytest.CaptureFixture[str]) -> None:
    def work(name: str) -> None:
        with progress(f"{name}: measuring", 3) as advance:
            for _ in range(3):
                advance()

    threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = sorted(capsys.readouterr().err.splitlines())
    assert lines == [f"{name}: measuring: 3/3" for name in "ab"]
    assert not module.SCREEN.printing


def test_the_end_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("sending", 2) as advance:
        for steps in (2, 0, 0):  # a file that has been read, and is not sent yet
            advance(steps)
    assert capsys.readouterr().err == "sending: 2/2\n"


def test_the_time_left_counts_from_the_first_step(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter([0.0, 600.0, 606.0, 612.0])  # the first step after ten minutes of loading
    monkeypatch.setattr(module.time, "monotonic", lambda: next(times))
    with progress("measuring", 102) as advance:
        for _ in range(3):
            advance()
    assert capsys.readouterr().err.splitlines() == ["measuring: 1/102", "measuring: 3/102, about 594 s left"]


def test_on_a_terminal_each_thread_has_one_row_and_inner_work_gives_it_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    rows: dict[str, list[tuple[str, float]]] = {}
    together = threading.Barrier(2, timeout=30)

    def look(when: str) -> None:
        bars = module.SCREEN.bars
        assert bars is not None
        rows[when] = sorted((task.description, task.completed) for task in bars.tasks)

    def work(name: str) -> None:
        with progress(f"{name}: measuring", 5) as advance:
            advance(5)
            together.wait()
            with progress(f"{name}: loading", 2, done=1):
                together.wait()
                if name == "a":
                    look("inner")
                together.wait()
            together.wait()
            if name == "a":
                look("outer")
            together.wait()

    with shared_screen():
        threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        look("after")
    assert rows["inner"] == [("a: loading", 1), ("b: loading", 1)]
    assert rows["outer"] == rows["after"] == [("a: measuring", 5), ("b: measuring", 5)]
    assert module.SCREEN.bars is None


def test_what_is_printed_beside_bars_of_a_terminal_stands_above_them(monkeypatch: pytest.MonkeyPatch) -> None:
    screen, stdout = Terminal(), Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(sys, "stdout", stdout)
    with progress("measuring", 2):
        sys.stdout.write("a.csv: 9 of 9\x1b[2J\n")
    assert "a.csv: 9 of 9\\x1b[2J\n" in screen.getvalue()
    assert sys.stdout is stdout
    assert stdout.getvalue() == ""


def test_a_note_shows_its_control_characters_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    with shared_screen():
        bars = module.SCREEN.bars
        assert bars is not None
        with progress("searching", 2) as advance:
            advance(2, note="\x1b[2Jthe table")
            assert [task.fields["note"] for task in bars.tasks] == ["\\x1b[2Jthe table"]
        assert [task.fields["note"] for task in bars.tasks] == ["\\x1b[2Jthe table"]
