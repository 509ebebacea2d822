"""Images of others: of 16 bits, of no pixels, of far too many, and what only says that it is an image."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fbsearch.errors import DataError
from fbsearch.images.data import load_data
from fbsearch.sources import open_source

SHAPE = (1, 3, 16, 16)
SIXTEEN = np.array([[0, 257, 32896], [65535, 1000, 64249]], np.uint16)


def encoded(array: np.ndarray, kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind)
    return buffer.getvalue()


def decoded(content: bytes, path: Path) -> np.ndarray:
    """Return an image that is given as bytes in an .npz file."""
    offsets = np.arange(3) * len(content)
    data = np.array(list(content * 2), np.uint8)
    np.savez(path / "d.npz", jpg_train=data, off_train=offsets, y_train=np.arange(2))
    return open_source(str(path / "d.npz"), 8)[0].decode(0)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_are_scaled_and_not_clipped(kind: str, tmp_path: Path) -> None:
    found = decoded(encoded(SIXTEEN, kind), tmp_path)
    expected = np.rint(SIXTEEN.astype(float) / 65535 * 255)
    assert found.shape == (3, 2, 3)
    assert all(np.array_equal(channel, expected) for channel in found)
    eight = (SIXTEEN >> 8).astype(np.uint8)
    assert np.array_equal(decoded(encoded(eight, kind), tmp_path)[0], eight)


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_thirty_two_bits_are_refused_as_nothing_says_what_is_white(dtype: type, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="its pixels have 32 bits, and nothing says which value is white"):
        decoded(encoded(SIXTEEN.astype(dtype), "TIFF"), tmp_path)


def test_an_image_of_far_too_many_pixels_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("1", (12_800, 5001)).save(buffer, "PNG")
    with pytest.raises(DataError, match="12800x5001 pixels, of which 1 to 64000000 are decoded"):
        decoded(buffer.getvalue(), tmp_path)


@pytest.mark.parametrize(
    "content", [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n", b"", b"P6 0 0 255\n", bytes(99)]
)
def test_what_is_no_image_is_named(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"image 0 of jpg_train: .*; remove or replace it"):
        decoded(content, tmp_path)


@pytest.mark.parametrize("name", ["fifo", "endless"])
def test_an_image_of_a_class_that_never_ends_is_refused(tmp_path: Path, name: str) -> None:
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for number in range(8):
            Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / label / f"{number}.png")
    (tmp_path / "a" / "0.png").unlink()
    if name == "fifo":
        os.mkfifo(tmp_path / "a" / "0.png")
    else:
        (tmp_path / "a" / "0.png").symlink_to("/dev/zero")
    with pytest.raises(DataError, match=r"image expected, but .*a/0.png is no regular file"):
        load_data(str(tmp_path), SHAPE, seed=0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PAR1" + bytes(100), "is not an .npz file of plain arrays: it is a Parquet file"),
        (b"\x93NUMPY" + bytes(100), "is not an .npz file of plain arrays: it is an .npy file of one array"),
        (b"", "it is empty"),
    ],
)
def test_a_file_of_another_kind_is_called_what_it_is(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "d.npz").write_bytes(content)
    with pytest.raises(DataError, match=message) as raised:
        load_data(str(tmp_path / "d.npz"), SHAPE, seed=0)
    assert "allow_pickle" not in str(raised.value)


def test_images_of_no_pixels_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x_train=np.zeros((4, 0, 0, 3), np.uint8), y_train=np.arange(4) % 2)
    with pytest.raises(DataError, match="x_train has images of no pixels"):
        load_data(str(tmp_path / "d.npz"), SHAPE, seed=0)
