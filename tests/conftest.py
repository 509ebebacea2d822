"""Fixtures that several packages' tests share."""

import signal
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
