"""Pictures of a search, one file each: figure objects without pyplot, so they need no screen and leave no state."""

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's, which colour-blind people tell apart; one per objective."""


def cost_scale(unit: str) -> tuple[float, str]:
    """Return the factor and the axis label under which a cost of `unit` is shown: microseconds as milliseconds."""
    return (1e-3, "latency (ms)") if unit == "µs" else (1.0, f"cost ({unit})")
