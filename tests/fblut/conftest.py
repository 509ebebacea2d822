"""Small tables."""

from collections.abc import Callable

import pytest

from fblut.table import Lut, Metadata, Row
from fbspace.opspec import OpSpec


@pytest.fixture
def make_lut() -> Callable[..., Lut]:
    """Return a function that builds a table from latencies in microseconds; None means failed."""

    def build(latencies_us: dict[OpSpec, float | None], **metadata: object) -> Lut:
        fields = {
            "space": "fbnet",
            "device": "local",
            "runtime": "litert",
            "runtime_version": "2.3.0",
            "precision": "float32",
            "threads": 1,
        }
        rows = {
            spec.key(): Row(spec, value, value - 1, value + 2, 0.5, 80)
            if value is not None
            else Row(spec, None, status="failed", notes="it crashed, twice # really")
            for spec, value in latencies_us.items()
        }
        return Lut(Metadata.model_validate(fields | metadata), rows)

    return build
