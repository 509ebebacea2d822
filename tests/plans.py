"""A small space as a plan: what a run of it measures."""

from fbprof.plan.plan import Plan
from fbspace.space import load_space

OPERATORS = 4  # stem, one block, head convolution, classifier; the identity is not measured
NETWORKS = 4  # all there are
ENDLESS = ["--ci", "0.0001", "--rounds", "100000"]


def plan_of(space: str, **changes: object) -> Plan:
    fields = {
        "space": space,
        "device": "local",
        "runtime": "litert",
        "precision": "float32",
        "threads": 1,
        "cores": None,
        "rounds": 3,
        "runs": 2,
        "dropped": 1,
        "seed": 0,
        "operators": tuple(load_space(space).operators()),
    }
    return Plan(**(fields | changes))  # type: ignore[arg-type]
