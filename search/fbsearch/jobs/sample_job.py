"""fbsearch sample: sample networks from a finished search, ranked by its weights, and write them down."""

from dataclasses import dataclass
from pathlib import Path

from fblut.reading import read_lut
from fbsearch.errors import SearchError
from fbsearch.fbnet.derive import derive
from fbsearch.jobs.own_options import settings_of
from fbsearch.jobs.search_job import TABLES, describe, open_search, predict
from fbsearch.jobs.targets import goals_of
from fbsearch.machine.checkpoint import SEARCH, RunFolder
from fbsearch.machine.compute import Compute
from fbsearch.machine.ranks import Ranks
from fbspace.architecture import choose


@dataclass(frozen=True, slots=True)
class Sampled:
    """A network sampled from a finished search, its file, and what the validation images say of it."""

    path: str
    objective: str
    choices: tuple[str, ...]
    validation_accuracy_percent: float
    loss: float
    predicted_us: float
    skip_layers: int


def sample(
    path: Path, count: int, objective_name: str | None, output: Path, seed: int, compute: Compute
) -> list[Sampled]:
    """Sample `count` networks for every objective of the search in the folder `path`, or for one; the best first.

    Raises SearchError for a folder without a finished search, or without this objective.
    """
    settings = settings_of(RunFolder.settings_of(path, SEARCH))
    names = [goal.name for goal in goals_of(settings)]
    if objective_name is not None and objective_name not in names:
        raise SearchError(f"{path} has no network {objective_name!r}; it has {', '.join(names)}")
    luts = {table: read_lut(path / TABLES / f"{table}.csv") for table, _ in settings.objectives}
    search, folder = open_search(luts, settings, path, compute, Ranks())
    state = folder.load(SEARCH)
    assert state is not None  # its settings have just been read
    search.load_state(state)
    if search.position.epoch < settings.epochs:
        raise SearchError(
            f"the search in {path} has done {search.position.epoch} of {settings.epochs} epochs; continue it first, "
            "with the command that began it"
        )
    sampled = []
    for objective, (table, _) in zip(search.objectives, settings.objectives, strict=True):
        if objective_name in (None, objective.name):
            for rank, found in enumerate(derive(search, objective, count, f"sample {seed}"), start=1):
                name, about = f"{objective.name}-{rank}", describe(search, objective, [found])
                chosen = choose(settings.space, found.choices, name, provenance=about)
                predicted, file = predict(chosen, luts[table], table), output / f"{name}.json"
                chosen.model_copy(update={"predicted": predicted}).save(file)
                said = found.choices, found.accuracy_percent, found.loss, predicted.latency_us, about["skip_layers"]
                sampled.append(Sampled(str(file), objective.name, *said))
    return sampled
