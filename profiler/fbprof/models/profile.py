"""Profile: model files under settings as the subjects of one run, and the result that its samples amount to."""

import hashlib
import itertools
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fbexport.errors import ExportError
from fbexport.runtimes import RUNTIMES
from fbmodel.model import Model, ModelError
from fbprof.estimate.samples import Samples, mostly_preempted, usable_samples
from fbprof.estimate.speed import speed_error_percent
from fbprof.estimate.table import latency_of, reference_of
from fbprof.estimate.verdict import Known, verdict_of
from fbprof.journal.conditions import describe_conditions, describe_delegates
from fbprof.journal.journal import JournalContent
from fbprof.models.named import Shape, inputs_of, load_named, runtime_for, shaped, values_of
from fbprof.models.result import Profiled, Result
from fbprof.plan.subject import ModelSubject, Setting, model_key

_INTEGER = ("QuantizeLinear", "DequantizeLinear", "QLinear", "ConvInteger", "MatMulInteger")
LOUDEST = 5
"""Kinds of nodes that are named of those without fast kernels."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be profiled: models as they were typed, and every setting of each."""

    texts: tuple[str, ...]
    runtime: str | None = None
    threads: tuple[int, ...] = (1,)
    cores: tuple[str | None, ...] = (None,)
    batches: tuple[int | None, ...] = (None,)
    precisions: tuple[str, ...] = ("float32",)
    shapes: tuple[Shape, ...] = ()
    inputs: Path | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Variant:
    """One model under one setting: what is timed, and the file that it is of."""

    name: str
    subject: ModelSubject
    model: Model

    def called(self, name: str) -> "Variant":
        """Return it under another name."""
        return Variant(name, replace(self.subject, key=model_key(name)), self.model)


def variants_of(asked: Asked, folder: Path) -> list[Variant]:
    """Return every model under every setting; what is exported for that goes into `folder`.

    Raises FbError where a model cannot be read, or shapes and inputs do not fit it.
    """
    bare = Counter(Path(text).name for text in asked.texts)
    found: dict[str, Variant] = {}
    used: set[Shape] = set()
    for text, precision in itertools.product(asked.texts, asked.precisions):
        named, left = load_named(text, asked.runtime, precision, asked.seed, asked.shapes, folder)
        runtime = runtime_for(named, asked.runtime)
        own = [shape for shape in left if shape.name is None or _has(named, shape.name)]
        used.update(shape for shape in asked.shapes if shape not in left or shape in own)
        shapings = [(batch, shaped(named, own, batch)) for batch in asked.batches]
        for (batch, model), threads, cores in itertools.product(shapings, asked.threads, asked.cores):
            values = values_of(model, asked.inputs)
            words = [Path(text).name if bare[Path(text).name] == 1 else text]
            words += [precision] if len(asked.precisions) > 1 else []
            words += [f"batch {batch}"] if len(asked.batches) > 1 else []
            words += [f"{threads} thread{'s' * (threads != 1)}"] if len(asked.threads) > 1 else []
            words += [f"cores {cores}"] if len(asked.cores) > 1 else []
            variant = variant_of(", ".join(words), model, Setting(runtime, threads, cores), values)
            if variant.name in found:
                raise ModelError(f"{variant.name} is given twice: name each model and setting once")
            found[variant.name] = variant
    for shape in asked.shapes:
        if shape not in used:
            raise _unknown_input(shape, found.values())
    return list(found.values())


def variant_of(name: str, model: Model, setting: Setting, values: bytes | None = None) -> Variant:
    """Return a model with fixed shapes under one setting."""
    subject = ModelSubject(
        key=model_key(name),
        setting=setting,
        content=model.content,
        suffix=model.path.suffix,
        inputs=inputs_of(model),
        macs=model.macs,
        values=values,
    )
    return Variant(name, subject, model)


@dataclass(frozen=True, slots=True)
class Sampled:
    """A run's samples without its drift, and with it; `interrupted` are the models that count by their CPU time."""

    samples: Samples
    raw: Samples
    interrupted: set[str]


def samples_of(content: JournalContent, variants: Sequence[Variant]) -> Sampled:
    """Return the samples of a run in which these were timed."""
    interrupted = mostly_preempted(content, {each.subject.key for each in variants})
    samples = usable_samples(content, by_cpu_time=interrupted)
    return Sampled(samples, usable_samples(content, correct_drift=False, by_cpu_time=interrupted), interrupted)


def result_of(content: JournalContent, sampled: Sampled, variants: Sequence[Variant]) -> Result:
    """Return what the samples of some variants amount to. Those that were not visited have failed."""
    samples = sampled.samples
    models = [_profiled(each, content, sampled) for each in variants]
    halves = [half if (half := each.half_width_percent) is not None else np.inf for each in models if not each.failed]
    failed = [each.failed for each in models if each.failed]
    known = Known(halves, failed, what="models", by_cpu_time=any(each.by_cpu_time for each in models))
    verdict, warnings = verdict_of(content, samples, known)
    hello, identity = content.sessions[0].hello, content.start.identity
    reference = reference_of(samples)
    return Result(
        device=identity["device"],
        device_model=hello.device_model,
        soc=hello.soc,
        system=hello.system,
        agent=hello.agent,
        tool_version=content.start.tool_version,
        measured_at=hello.recorded_at or content.start.started_at,
        timing=content.start.timing,
        conditions=describe_conditions(content),
        drift_range_percent=round(samples.drift.range_percent, 2) if samples.drift else None,
        reference_us=reference and reference[0],
        reference_error_percent=reference and reference[1],
        speed_error_percent=speed_error_percent(samples.drift),
        verdict=verdict,
        warnings=warnings,
        models=tuple(models),
    )


def _profiled(variant: Variant, content: JournalContent, sampled: Sampled) -> Profiled:
    subject, model, key = variant.subject, variant.model, variant.subject.key
    samples = sampled.samples
    hello = content.sessions[0].hello
    told: dict[str, Any] = {
        "name": variant.name,
        "runtime": subject.setting.runtime,
        "runtime_version": hello.runtimes.get(subject.setting.runtime, "unknown"),
        "threads": subject.setting.threads,
        "cores": subject.setting.cores or "any",
        "inputs": tuple(
            f"{each.name} {'x'.join(map(str, each.shape)) or 'scalar'} {each.element}" for each in subject.inputs
        ),
        "sha256": hashlib.sha256(model.content).hexdigest(),
        "file_bytes": len(model.content),
        "parameters": model.parameters,
        "macs": model.macs,
        "preempted": samples.preempted[key],
        "by_cpu_time": key in sampled.interrupted,
    }
    if key in content.failed:
        return Profiled(**told, failed=content.failed[key] + subject.hint)
    if key not in samples.visits_us:
        return Profiled(**told, failed="it was not measured in the time given: give more --max-time")
    latency_us, interval = latency_of(samples.medians_by_load_us(key))
    every = sorted(sample for visit in sampled.raw.visits_us[key] for sample in visit)
    p50, p90, p99 = (float(np.percentile(every, share)) for share in (50, 90, 99))
    loads = content.loaded.get(key, [])
    first_ns = [each.first_ns for each in loads if each.first_ns is not None]
    peak = [each.peak_bytes for each in loads if each.peak_bytes is not None]
    peak = peak or [each.memory_bytes for each in loads if each.memory_bytes is not None]
    return Profiled(
        **told,
        latency_us=latency_us,
        ci_low_us=interval and interval[0],
        ci_high_us=interval and interval[1],
        p50_us=p50,
        p90_us=p90,
        p99_us=p99,
        worst_us=every[-1],
        samples=len(every),
        loads=len(loads),
        first_us=statistics.median(first_ns) / 1e3 if first_ns else None,
        load_us=statistics.median(each.load_ns for each in loads) / 1e3 if loads else None,
        peak_bytes=max(peak, default=None),
        kernels=describe_delegates(content, key) or kernels_of(model, subject.setting.runtime),
    )


def kernels_of(model: Model, runtime: str) -> str:
    """Say which nodes have no fast kernel, as this host's runtime places them; empty where that is not known."""
    try:
        nodes = model.nodes()
        precision = "int8" if any(node.kind.startswith(_INTEGER) for node in nodes) else "float32"
        outside = list(RUNTIMES.load(runtime).fallbacks(model.content, precision))
    except (ModelError, ExportError):
        return ""
    except Exception:  # a runtime's errors have no base class; what the device does is measured all the same
        return ""
    if not outside:
        return ""
    kinds = Counter(outside)
    named = ", ".join(f"{kind}{f' x{count}' if count > 1 else ''}" for kind, count in kinds.most_common(LOUDEST))
    more = f" and {len(kinds) - LOUDEST} kinds more" if len(kinds) > LOUDEST else ""
    return f"{len(outside)} of {len(nodes)} nodes outside the runtime's fast kernels on this host: {named}{more}"


def _has(model: Model, name: str) -> bool:
    return any(each.name == name for each in model.inputs)


def _unknown_input(shape: Shape, variants: Iterable[Variant]) -> ModelError:
    """Return the error for a shape of an input that no model has."""
    models: Mapping[str, Model] = {each.model.path.name: each.model for each in variants}
    has = "; ".join(f"{name}: {', '.join(each.name for each in m.inputs) or 'none'}" for name, m in models.items())
    return ModelError(f"--shape {shape.name}: no model has an input of that name. There are: {has}")
