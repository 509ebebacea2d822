"""Farm: measure on several devices side by side, each in a thread of its own, with its own journal and table."""

import queue
import threading
import time
from collections.abc import Callable, Sequence

from threadpoolctl import threadpool_limits

from fbbase.commandline import echo_marked
from fbbase.errors import FbError, PartialError
from fbbase.interrupt import interrupt_between_steps
from fbbase.progress import shared_screen
from fbprof.errors import MeasurementError
from fbprof.measure.jobs import Job, Outcome
from fbprof.measure.models import ModelFiles
from fbprof.plan.plan import from_light_to_heavy

Carry = Callable[[Job, ModelFiles, Callable[[], None]], Outcome]
"""Carries out one job, by files that all devices share; the last argument is called between its steps."""


def measure_all(
    jobs: Sequence[Job], carry: Carry, tell: Callable[[Outcome], None] = lambda outcome: None
) -> list[Outcome]:
    """Carry out jobs of the same subjects, precision and seed at once; return how each ended, in their order.

    As soon as a device is done, `tell` is called. One of several that fails leaves the others alone, and its error is
    printed at once. After Ctrl-C and SIGTERM every device ends its step, its journal is kept and it is released; after
    a second one nothing is waited for.
    """
    ended: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
    outcomes: dict[str, Outcome] = {}
    untold: OSError | None = None
    with (
        interrupt_between_steps(terminate=True) as check,
        shared_screen(),
        ModelFiles(jobs[0].plan) as files,
        # threads of a matrix product wait in a loop: of many devices that would be all the host does
        threadpool_limits(limits=1, user_api="blas"),
    ):

        def work(job: Job) -> None:
            """Carry out one job; whatever happens is its outcome, and nothing of it reaches the other threads."""
            start = time.monotonic()
            try:
                ended.put(carry(job, files, check))
            except BaseException as error:  # KeyboardInterrupt, and bugs: raised by the main thread
                ended.put(Outcome(job, time.monotonic() - start, error=error))

        if jobs[0].plan.operators:
            from_light_to_heavy(jobs[0].plan.operators, 1)  # counts them all, before the writer's thread traces any
        threads = []
        for job in jobs:
            # a daemon: after a second Ctrl-C nobody waits for a device that does not answer
            threads.append(threading.Thread(target=work, args=(job,), name=job.profile.name, daemon=True))
            threads[-1].start()
        for _ in jobs:
            outcome = ended.get()
            outcomes[outcome.job.profile.name] = outcome
            if isinstance(outcome.error, FbError) and len(jobs) > 1:  # of a single one it is the command's
                before = f"{outcome.job.profile.name}: "
                echo_marked("error", f": {outcome.error}", color="red", before=before, err=True)
            elif outcome.error is None and untold is None:
                try:
                    tell(outcome)
                except OSError as error:  # whoever read what we print went away: the other devices go on
                    untold = error
        for thread in threads:
            thread.join()
    if untold is not None:
        raise untold
    return [outcomes[job.profile.name] for job in jobs]


def raise_failures(outcomes: Sequence[Outcome]) -> None:
    """Raise what the outcomes amount to for whoever waits for all of them; nothing where every device has its table.

    KeyboardInterrupt where it was pressed, a bug as it is, and so the error of a single device; PartialError where some
    devices finished or may go on, and MeasurementError where none could be measured.
    """
    errors = [outcome.error for outcome in outcomes if outcome.error is not None]
    for error in errors:
        if not isinstance(error, FbError) or len(outcomes) == 1:
            raise error
    if not errors:
        return
    failed = ", ".join(outcome.job.profile.name for outcome in outcomes if outcome.error is not None)
    summary = f"{len(errors)} of {len(outcomes)} devices failed: {failed}"
    if len(errors) < len(outcomes) or any(isinstance(error, PartialError) for error in errors):
        raise PartialError(f"{summary}. The same command measures what is missing, and nothing again")
    raise MeasurementError(f"{summary}. The reasons are above")
