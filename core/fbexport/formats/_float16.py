"""Weights in half as many bytes, for the formats that have such files."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fbexport.errors import ExportError, module_name
from fbexport.graph import Node


def in_float16(array: NDArray[Any], node: Node) -> NDArray[np.float16]:
    """Return numbers of a node in float16. Raises ExportError where some are too large for it."""
    with np.errstate(over="ignore"):
        half = array.astype(np.float16)
    if not np.isfinite(half).all():
        raise ExportError(f"{module_name(node.source)} has weights beyond float16's ±65504")
    return half
