"""Images to calibrate by, as a NumPy file."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fbexport.errors import ExportError


def read_images(path: Path, input_shape: Sequence[int]) -> Tensor:
    """Read images of N, C, H, W, float32, as the network gets them: normalised, and of its size.

    Raises ExportError for what is no such file, for another shape, and for none at all.
    """
    if not path.is_file():
        raise ExportError(f"images to calibrate by not found: {path}")
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise ExportError(f"{path} is not an .npy file of images: {error}") from None
    expected = ", ".join(map(str, input_shape[1:]))
    if not isinstance(array, np.ndarray) or array.dtype.kind != "f" or array.ndim != 4:
        raise ExportError(f"{path} does not hold images as real numbers of shape N, {expected}")
    if array.shape[1:] != tuple(input_shape[1:]):
        raise ExportError(f"{path} holds images of shape N, {', '.join(map(str, array.shape[1:]))}, not N, {expected}")
    if not len(array):
        raise ExportError(f"{path} holds no images to calibrate by: a hundred do")
    return torch.from_numpy(np.ascontiguousarray(array, np.float32))
