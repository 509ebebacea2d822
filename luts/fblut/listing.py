"""A network layer by layer with its operators' latencies, as both tools print it."""

from fblut.table import Lut
from fbspace.architecture import Architecture
from fbspace.blocks import is_identity


def list_layers(architecture: Architecture, lut: Lut) -> str:
    """Return one line per operator: layer, candidate, key, microseconds. Raises LutError where a row is missing."""
    space = architecture.load_space()
    specs = architecture.all_specs(space)
    labels = ["stem"] * len(space.stem) + [str(layer.index) for layer in space.layers]
    names = ["-"] * len(space.stem) + list(architecture.choices)
    padding = len(specs) - len(labels)
    labels, names = labels + ["head"] * padding, names + ["-"] * padding
    widths = max(len(name) for name in names), max(len(spec.key()) for spec in specs)
    lines = [f"{'layer':>5}  {'choice':{widths[0]}}  {'operator':{widths[1]}}  {'µs':>9}"]
    between = 0
    for label, name, spec in zip(labels, names, specs, strict=True):
        row = None if is_identity(spec) else lut.row(spec)
        about = "~" if row is not None and spec.key() not in lut.rows else ""
        fixed = row is not None and row.status == "fixed"
        cost = "left out" if is_identity(spec) else "fixed" if fixed else f"{about}{lut.latency_us(spec):.1f}"
        between += bool(about)
        lines.append(f"{label:>5}  {name:{widths[0]}}  {spec.key():{widths[1]}}  {cost:>9}")
    if between:
        lines.append(f"{'':>5}  ~ interpolated between measured operators: {between} of {len(specs)}")
    if lut.metadata.network_us:
        lines.append(
            f"{'':>5}  {'':{widths[0]}}  {'fixed cost of a network':{widths[1]}}  {lut.metadata.network_us:9.1f}"
        )
    return "\n".join(lines)
