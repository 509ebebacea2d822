"""What several kinds of image sets need: decoding an image file, checking labels."""

import io
from typing import TYPE_CHECKING

import numpy as np

from fbbase.arrays import DECODING_FAULTS
from fbsearch.errors import DataError
from fbsearch.sources import Array, Indices

if TYPE_CHECKING:
    from PIL import Image


IMAGE_BYTES = 256 << 20
"""No image file is larger."""
MOST_PIXELS = 64_000_000
"""More in one image is a decompression bomb, or no picture to train with."""
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""Others, such as PostScript, Pillow gives to programs of the system."""


def decode_image(content: bytes, what: str, size: int | None = None) -> Array:
    """Return 3, H, W uint8; 16 bits are brought to 8. Raises DataError, naming `what`, for bytes that are no image.

    With `size` the shorter side is brought to it (bilinear) and the middle square is kept.
    """
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None  # ours is asked below, once a large JPEG was told to come smaller
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            if size is not None:
                image.draft("RGB", (size, size))  # a large JPEG is decoded at a half, a quarter or an eighth
            if not 0 < image.width * image.height <= MOST_PIXELS:
                raise ValueError(f"{image.width}x{image.height} pixels, of which 1 to {MOST_PIXELS} are decoded")
            rgb = _in_8_bits(image).convert("RGB")
    except DECODING_FAULTS as error:
        reason = "not a readable image" if "cannot identify" in str(error) else str(error)
        raise DataError(f"{what}: {reason}; remove or replace it") from None
    if size is not None and rgb.size != (size, size):
        side = min(rgb.size)
        left, top = (rgb.width - side) / 2, (rgb.height - side) / 2
        rgb = rgb.resize((size, size), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side))
    return np.asarray(rgb).transpose(2, 0, 1)


def _in_8_bits(image: "Image.Image") -> "Image.Image":
    """Return an image of at most 8 bits: of 16 by scaling. Raises ValueError where the range is not known."""
    from PIL import Image

    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        return Image.fromarray(((np.asarray(image).astype(np.int64) + 128) // 257).clip(0, 255).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError("its pixels have 32 bits, and nothing says which value is white: save it with 8 or 16 bits")
    return image


def as_labels(labels: Array, what: str) -> Indices:
    """Return whole numbers, one per image. Raises DataError."""
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer) or not len(labels):
        raise DataError(f"{what} must be a list of whole numbers, one per image, not {labels.dtype} {labels.shape}")
    return labels.astype(np.int64)
