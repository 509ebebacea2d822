"""Ranges as a file: what int8 models of a trained network are made with, and of which weights that holds."""

import hashlib
import json
from pathlib import Path
from typing import Annotated

import pydantic

from fbbase.files import read_text, write_text
from fbexport.errors import ExportError
from fbexport.quantization.calibration import Ranges

RANGES = "ranges.json"
"""Its name in a folder of trained weights."""

_Finite = Annotated[float, pydantic.Field(allow_inf_nan=False)]


class RangesFile(pydantic.BaseModel):
    """Least and greatest of every value, how they were found, and the SHA-256 of the weights they belong to."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    method: str
    images: Annotated[int, pydantic.Field(ge=0)]
    weights_sha256: str
    ranges: dict[str, tuple[_Finite, _Finite]]


def write_ranges(path: Path, ranges: Ranges, method: str, images: int, weights: Path) -> None:
    """Write the ranges of a network with these weights. Raises StorageError."""
    content = RangesFile(method=method, images=images, weights_sha256=_sha256(weights), ranges=dict(ranges))
    write_text(path, json.dumps(content.model_dump(mode="json"), indent=1) + "\n")


def read_ranges(path: Path, weights: Path) -> Ranges:
    """Read the ranges of a network with these weights. Raises ExportError for a damaged file, or another network's."""
    try:
        content = RangesFile.model_validate_json(read_text(path, "ranges"))
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "file"
        raise ExportError(f"{path} is not a file of ranges: {where}: {first['msg']}") from None
    if content.weights_sha256 != _sha256(weights):
        raise ExportError(f"{path} was made for other weights than {weights}: delete it, and calibrate again")
    return content.ranges


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
