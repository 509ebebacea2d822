"""Conditions: a plan that measures again as a table was measured, and how fast the device is now, against then."""

from typing import Any

import numpy as np

from fbagents.agent.cores import check_cores
from fbagents.benchmark.binary import benchmark_of, program_of
from fbagents.profile import Profile
from fbbase.errors import FbError
from fbexport.formats import format_for
from fblut.errors import LutError
from fblut.table import Lut, Metadata
from fbprof.estimate.samples import Samples
from fbprof.estimate.table import latency_of
from fbprof.plan.plan import Plan, with_agent


def plan_like(metadata: Metadata, profile: Profile, **what: Any) -> Plan:
    """Return a plan under a table's own conditions: runtime, precision, threads, cores and runs.

    `what` is what is measured, as `Plan` has it, and how well. Raises LutError, ExportError where the table is of a
    runtime or a precision that cannot be measured here, FbError where another program measured it.
    """
    if metadata.runtime == "unknown":
        raise LutError(
            'the table does not say which runtime it is of: name it in the header (# runtime: "litert"), '
            "or make the table again with fbprof fit --runtime"
        )
    format_for(metadata.runtime, metadata.precision)
    check_agent(metadata, profile)
    names = ("space", "runtime", "precision", "threads", "runs", "dropped")
    same = {name: value for name in names if (value := getattr(metadata, name)) is not None}
    cores = None if metadata.cores == "any" else check_cores(metadata.cores)
    return with_agent(Plan(device=profile.name, cores=cores, **same, **what), profile)


def check_agent(metadata: Metadata, profile: Profile) -> None:
    """Raise FbError where a table was measured with benchmark_model and a profile does not do the same, or vice versa.

    One average of many inferences in a process of its own is another context than a few runs after other models.
    """
    benchmark = benchmark_of(profile)
    ours = benchmark.agent if benchmark else None
    theirs = program_of(metadata.agent)
    if ours != theirs:
        raise FbError(
            f"the table was measured with {theirs or 'an agent of fbprof'}, and this device would be with "
            f"{ours or 'an agent of fbprof'}: their times differ, so give the same program and arguments (--agent, "
            "--binary, --binary-args), or measure the table again"
        )


def speed_now(samples: Samples, lut: Lut) -> tuple[float | None, int]:
    """Return the latency of operators now over that in the table, None where none was timed alone, and their number.

    The median by time spent: half of the operators' time is in those with a larger ratio. The lightest operators tell
    less of the speed than of the caches, and what ran before them is not what ran before them for the table.
    """
    ratios = sorted(
        (latency_of(samples.medians_by_load_us(key))[0] / row.isolated_us, row.isolated_us)
        for key, row in lut.rows.items()
        if row.isolated_us is not None and key in samples.visits_us
    )
    if not ratios:
        return None, 0
    below = np.cumsum([isolated_us for _, isolated_us in ratios])
    return ratios[int(np.searchsorted(below, below[-1] / 2))][0], len(ratios)
