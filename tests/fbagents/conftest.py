"""A model file per runtime, and a transport to this machine."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fbagents.profile import load_profile
from fbagents.transports import Transport, connect
from fbprof.export import export_spec
from fbprof.formats import FORMATS, load_format
from fbspace.opspec import OpSpec

SPEC = OpSpec("ir", 16, 24, 16, 16, kernel=3, stride=2, expansion=3)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """SPEC as a model file for each runtime."""
    folder = tmp_path_factory.mktemp("models")
    paths = {}
    for name in FORMATS.names():
        model_format = load_format(name)
        for runtime in model_format.RUNTIMES:
            paths[runtime] = folder / f"{runtime}{model_format.SUFFIX}"
            paths[runtime].write_bytes(export_spec(SPEC, name))
    return paths


@pytest.fixture
def local() -> Iterator[Transport]:
    transport = connect(load_profile("local"))
    yield transport
    transport.close()
