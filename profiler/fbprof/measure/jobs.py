"""Jobs: which devices measure what into which tables, and one of them carried out from its plan to its table."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fbagents.agent.cores import has_words, too_many_threads
from fbagents.profile import Profile
from fbagents.transports import TRANSPORTS
from fbbase.errors import FbError
from fbbase.files import refuse_stream
from fblut.table import At, Lut
from fblut.writing import write_lut
from fbprof.estimate.table import estimate
from fbprof.journal.journal import journal_path
from fbprof.measure.models import ModelFiles
from fbprof.measure.run import collect, go_on, keeping
from fbprof.plan.plan import Plan, with_agent, with_operators
from fbspace.space import Space

_ESTIMATING = threading.Lock()
"""One table at a time: it takes as much memory as all samples, and several would only wait for one another."""


@dataclass(frozen=True, slots=True)
class Job:
    """What one device has to do: its plan, the table to write, and at which of the run's speeds that is to stand."""

    profile: Profile
    plan: Plan
    table: Path
    at: At = "mean"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended: with a table, which is written, or with an error."""

    job: Job
    seconds: float
    lut: Lut | None = None
    error: BaseException | None = None


def jobs_of(
    plan: Plan,
    profiles: Sequence[Profile],
    output: Path | None,
    space: Space,
    networks: int,
    points: int | None,
    at: At = "mean",
) -> list[Job]:
    """Return what each device has to do: the same operators and networks, on its own cores and by its own agent.

    Raises FbError where two devices, or their tables, are the same, or cores are fewer than threads.
    """
    check_devices(profiles)
    tables = outputs(profiles, output, ".csv")
    chosen = with_operators(with_agent(plan, profiles[0]), space, networks, points)
    plan = replace(plan, operators=chosen.operators, networks=chosen.networks, grid_points=chosen.grid_points)
    jobs = []
    for profile, table in zip(profiles, tables, strict=True):
        bound = replace(plan, device=profile.name, cores=profile.cores if plan.cores is None else plan.cores)
        check_threads(bound.threads, bound.cores)
        jobs.append(Job(profile, with_agent(bound, profile), table, at))
    return jobs


def check_threads(threads: int, cores: str | None) -> None:
    """Raise FbError for more threads than numbered cores; words are the device's to count."""
    if cores is not None and not has_words(cores):
        numbers = [int(core) for core in cores.split(",")]
        if wrong := too_many_threads(threads, numbers):
            first = max(numbers[-1] - threads + 1, 0)
            raise FbError(f"{wrong}, or as many cores, such as --cores {first}-{first + threads - 1}")


def carry_out(
    job: Job, space: Space, fresh: bool = False, files: ModelFiles | None = None, check: Callable[[], None] = go_on
) -> Outcome:
    """Measure what is left of a job, and write its table. Raises as `collect` does."""
    start = time.monotonic()
    journal = journal_path(job.table)
    with keeping(journal):
        content = collect(job.plan, job.profile, journal, fresh, files, check)
    with _ESTIMATING:
        lut = estimate(content, space, at=job.at)
    write_lut(lut, job.table)
    return Outcome(job, time.monotonic() - start, lut)


def check_devices(profiles: Sequence[Profile]) -> None:
    """Raise FbError where two of the devices share a name, which names their files, or are one and the same."""
    name, count = Counter(profile.name for profile in profiles).most_common(1)[0]
    if count > 1:
        raise FbError(
            f"two devices are called {name}, and would write the same table and journal: "
            "name each once, or set another name in one of the profiles"
        )
    places: dict[str, str] = {}
    for profile in profiles:
        is_here = TRANSPORTS.find(profile.transport).is_this_machine
        if is_here or profile.address:
            place = "this machine" if is_here else json.dumps([profile.transport, profile.address], sort_keys=True)
            if place in places:
                raise FbError(
                    f"{places[place]} and {profile.name} are the same device (transport {profile.transport}, the same "
                    "address) and would disturb each other: measure one after the other"
                )
            places[place] = profile.name


def outputs(profiles: Sequence[Profile], output: Path | None, ending: str) -> list[Path]:
    """Return where what each device comes to goes. Raises FbError where several were to go into one file."""
    if output is not None:
        refuse_stream(output)
    if len(profiles) == 1 and output is not None and not output.is_dir():
        return [output]
    folder, count = output or Path(), len(profiles)
    if not folder.is_dir() and (folder.suffix or folder.exists()):
        raise FbError(f"-o {folder} is not a folder: {count} devices write a table each, DEVICE{ending} in a folder")
    return [folder / f"{profile.name}{ending}" for profile in profiles]
