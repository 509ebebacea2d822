"""What `fbsearch train` does with its folder: train or go on, then write the weights and how they came about."""

import dataclasses
from pathlib import Path

from torch import Tensor, nn

from fbexport.quantization.fake import FakeQuantized, fold_into
from fbexport.quantization.files import RANGES, write_ranges
from fbsearch.errors import Interrupted, SearchError
from fbsearch.images.data import load_data
from fbsearch.machine.checkpoint import SEARCH, TRAIN, RunFolder, hash_of, owned
from fbsearch.machine.compute import Compute
from fbsearch.training.quantized import CALIBRATION_IMAGES, CALIBRATION_METHOD, to_fine_tune
from fbsearch.training.recipe import Recipe
from fbsearch.training.record import TrainingRecord, check_classes
from fbsearch.training.train import Training, train
from fbspace.architecture import Architecture
from fbspace.weights import load_network, save_weights

CLASSIFIER = (".fc.weight", ".fc.bias")


def train_network(
    architecture: Architecture,
    data_name: str,
    recipe: Recipe,
    path: Path,
    compute: Compute,
    init: Path | None = None,
    fresh: bool = False,
    precision: str = "float32",
) -> tuple[Architecture, Training]:
    """Train or go on in the folder `path`; returns the architecture as written to arch.json, and the training.

    `init` is a file of weights to begin with; its classifier is left out where it has another number of classes. In
    `precision` int8 these are fine-tuned to the rounding of an int8 model, whose ranges are written beside the weights.
    Raises SearchError for a folder of another training or of a search, or that another process writes, DataError,
    DivergedError, and Interrupted on Ctrl-C or Terminated on SIGTERM, with a checkpoint.
    """
    if path.exists() and not path.is_dir():
        raise SearchError(f"{path} is a file; -o names a folder")
    if init is not None and (path / "weights.pt").exists() and init.exists() and init.samefile(path / "weights.pt"):
        raise SearchError(f"--init {init} lies in the folder -o, whose weights are overwritten; choose another with -o")
    space = architecture.load_space()
    data = load_data(data_name, space.input_shape, recipe.seed, recipe.limit, device=compute.device)
    initial: dict[str, Tensor] | None = None
    network: nn.Module | None = None
    if precision == "int8":
        if init is None:
            raise SearchError("--precision int8 fine-tunes a trained network: name its weights with --init")
        whole = load_network(architecture, init, space)
        check_classes(whole, data)
        network = to_fine_tune(whole, data, recipe.seed)
    elif init is not None:
        state, classes = load_network(architecture, init).state_dict(), len(data.classes)
        initial = {name: x for name, x in state.items() if not name.endswith(CLASSIFIER) or len(x) == classes}
    inputs = {
        "network": hash_of(repr(architecture.all_specs(space))),
        "images": data.fingerprint,
        "precision": precision,
        "initial weights": "" if init is None else hash_of(init.read_bytes()),
    }
    with owned(path):
        if (path / SEARCH).exists():
            raise SearchError(
                f"{path} holds a search, whose weights a training would overwrite; choose another with -o"
            )
        folder = RunFolder(path, dataclasses.asdict(recipe), inputs)
        if fresh:
            folder.clear((TRAIN, "weights.pt", "metrics.jsonl", RANGES))
        try:
            trained = train(architecture, space, data, recipe, folder, compute, initial, network=network)
        except KeyboardInterrupt:
            raise Interrupted(f"interrupted; the same command continues from the last checkpoint in {path}") from None
        result = trained.network
        if isinstance(result, FakeQuantized):
            network = load_network(architecture, init, space)
            fold_into(network, result.trained())
            save_weights(network, path / "weights.pt")
            write_ranges(path / RANGES, result.ranges, CALIBRATION_METHOD, CALIBRATION_IMAGES, path / "weights.pt")
        else:
            save_weights(result, path / "weights.pt")
        record = TrainingRecord.of(data, recipe, trained).model_dump(mode="json")
        written = architecture.model_copy(update={"provenance": architecture.provenance | {"training": record}})
        written.save(path / "arch.json")
        return written, trained
