"""Files of others: what is read and what is refused; where outputs go that are no ordinary file."""

import io
import os
import stat
import threading
import zipfile
from pathlib import Path

import click
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fbbase.arrays import read_array, read_arrays
from fbbase.commandline import CommandFolder, run
from fbbase.errors import FbError, StorageError
from fbbase.files import open_regular, read_bytes, read_text, write_text


@pytest.mark.parametrize("name", ["fifo", "endless", "folder", "zero", "a\0b", "x" * 300])
def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "endless").symlink_to("/dev/zero")
    (tmp_path / "folder").mkdir()
    path = Path("/dev/zero") if name == "zero" else tmp_path / name
    with pytest.raises(FbError, match=r"table .*(is no regular file|is a folder|not found|name too long)"):
        read_text(path, "table")


def test_a_file_that_is_larger_than_its_kind_is_refused_by_its_size_alone(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(FbError, match=r"too large for a table: 1099512 MB, at most 67 MB"):
        read_text(tmp_path / "sparse", "table")
    (tmp_path / "ten").write_bytes(b"0123456789")
    assert read_bytes(tmp_path / "ten", "table", 10) == b"0123456789"
    with pytest.raises(FbError, match="too large"):
        read_bytes(tmp_path / "ten", "table", 9)


def test_marks_are_dropped_and_other_encodings_named(tmp_path: Path) -> None:
    path = tmp_path / "t"
    path.write_bytes(b"\xef\xbb\xbfa\r\nb")
    assert read_text(path, "table") == "a\nb"
    path.write_bytes("a".encode("utf-16"))
    with pytest.raises(FbError, match="UTF-16: save it as UTF-8"):
        read_text(path, "table")
    path.write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(FbError, match="is not a text file: it is a PNG image"):
        read_text(path, "table")


def test_an_error_while_reading_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "t").touch()
    with pytest.raises(FbError, match=r"cannot read table .*t: torn"), open_regular(tmp_path / "t", "table", 1):
        raise OSError("torn")


def npy(header: bytes) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (npy(b"{'descr': '|u1', 'fortran_order': False, 'shape': (640000000000000,), }"), "and is cut short"),
        (npy(b"{'descr': " + b"(" * 3000), "its header is none that NumPy writes"),
        (npy(b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }") + b"\x80", "holds Python objects"),
        (npy(b""), "header"),
        (b"", "it is empty"),
        (b"PAR1" + bytes(20), "it is a Parquet file"),
    ],
)
def test_arrays_that_lie_are_refused_without_advice_to_trust_them(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "a.npy").write_bytes(content)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", content)
    for name, read in (("a.npy", read_array), ("a.npz", read_arrays)):
        with pytest.raises(FbError) as error:
            read(tmp_path / name, "images", FbError)
        assert "allow_pickle" not in str(error.value)
        assert name == "a.npz" or reason in str(error.value)


def test_an_archive_that_unpacks_to_far_more_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", bytes(100 << 20))
    with pytest.raises(FbError, match=r"it unpacks to 105 MB, 1.* times its size"):
        read_arrays(tmp_path / "bomb.npz", "images", FbError)


@given(place=st.integers(0, 10_000), value=st.integers(1, 255))
def test_a_flipped_byte_changes_no_array_unnoticed(
    tmp_path_factory: pytest.TempPathFactory, place: int, value: int
) -> None:
    buffer, array = io.BytesIO(), np.arange(64, dtype=np.float32)
    np.savez(buffer, x=array)
    content = bytearray(buffer.getvalue())
    content[place % len(content)] ^= value
    path = tmp_path_factory.mktemp("flipped") / "a.npz"
    path.write_bytes(content)
    try:
        found = read_arrays(path, "images", FbError)
    except FbError:
        return
    assert all(np.array_equal(each, array) for each in found.values())


def test_a_link_is_followed_and_kept(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("real")
    for content in ("first", "second"):
        write_text(tmp_path / "link", content)
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "real").read_text() == content


def test_a_pipe_and_a_device_are_written_into(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    received: list[str] = []
    reader = threading.Thread(target=lambda: received.append((tmp_path / "pipe").read_text()))
    reader.start()
    write_text(tmp_path / "pipe", "through")
    reader.join()
    assert received == ["through"]
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    write_text(Path("/dev/null"), "nothing")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    with pytest.raises(StorageError, match="cannot write /dev/full: No space left"):
        write_text(Path("/dev/full"), "x")


def test_a_dash_is_stdout(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    write_text(Path("-"), "µ\n")
    assert capfdbinary.readouterr().out == "µ\n".encode()


@pytest.mark.parametrize(("name", "complaint"), [("x" * 300, "name too long"), ("a\0b", "is no file name")])
def test_a_name_that_no_file_can_have_is_a_storage_error(tmp_path: Path, name: str, complaint: str) -> None:
    with pytest.raises(StorageError, match=complaint):
        write_text(tmp_path / name, "x")
    write_text(tmp_path / ("ä" * 127), "a name as long as it may be")


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> click.Group:
    """A tool with one command that copies."""
    package = tmp_path / "copying"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "copy.py").write_text(
        "import click, pathlib\n"
        "@click.command()\n"
        "@click.argument('sources', nargs=-1)\n"
        "@click.option('--space')\n"
        "@click.option('-o', '--output', type=click.Path(path_type=pathlib.Path))\n"
        "def command(sources, space, output):\n"
        "    output.write_text('overwritten')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    return CommandFolder("tool", package="copying")


def test_an_output_that_is_an_input_is_refused_before_anything_is_done(
    tool: click.Group, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").write_text("b")
    (tmp_path / "link").symlink_to("b")
    a, b, link = (str(tmp_path / name) for name in ("a", "b", "link"))
    for arguments in ([a, b, "-o", b], ["--space", a, "-o", a], [a, b, "-o", link], [a, f"{tmp_path}/./a", "-o", a]):
        assert run(tool, ["copy", *arguments]) == 2
        assert "itself, which would be lost; name another file" in capsys.readouterr().err
    assert (Path(a).read_text(), Path(b).read_text()) == ("a", "b")
    assert run(tool, ["copy", a, "-o", f"{tmp_path}/new"]) == 0
