"""target: CE(a, w) + λ · log(E[LAT] / target)², which pushes up as well as down and ends at the target.

The square alone would end where it balances cross-entropy, so θ is put on the target after every step by the multiplier
of the constraint E[LAT] = target (`fbsearch.beyond.target`); the square then only keeps steps from leaving it.
"""

from torch import Tensor

from fbsearch.losses import Weighing

EXPECTED_COST = True
"""E[LAT] under softmax(θ) in place of the sample's latency: exact, without noise."""
CONTROLLED = True


def loss(cross_entropy: Tensor, cost: Tensor, weighing: Weighing) -> Tensor:
    """Return CE + λ · log(LAT / target)². Raises SearchError without a target."""
    return cross_entropy + weighing.latency_weight * weighing.relative(cost).log() ** 2
