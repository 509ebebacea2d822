"""Verify: a table's prediction for a whole network against the measured network."""

import contextlib
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path

from fbagents.agent.client import AgentClient, Planned
from fbagents.agent.cores import check_cores
from fbagents.agent.pieces import Content
from fbagents.profile import Profile, with_agent_for
from fbagents.transports import connect
from fbbase.files import write_bytes
from fbbase.progress import progress
from fbexport.export import export_network, export_spec
from fbexport.formats import format_of, load_format
from fblut.table import Lut, Prediction
from fbprof.errors import MeasurementError
from fbprof.estimate.samples import usable_samples_us
from fbprof.estimate.table import median_interval
from fbprof.measure.run import check_runtime
from fbprof.plan.plan import check_agent, shuffled, timing_of
from fbspace.architecture import Architecture

NETWORK = "network"


@dataclass(frozen=True, slots=True)
class Verification:
    """Predicted and measured latency of one network, in microseconds.

    `speed` is how long the network's operators take now, timed between the network's own visits, over what the table
    says they took alone: above 1, the device has become slower since. None for a table without operators timed alone.
    """

    predicted: Prediction
    measured_us: float
    measured_ci_us: tuple[float, float] | None
    speed: float | None
    rounds: int
    soc: str

    @property
    def difference_percent(self) -> float:
        """Prediction error: how far the prediction lies above the measurement."""
        return 100 * (self.predicted.latency_us / self.measured_us - 1)

    @property
    def predicted_now_us(self) -> float | None:
        """The prediction at the device's present speed."""
        return None if self.speed is None else self.predicted.latency_us * self.speed

    @property
    def difference_now_percent(self) -> float | None:
        """The prediction error that no drift since the table was made explains."""
        now_us = self.predicted_now_us
        return None if now_us is None else 100 * (now_us / self.measured_us - 1)

    @property
    def drift_percent(self) -> float | None:
        """How much slower the same operators are now than in the table."""
        return None if self.speed is None else 100 * (self.speed - 1)


def verify(architecture: Architecture, lut: Lut, profile: Profile, rounds: int, seed: int = 0) -> Verification:
    """Measure a network under the table's own conditions (runtime, precision, threads, cores, timing) and compare.

    The network and its operators take turns in random rounds, as the operators did when the table was made. Raises
    LutError where the table lacks one of the operators, DeviceError, MeasurementError.
    """
    space = architecture.load_space()
    specs = architecture.specs(space)
    lut.require(specs, f"network {architecture.name}")
    metadata = lut.metadata
    check_agent(metadata, profile)
    format_name = format_of(metadata.runtime)
    suffix = load_format(format_name).suffix
    models = {NETWORK: export_network(architecture, format_name, metadata.precision, seed=seed)}
    models |= {spec.key(): export_spec(spec, format_name, metadata.precision, seed) for spec in specs}
    shapes = {NETWORK: space.input_shape} | {spec.key(): spec.input_shape for spec in specs}
    cores = None if metadata.cores == "any" else check_cores(metadata.cores)
    transport = connect(with_agent_for(profile, metadata.runtime))
    with (
        tempfile.TemporaryDirectory(prefix="fbprof-") as folder,
        contextlib.closing(transport),
        AgentClient(transport, metadata.threads, cores) as agent,
    ):
        check_runtime(agent, metadata.runtime, profile)
        for number, (key, model) in enumerate(models.items()):
            path = Path(folder) / f"{number:04d}{suffix}"
            write_bytes(path, model)
            agent.load(key, transport.send(Content(path), agent.write), metadata.runtime, shapes[key])
        medians = _visit_medians(agent, list(models), rounds, *timing_of(metadata), seed)
        soc = agent.hello.soc
    now = {key: statistics.median(values) for key, values in medians.items()}
    rows = {spec.key(): lut.rows.get(spec.key()) for spec in specs}  # an interpolated one has not been timed
    isolated = [(key, row.isolated_us) for key, row in rows.items() if row and row.isolated_us is not None]
    speed = sum(now[key] for key, _ in isolated) / sum(us for _, us in isolated) if isolated else None
    return Verification(lut.predict(specs), now[NETWORK], median_interval(medians[NETWORK]), speed, rounds, soc)


def _visit_medians(
    agent: AgentClient, keys: list[str], rounds: int, runs: int, dropped: int, seed: int
) -> dict[str, list[float]]:
    """Visit every model once a round, in random order, and return the visits' medians in microseconds."""
    medians: dict[str, list[float]] = {key: [] for key in keys}
    with progress("verifying", rounds) as advance:
        for round_number in range(-1, rounds):  # round -1 warms up
            for visit in agent.run([Planned(key, runs) for key in shuffled(keys, seed, round_number)]):
                kept, _ = usable_samples_us(visit, dropped)
                if round_number >= 0 and kept:
                    medians[visit.model].append(statistics.median(kept))
            advance(int(round_number >= 0))
    if not all(medians.values()):
        raise MeasurementError("every sample of a model was preempted by other work: close other programs, try again")
    return medians
