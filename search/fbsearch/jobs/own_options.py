"""Own options of a search's strategy, cost and loss: checked, and recorded with its settings."""

import dataclasses
from typing import Any

from fbbase.options import options_of
from fbbase.plugins import Plugins
from fbsearch.beyond.combined import weighed_parts
from fbsearch.costs import COSTS
from fbsearch.errors import SearchError
from fbsearch.fbnet.settings import Settings
from fbsearch.losses import LOSSES
from fbsearch.strategies import STRATEGIES

ALWAYS = {"alpha": 0.2, "beta": 0.6, "latency_weight": 1.0}
"""What checkpoints have always held, of whatever loss."""


def recorded(settings: Settings) -> dict[str, Any]:
    """Return settings as checkpoints and architecture files hold them, with the own options of all plug-ins in use.

    Raises UnknownNameError for a plug-in, SearchError for an option that none of them has, FbError for a wrong value.
    """
    made = [kind.load_with(name, settings.options) for kind, name in _used(settings)]
    own = {each.name: getattr(plug_in, each.name) for plug_in in made for each in options_of(type(plug_in))}
    for name in settings.options:
        if name not in own:
            kinds = (STRATEGIES, COSTS, LOSSES)
            having = [f"{kind.kind} {plug_in}" for kind in kinds for plug_in, _ in kind.options().get(name, ())]
            raise SearchError(
                f"--{name.replace('_', '-')} is no option of strategy {settings.strategy}, cost {settings.cost} and "
                f"loss {settings.loss}; {', '.join(having) or 'no plug-in'} has it"
            )
    return ALWAYS | own | settings.as_dict()


def settings_of(record: dict[str, Any]) -> Settings:
    """Return the settings that `recorded` returned."""
    known = {each.name for each in dataclasses.fields(Settings)}
    objectives = tuple((table, target) for table, target in record["objectives"])
    values = {name: value for name, value in record.items() if name in known}
    settings = Settings(**values | {"objectives": objectives})
    own = {each.name for kind, name in _used(settings) for each in options_of(kind.find(name))}
    return dataclasses.replace(settings, options={name: value for name, value in record.items() if name in own})


def _used(settings: Settings) -> list[tuple[Plugins[Any], str]]:
    costs = [(COSTS, name) for _, name in weighed_parts(settings.cost)]
    return [(STRATEGIES, settings.strategy), *costs, (LOSSES, settings.loss)]
