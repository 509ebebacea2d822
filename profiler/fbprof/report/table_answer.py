"""Table answer: the first screen of a table's report: what a network takes, which layers are dearest, what is next."""

import contextlib
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from fblut.errors import LutError
from fblut.table import Lut
from fbprof.journal.conditions import device_words
from fbprof.models.summary import DEAREST, in_ms
from fbprof.report.shell import Bar, bars_of, said, verdict_of
from fbprof.report.summary import next_step
from fbspace.architecture import Architecture
from fbspace.blocks import is_identity
from fbspace.errors import ArchitectureError
from fbspace.opspec import OpSpec
from fbspace.space import Layer, Space

_Named = tuple[str, str, OpSpec]
"""Where an operator stands, which candidate it is, and itself."""


def table_answer(lut: Lut, table: Path, space: Space | None, found: Architecture | None) -> str:
    """Return the first screen of the report of a table.

    The network is the one that a search `found`, else that of every layer's middle candidate, by latency. There is none
    where the space is not known, decides more than blocks, or has operators without a latency.
    """
    metadata = lut.metadata
    failed = sum(row.status == "failed" for row in lut.rows.values())
    total, bars = "", ""
    if space is not None and not space.is_masked:
        with contextlib.suppress(LutError, ArchitectureError):  # what lacks is told beside, and by `fbprof check`
            total, bars = _network(lut, space, found)
    where = device_words(metadata.device_model, metadata.soc)
    return (
        f'<div class="answer"><section>{total}<p>on <b>{escape(metadata.device)}</b> ({escape(where)})</p>'
        f"{verdict_of(metadata.verdict or 'none', metadata.warnings)}"
        f'<p class="next">next: <code>{said(next_step(lut, table, failed))}</code></p></section>'
        f"{f'<section>{bars}</section>' if bars else ''}</div>"
    )


def _network(lut: Lut, space: Space, found: Architecture | None) -> tuple[str, str]:
    """Return the total and the bars of a network. Raises LutError, ArchitectureError where it cannot be told."""
    ordered = [_by_latency(lut, layer) for layer in space.layers]
    if found is not None and found.space == space.name and found.network is None:
        network, what = list(_operators(space, found.choices, found.head_channels)), "the network that was found"
    else:
        middle = [names[len(names) // 2] for names in ordered]
        network, what = list(_operators(space, middle)), "the network of every layer's middle candidate"
    predicted = lut.predict([spec for _, _, spec in network])
    total_us = predicted.latency_us
    ends = [lut.predict_us(space.specs([names[end] for names in ordered])) for end in (0, -1)]
    interval = "no interval"
    if predicted.interval is not None:
        interval = f"95 % interval {in_ms(predicted.interval[0])} to {in_ms(predicted.interval[1])} ms"
    total = (
        f'<p><b>{what}</b>, predicted by the table</p><div class="total">{in_ms(total_us)} ms</div>'
        f"<p>{interval}; networks of the space take {in_ms(ends[0])} to {in_ms(ends[1])} ms</p>"
    )
    bars = [_bar(lut, each, total_us) for each in network if lut.latency_us(each[2]) > 0]
    if lut.metadata.network_us > 0:
        bars.append(_of("fixed cost of a network", "", lut.metadata.network_us, None, total_us))
    bars.sort(key=lambda bar: -bar.length)
    return total, f"<h2>Its dearest layers, stem and head included</h2>{bars_of(bars[:DEAREST])}"


def _by_latency(lut: Lut, layer: Layer) -> list[str]:
    """Return the candidates of a layer by latency; those without one are left out. Raises LutError where all are."""
    known = {}
    for name, spec in layer.candidates.items():
        row = lut.row(spec)
        if is_identity(spec):
            known[name] = 0.0
        elif row is not None and row.status != "failed":
            known[name] = lut.latency_us(spec)
    if not known:
        raise LutError(f"no candidate of layer {layer.index} has a latency")
    return sorted(known, key=lambda name: known[name])


def _operators(space: Space, choices: Sequence[str], head_channels: int | None = None) -> Iterator[_Named]:
    """Yield what runs in a network. Raises ArchitectureError where a choice is none of the space."""
    stem, layers = len(space.stem), len(space.layers)
    for number, spec in enumerate(space.all_specs(choices, head_channels)):
        at = number - stem
        if not is_identity(spec):
            in_layers = 0 <= at < layers
            place = "stem" if at < 0 else f"layer {space.layers[at].index}" if in_layers else "head"
            yield place, choices[at] if in_layers else "", spec


def _bar(lut: Lut, named: _Named, total_us: float) -> Bar:
    place, choice, spec = named
    row = lut.row(spec)
    ends = None if row is None or row.ci_low_us is None or row.ci_high_us is None else (row.ci_low_us, row.ci_high_us)
    return _of(f"{place} {choice}".rstrip(), spec.key(), lut.latency_us(spec), ends, total_us)


def _of(name: str, about: str, us: float, ends: tuple[float, float] | None, total_us: float) -> Bar:
    return Bar(name, about, us, ends, f"{100 * us / total_us:.1f} %", f"{in_ms(us)} ms")
