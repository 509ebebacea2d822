"""Verify: a table's prediction for a whole network against the measured network."""

import contextlib
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path

from fbagents.agent import AgentClient, Planned, parse_cores
from fbagents.profile import Profile
from fbagents.transports import connect
from fbbase.files import write_bytes
from fbbase.progress import progress
from fblut.table import Lut
from fbprof.errors import MeasurementError
from fbprof.estimate import median_interval
from fbprof.export import export_network, export_spec
from fbprof.formats import format_of, load_format
from fbprof.measure import check_runtime
from fbprof.plan import DEFAULT_DROPPED, DEFAULT_RUNS, shuffled
from fbprof.samples import usable_samples_us
from fbspace.architecture import Architecture

NETWORK = "network"


@dataclass(frozen=True, slots=True)
class Verification:
    """Predicted and measured latency of one network, in microseconds.

    `operators_now_us` is the sum of the network's operators timed again, between the network's own visits: where it
    differs from `predicted_us`, the device has another speed now than when the table was measured.
    """

    predicted_us: float
    measured_us: float
    measured_ci_us: tuple[float, float] | None
    operators_now_us: float
    rounds: int
    soc: str

    @property
    def difference_percent(self) -> float:
        """Prediction error: how far the prediction lies above the measurement."""
        return 100 * (self.predicted_us / self.measured_us - 1)

    @property
    def difference_now_percent(self) -> float:
        """The same for the operators timed beside the network: the prediction error that no drift explains."""
        return 100 * (self.operators_now_us / self.measured_us - 1)

    @property
    def drift_percent(self) -> float:
        """How much slower the same operators are now than in the table."""
        return 100 * (self.operators_now_us / self.predicted_us - 1)


def verify(architecture: Architecture, lut: Lut, profile: Profile, rounds: int, seed: int = 0) -> Verification:
    """Measure a network under the table's own conditions (runtime, precision, threads, cores) and compare.

    The network and its operators take turns in random rounds, as the operators did when the table was made. Raises
    LutError where the table lacks one of the operators, DeviceError, MeasurementError.
    """
    space = architecture.load_space()
    specs = [spec for spec in architecture.specs(space) if not spec.is_identity]
    lut.require(specs, f"network {architecture.name}")
    metadata = lut.metadata
    format_name = format_of(metadata.runtime)
    suffix = load_format(format_name).SUFFIX
    models = {NETWORK: export_network(architecture, format_name, metadata.precision, seed=seed)}
    models |= {spec.key(): export_spec(spec, format_name, metadata.precision, seed) for spec in specs}
    shapes = {NETWORK: space.input_shape} | {spec.key(): spec.input_shape for spec in specs}
    cores = None if metadata.cores == "any" else parse_cores(metadata.cores)
    transport = connect(profile)
    with (
        tempfile.TemporaryDirectory(prefix="fbprof-") as folder,
        contextlib.closing(transport),
        AgentClient(transport, metadata.threads, cores) as agent,
    ):
        check_runtime(agent, metadata.runtime, profile)
        for number, (key, model) in enumerate(models.items()):
            path = Path(folder) / f"{number:04d}{suffix}"
            write_bytes(path, model)
            agent.load(key, transport.push(path), metadata.runtime, shapes[key])
        medians = _visit_medians(agent, list(models), rounds, seed)
        soc = agent.hello.soc
    now = {key: statistics.median(values) for key, values in medians.items()}
    return Verification(
        predicted_us=lut.predict_us(specs),
        measured_us=now[NETWORK],
        measured_ci_us=median_interval(medians[NETWORK]),
        operators_now_us=sum(now[spec.key()] for spec in specs),
        rounds=rounds,
        soc=soc,
    )


def _visit_medians(agent: AgentClient, keys: list[str], rounds: int, seed: int) -> dict[str, list[float]]:
    """Visit every model once a round, in random order, and return the visits' medians in microseconds."""
    medians: dict[str, list[float]] = {key: [] for key in keys}
    with progress("verifying", rounds) as advance:
        for round_number in range(-1, rounds):  # round -1 warms up
            for visit in agent.run([Planned(key, DEFAULT_RUNS) for key in shuffled(keys, seed, round_number)]):
                kept, _ = usable_samples_us(visit, DEFAULT_DROPPED)
                if round_number >= 0 and kept:
                    medians[visit.model].append(statistics.median(kept))
            advance(int(round_number >= 0))
    if not all(medians.values()):
        raise MeasurementError("every sample of a model was preempted by other work: close other programs, try again")
    return medians
