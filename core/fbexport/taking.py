"""Taking: which formats take the operators of a space, by writing one of every sort."""

from collections.abc import Iterable

from fbbase.errors import FbError
from fbexport.errors import ExportError
from fbexport.export import export_spec
from fbexport.formats import FORMATS, load_format
from fbspace.opspec import OpSpec


def refusals(specs: Iterable[OpSpec]) -> dict[str, list[str]]:
    """Return, for every format that can be written here, why it does not take operators; nothing where it takes all.

    One operator of every sort is tried, the smallest, and one reason is told of every kind of block. An operator that
    no format writes is refused by all.
    """
    sorts: dict[tuple[object, ...], OpSpec] = {}
    for spec in sorted(specs, key=lambda each: each.in_channels * each.out_channels * each.height * each.width):
        sorts.setdefault(_sort(spec), spec)
    found: dict[str, list[str]] = {}
    for name in FORMATS.names():
        try:
            load_format(name)
        except FbError:  # of a package that is not installed
            continue
        told: dict[str, str] = {}
        for spec in sorts.values():
            if spec.kind not in told:
                try:
                    export_spec(spec, name)
                except ExportError as error:
                    told[spec.kind] = str(error)
        found[name] = list(told.values())
    return found


def _sort(spec: OpSpec) -> tuple[object, ...]:
    """Return what decides of which layers an operator is made, and not how large they are."""
    flags = (
        spec.kernel > 1,
        spec.stride > 1,
        spec.groups > 1,
        spec.expansion == 1,
        spec.in_channels == spec.out_channels,
    )
    return spec.kind, spec.parameters, spec.activation, spec.squeeze_excite, *flags
