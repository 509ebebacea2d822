"""What several kinds of image sets need: decoding an image file, checking labels."""

import io

import numpy as np

from fbsearch.errors import DataError
from fbsearch.sources import Array, Indices


def decode_image(content: bytes, what: str, size: int | None = None) -> Array:
    """Return 3, H, W uint8. Raises DataError, naming `what`, for bytes that are no image.

    With `size` the shorter side is brought to it (bilinear) and the middle square is kept.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content)) as image:
            if size is not None:
                image.draft("RGB", (size, size))  # a large JPEG is decoded at a half, a quarter or an eighth
            rgb = image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = "not a readable image" if "cannot identify" in str(error) else str(error)
        raise DataError(f"{what}: {reason}; remove or replace it") from None
    if size is not None and rgb.size != (size, size):
        side = min(rgb.size)
        left, top = (rgb.width - side) / 2, (rgb.height - side) / 2
        rgb = rgb.resize((size, size), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side))
    return np.asarray(rgb).transpose(2, 0, 1)


def as_labels(labels: Array, what: str) -> Indices:
    """Return whole numbers, one per image. Raises DataError."""
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer) or not len(labels):
        raise DataError(f"{what} must be a list of whole numbers, one per image, not {labels.dtype} {labels.shape}")
    return labels.astype(np.int64)
