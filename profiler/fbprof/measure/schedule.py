"""Schedule: what to visit next, so that every subject is known well enough, seen all over the run, in random order."""

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping

from fbprof.plan.plan import Plan, shuffled

BLOCK_S = 5.0
"""Length of one schedule that the agent gets: what a power cut may cost, and how often the device is looked at."""
STAY_ROUNDS = 7
"""Visits in a row before others get their turn, where not everything fits into the device's memory."""
REFERENCE_EVERY = 8
GROWTH = 2.0
"""A subject gets at most about so many times its visits before its interval is looked at again."""


class Schedule:
    """Decides how often everything is visited: MIN_ROUNDS times, then what its interval asks for.

    `half_widths_percent` returns half of the 95 % interval of every subject from what has been measured so far, in
    percent of its latency; what it leaves out is not known yet.
    """

    in_new_processes = False
    """Whether models that are to be loaded anew are so in new processes of the agents."""

    def __init__(self, plan: Plan, references: Collection[str], half_widths_percent: Callable[[], Mapping[str, float]]):
        self._plan, self._half_widths_percent = plan, half_widths_percent
        self.references = list(references)
        self._keys = [subject.key for subject in plan.subjects]
        self._targets = dict.fromkeys(self._keys, plan.min_rounds)

    def wanted(self, counts: Mapping[str, int], failed: Collection[str]) -> dict[str, int]:
        """Return how many more visits every subject needs before intervals are looked at again; none: all is done."""
        missing = self.missing(counts, failed)
        if not missing:
            self._raise_targets(counts, failed)
            missing = self.missing(counts, failed)
        return missing

    def missing(self, counts: Mapping[str, int], failed: Collection[str]) -> dict[str, int]:
        """Return how many more visits every subject needs, by what was known when intervals were last looked at."""
        open_keys = [key for key in self._keys if key not in failed]
        return {key: self._targets[key] - counts[key] for key in open_keys if counts[key] < self._targets[key]}

    def _raise_targets(self, counts: Mapping[str, int], failed: Collection[str]) -> None:
        """The width of an interval falls with the square root of the number of visits."""
        if all(counts[key] >= self._plan.rounds for key in self._keys if key not in failed):
            return
        half_widths = self._half_widths_percent()
        for key in self._keys:
            half_width = half_widths.get(key, math.inf)
            if half_width > self._plan.ci_percent:
                growth = min(GROWTH, max(1.1, (half_width / self._plan.ci_percent) ** 2))
                self._targets[key] = min(self._plan.rounds, math.ceil(counts[key] * growth) + 1)

    def block(
        self, wanted: Mapping[str, int], visit_s: Mapping[str, float], number: int, most: int = STAY_ROUNDS
    ) -> list[str]:
        """Return the order of one block, about BLOCK_S long: rounds in random order, references recurring in between.

        Where the plan wants a subject to run after itself, its visits follow each other, and nothing comes between; a
        reference comes last. `visit_s` says how long a visit takes, as far as that is known; before, a block is a
        single round. It has at `most` so many.
        """
        known = all(key in visit_s for key in wanted)
        round_s = sum(visit_s[key] for key in wanted) if known else BLOCK_S
        rounds = min(STAY_ROUNDS, most, max(1, int(BLOCK_S / max(round_s, 1e-6))))
        rounds = min(rounds, max(wanted.values()))
        if self._plan.before == "itself":
            keys = shuffled(list(wanted), self._plan.seed, number * STAY_ROUNDS)
            last = self.references[number % len(self.references)] if self.references else None
            visits = [key for key in keys for _ in range(min(rounds, wanted[key]))]
            return visits + [last] * rounds if last else visits
        order: list[str] = []
        for round_number in range(rounds):
            keys = [key for key, left in wanted.items() if left > round_number]
            order += shuffled(keys, self._plan.seed, number * STAY_ROUNDS + round_number)
        return self._with_references(order, number) if self.references else order

    def _with_references(self, order: list[str], number: int) -> list[str]:
        """Put the next reference after every REFERENCE_EVERY visits; every block begins with another one."""
        result: list[str] = []
        for index, key in enumerate(order):
            result.append(key)
            if index % REFERENCE_EVERY == REFERENCE_EVERY - 1:
                result.append(self.references[(number + index // REFERENCE_EVERY) % len(self.references)])
        return result


def fitting_first(wanted: Mapping[str, int], counts: Counter[str], loaded: Collection[str]) -> list[str]:
    """Return what is wanted in the order in which it should be loaded: least visited first, what is there before."""
    return sorted(wanted, key=lambda key: (counts[key] // STAY_ROUNDS, key not in loaded))
