"""From a latency table to an architecture file: check, search, derive, train, write."""

import dataclasses
from pathlib import Path

from fbbase import __version__
from fblut.check import space_name
from fblut.table import Lut
from fblut.writing import format_lut
from fbsearch.checkpoint import SEARCH, RunFolder, hash_text
from fbsearch.costs import AdditiveCost, Cost, build_cost
from fbsearch.data import Data, load_data
from fbsearch.derive import Candidate, derive
from fbsearch.errors import Interrupted, SearchError
from fbsearch.evaluate import Evaluation, evaluate
from fbsearch.recipe import Recipe
from fbsearch.record import TrainingRecord
from fbsearch.search import Search
from fbsearch.select import reachable
from fbsearch.settings import TARGET_SHARE, Settings
from fbsearch.train import train
from fbspace.architecture import Architecture, Predicted, load_architecture
from fbspace.space import Space, load_space
from fbspace.weights import save_weights


def run_search(lut: Lut, lut_name: str, settings: Settings, path: Path, fresh: bool) -> tuple[Architecture, Space]:
    """Run or continue the search in the folder `path`; a finished one is only read. Returns what arch.json says.

    Raises SearchError for a table of another space, a folder of another search or a target out of reach, LutError for
    a table that lacks operators, DataError, and Interrupted on Ctrl-C.
    """
    space = load_space(settings.space)
    check_table(lut, space)
    if settings.target_ms is not None:
        check_target(settings.target_us, build_cost(settings.cost, space, lut))
    if path.exists() and not path.is_dir():
        raise SearchError(f"{path} is a file; -o names a folder")
    data = load_data(settings.data, space.input_shape, settings.seed, settings.limit)
    folder = search_folder(path, settings, space, lut, data)
    if fresh:
        folder.clear()
    finished = folder.load(SEARCH) is not None and (path / "arch.json").exists()
    try:
        if not finished:
            _search(space, lut, lut_name, data, settings, folder)
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted; the same command continues from the last epoch saved in {path}") from None
    return load_architecture(str(path / "arch.json")), space


def search_folder(path: Path, settings: Settings, space: Space, lut: Lut, data: Data) -> RunFolder:
    """Describe the folder of a search with these settings and inputs."""
    inputs = {
        "latency table": hash_text(format_lut(lut)),
        "search space": hash_text(repr((space.stem, space.layers, space.heads))),
        "images": data.fingerprint,
    }
    return RunFolder(path, dataclasses.asdict(settings), inputs)


def check_table(lut: Lut, space: Space) -> None:
    """Refuse a table of another space, or one that lacks operators, listing all of them.

    Of several head widths only the default one is searched, so only that is needed.
    """
    if space_name(lut.metadata) != space.name:
        raise SearchError(
            f"the table was measured for space {lut.metadata.space!r}, not {space.name!r}; measure that one "
            f"(fbprof measure --space {space.name}) or leave --space away"
        )
    specs = [*space.stem, *space.heads[space.head_channels]]
    specs += [spec for layer in space.layers for spec in layer.candidates.values()]
    lut.require(specs, f"space {space.name}")


def check_target(target_us: float, cost: Cost) -> None:
    """Refuse a target that no network of the space comes near, with the range that is reachable."""
    if not isinstance(cost, AdditiveCost) or cost.unit != "µs":
        raise SearchError(
            f"--target-ms is a latency, but the cost is in {cost.unit}; leave one of the two options away"
        )
    least, greatest = reachable(cost)
    if not least <= target_us <= greatest / TARGET_SHARE:
        what = "no network is as fast" if target_us < least else "no network is as slow"
        raise SearchError(
            f"--target-ms {target_us / 1000:g} is out of reach: {what}. By the table, networks of this space take "
            f"{least / 1000:.4g} to {greatest / 1000:.4g} ms; choose a target in between"
        )


def _search(space: Space, lut: Lut, lut_name: str, data: Data, settings: Settings, folder: RunFolder) -> None:
    """Search, derive and train; arch.json is written last, and says that the run is complete."""
    search = Search(space, build_cost(settings.cost, space, lut), data, settings)
    search.run(folder)
    ranked = derive(search)
    chosen = Architecture(name=folder.path.resolve().name, space=settings.space, choices=ranked[0].choices)
    recipe = _final_recipe(settings)
    trained = train(chosen, space, data, recipe, folder, lr_option="--train-lr")
    tested = evaluate(trained.network, data, data.test, settings.batch)
    save_weights(trained.network, folder.path / "weights.pt")
    prediction = lut.predict(chosen.specs(space))
    predicted = Predicted(
        latency_us=prediction.latency_us,
        ci_low_us=prediction.ci_low_us,
        ci_high_us=prediction.ci_high_us,
        lut=lut_name,
        device=lut.metadata.device,
        runtime=lut.metadata.runtime,
    )
    provenance = _provenance(space, data, settings, ranked, tested)
    provenance["training"] = TrainingRecord.of(data, recipe, trained).model_dump(mode="json")
    chosen.model_copy(update={"predicted": predicted, "provenance": provenance}).save(folder.path / "arch.json")


def _final_recipe(settings: Settings) -> Recipe:
    """Return how the network that was found is trained."""
    return Recipe(
        epochs=settings.train_epochs,
        batch=settings.batch,
        lr=settings.train_lr,
        momentum=settings.momentum,
        weight_decay=settings.train_weight_decay,
        seed=settings.seed,
        limit=settings.limit,
        steps=settings.steps,
    )


def _provenance(
    space: Space, data: Data, settings: Settings, ranked: list[Candidate], tested: Evaluation
) -> dict[str, object]:
    best = ranked[0]
    skips = sum(layer.candidates[name].kind == "skip" for layer, name in zip(space.layers, best.choices, strict=True))
    return {
        "tool": f"fbnet-lab {__version__} fbsearch",
        "settings": dataclasses.asdict(settings),
        "data_fingerprint": data.fingerprint,
        "classes": list(data.classes),
        "w_images": len(data.w),
        "theta_images": len(data.theta),
        "validation_images": len(data.validation),
        "test_images": len(data.test),
        "skip_layers": skips,
        "theta_accuracy_percent": round(best.accuracy_percent, 3),
        "test_accuracy_percent": round(tested.top1_percent, 3),
        "candidates": [dataclasses.asdict(candidate) for candidate in ranked],
    }
