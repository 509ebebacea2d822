"""Ctrl-C and SIGTERM wait for the end of a step; sent twice they do not."""

import os
import signal

import pytest

from fbbase.interrupt import Terminated, interrupt_between_steps


def test_the_step_is_finished_and_the_check_raises(capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGINT)
    finished = []

    def work() -> None:
        with interrupt_between_steps() as check:
            for step in range(5):
                if step == 2:
                    os.kill(os.getpid(), signal.SIGINT)
                finished.append(step)
                check()

    with pytest.raises(KeyboardInterrupt):
        work()
    assert finished == [0, 1, 2]
    assert "stopping after this step" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_ctrl_c_does_not_wait() -> None:
    reached = []

    def work() -> None:
        with interrupt_between_steps():
            os.kill(os.getpid(), signal.SIGINT)
            reached.append("first")
            os.kill(os.getpid(), signal.SIGINT)
            reached.append("second")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert reached == ["first"]


def test_without_ctrl_c_nothing_happens() -> None:
    with interrupt_between_steps() as check:
        check()


def test_a_job_that_ignores_ctrl_c_still_does() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interrupt_between_steps() as check:
            os.kill(os.getpid(), signal.SIGINT)
            check()
    finally:
        signal.signal(signal.SIGINT, before)


def test_sigterm_waits_too_where_asked_to_and_means_exit_code_4(capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    finished = []

    def work() -> None:
        with interrupt_between_steps(terminate=True) as check:
            for step in range(5):
                if step == 2:
                    os.kill(os.getpid(), signal.SIGTERM)
                finished.append(step)
                check()

    with pytest.raises(Terminated, match="the same command continues") as caught:
        work()
    assert caught.value.exit_code == 4
    assert finished == [0, 1, 2]
    assert "SIGTERM again stops at once" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is before


def test_sigterm_is_left_alone_where_not_asked_to() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with interrupt_between_steps():
        assert signal.getsignal(signal.SIGTERM) is before
