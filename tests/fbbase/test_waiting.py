"""What is waited for is said while nothing moves, and nothing is said while something does."""

import re
import time

import pytest

from fbbase import progress
from fbbase.progress import Waiting


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A twentieth of the time that a person waits."""
    monkeypatch.setattr(progress, "PLAIN_INTERVAL_S", 0.5)


def test_silence_is_broken_again_and_again(capsys: pytest.CaptureFixture[str]) -> None:
    with Waiting("phone", "starting the agent"):
        time.sleep(1.3)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(re.fullmatch(r"phone: starting the agent, [01] s so far", line) for line in lines)


def test_work_that_moves_on_is_not_talked_about_and_what_it_waits_for_is(capsys: pytest.CaptureFixture[str]) -> None:
    with Waiting("phone", "starting the agent") as waiting:
        for _ in range(10):
            time.sleep(0.1)
            waiting("waiting for an answer")
        assert capsys.readouterr().err == ""
        time.sleep(0.8)
    assert re.fullmatch(r"phone: waiting for an answer, [01] s so far\n", capsys.readouterr().err)


def test_it_ends_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    start = time.monotonic()
    with Waiting("phone", "starting the agent"):
        pass
    assert time.monotonic() - start < 0.4


def test_after_a_part_that_is_told_it_is_what_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    with Waiting("phone", "starting the agent"):
        with Waiting.told("building the agent"):
            time.sleep(0.8)
        time.sleep(0.8)
    first, still, then = capsys.readouterr().err.splitlines()
    assert first == "phone: building the agent"
    assert re.fullmatch(r"phone: building the agent, [01] s so far", still)
    assert re.fullmatch(r"phone: starting the agent, [01] s so far", then)
