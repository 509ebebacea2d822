"""Layers: the parts of a model cut out of its file and timed beside the whole, put into its context.

Parts are what a runtime runs as one kernel (`fbmodel.parts`). Timed alone they lack what surrounds them: each pays the
runtime's call once, and its data lie elsewhere in the caches. So stretches of FAN_OUT parts, of FAN_OUT stretches and
so on are timed too. What the parts of a stretch cost more than the stretch is the cost of the calls that it saves, and
of what goes in and out of each: ONNX Runtime arranges every tensor anew for its convolutions, which takes as long as a
small depthwise one. Both are taken from every part; what is left is shared out from the whole downwards, so that parts
add up to it.
"""

import contextlib
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fbmodel.model import Model, ModelError, Node
from fbmodel.parts import separable
from fbprof.estimate.samples import Samples
from fbprof.estimate.table import latency_of
from fbprof.journal.journal import JournalContent
from fbprof.models.profile import Sampled, Variant, variant_of
from fbprof.models.result import Layer, Profiled, Result

FAN_OUT = 4
SMALLEST_SHARE = 0.02
"""Of what a part takes alone: no less is left of it without the call."""
NUMBERS_EXPLAIN = 0.2
"""Less may be chance: two coefficients fit better than one."""
FIT_STEPS = 30
SMALLEST_ERROR = 1e-6
"""What fits better weighs no more: its weight would have no bound."""
_PART = " / nodes "
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Nodes of a model that are timed together: a part, or a stretch of `inner` ones."""

    nodes: range
    inner: "tuple[_Stretch, ...]" = ()
    numbers: int = 0
    """Numbers that go in and out where it is cut from the rest."""

    def name(self, of: str) -> str:
        """Return what a run calls it."""
        return f"{of}{_PART}{self.nodes.start}-{self.nodes.stop - 1}"

    def every(self) -> "Iterator[_Stretch]":
        """Yield it and all within."""
        yield self
        for each in self.inner:
            yield from each.every()


@dataclass(frozen=True, slots=True)
class _Timed:
    """What a stretch takes alone, and half of its 95 % interval as a share of that."""

    us: float
    error: float


@dataclass(frozen=True, slots=True)
class _Cutting:
    """What it costs to run a stretch by itself: a call, and every number that goes in and out."""

    call_us: float
    number_us: float = 0.0

    def left_us(self, stretch: _Stretch, us: float) -> float:
        """Return what is left of a stretch's time without that."""
        return max(us - self.call_us - self.number_us * stretch.numbers, SMALLEST_SHARE * us)


def with_parts(variants: Sequence[Variant]) -> list[Variant]:
    """Return the variants and everything that is timed to see into them; a format that cannot be cut adds nothing.

    A model is cut once, in however many settings it is run.
    """
    found = list(variants)
    parts: dict[int, list[tuple[_Stretch, Model]]] = {}
    for variant in variants:
        model = variant.model
        if id(model) not in parts:
            parts[id(model)] = list(_parts(model))
        setting = variant.subject.setting
        found += [variant_of(stretch.name(variant.name), part, setting) for stretch, part in parts[id(model)]]
    return found


def with_layers(result: Result, variants: Sequence[Variant], content: JournalContent, sampled: Sampled) -> Result:
    """Return a result with the layers of its models, by what was timed of `variants`, which `with_parts` returned."""
    by_name = {each.name: each for each in variants}
    models = tuple(_with_layers(each, by_name, sampled.samples, content.failed) for each in result.models)
    return result.model_copy(update={"models": models})


def _with_layers(
    profiled: Profiled, variants: Mapping[str, Variant], samples: Samples, failed: Mapping[str, str]
) -> Profiled:
    if profiled.latency_us is None:
        return profiled
    model = variants[profiled.name].model
    tree = _tree(model)
    if tree is None:
        return profiled.model_copy(update={"layers_note": _why_not(model)})
    timed, reasons = {}, {}
    for stretch in tree.every():
        variant = variants.get(stretch.name(profiled.name))
        key = variant.subject.key if variant else ""
        if key in samples.visits_us:
            us, ends = latency_of(samples.medians_by_load_us(key))
            timed[stretch] = _Timed(us, 0.0 if ends is None else (ends[1] - ends[0]) / (2 * us))
        elif not stretch.inner:
            reasons[stretch] = failed.get(key, "it cannot be cut out of the file")
    whole = _Timed(profiled.latency_us, (profiled.half_width_percent or 0) / 100)
    timed[tree] = whole
    cutting = _cutting(tree, timed)
    shares: dict[_Stretch, float] = {tree: whole.us}
    _share_out(tree, timed, cutting, shares)
    nodes = model.nodes()
    leaves = [each for each in tree.every() if not each.inner]
    layers = tuple(
        _layer(nodes, leaf, shares.get(leaf), timed.get(leaf), cutting, whole, reasons.get(leaf, "")) for leaf in leaves
    )
    alone = sum(timed[leaf].us for leaf in leaves if leaf in timed)
    note = (
        f"alone they sum to {100 * alone / whole.us:.0f} % of the whole, of which calls are "
        f"{100 * cutting.call_us * len(leaves) / whole.us:.0f} % ({cutting.call_us:.1f} µs each)"
    )
    if cutting.number_us:
        share = cutting.number_us * sum(leaf.numbers for leaf in leaves) / whole.us
        note += f" and what goes in and out {100 * share:.0f} %"
    note += "; shared out they are the whole"
    if reasons:
        note += f"; {len(reasons)} parts could not be timed alone and have what is left"
    return profiled.model_copy(update={"layers": layers, "layers_note": note})


def _layer(
    nodes: Sequence[Node],
    leaf: _Stretch,
    us: float | None,
    alone: _Timed | None,
    cutting: _Cutting,
    whole: _Timed,
    reason: str,
) -> Layer:
    own = [nodes[number] for number in leaf.nodes]
    counts = [each.macs for each in own]
    low = high = None
    if us is not None and alone is not None:
        own_us = cutting.left_us(leaf, alone.us)
        context = abs(math.log(us / own_us)) / 2 if us > 0 else 0.0
        half = us * math.hypot(alone.error * alone.us / own_us, whole.error, context)
        low, high = max(us - half, 0.0), us + half
    kinds = list(dict.fromkeys(each.kind for each in own))
    return Layer(
        name=max(own, key=lambda node: node.macs or 0).name,  # the first of those that count nothing
        kind="+".join(kinds),
        nodes=len(own),
        output_shape=own[-1].output_shape,
        macs=None if None in counts else sum(count for count in counts if count is not None),
        latency_us=us,
        ci_low_us=low,
        ci_high_us=high,
        alone_us=None if alone is None else alone.us,
        note=reason,
    )


def _cutting(tree: _Stretch, timed: Mapping[_Stretch, _Timed]) -> _Cutting:
    """Return what it costs to run parts by themselves, by what parts of a stretch take more than the stretch.

    Numbers that go in and out have a cost of their own where that explains NUMBERS_EXPLAIN of what calls leave open.
    """
    calls, numbers, more_us, weight = [], [], [], []
    for each in tree.every():
        if each in timed and len(each.inner) > 1 and all(inner in timed for inner in each.inner):
            calls.append(len(each.inner) - 1)
            numbers.append(sum(inner.numbers for inner in each.inner) - each.numbers)
            more_us.append(sum(timed[inner].us for inner in each.inner) - timed[each].us)
            weight.append(1 / timed[each].us)  # errors are a share of what is timed
    if not calls:
        return _Cutting(0.0)
    smallest_us = min(each.us for each in timed.values())
    call_us = min(max(statistics.median(us / n for us, n in zip(more_us, calls, strict=True)), 0.0), smallest_us)
    scale, wanted = np.array(weight), np.array(more_us)
    (beside_us, number_us), error = _fit(np.column_stack([calls, numbers]), wanted, scale)
    by_calls = float(np.sum(np.abs(wanted - call_us * np.array(calls)) * scale))
    if error > (1 - NUMBERS_EXPLAIN) * by_calls or number_us <= 0:
        return _Cutting(call_us)
    return _Cutting(min(max(beside_us, 0.0), smallest_us), number_us)


def _fit(design: Floats, wanted: Floats, scale: Floats) -> tuple[tuple[float, float], float]:
    """Return two coefficients by least absolute deviations, and the sum of these (iteratively reweighted)."""
    root = scale
    for _ in range(FIT_STEPS):
        found, *_ = np.linalg.lstsq(design * root[:, None], wanted * root, rcond=None)
        error = np.abs(wanted - design @ found) * scale
        root = scale / np.sqrt(np.maximum(error, SMALLEST_ERROR))
    return (float(found[0]), float(found[1])), float(error.sum())


def _share_out(
    stretch: _Stretch, timed: Mapping[_Stretch, _Timed], cutting: _Cutting, shares: dict[_Stretch, float]
) -> None:
    """Share what a stretch takes within the whole out among what it is made of, by what that takes alone."""
    if not stretch.inner:
        return
    alone = {each: _alone_us(each, timed) for each in stretch.inner}
    own = {each: cutting.left_us(each, us) for each, us in alone.items()}
    unknown = [each for each, us in alone.items() if not us]
    known_us = sum(own.values())
    left_us = max(shares[stretch] - known_us, 0.0) if unknown else 0.0
    factor = (shares[stretch] - left_us) / known_us if known_us else 0.0
    for each in stretch.inner:
        shares[each] = left_us / len(unknown) if each in unknown else own[each] * factor
        _share_out(each, timed, cutting, shares)


def _alone_us(stretch: _Stretch, timed: Mapping[_Stretch, _Timed]) -> float:
    """Return what a stretch takes alone; of one that was not timed, what its parts do; 0 where that is not known."""
    if stretch in timed:
        return timed[stretch].us
    return sum(_alone_us(each, timed) for each in stretch.inner)


def _tree(model: Model) -> _Stretch | None:
    """Return a model's parts under stretches under the whole; None for one that cannot be cut, or of a single part."""
    try:
        parts, shapes = separable(model), [node.output_shape for node in model.nodes()]
    except ModelError:
        return None
    if len(parts) < 2:
        return None

    def stretch(nodes: range, inner: tuple[_Stretch, ...] = ()) -> _Stretch:
        ends = [end - 1 for end in (nodes.start, nodes.stop) if 0 < end < len(shapes)]
        return _Stretch(nodes, inner, sum(math.prod(shapes[end] or ()) for end in ends))

    level = [stretch(part) for part in parts]
    while len(level) > FAN_OUT:
        groups = [tuple(level[i : i + FAN_OUT]) for i in range(0, len(level), FAN_OUT)]
        level = [g[0] if len(g) == 1 else stretch(range(g[0].nodes.start, g[-1].nodes.stop), g) for g in groups]
    return stretch(range(level[0].nodes.start, level[-1].nodes.stop), tuple(level))


def _parts(model: Model) -> Iterator[tuple[_Stretch, Model]]:
    """Yield every stretch of a model but the whole that can be cut out, as a model of its own."""
    tree = _tree(model)
    for stretch in tree.every() if tree is not None else ():
        if stretch is not tree:
            with contextlib.suppress(ModelError):
                content = model.part(stretch.nodes.start, stretch.nodes.stop - 1)
                yield stretch, type(model)(Path(f"part{model.path.suffix}"), content)


def _why_not(model: Model) -> str:
    try:
        model.nodes()
    except ModelError as error:
        return str(error)
    return "the whole runs as one part"
