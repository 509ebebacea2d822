"""Layers: the parts of a model cut out of its file and timed beside the whole, put into its context.

Parts are what a runtime runs as one kernel (`fbmodel.parts`). Timed alone they lack what surrounds them: each pays the
runtime's call once, and its data lie elsewhere in the caches. So stretches of FAN_OUT parts, of FAN_OUT stretches and
so on are timed too. What the parts of a stretch cost more than the stretch, for each call that it saves, is the call's
cost, and taken from every part; what is left is shared out from the whole downwards, so that parts add up to it.
"""

import contextlib
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

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
_PART = " / nodes "


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Nodes of a model that are timed together: a part, or a stretch of `inner` ones."""

    nodes: range
    inner: "tuple[_Stretch, ...]" = ()

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
    call_us = _call_us(tree, timed)
    shares: dict[_Stretch, float] = {tree: whole.us}
    _share_out(tree, timed, call_us, shares)
    nodes = model.nodes()
    leaves = [each for each in tree.every() if not each.inner]
    layers = tuple(
        _layer(nodes, leaf, shares.get(leaf), timed.get(leaf), call_us, whole, reasons.get(leaf, "")) for leaf in leaves
    )
    alone = sum(timed[leaf].us for leaf in leaves if leaf in timed)
    note = (
        f"alone they sum to {100 * alone / whole.us:.0f} % of the whole, of which calls are "
        f"{100 * call_us * len(timed) / whole.us:.0f} % ({call_us:.1f} µs each); shared out they are the whole"
    )
    if reasons:
        note += f"; {len(reasons)} parts could not be timed alone and have what is left"
    return profiled.model_copy(update={"layers": layers, "layers_note": note})


def _layer(
    nodes: Sequence[Node],
    leaf: _Stretch,
    us: float | None,
    alone: _Timed | None,
    call_us: float,
    whole: _Timed,
    reason: str,
) -> Layer:
    own = [nodes[number] for number in leaf.nodes]
    counts = [each.macs for each in own]
    low = high = None
    if us is not None and alone is not None:
        own_us = max(alone.us - call_us, SMALLEST_SHARE * alone.us)
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


def _call_us(tree: _Stretch, timed: Mapping[_Stretch, _Timed]) -> float:
    """Return what one call of the runtime costs, by what parts of a stretch take more than the stretch."""
    found = []
    for each in tree.every():
        if each in timed and len(each.inner) > 1 and all(inner in timed for inner in each.inner):
            more_us = sum(timed[inner].us for inner in each.inner) - timed[each].us
            found.append(more_us / (len(each.inner) - 1))
    smallest = min((each.us for each in timed.values()), default=0.0)
    return min(max(statistics.median(found), 0.0), smallest) if found else 0.0


def _share_out(
    stretch: _Stretch, timed: Mapping[_Stretch, _Timed], call_us: float, shares: dict[_Stretch, float]
) -> None:
    """Share what a stretch takes within the whole out among what it is made of, by what that takes alone."""
    if not stretch.inner:
        return
    alone = {each: _alone_us(each, timed) for each in stretch.inner}
    own = {each: max(us - call_us, SMALLEST_SHARE * us) for each, us in alone.items()}
    unknown = [each for each, us in alone.items() if not us]
    known_us = sum(own.values())
    left_us = max(shares[stretch] - known_us, 0.0) if unknown else 0.0
    factor = (shares[stretch] - left_us) / known_us if known_us else 0.0
    for each in stretch.inner:
        shares[each] = left_us / len(unknown) if each in unknown else own[each] * factor
        _share_out(each, timed, call_us, shares)


def _alone_us(stretch: _Stretch, timed: Mapping[_Stretch, _Timed]) -> float:
    """Return what a stretch takes alone; of one that was not timed, what its parts do; 0 where that is not known."""
    if stretch in timed:
        return timed[stretch].us
    return sum(_alone_us(each, timed) for each in stretch.inner)


def _tree(model: Model) -> _Stretch | None:
    """Return a model's parts under stretches under the whole; None for one that cannot be cut, or of a single part."""
    try:
        level = [_Stretch(part) for part in separable(model)]
    except ModelError:
        return None
    if len(level) < 2:
        return None
    while len(level) > FAN_OUT:
        groups = [tuple(level[i : i + FAN_OUT]) for i in range(0, len(level), FAN_OUT)]
        level = [g[0] if len(g) == 1 else _Stretch(range(g[0].nodes.start, g[-1].nodes.stop), g) for g in groups]
    return _Stretch(range(level[0].nodes.start, level[-1].nodes.stop), tuple(level))


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
