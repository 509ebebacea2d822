"""layers: a line of candidates' names, then a line of latencies for every layer (the public reproduction of FBNet)."""

import statistics

from fbbase.parsing import number
from fblut.errors import LutError
from fbprof.imports import Imported, Importer, number_of
from fbspace.blocks import is_identity
from fbspace.opspec import OpSpec
from fbspace.space import Space


class Layers(Importer):
    """Layers by candidates."""

    suffixes = (".txt",)

    def read(self, text: str, name: str, space: Space, unit_us: float) -> Imported:
        """Read layers by candidates; an operator that stands in several layers has the median of them.

        Stem and head are not in the file, and are left out of every sum. Raises LutError with the line.
        """
        lines = [(place, line.split()) for place, line in enumerate(text.splitlines(), start=1) if line.strip()]
        if not lines:
            raise LutError(f"{name}: it is empty")
        candidates = [_candidate(word) for word in lines[0][1]]
        if all(number(word.replace(",", ".")) is not None for word in candidates):
            raise LutError(
                f"{name}: line {lines[0][0]}: it begins with latencies: add a first line with the candidates' names in "
                f"the order of the columns, such as {' '.join(next(iter(space.layers)).candidates)}"
            )
        twice = next((word for word in candidates if candidates.count(word) > 1), None)
        if twice is not None:
            columns = [str(place) for place, word in enumerate(candidates, start=1) if word == twice]
            places = " and ".join(columns[:2])
            raise LutError(f"{name}: line {lines[0][0]}: columns {places} are both {twice!r}; keep one")
        if len(lines) - 1 != len(space.layers):
            raise LutError(
                f"{name}: {len(lines) - 1} lines of latencies, but space {space.name} has {len(space.layers)} layers; "
                "name the space it is of with --space"
            )
        found: dict[OpSpec, list[float]] = {}
        unused: list[str] = []
        for layer, (line, words) in zip(space.layers, lines[1:], strict=True):
            where = f"{name}: line {line}"
            if len(words) != len(candidates):
                raise LutError(f"{where}: {len(words)} latencies for {len(candidates)} candidates; complete the line")
            for candidate, word in zip(candidates, words, strict=True):
                spec = layer.candidates.get(candidate)
                if spec is None:
                    raise LutError(
                        f"{where}: layer {layer.index} of space {space.name} has no candidate {candidate!r}; "
                        f"it has {', '.join(layer.candidates)}"
                    )
                latency_us = number_of(word, f"{where}: {word[:60]!r} is not a number; correct it") * unit_us
                if is_identity(spec):
                    unused.append(f"{candidate} where it costs nothing")
                else:
                    found.setdefault(spec, []).append(latency_us)
        rest = [*space.stem, *(spec for head in space.heads.values() for spec in head)]
        return Imported(
            {spec: statistics.median(values) for spec, values in found.items()},
            "by layer",
            fixed=dict.fromkeys(rest, "not in the imported file"),
            notes={spec: f"median of {len(values)} layers" for spec, values in found.items() if len(values) > 1},
            warnings=("stem and head are not in the imported file: every prediction leaves them out",),
            entries=len(candidates) * len(space.layers),
            unused=tuple(unused),
        )


def _candidate(word: str) -> str:
    """Return the candidate's name here: ir_k3_s2 is k3_e1_g2, ir_k5_e6 is k5_e6."""
    return word.removeprefix("ir_").replace("_s2", "_e1_g2")
