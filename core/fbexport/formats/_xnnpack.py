"""What XNNPACK asks of int8 files, in whichever format it reads them."""

import numpy as np

from fbexport.quantization.scheme import SCALE_RATIO, Quantization

_SIX = Quantization(6 / 255, -128)
"""From 0 to 6, both exact: what relu6 leaves."""
THREE = np.array([3], np.float32), Quantization(3 / 255, -128)
SIXTH = np.array([1 / 6], np.float32), Quantization(1 / 6 / 255, -128)
"""hsigmoid is relu6(x + 3) / 6: XNNPACK has no operator of its own for it."""


def of_relu6(input_scale: float) -> Quantization:
    """Return what relu6(x + 3) stands for, in steps that are not too small for a sum."""
    return Quantization(max(_SIX.scale, input_scale / SCALE_RATIO), _SIX.zero_point)
