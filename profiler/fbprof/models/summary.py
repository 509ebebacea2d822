"""Summary: what fbprof profile prints of a result: the answer first, then what it stands on."""

from collections.abc import Iterator
from pathlib import Path

import click

from fbprof.models.result import Layer, Profiled, Result

DEAREST = 10
"""Layers that are listed."""


def print_result(result: Result, path: Path, journal: Path) -> None:
    """Print a result."""
    _say(f"{result.device} ({result.where})")
    for each in result.models:
        click.echo("")
        _say(f"{each.name}  ({each.setting})")
        for line in _lines(each):
            _say(f"  {line}")
    if len([each for each in result.models if each.latency_us is not None]) > 1:
        click.echo("")
        for line in overview(result):
            _say(line)
    click.echo(f"\nverdict: {result.verdict}")
    for warning in result.warnings:
        _say(f"  - {warning}")
    click.echo(f"next: {_next_step(result, path)}    result: {path}    raw samples: {journal}")


def _say(line: str) -> None:
    """Print a line, and what files call their nodes in it stays in it."""
    click.echo(line.replace("\n", "\\n").replace("\t", "\\t"))


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def overview(result: Result) -> Iterator[str]:
    """Yield a line for each model: the fastest first."""
    measured = sorted((each for each in result.models if each.latency_us), key=lambda each: each.latency_us or 0)
    width = max(len(each.name) for each in measured)
    for each in measured:
        ratio = (each.latency_us or 0) / (measured[0].latency_us or 1)
        yield f"{each.name:{width}}  {in_ms(each.latency_us):>9} ms  {half_of(each):8}  {ratio:6.2f}x"


def dearest(layers: tuple[Layer, ...]) -> list[Layer]:
    """Return the layers that take longest, the dearest first."""
    known = [each for each in layers if each.latency_us is not None]
    return sorted(known, key=lambda each: -(each.latency_us or 0))


def in_ms(us: float | None) -> str:
    """Return a time in milliseconds with as many digits as it is worth."""
    if us is None:
        return "-"
    ms = us / 1e3
    return f"{ms:.4f}" if ms < 1 else f"{ms:.3f}" if ms < 100 else f"{ms:.1f}"


def half_of(each: Profiled) -> str:
    """Return half of a model's interval, nothing where there is none."""
    half = each.half_width_percent
    return "" if half is None else f"±{half:.1f} %"


def _lines(each: Profiled) -> Iterator[str]:
    if each.failed:
        yield f"failed: {each.failed}"
        return
    if each.ci_low_us is None:
        interval = "no interval, as the visits are too few: give more --rounds"
    else:
        interval = f"95 % interval {in_ms(each.ci_low_us)} to {in_ms(each.ci_high_us)} ms ({half_of(each)})"
    lost = f", {each.preempted} more left out as preempted" if each.preempted else ""
    lost = f", {each.preempted} of them preempted and by the CPU time of their thread" if each.by_cpu_time else lost
    yield f"latency   {in_ms(each.latency_us):>9} ms  {interval}"
    basis = f"{_count(each.samples, 'run')}, {_count(each.loads, 'load')}{lost}"
    yield (
        f"spread    {in_ms(each.p50_us):>9} ms  half of the runs below; p90 {in_ms(each.p90_us)}, p99 "
        f"{in_ms(each.p99_us)}, worst {in_ms(each.worst_us)} ms ({basis})"
    )
    first = "" if each.first_us is None else f", first run {in_ms(each.first_us)} ms"
    peak = "" if each.peak_bytes is None else f", {each.peak_bytes / 1e6:.1f} MB of memory at most"
    yield f"loading   {in_ms(each.load_us):>9} ms{first}{peak}"
    counted = [f"{each.file_bytes / 1e6:.2f} MB"]
    counted += [] if each.parameters is None else [f"{each.parameters / 1e6:.3f} M parameters"]
    if each.macs:
        per_s = each.macs / (each.latency_us or 1) / 1e3
        counted += [f"{each.macs / 1e6:.1f} M MACs, {per_s:.1f} GMAC/s"]
    yield f"size      {', '.join(counted)}; inputs {', '.join(each.inputs) or 'none'}"
    if each.kernels:
        yield f"kernels   {each.kernels}"
    if each.layers:
        yield from _layer_lines(each)
    elif each.layers_note:
        yield f"layers    {each.layers_note}"


def _layer_lines(each: Profiled) -> Iterator[str]:
    shown = dearest(each.layers)[:DEAREST]
    yield f"layers    {len(each.layers)} parts, the {len(shown)} dearest; {each.layers_note}"
    width = max((len(layer.name) for layer in shown), default=0)
    for layer in shown:
        share = 100 * (layer.latency_us or 0) / (each.latency_us or 1)
        shape = "x".join(map(str, layer.output_shape or ()))
        macs = "" if not layer.macs else f"{layer.macs / 1e6:8.2f} M MACs"
        name = f"{layer.name[:48]:{min(width, 48)}}"
        yield f"  {share:5.1f} %  {in_ms(layer.latency_us):>8} ms  {name}  {layer.kind}  {shape}  {macs}".rstrip()


def to_mend(result: Result) -> str | None:
    """Return what is to be mended before a result is used; None where nothing is."""
    failed = [each for each in result.models if each.failed]
    if failed:
        return f"mend why {failed[0].name} failed, then the same command with --fresh"
    if result.verdict == "do not use":
        return "mend what the verdict names, then the same command with --fresh"
    return None


def _next_step(result: Result, path: Path) -> str:
    if (mend := to_mend(result)) is not None:
        return mend
    if result.could_be_listed:
        return "the same command with --layers shows where the time goes"
    return f"fbprof report {path}"
