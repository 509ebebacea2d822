"""What the agents add to a sample: the clock around nothing, and the smallest model, a ReLU of one value.

usage: python benchmarks/agent_overhead.py [--quick]

A sample of nothing is what both agents report as `overhead_ns`. A sample of the smallest model holds the runtime's own
call as well. Beyond the sample is what passes from one sample to the next: reading the thread's CPU clock, keeping the
numbers and writing the reply; it is in no sample.
"""

import argparse
import itertools
import statistics
import tempfile
from pathlib import Path

from _report import Figure, report
from torch import nn

from fbagents.agent.client import AgentClient, Planned
from fbagents.connect import connect, load_profile
from fbexport.formats import format_of, load_format

AGENTS = {"native": "local-native", "python": "local"}
GOAL_US = 3.0
RUNS_PER_VISIT = 1000
SHAPE = (1, 1, 1, 1)


def figures_of(agent_name: str, models: dict[str, Path], visits: int) -> list[Figure]:
    """Return one agent's figures; only the native one has a goal."""
    goal = GOAL_US if agent_name == "native" else None
    if agent_name == "native":  # which has to build ncnn, for an hour on x86-64
        models = {runtime: path for runtime, path in models.items() if runtime != "ncnn"}
    with AgentClient(connect(load_profile(AGENTS[agent_name]), models)) as agent:
        assert agent.hello.overhead_ns is not None
        figures = [Figure(f"{agent_name}_nothing", agent.hello.overhead_ns / 1e3, "µs", goal)]
        for runtime, path in models.items():
            agent.load(runtime, str(path), runtime, SHAPE)
            done = list(agent.run([Planned(runtime, RUNS_PER_VISIT)] * (visits + 1)))[1:]
            sample_us = statistics.median(ns for visit in done for ns in visit.wall_ns) / 1e3
            beyond_us = [
                (after.start_ns - visit.start_ns - sum(visit.wall_ns)) / len(visit.wall_ns) / 1e3
                for visit, after in itertools.pairwise(done)
            ]
            figures += [
                Figure(f"{agent_name}_{runtime}_smallest_model", sample_us, "µs", goal),
                Figure(f"{agent_name}_{runtime}_beyond_sample", statistics.median(beyond_us), "µs"),
            ]
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="3 visits instead of 30")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        models = {}
        for runtime in ("litert", "onnxruntime", "executorch", "ncnn"):
            model_format = load_format(format_of(runtime))
            models[runtime] = Path(folder) / f"smallest{model_format.suffix}"
            models[runtime].write_bytes(model_format.write(nn.ReLU().eval(), SHAPE, "float32"))
        figures = [figure for name in AGENTS for figure in figures_of(name, models, 3 if options.quick else 30)]
    report("agent_overhead", figures, quick=options.quick, runs_per_visit=RUNS_PER_VISIT)


if __name__ == "__main__":
    main()
