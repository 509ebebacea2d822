"""What a test does where the real peer it needs cannot be had: skip, or fail where peers are required."""

import os
from typing import NoReturn

import pytest


def unavailable(reason: str) -> NoReturn:
    """Skip the test; fail it where FBNET_LAB_PEERS=required, as in continuous integration."""
    if os.environ.get("FBNET_LAB_PEERS") == "required":
        pytest.fail(f"{reason} (FBNET_LAB_PEERS=required)", pytrace=False)
    pytest.skip(reason)
