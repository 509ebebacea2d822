"""Crashes: what the loss of an agent means, a chance, a subject that cannot be measured, or the end of a run."""

from collections import Counter
from collections.abc import Mapping

from fbagents.errors import ConnectionLostError
from fbbase.errors import FbError, PartialError

CRASHES_PER_SUBJECT = 2
"""A subject during which the agent is lost so often is the cause; once may be chance."""
VISITS_PER_CRASH = 50
"""A subject that was visited so often for each loss is not: something else ends the agent now and then."""
CRASHES_PER_RUN = 8


class Crashes:
    """Counts how often the agent was lost; `suspect` is what it works on, and to blame if it is lost."""

    def __init__(self) -> None:
        self.suspect: str | None = None
        self._counts: Counter[str | None] = Counter()  # None: the connection's fault

    def blame(self, error: FbError, visits: Mapping[str, int]) -> str | None:
        """Return the subject that is the cause, None for chance or a broken connection, which is nobody's fault.

        `visits` says how often each was visited. Raises PartialError for the last of CRASHES_PER_RUN, and the error
        itself where the agent worked on nothing.
        """
        key, self.suspect = self.suspect, None
        if isinstance(error, ConnectionLostError):
            key = None
        elif key is None:
            raise error
        self._counts[key] += 1
        if self._counts.total() >= CRASHES_PER_RUN:
            raise PartialError(
                f"the agent was lost {CRASHES_PER_RUN} times, the last time {f'in {key}' if key else 'on the way'}: "
                f"{error}. All samples are in the journal; the same command continues"
            ) from error
        if key is None or self._counts[key] < CRASHES_PER_SUBJECT:
            return None
        return key if visits.get(key, 0) < VISITS_PER_CRASH * self._counts[key] else None
