"""From latency tables to architecture files: check, search, derive, train, write."""

import contextlib
import dataclasses
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fbbase import __version__
from fbbase.files import write_text
from fblut.check import space_name
from fblut.table import Lut
from fblut.writing import format_lut
from fbsearch.beyond.chain import expected_cost
from fbsearch.beyond.combined import load_cost
from fbsearch.errors import Interrupted, SearchError
from fbsearch.fbnet.derive import Candidate, derive
from fbsearch.fbnet.objective import Objective
from fbsearch.fbnet.search import Search
from fbsearch.fbnet.settings import Settings
from fbsearch.fbnet.supernet import SuperNet
from fbsearch.fbnetv2.supernet import MaskedNet
from fbsearch.images.data import Data, load_data
from fbsearch.images.split import Shares
from fbsearch.jobs.own_options import recorded
from fbsearch.jobs.targets import Goal, goals_of
from fbsearch.losses import LOSSES
from fbsearch.machine.checkpoint import FILES, SEARCH, TRAIN, RunFolder, hash_of, owned
from fbsearch.machine.compute import Compute
from fbsearch.machine.ranks import Ranks
from fbsearch.strategies import STRATEGIES
from fbsearch.training.evaluate import evaluate
from fbsearch.training.recipe import Recipe
from fbsearch.training.record import TrainingRecord
from fbsearch.training.train import train
from fbspace.architecture import Architecture, Predicted, choose, load_architecture
from fbspace.space import Space, load_space
from fbspace.weights import save_weights

TABLES = "tables"
"""Where a run folder keeps the tables it was made with."""


@dataclass(frozen=True, slots=True)
class Found:
    """The architecture found for a goal, and its file."""

    goal: Goal
    architecture: Architecture
    path: Path


def run_search(
    luts: Mapping[str, Lut],
    settings: Settings,
    path: Path,
    fresh: bool = False,
    compute: Compute | None = None,
    ranks: Ranks | None = None,
    combine_precisions: bool = False,
) -> list[Found]:
    """Run or continue the search in the folder `path`; a finished one is only read. Returns one network an objective.

    The folder is the first rank's; the others read and write no files, and return no networks. `luts` are the tables by
    name, as the settings' objectives name them; of another precision only where `combine_precisions` says that this is
    meant. Raises SearchError for tables of another space, a folder of another search or that another process writes, or
    a target out of reach, LutError for a table that lacks operators, DataError, and Interrupted on Ctrl-C.
    """
    ranks = ranks or Ranks()
    with ranks.together():
        paths = arch_paths(settings, path)
        if ranks.is_first and path.exists() and not path.is_dir():
            raise SearchError(f"{path} is a file; -o names a folder")
        check_tables(luts, load_space(settings.space), combine_precisions)
        search, folder = open_search(luts, settings, path, compute, ranks)
    check_alike(folder, ranks)

    def prepare() -> bool:
        """Return whether the folder, now ours, holds a finished search; make it ready for this one if not."""
        stack.enter_context(owned(path))
        if fresh:
            clear(folder)
        if folder.load(SEARCH) is not None and all(each.exists() for each in paths.values()):
            return True
        for name, lut in luts.items():
            write_text(path / TABLES / f"{name}.csv", format_lut(lut))
        return False

    try:
        with contextlib.ExitStack() as stack:
            if not ranks.from_first(prepare):
                search.run(folder)
                with ranks.together():
                    for objective, (table, _) in zip(search.objectives, settings.objectives, strict=True):
                        if ranks.is_first:
                            _conclude(search, objective, table, luts[table], paths[objective.name], folder)
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted; the same command continues where {path} was saved last") from None
    if not ranks.is_first:
        return []
    return [Found(goal, load_architecture(str(paths[goal.name])), paths[goal.name]) for goal in goals_of(settings)]


def open_search(
    luts: Mapping[str, Lut], settings: Settings, path: Path, compute: Compute | None, ranks: Ranks
) -> tuple[Search, RunFolder]:
    """Return the search of these settings, at its start, and its folder."""
    compute, space, record = compute or Compute(), load_space(settings.space), recorded(settings)
    loss, cost = LOSSES.load_with(settings.loss, settings.options), load_cost(settings.cost, settings.options)
    objectives = []
    for goal in goals_of(settings):
        if loss.needs_target and goal.target is None:
            option = cost.target_option
            raise SearchError(f"--loss {settings.loss} needs a target: give {option}, or choose another --loss")
        expected = expected_cost(cost, space, luts[goal.table])
        target = goal.target.in_unit_of(expected, goal.table) if goal.target is not None else None
        objectives.append(Objective(goal.name, expected, target, loss, space.skips, settings))
    if compute.compile and (STRATEGIES.find(settings.strategy).one_path or ranks.world > 1):
        why = "many processes" if ranks.world > 1 else f"--strategy {settings.strategy}"
        raise SearchError(
            f"--compile does not go with {why}: it compiles a supernet that runs all candidates in every step, in one "
            "process; leave it away"
        )
    data = data_of(settings, space, compute)
    make = MaskedNet if space.is_masked else SuperNet
    net = make.of(space, len(data.classes), settings.seed, settings.w_start == "alike")
    inputs = {f"latency table {name}": hash_of(format_lut(lut)) for name, lut in luts.items()}
    inputs["search space"] = hash_of(repr((space.stem, space.layers, space.heads, space.sizes)))
    inputs["images"] = data.fingerprint
    folder = RunFolder(path, record, inputs)
    return Search(net, objectives, space, data, settings, compute, ranks), folder


def data_of(settings: Settings, space: Space, compute: Compute) -> Data:
    """Return the images of a search, of the size that the networks of a space take."""
    shares = Shares(settings.w_share, settings.validation_share)
    return load_data(
        settings.data, space.input_shape, settings.seed, settings.limit, device=compute.device, shares=shares
    )


def arch_paths(settings: Settings, path: Path) -> dict[str, Path]:
    """Return where each objective's architecture is written."""
    names = [goal.name for goal in goals_of(settings)]
    return {name: path / ("arch.json" if len(names) == 1 else f"arch-{name}.json") for name in names}


def clear(folder: RunFolder) -> None:
    """Remove what an earlier search left in the folder, and nothing else."""
    left = [*folder.path.glob("arch-*.json"), *(folder.path / TABLES).glob("*.csv")]
    folder.clear([*FILES, *(str(each.relative_to(folder.path)) for each in left)])
    for home in folder.path.glob("*"):
        if (home / TRAIN).exists():
            dataclasses.replace(folder, path=home).clear()


def check_tables(luts: Mapping[str, Lut], space: Space, combine_precisions: bool = False) -> None:
    """Refuse tables that cannot be searched under together, of another space, or without operators of the space."""
    first, *others = luts.items()
    for name, lut in others:
        for what in ("space",) if combine_precisions else ("space", "precision"):
            one, other = getattr(first[1].metadata, what), getattr(lut.metadata, what)
            if one != other:
                meant = "; or give --combine-precisions, if each is to have its network" if what == "precision" else ""
                raise SearchError(
                    f"the tables {first[0]} and {name} have another {what} ({one!r} and {other!r}); one search takes "
                    f"tables of the same {what}, so run one for each{meant}"
                )
    # Of several head widths only the default one is searched, so only that is needed.
    specs = dataclasses.replace(space, heads={space.head_channels: space.heads[space.head_channels]}).operators()
    for lut in luts.values():
        if space_name(lut.metadata) != space.name:
            raise SearchError(
                f"the table was measured for space {lut.metadata.space!r}, not {space.name!r}; measure that one "
                f"(fbprof measure --space {space.name}) or leave --space away"
            )
        lut.require(specs, f"space {space.name}")


def check_alike(folder: RunFolder, ranks: Ranks) -> None:
    """Refuse processes that were given another command, other tables or other images than the first."""
    mine = folder.settings | folder.inputs
    firsts = ranks.from_first(lambda: mine)
    with ranks.together():
        other = [name for name in mine if mine[name] != firsts.get(name)]
        if other:
            raise SearchError(
                f"rank {ranks.rank} on {socket.gethostname()} has another {', another '.join(other)} than rank 0; "
                "give every host the same command, tables and images"
            )


def _conclude(search: Search, objective: Objective, table: str, lut: Lut, path: Path, folder: RunFolder) -> None:
    """Derive an objective's network, and train it if that was asked for; its file is written last."""
    if path.exists():
        return
    settings, suffix = search.settings, path.stem.removeprefix("arch")
    ranked = derive(search, objective, settings.samples + 1)
    chosen = choose(settings.space, ranked[0].choices, path.parent.resolve().name + suffix)
    provenance = describe(search, objective, ranked)
    if settings.train_epochs:
        home = folder if not suffix else dataclasses.replace(folder, path=folder.path / objective.name)
        recipe = final_recipe(settings)
        space, data = chosen.load_space(), search.data
        if space.input_shape != data.input_shape:  # the size was searched too
            data = data_of(settings, space, search.compute)
        trained = train(chosen, space, data, recipe, home, search.compute, lr_option="--train-lr")
        save_weights(trained.network, home.path / "weights.pt")
        tested = evaluate(trained.network, data, data.test, settings.batch, search.compute)
        provenance["training"] = TrainingRecord.of(data, recipe, trained).model_dump(mode="json")
        provenance["test_accuracy_percent"] = round(tested.top1_percent, 3)
    predicted = predict(chosen, lut, table)
    chosen.model_copy(update={"predicted": predicted, "provenance": provenance}).save(path)


def final_recipe(settings: Settings) -> Recipe:
    """Return how a network that was found is trained."""
    same = {name: getattr(settings, name) for name in ("batch", "momentum", "augment", "seed", "limit", "steps")}
    own = {name: getattr(settings, f"train_{name}") for name in ("epochs", "lr", "weight_decay")}
    return Recipe(**same, **own)


def predict(architecture: Architecture, lut: Lut, table: str) -> Predicted:
    """Return what a table says of a network's latency."""
    prediction, about = dataclasses.asdict(lut.predict(architecture.specs())), lut.metadata
    return Predicted(**prediction, lut=table, device=about.device, runtime=about.runtime)


def describe(search: Search, objective: Objective, ranked: list[Candidate]) -> dict[str, Any]:
    """Return where a network came from: settings, data, and the networks it was chosen from."""
    best, data, space = ranked[0], search.data, search.space
    decided = zip(space.decisions, space.skips, best.choices, strict=True)
    skips = sum(marks[decision.options.index(choice)] for decision, marks, choice in decided)
    target_ms = None if objective.target is None or objective.cost.unit != "µs" else objective.target / 1000
    return {
        "tool": f"fbnet-lab {__version__} fbsearch",
        "objective": objective.name,
        "settings": recorded(search.settings) | {"target_ms": target_ms},
        "target": None if objective.target is None else [objective.target, objective.cost.unit],
        "data_fingerprint": data.fingerprint,
        "classes": list(data.classes),
        "w_images": len(data.w),
        "theta_images": len(data.theta),
        "validation_images": len(data.validation),
        "test_images": len(data.test),
        "skip_layers": skips,
        "validation_accuracy_percent": round(best.accuracy_percent, 3),
        "candidates": [dataclasses.asdict(candidate) for candidate in ranked],
    }


def cross_table(found: list[Found], luts: Mapping[str, Lut]) -> dict[str, dict[str, float]]:
    """Return the predicted latency in µs of every network found on every device: network → table → µs."""
    networks = {each.goal.name: each.architecture.specs() for each in found}
    return {name: {table: lut.predict_us(specs) for table, lut in luts.items()} for name, specs in networks.items()}
