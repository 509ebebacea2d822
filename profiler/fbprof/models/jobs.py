"""Jobs: what each device has to do to profile models, and one of them carried out from its plan to its result."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fbagents.profile import Profile
from fbbase.errors import FbError
from fbbase.interrupt import terminated_as_interrupted
from fbprof.journal.journal import JournalContent, journal_path, read_journal
from fbprof.measure.jobs import Job, check_devices, check_threads, outputs
from fbprof.measure.models import ModelFiles
from fbprof.measure.run import MakeSchedule, collect, go_on, keeping, until_precise
from fbprof.models.profile import Variant
from fbprof.models.result import is_result
from fbprof.plan.plan import Plan

SPACE = "model files"
"""What stands in a journal in the place of a space."""


@dataclass(frozen=True, slots=True)
class ModelJob:
    """What one device has to do, and the variants in the settings that they have there."""

    job: Job
    variants: tuple[Variant, ...]


def model_jobs(
    variants: Sequence[Variant], profiles: Sequence[Profile], output: Path | None, stem: str, **timing: Any
) -> list[ModelJob]:
    """Return what each device has to do; where no cores are asked for, its profile's are taken.

    `stem` is in the result's name unless there is an `output`; `timing` are further fields of `Plan`. Raises FbError
    where two devices are the same, threads are more than cores, benchmark_model was to measure, or a result's name does
    not end in .json.
    """
    check_devices(profiles)
    found = []
    places = outputs(profiles, output or Path(), f".{stem[:100]}.json")
    for profile, place in zip(profiles, places, strict=True):
        if not is_result(place):
            raise FbError(
                f"-o {place}: name a file that ends in .json, by which report and compare know results, or a folder "
                "that is there"
            )
        if profile.agent == "benchmark_model":
            raise FbError(f"{profile.name}: benchmark_model gives averages only: profile with an agent of fbprof")
        own = [_on(each, profile) for each in variants]
        for each in own:
            check_threads(each.subject.setting.threads, each.subject.setting.cores)
        first = own[0].subject.setting
        plan = Plan(
            space=SPACE,
            device=profile.name,
            runtime=first.runtime,
            threads=first.threads,
            cores=first.cores,
            models=tuple(each.subject for each in own),
            **timing,
        )
        found.append(ModelJob(Job(profile, plan, place), tuple(own)))
    return found


def is_other(job: Job) -> bool:
    """Whether a journal is there that belongs to other files or settings. Raises JournalError."""
    content = read_journal(journal_path(job.table))
    return content is not None and bool(content.visits) and content.start.identity != job.plan.identity()


def measure_models(
    job: Job,
    fresh: bool = False,
    files: ModelFiles | None = None,
    check: Callable[[], None] = go_on,
    schedule: MakeSchedule = until_precise,
    kept: bool = True,
) -> JournalContent:
    """Measure what is left of a job and return its samples; `kept` says that they outlive it. Raises as `collect`."""
    journal = journal_path(job.table)
    with keeping(journal) if kept else terminated_as_interrupted():
        return collect(job.plan, job.profile, journal, fresh, files, check, schedule)


def _on(variant: Variant, profile: Profile) -> Variant:
    """Return a variant as it is run on a device."""
    setting = variant.subject.setting
    if setting.cores is not None or profile.cores is None:
        return variant
    return replace(variant, subject=replace(variant.subject, setting=replace(setting, cores=profile.cores)))
