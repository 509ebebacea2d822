"""Files of int8: images to calibrate by (.npy), and ranges of a network with the weights that they hold for (JSON)."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import pydantic
import torch
from torch import Tensor

from fbbase.arrays import read_array
from fbbase.files import file_sha256, read_text, write_text
from fbbase.parsing import parse_json
from fbexport.errors import ExportError
from fbexport.quantization.scheme import Ranges

RANGES = "ranges.json"
"""Its name in a folder of trained weights."""

_Finite = Annotated[float, pydantic.Field(allow_inf_nan=False)]


class RangesFile(pydantic.BaseModel, extra="forbid", frozen=True):
    """Least and greatest of every value, how they were found, and the SHA-256 of the weights they belong to."""

    method: str
    images: Annotated[int, pydantic.Field(ge=0)]
    weights_sha256: str
    ranges: dict[str, tuple[_Finite, _Finite]]


def write_ranges(path: Path, ranges: Ranges, method: str, images: int, weights: Path) -> None:
    """Write the ranges of a network with these weights. Raises StorageError."""
    content = RangesFile(method=method, images=images, weights_sha256=file_sha256(weights), ranges=dict(ranges))
    write_text(path, json.dumps(content.model_dump(mode="json"), indent=1) + "\n")


def read_ranges(path: Path, weights: Path) -> Ranges:
    """Read the ranges of a network with these weights. Raises ExportError for a damaged file, or another network's."""
    told = parse_json(read_text(path, "ranges"), f"{path} is not a file of ranges", ExportError)
    try:
        content = RangesFile.model_validate(told)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "file"
        raise ExportError(f"{path} is not a file of ranges: {where}: {first['msg']}") from None
    if content.weights_sha256 != file_sha256(weights):
        raise ExportError(f"{path} was made for other weights than {weights}: delete it, and calibrate again")
    return content.ranges


def read_images(path: Path, input_shape: Sequence[int]) -> Tensor:
    """Read images of N, C, H, W, float32, as the network gets them: normalised, and of its size.

    Raises ExportError for what is no such file, for another shape, and for none at all.
    """
    array = read_array(path, "images to calibrate by", ExportError)
    expected = ", ".join(map(str, input_shape[1:]))
    if array.dtype.kind != "f" or array.ndim != 4:
        raise ExportError(f"{path} does not hold images as real numbers of shape N, {expected}")
    if array.shape[1:] != tuple(input_shape[1:]):
        raise ExportError(f"{path} holds images of shape N, {', '.join(map(str, array.shape[1:]))}, not N, {expected}")
    if not len(array):
        raise ExportError(f"{path} holds no images to calibrate by: a hundred do")
    return torch.from_numpy(np.ascontiguousarray(array, np.float32))
