"""How widths are rounded: mobile-vision's rules, as in the published networks."""

import math


def round_channels(channels: float, multiple: int = 8) -> int:
    """Round to a multiple, half up, one step more if that loses over 5 % (mobile-vision's rule)."""
    rounded = max(multiple, int(channels + multiple / 2) // multiple * multiple)
    return rounded + multiple if rounded < 0.95 * channels else rounded


def squeezed_channels(channels: int) -> int:
    """Return the width between the two convolutions of squeeze-excite."""
    return round_channels(channels / 4)


def attention_kernel(channels: int) -> int:
    """Return the kernel of efficient channel attention: (log2(channels) + 1) / 2, or the next odd number; 3 or more."""
    return max(int((math.log2(channels) + 1) / 2) | 1, 3)
