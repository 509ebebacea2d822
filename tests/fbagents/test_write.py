"""Files that an agent writes: from pieces of files that are there, bounds, damage; what pieces save of a network."""

import contextlib
import hashlib
import json
import os
import random
import resource
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fbagents.agent.pieces import MAX_PIECES, Piece, Places, cut
from fbagents.posix.process import ProcessChannel
from fbexport.export import export_chain, export_spec
from fbexport.formats import FORMATS
from fbspace.draw import draw_networks
from fbspace.space import load_space


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@contextlib.contextmanager
def started(argv: list[str]) -> Iterator[ProcessChannel]:
    channel = ProcessChannel(argv, dict(os.environ))
    try:
        channel.receive(30)
        yield channel
    finally:
        channel.close()


@pytest.fixture(scope="module")
def one_channel(agent_argv: list[str]) -> Iterator[ProcessChannel]:
    """To either agent, the same one in all tests that ask for it."""
    with started(agent_argv) as channel:
        yield channel


def ask(channel: ProcessChannel, following: bytes = b"", **request: Any) -> dict[str, Any]:
    channel.send(json.dumps({"id": 1, "op": "write", "bytes": len(following)} | request).encode(), following)
    reply: dict[str, Any] = json.loads(channel.receive(30))
    return reply


def test_an_agent_joins_pieces_and_the_bytes_that_follow(agent_argv: list[str], tmp_path: Path) -> None:
    """Bytes of any value, newlines too, more than a line may have, and requests before and after them at once."""
    there = tmp_path / 'a "file"\n'
    there.write_bytes(random.Random(1).randbytes(3_000_000))
    sent = random.Random(2).randbytes(5_000_000) + b'\n{"id":2,"op":"bye"}\n'
    whole = sent[:10] + there.read_bytes()[1_000_001:] + sent[10:] + there.read_bytes()[:7]
    target = tmp_path / "m.tflite"
    pieces = [10, [str(there), 1_000_001, 1_999_999], 0, len(sent) - 10, [str(there), 0, 7], [str(there), 5, 0]]
    with started(agent_argv) as channel:
        assert ask(channel, sent, path=str(target), sha256=sha256(whole), pieces=pieces) == {
            "id": 1,
            "event": "written",
        }
        assert target.read_bytes() == whole
        assert stat.S_IMODE(target.stat().st_mode) == 0o600
        # a file may take pieces of the one that it replaces
        shorter = whole[100:]
        assert (
            ask(channel, path=str(target), sha256=sha256(shorter), pieces=[[str(target), 100, len(shorter)]])["event"]
            == "written"
        )
        assert target.read_bytes() == shorter
        assert ask(channel, path=str(target), sha256=sha256(b""), pieces=[])["event"] == "written"
        assert target.read_bytes() == b""
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([there.name, target.name])


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"sha256": sha256(b"other")}, "a piece is damaged"),
        ({"sha256": 5}, ""),
        ({"pieces": [4, ["THERE", 0, 5]]}, "more bytes follow the request than the pieces take"),
        ({"pieces": [6, ["THERE", 0, 5]]}, "take more bytes than follow"),
        ({"pieces": [5, ["THERE", 6, 5]]}, "a piece is beyond its end"),
        ({"pieces": [5, ["THERE", 1 << 40, 5]]}, "a piece is beyond its end"),
        ({"pieces": [5, ["THERE", (1 << 40) + 1, 5]]}, ""),
        ({"pieces": [5, ["THERE", -1, 5]]}, ""),
        ({"pieces": [5, ["THERE", 0.5, 5]]}, ""),
        ({"pieces": [5, ["THERE", 0]]}, ""),
        ({"pieces": [5, ["THERE", 0, 5, 5]]}, ""),
        ({"pieces": [5, [0, 0, 5]]}, ""),
        ({"pieces": [5, ["a\0b", 0, 5]]}, ""),
        ({"pieces": [5, ["THERE.none", 0, 5]]}, "No such file"),
        ({"pieces": [5, ["/dev/zero", 0, 5]]}, "/dev/zero is no file"),
        ({"pieces": [5, [".", 0, 5]]}, ""),
        ({"pieces": [-5]}, ""),
        ({"pieces": [None]}, ""),
        ({"pieces": {"5": 5}}, ""),
        ({"pieces": 5}, ""),
        ({"pieces": None}, ""),
        ({"pieces": [0] * MAX_PIECES + [5]}, f"at most {MAX_PIECES}"),
        ({"path": "/no/such/folder/m"}, "No such file"),
        ({"path": 5}, ""),
        ({"path": "a\0b"}, ""),
    ],
    ids=range(25),
)
def test_what_cannot_be_written_is_told_and_the_next_request_is_read(
    one_channel: ProcessChannel, tmp_path: Path, changes: dict[str, Any], why: str
) -> None:
    there, target = tmp_path / "there", tmp_path / "m.tflite"
    there.write_bytes(b"0123456789")
    target.write_bytes(b"as it was")
    request = {"path": str(target), "sha256": sha256(b"\n\n\n\n\n01234"), "pieces": [5, [str(there), 0, 5]]}
    changes = json.loads(json.dumps(changes).replace("THERE", str(there)))
    reply = ask(one_channel, b"\n\n\n\n\n", **(request | changes))
    assert reply["event"] == "error"
    assert why in reply["message"]
    assert ask(one_channel, b"\n\n\n\n\n", **request)["event"] == "written"
    assert target.read_bytes() == b"\n\n\n\n\n01234"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.tflite", "there"]


def test_a_pipe_is_no_piece_and_no_target_and_nobody_waits_for_it(agent_argv: list[str], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    os.mkfifo(tmp_path / "m.part")
    with started(agent_argv) as channel:
        pieces = [[str(tmp_path / "pipe"), 0, 5]]
        assert "is no file" in ask(channel, path=str(tmp_path / "n"), sha256="", pieces=pieces)["message"]
        assert ask(channel, b"x", path=str(tmp_path / "m"), sha256=sha256(b"x"), pieces=[1])["event"] == "error"


def test_a_full_disk_is_an_answer(agent_argv: list[str], tmp_path: Path) -> None:
    """A limit of the kernel on the size of files stands in for the disk's end."""
    with started(agent_argv) as channel:
        resource.prlimit(channel.pid, resource.RLIMIT_FSIZE, (16384, 16384))
        data = bytes(3_000_000)
        full = ask(channel, data, path=str(tmp_path / "m"), sha256=sha256(data), pieces=[len(data)])
        assert "File too large" in full["message"]
        assert ask(channel, b"x", path=str(tmp_path / "m"), sha256=sha256(b"x"), pieces=[1])["event"] == "written"
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_input_that_ends_within_a_file_leaves_nothing(agent_argv: list[str], tmp_path: Path) -> None:
    request = {"id": 1, "op": "write", "path": str(tmp_path / "m"), "sha256": "", "pieces": [10], "bytes": 10}
    cut = json.dumps(request).encode() + b"\n123"
    done = subprocess.run(agent_argv, input=cut, capture_output=True, timeout=30)
    assert [json.loads(line)["event"] for line in done.stdout.splitlines()] == ["hello", "error"]
    assert done.returncode == 0
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.lists(st.sampled_from([b"\x5e\x00", b"\x5e", b"abc", b"\0" * 9, b"\x5e\x07xyz"])), min_size=1, max_size=6
    )
)
def test_pieces_always_give_the_content(files: list[list[bytes]]) -> None:
    places, there = Places(), dict[str, bytes]()
    for number, parts in enumerate(files):
        content = b"".join(parts)
        stretches = cut(content)
        assert sum(stretch.length for stretch in stretches) == len(content)
        pieces = places.pieces(stretches)
        joined, at = b"", 0
        for path, offset, length in pieces:
            source = content if path is None else there[path]
            assert path is not None or offset == at
            joined, at = joined + source[offset : offset + length], at + length
        assert joined == content
        there[str(number)] = content
        places.add(str(number), stretches)
        assert all(piece.path is not None for piece in places.pieces(stretches))


def test_a_file_of_more_pieces_than_an_agent_takes_is_sent_whole() -> None:
    places = Places()
    words = [random.Random(n).randbytes(8).replace(b"\x5e", b"") + b"\x5e\x00" for n in range(MAX_PIECES + 2)]
    places.add("there", cut(b"".join(words[::2])))
    content = b"".join(words)
    assert places.pieces(cut(content)) == [Piece(None, 0, len(content))]


@pytest.mark.parametrize("format_name", FORMATS.names())
def test_a_network_is_there_once_its_operators_are(format_name: str) -> None:
    """Whatever the format, at most a twentieth of a network of the paper's space is new."""
    space = load_space("fbnet")
    (choices,) = draw_networks(space, 1, "pieces", [])
    specs = space.specs(choices)
    places = Places()
    for spec in set(specs):
        places.add(spec.key(), cut(export_spec(spec, format_name)))
    network = export_chain(specs, format_name)
    pieces = places.pieces(cut(network))
    new = sum(piece.length for piece in pieces if piece.path is None)
    assert len(network) > 10_000_000
    assert new < len(network) / 20
    assert len(pieces) < 200
