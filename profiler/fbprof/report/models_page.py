"""Models page: results of fbprof profile as one HTML file without a script, the answer first."""

import shlex
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from fbbase.errors import FbError
from fblut.views import Section
from fbprof.models.compare import compare_results, sections_of
from fbprof.models.result import Layer, Profiled, Result
from fbprof.models.summary import DEAREST, dearest, half_of, in_ms, to_mend
from fbprof.report.shell import Bar, bars_of, filled, rows_of, said, short, verdict_of

MOST_ROWS = 3000
"""Parts of a model that are listed."""


def models_page(results: Mapping[str, Result]) -> str:
    """Return the report of results by the names of their files; the first is the answer, the others are held against
    it.
    """
    (first_name, first), *others = results.items()
    parts = {
        "TITLE": short(_title(first)),
        "ANSWER": _answer(first, *next_step(results)),
        "COMPARISONS": "".join(_comparison(first_name, first, name, other) for name, other in others),
        "MODELS": "".join(_models(name if others else "", each, each is first) for name, each in results.items()),
        "FACTS": "".join(_conditions(name, each) for name, each in results.items()),
    }
    return filled("models.html", parts)


def next_step(results: Mapping[str, Result]) -> tuple[str, str]:
    """Return the one thing to do next, in words, and the command for it, empty where it is the one that made them."""
    (first_name, first), *others = results.items()
    if (mend := to_mend(first)) is not None:
        return mend, ""
    if others:
        told = shlex.join(["fbprof", "compare", first_name, others[0][0], "--fail-above", "3%"])
        return "let their intervals say yes, no or cannot tell:", told
    measured = _measured(first)
    if first.could_be_listed:
        return "the same command with --layers shows where the time goes", ""
    what = "make the dearest part cheaper" if measured[0].layers else "change the model"
    name = measured[0].name.partition(", ")[0]
    return f"{what}, and see what it brings:", shlex.join(["fbprof", "ab", name, "NEW", "--device", first.device])


def _title(result: Result) -> str:
    names = [each.name for each in result.models]
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{names[0] if names else 'no model'}{more} on {result.device}"


def _answer(result: Result, words: str, command: str) -> str:
    measured = _measured(result)
    found = [f'<div class="answer"><section>{_total(measured[0], len(measured)) if measured else ""}']
    found += [f"<p>{short(each.name)} failed: {escape(each.failed)}</p>" for each in result.models if each.failed]
    found.append(f"<p>on <b>{short(result.device)}</b> ({escape(result.where)})</p>")
    found.append(verdict_of(result.verdict, result.warnings))
    found.append(f'<p class="next">next: {said(words)} <code>{said(command)}</code></p></section>')
    overview = f"<h2>Fastest first</h2>{_overview(measured)}" if len(measured) > 1 else ""
    dearest_of = _dearest(measured[0]) if measured and measured[0].layers else ""
    found += [f"<section>{overview}{dearest_of}</section>"] if overview or dearest_of else []
    return "".join([*found, "</div>"])


def _measured(result: Result) -> list[Profiled]:
    """Return the models that were measured, the fastest first."""
    measured = [each for each in result.models if each.latency_us is not None]
    return sorted(measured, key=lambda each: each.latency_us or 0)


def _total(each: Profiled, of: int) -> str:
    what = f"<p>{'the fastest: ' if of > 1 else ''}<b>{short(each.name)}</b>, {escape(each.setting)}</p>"
    half = half_of(each)
    total = f'<div class="total">{in_ms(each.latency_us)} ms<small>{escape(half)}</small></div>'
    if each.ci_low_us is None:
        words = "no interval, as the visits are too few"
    else:
        words = f"95 % interval {in_ms(each.ci_low_us)} to {in_ms(each.ci_high_us)} ms"
    return (
        f"{what}{total}<p>{words}; half of the runs below {in_ms(each.p50_us)}, 99 % below {in_ms(each.p99_us)} ms</p>"
    )


def _overview(measured: list[Profiled]) -> str:
    fastest_us = measured[0].latency_us or 1
    bars = []
    for each in measured:
        ratio = (each.latency_us or 0) / fastest_us
        much = f"{in_ms(each.latency_us)} ms"
        bars.append(Bar(each.name, each.setting, each.latency_us or 0, _ends(each), much, f"{ratio:.2f}x"))
    return bars_of(bars)


def _dearest(each: Profiled) -> str:
    shown = dearest(each.layers)[:DEAREST]
    heading = f"<h2>Where the time goes in {short(each.name)}: {len(shown)} dearest of {len(each.layers)} parts</h2>"
    bars = []
    for layer in shown:
        share = f"{100 * (layer.latency_us or 0) / (each.latency_us or 1):.1f} %"
        much = f"{in_ms(layer.latency_us)} ms"
        bars.append(Bar(layer.name, _about(layer), layer.latency_us or 0, _ends(layer), share, much))
    return heading + bars_of(bars)


def _about(layer: Layer) -> str:
    shape = "x".join(map(str, layer.output_shape or ()))
    macs = f"{layer.macs / 1e6:.2f} M MACs" if layer.macs else ""
    return ", ".join(filter(None, [layer.kind, shape, macs]))


def _ends(each: Profiled | Layer) -> tuple[float, float] | None:
    return None if each.ci_low_us is None or each.ci_high_us is None else (each.ci_low_us, each.ci_high_us)


def _comparison(first_name: str, first: Result, name: str, other: Result) -> str:
    try:
        sections = list(sections_of(first, other, (first_name, name), compare_results(first, other)))
    except FbError as error:
        sections = [Section(f"{name} against {first_name}", (str(error),))]
    found = []
    for each in sections:
        text = "".join(f"<p>{escape(line)}</p>" for line in each.text)
        rows = [list(map(short, row)) for row in ([list(each.columns)] if each.columns else []) + each.written()]
        found.append(f"<section><h2>{short(each.heading)}</h2>{text}{rows_of(rows, 'compared')}</section>")
    return "".join(found)


def _models(name: str, result: Result, is_answer: bool) -> str:
    """Return every model of a result with all its figures, and its parts; the answer has the fastest one's already."""
    of = f" of {short(name)}" if name else ""
    rows = [[label, *(cell or "–" for cell in cells)] for label, cells in _figures(result) if any(cells)]
    found = f"<section><h2>All figures{of}</h2>{rows_of(rows, 'facts')}</section>"
    shown = _measured(result)[:1] if is_answer else []
    return found + "".join(_parts(each, each in shown) for each in result.models if each.layers or each.layers_note)


def _figures(result: Result) -> Iterator[tuple[str, list[str]]]:
    def of(label: str, write: Any) -> tuple[str, list[str]]:
        return label, [escape(write(each)) for each in result.models]

    def times(label: str, name: str) -> tuple[str, list[str]]:
        return of(label, lambda each: "" if getattr(each, name) is None else f"{in_ms(getattr(each, name))} ms")

    yield "", [f"<b>{short(each.name)}</b>" for each in result.models]
    yield of("run in", lambda each: each.setting)
    yield times("latency", "latency_us")
    yield of(
        "95 % interval",
        lambda each: "" if each.ci_low_us is None else f"{in_ms(each.ci_low_us)} to {in_ms(each.ci_high_us)} ms",
    )
    for label, name in (("half below", "p50_us"), ("90 % below", "p90_us"), ("99 % below", "p99_us")):
        yield times(label, name)
    yield times("worst", "worst_us")
    yield of("runs kept", lambda each: str(each.samples or ""))
    yield of("preempted", _preempted)
    yield of("loads", lambda each: str(each.loads or ""))
    yield times("first run", "first_us")
    yield times("loading", "load_us")
    yield of("memory at most", lambda each: "" if each.peak_bytes is None else f"{each.peak_bytes / 1e6:.1f} MB")
    yield of("file", lambda each: f"{each.file_bytes / 1e6:.2f} MB")
    yield of("parameters", lambda each: "" if each.parameters is None else f"{each.parameters / 1e6:.3f} M")
    yield of("MACs", lambda each: "" if each.macs is None else f"{each.macs / 1e6:.1f} M")
    yield of("inputs", lambda each: ", ".join(each.inputs))
    yield of("kernels", lambda each: each.kernels)
    yield of("failed", lambda each: each.failed)
    yield of("sha256", lambda each: each.sha256[:16])


def _preempted(each: Profiled) -> str:
    if not each.preempted:
        return ""
    return f"{each.preempted}, by the CPU time of their thread" if each.by_cpu_time else f"{each.preempted}, left out"


def _parts(each: Profiled, is_shown: bool) -> str:
    """Return the parts of a model: the dearest where the first screen does not show them, and all in their order."""
    note = f"<p>{escape(each.layers_note)}</p>"
    if not each.layers:
        return f"<section><h2>Layers of {short(each.name)}</h2>{note}</section>"
    heading = ["", "of the whole", "95 % interval", "alone", "kind", "output", "M MACs", "note"]
    rows = [heading, *map(_part_row, [each] * len(each.layers), each.layers)][: MOST_ROWS + 1]
    if (left := len(each.layers) + 1 - len(rows)) > 0:
        rows.append([f"and {left} more, which are in the result", *[""] * (len(heading) - 1)])
    found = f"<h2>Layers of {short(each.name)}</h2>{note}" + ("" if is_shown else _dearest(each))
    everything = f"<details><summary>every part, in the model's order</summary>{rows_of(rows, 'compared')}</details>"
    return f"<section>{found}{everything}</section>"


def _part_row(each: Profiled, layer: Layer) -> list[str]:
    share = "" if layer.latency_us is None else f"{100 * layer.latency_us / (each.latency_us or 1):.1f} %, "
    ends = "" if (found := _ends(layer)) is None else f"{in_ms(found[0])} to {in_ms(found[1])} ms"
    alone = "" if layer.alone_us is None else f"{in_ms(layer.alone_us)} ms"
    shape = "x".join(map(str, layer.output_shape or ()))
    macs = "" if layer.macs is None else f"{layer.macs / 1e6:.2f}"
    cells = [layer.name, f"{share}{in_ms(layer.latency_us)} ms", ends, alone, layer.kind, shape, macs, layer.note]
    return list(map(short, cells))


def _conditions(name: str, result: Result) -> str:
    facts = {
        "result": name,
        "device": result.device,
        "model": result.device_model,
        "processor": result.soc,
        "system": result.system,
        "agent": result.agent,
        "measured at": result.measured_at,
        "version": result.tool_version,
        "timing": result.timing,
        "conditions": result.conditions,
        "drift taken out": _percent(result.drift_range_percent),
        "reference workload": None if result.reference_us is None else f"{result.reference_us:.1f} µs",
        "reference's error": _percent(result.reference_error_percent),
        "speed's error": _percent(result.speed_error_percent),
    }
    rows = [[key, escape(value)] for key, value in facts.items() if value]
    return f"<section><h2>How it was measured</h2>{rows_of(rows, 'facts')}</section>"


def _percent(value: float | None) -> str | None:
    return None if value is None else f"{value:.1f} %"
