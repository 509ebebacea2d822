"""Targets: what a network may cost at most, in the unit and by the option of the cost in use."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fbbase.options import Option
from fbsearch.beyond.combined import load_cost
from fbsearch.beyond.exact import reachable
from fbsearch.costs import COSTS, Cost, ExpectedCost, StepCost
from fbsearch.errors import SearchError
from fbsearch.fbnet.settings import TARGET_SHARE, Settings

ANY = Cost.target_option
POSITIVE = Option("target", float, 1.0, "", above=0)


@dataclass(frozen=True, slots=True)
class Target:
    """A value as a person gives it, its unit, the option that gives it, and its factor to the unit of the cost.

    Raises FbError, by the option's name, for a value that is not positive.
    """

    value: float
    unit: str
    option: str
    factor: float

    def __post_init__(self) -> None:
        POSITIVE.check(self.value, self.option)

    @classmethod
    def of(cls, cost: Cost, value: float) -> "Target":
        """Return a target of a cost."""
        return cls(value, cost.target_unit or cost.unit, cost.target_option, cost.target_factor)

    def __str__(self) -> str:
        return f"{self.value:g} {self.unit}"

    @property
    def name(self) -> str:
        """The target in the name of a network: 12ms, 80mmacs."""
        return f"{self.value:g}{self.option.removeprefix(ANY)[1:] or re.sub(r'[^a-zA-Z]+', '', self.unit)}"

    def in_unit_of(self, cost: ExpectedCost, table: str) -> float:
        """Return the target in a cost's unit. Refuse one that no network comes near, with the range within reach."""
        if not isinstance(cost, StepCost):
            raise SearchError("only a cost that is a sum over operators can have a target; leave it or --cost away")
        wanted, (least, greatest) = self.value * self.factor, reachable(cost)
        if not least <= wanted <= greatest / TARGET_SHARE:
            few, many, by, take = "has as few", "has as many", "Networks", "have"
            if self.unit == "ms":
                few, many, by, take = "is as fast", "is as slow", f"By the table {table}, networks", "take"
            raise SearchError(
                f"{self.option} {self.value:g} is out of reach: no network {few if wanted < least else many}. "
                f"{by} of this space {take} {least / self.factor:.4g} to {greatest / self.factor:.4g} {self.unit}; "
                "choose a target in between"
            )
        return wanted


@dataclass(frozen=True, slots=True)
class Goal:
    """What one network is searched for: its name, a table, and a target if there is one."""

    name: str
    table: str
    target: Target | None


def goals_of(settings: Settings) -> list[Goal]:
    """Return what a search is for. A network's name is its table's, with the target where a table has several."""
    cost, tables = load_cost(settings.cost, settings.options), [table for table, _ in settings.objectives]
    goals = []
    for table, value in settings.objectives:
        target = None if value is None else Target.of(cost, value)
        name = table if tables.count(table) == 1 or target is None else f"{table}-{target.name}"
        goals.append(Goal(name, table, target))
    return goals


def objectives_of(
    cost: str, tables: Sequence[str], given: Mapping[str, Sequence[float]], several: Sequence[float]
) -> tuple[tuple[str, float | None], ...]:
    """Return (table, target) for every network to be found, from the targets by option, or `several` for each table.

    Raises SearchError for options that do not go together.
    """
    given = {option: values for option, values in given.items() if values}
    for option, values in {**given, "--targets": several}.items():
        for value in values:
            POSITIVE.check(value, option)
    for option in given.keys() - {load_cost(cost).target_option, ANY}:
        needs = next(name for name, known in COSTS.declared("target_option").items() if known == option)
        raise SearchError(f"{option} goes with --cost {needs}, not with --cost {cost}; leave one of the two away")
    options = [*given, *(["--targets"] if several else [])]
    if len(options) > 1:
        raise SearchError(f"give {' or '.join(options)}, not both")
    if several:
        if len(set(several)) < len(several):
            raise SearchError("--targets names a target twice; leave one away")
        return tuple((table, target) for table in tables for target in several)
    values = next(iter(given.values()), ())
    if len(values) > 1 and len(values) != len(tables):
        raise SearchError(
            f"{options[0]} is given {len(values)} times for {len(tables)} tables: give it once, or once for each "
            "--lut in the same order; several targets for one table are --targets 15,20,25"
        )
    each = values if len(values) == len(tables) else [*values, None][:1] * len(tables)
    return tuple(zip(tables, each, strict=True))
