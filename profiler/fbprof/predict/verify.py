"""Verify: a table's prediction for a whole network against the measured network."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from fbagents.profile import Profile
from fbbase.errors import PartialError
from fblut.table import Lut, Prediction
from fbprof.errors import MeasurementError
from fbprof.estimate.samples import usable_samples
from fbprof.estimate.table import latency_of
from fbprof.measure.run import collect
from fbprof.plan.plan import RELOAD_VISITS
from fbprof.plan.subject import network
from fbprof.predict.conditions import plan_like, speed_now
from fbspace.architecture import Architecture

LOADS = 6
"""The visits are spread over so many loads, at least (`fbprof.estimate.table.latency_of`)."""


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
    """Measure a network and its operators as a plan of one network, under the table's own conditions, and compare.

    The samples are not kept. Raises LutError where the table lacks one of the operators, DeviceError, MeasurementError,
    and as `plan_like` does.
    """
    subject = network(architecture.load_space(), architecture.choices, architecture.head_channels)
    lut.require(subject.specs, f"network {architecture.name}")
    plan = plan_like(
        lut.metadata,
        profile,
        operators=tuple(dict.fromkeys(subject.specs)),
        networks=(subject,),
        rounds=rounds,
        seed=seed,
        reload_visits=min(RELOAD_VISITS, max(rounds // LOADS, 1)),
    )
    with tempfile.TemporaryDirectory(prefix="fbprof-") as folder:
        try:
            content = collect(plan, profile, Path(folder) / "verify.journal.jsonl")
        except PartialError as error:
            raise MeasurementError(f"network {architecture.name} cannot be measured: {error.__cause__}") from error
    if content.failed:
        key, reason = next(iter(content.failed.items()))
        raise MeasurementError(f"{key} cannot be measured: {reason}")
    samples = usable_samples(content)
    if any(one.key not in samples.visits_us for one in plan.subjects):
        raise MeasurementError("every sample of a model was preempted by other work: close other programs, try again")
    measured_us, interval = latency_of(samples.medians_by_load_us(subject.key))
    speed, _ = speed_now(samples, lut)
    visits, soc = content.counts[subject.key], content.sessions[0].hello.soc
    return Verification(lut.predict(subject.specs), measured_us, interval, speed, visits, soc)
