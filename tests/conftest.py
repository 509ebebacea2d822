"""Fixtures that several packages' tests share."""

import signal
import sys
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples on every machine: a test that passed here passes there.
settings.register_profile("fixed", derandomize=True, deadline=None)
settings.load_profile("fixed")

# A shell that starts this in the background has Ctrl-C ignored, here and in every process the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of public data beside the checkout; tests that need it skip without it."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the data folder {SHARED}, which is not part of the project")
    return SHARED


@pytest.fixture(scope="session")
def benchmark_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program that times models for real and prints as Google's benchmark_model does, which is not available here."""
    source = Path(__file__).parent / "fbagents" / "peers" / "benchmark_stand_in.py"
    program = tmp_path_factory.mktemp("binary") / "benchmark_model"
    program.write_text(f"#!{sys.executable}\n{source.read_text()}")
    program.chmod(0o755)
    return program
