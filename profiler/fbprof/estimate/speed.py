"""Speed: at which of a run's speeds a table stands, and how far the device's speed wandered about it."""

import math

import numpy as np

from fblut.statistics import student_quantile
from fblut.table import LARGEST_PERCENT, At
from fbprof.estimate.drift import Drift

PEAK_PERCENTILE = 5
"""The fastest moments are partly noise."""
PARTS = 10
"""Parts of a run, each of which stands for another run that is as long."""


def speed_factor(drift: Drift | None, at: At) -> float:
    """Return the latencies at one of a run's speeds over those at its mean; 1 where no drift was found.

    `peak` is how fast the device was in its fastest twentieth, `sustained-so-far` in the last tenth of the run.
    """
    if drift is None or at == "mean":
        return 1.0
    if at == "peak":
        return math.exp(float(np.percentile(drift.log_factor, PEAK_PERCENTILE)))
    return math.exp(float(np.median(np.array_split(drift.log_factor, PARTS)[-1])))


def speed_error_percent(drift: Drift | None) -> float | None:
    """Return by how much a later tenth of such a run may be faster or slower than the mean, with 95 % probability.

    A normal prediction interval from the run's tenths (Student's, of the logarithms); None where no drift was looked
    for. A run knows nothing of speeds that the device did not have in it.
    """
    if drift is None:
        return None
    parts = [float(np.mean(part)) for part in np.array_split(drift.log_factor, PARTS) if len(part)]
    if len(parts) < PARTS:
        return None
    half = student_quantile(PARTS - 1, 0.975) * float(np.std(parts, ddof=1)) * math.sqrt(1 + 1 / PARTS)
    return round(min(100 * math.expm1(half), LARGEST_PERCENT), 3)
