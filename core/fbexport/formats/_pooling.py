"""Means of windows that reach beyond the image, for kernels that count what is there as zeros."""

import numpy as np

from fbexport.graph import Array, Pool


def missing(node: Pool) -> Array:
    """Return how many pixels a window has for each that is not padded, 1, H, W, 1."""
    factors = []
    for axis in (0, 1):
        size, kernel, stride, before = (
            node.inputs[0].shape[2 + axis],
            node.kernel[axis],
            node.stride[axis],
            node.padding[axis],
        )
        starts = np.arange(node.output.shape[2 + axis]) * stride - before
        factors.append(kernel / (np.minimum(starts + kernel, size) - np.maximum(starts, 0)))
    return np.outer(*factors).astype(np.float32)[None, :, :, None]
