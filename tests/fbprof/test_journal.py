"""The journal survives what can happen to it: torn lines, damage, another run, a second writer, a full disk."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fbagents.agent.protocol import Visit
from fbbase.errors import StorageError
from fbbase.locks import HeldError, open_locked
from fbprof.errors import JournalError
from fbprof.journal.journal import Failed, Start, open_journal, read_journal
from fbprof.journal.visits import Visited

START = Start(identity={"space": "fbnet", "threads": 1}, timing="t", started_at="now", tool_version="0")


def visit(number: int) -> Visited:
    raw = Visit(event="visit", index=number, model="m", start_ns=1, wall_ns=(5,), cpu_ns=None)
    return Visited(key="m", visit=raw)


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    path = tmp_path / "deep" / "x.journal.jsonl"
    with open_journal(path, START, fresh=False) as writer:
        for number in range(3):
            writer.append(visit(number))
        writer.append(Failed(key="n", reason="broken"))
    return path


def test_what_was_appended_is_read(journal: Path) -> None:
    content = read_journal(journal)
    assert content is not None
    assert content.start == START
    assert content.counts == {"m": 3}
    assert [record.visit.index for record in content.visits] == [0, 1, 2]
    assert content.failed == {"n": "broken"}


def test_no_journal_is_none(tmp_path: Path) -> None:
    assert read_journal(tmp_path / "none") is None


@pytest.mark.parametrize("cut", [1, 5, 30])
def test_a_torn_last_line_is_left_out_and_overwritten(journal: Path, cut: int) -> None:
    raw = journal.read_bytes()
    journal.write_bytes(raw[:-cut])
    with open_journal(journal, START, fresh=False) as writer:
        assert writer.content.failed == {}
        assert len(writer.content.visits) == 3
        writer.append(visit(3))
        assert len(writer.content.visits) == 4
    content_after = read_journal(journal)
    assert content_after is not None
    assert len(content_after.visits) == 4


def test_a_journal_torn_in_its_first_line_begins_again(journal: Path) -> None:
    journal.write_bytes(journal.read_bytes()[:20])
    with open_journal(journal, START, fresh=False) as writer:
        assert writer.content.visits == []
    assert read_journal(journal) is not None


def test_damage_elsewhere_is_an_error_with_the_line(journal: Path) -> None:
    lines = journal.read_bytes().split(b"\n")
    lines[2] = lines[2][:-4] + b"#"
    journal.write_bytes(b"\n".join(lines))
    with pytest.raises(JournalError, match="line 3: damaged"):
        read_journal(journal)


def test_two_starts_are_an_error(journal: Path) -> None:
    with journal.open("ab") as file:
        file.write(START.model_dump_json().encode() + b"\n")
    with pytest.raises(JournalError, match="line 6: a journal begins with its one start record"):
        read_journal(journal)


def test_a_journal_of_another_run_is_refused_and_fresh_starts_over(journal: Path) -> None:
    other = START.model_copy(update={"identity": {"space": "fbnet", "threads": 4}})
    with (
        pytest.raises(JournalError, match=r"another run .threads 1 there, 4 asked for.*--fresh"),
        open_journal(journal, other, fresh=False),
    ):
        pass
    assert len(read_journal(journal).visits) == 3  # type: ignore[union-attr]
    with open_journal(journal, other, fresh=True) as writer:
        assert writer.content.visits == []
    old = read_journal(journal.with_name(journal.name + ".old"))
    assert old is not None
    assert len(old.visits) == 3
    again = read_journal(journal)
    assert again is not None
    assert again.start.identity["threads"] == 4
    assert again.visits == []


def test_a_second_writer_is_refused(journal: Path) -> None:
    before = journal.read_bytes()
    for fresh in (False, True):
        with (
            open_journal(journal, START, fresh=False),
            pytest.raises(HeldError, match=rf"process {os.getpid()} \(.*\) is writing {journal}; wait for it"),
            open_journal(journal, START, fresh),
        ):
            pass
    assert journal.read_bytes() == before
    assert len(list(journal.parent.iterdir())) == 1


def test_what_is_set_aside_never_replaces_what_was_set_aside_before(journal: Path) -> None:
    for count in (1, 2, 3):
        with open_journal(journal, START, fresh=True) as writer:
            writer.append(visit(count))
        kept = [read_journal(path) for path in journal.parent.glob("*.old*")]
        assert sorted(len(content.visits) for content in kept if content) == [1] * (count - 1) + [3]


def test_a_run_that_begins_while_a_journal_is_set_aside_is_told_and_nothing_is_lost(
    journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the move and the new file, another process takes the name."""
    taken: list[int] = []
    move = Path.replace

    def move_and_lose(path: Path, target: Path) -> Path:
        moved = move(path, target)
        taken.append(open_locked(path))
        return moved

    monkeypatch.setattr(Path, "replace", move_and_lose)
    with pytest.raises(HeldError, match="is writing"), open_journal(journal, START, fresh=True):
        pass
    os.close(taken[0])
    old = read_journal(journal.with_name(journal.name + ".old"))
    assert old is not None
    assert len(old.visits) == 3


def test_a_journal_without_a_sample_gives_way_to_whatever_is_measured_next(tmp_path: Path) -> None:
    path = tmp_path / "x.journal.jsonl"
    with open_journal(path, START, fresh=False) as writer:
        writer.append(Failed(key="k", reason="no kernel"))
    other = START.model_copy(update={"identity": {"space": "fbnet", "threads": 4}})
    with open_journal(path, other, fresh=False) as writer:
        assert writer.content.failed == {}
        writer.append(visit(0))
    again = read_journal(path)
    assert again is not None
    assert (again.start.identity["threads"], len(again.visits), again.failed) == (4, 1, {})


def test_a_full_disk_is_a_storage_error_and_what_was_written_stays(journal: Path, tmp_path: Path) -> None:
    """A real limit of the kernel on the file's size stands in for the disk's end."""
    code = f"""
import resource, signal
from pathlib import Path
from fbbase.errors import StorageError
from fbbase.locks import open_locked
from fbprof.journal.journal import Failed, JournalContent, JournalWriter, Start
path = Path({str(journal)!r})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
size = path.stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 30, size + 30))
start = Start(identity={{}}, timing="t", started_at="now", tool_version="0")
with JournalWriter(path, open_locked(path), JournalContent(start, good_bytes=size)) as writer:
    try:
        writer.append(Failed(key="k", reason="r" * 100))
    except StorageError as error:
        print("StorageError:", error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert "StorageError: cannot write" in done.stdout
    content = read_journal(journal)
    assert content is not None
    assert content.failed == {"n": "broken"}


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        open_locked(tmp_path / "file" / "x.jsonl")
    assert os.listdir(tmp_path) == ["file"]  # noqa: PTH208


def test_a_journal_that_lists_its_cores_is_continued_by_the_same_cores_as_text(tmp_path: Path) -> None:
    """Journals of earlier versions hold `"cores":[4,5,6,7]`."""
    path = tmp_path / "x.journal.jsonl"
    start = START.model_copy(update={"identity": {"space": "fbnet", "cores": "4,5,6,7"}})
    path.write_text(
        start.model_dump_json().replace('"4,5,6,7"', "[7,4,5,6]") + "\n" + visit(0).model_dump_json() + "\n"
    )
    with open_journal(path, start, fresh=False) as writer:
        writer.append(visit(0))
        assert writer.content.start.identity["cores"] == "4,5,6,7"
    assert '"cores":[7,4,5,6]' in path.read_text()
    other = START.model_copy(update={"identity": {"space": "fbnet", "cores": "big"}})
    with (
        pytest.raises(JournalError, match='cores "4,5,6,7" there, "big" asked for'),
        open_journal(path, other, fresh=False),
    ):
        pass
