"""A space of two layers and its table, small enough that a whole search takes a second."""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
import torch

from fblut.table import Lut, Metadata, Row
from fblut.writing import write_lut
from fbprof.plan.grid import grid_operators
from fbsearch.costs import COSTS
from fbsearch.fbnet.objective import Objective
from fbsearch.fbnet.search import Search
from fbsearch.fbnet.settings import Settings
from fbsearch.fbnet.supernet import SuperNet
from fbsearch.images.data import Data, load_data
from fbsearch.losses import LOSSES
from fbsearch.machine.checkpoint import RunFolder
from fbspace.network import count_spec
from fbspace.space import Space, load_space

MakeSearch = Callable[..., Search]
StopAt = Callable[[int], AbstractContextManager[list[int]]]

MICRO = """
description = "two layers of three candidates"
input = { channels = 3, size = 8 }
classes = 10
head_channels = [16, 8]
stem = [{ kind = "conv", channels = 8, kernel = 3, stride = 1 }]
stages = [{ channels = 8, repeats = 1, stride = 1 }, { channels = 12, repeats = 1, stride = 2 }]
[candidates]
k3_e1 = { kind = "ir", kernel = 3, expansion = 1 }
k5_e3 = { kind = "ir", kernel = 5, expansion = 3 }
skip = { kind = "skip" }
"""


MASKED = """
description = "two layers that decide on everything"
input = { channels = 3, size = [6, 8] }
classes = 10
head_channels = [16]
stem = [{ kind = "conv", channels = 8, kernel = 3, stride = 1 }]
expansions = [1, 2, 3]
stages = [{ channels = [4, 6, 8], repeats = 1, stride = 1 }, { channels = [8, 12, 16], repeats = 1, stride = 2 }]
[candidates]
k3 = { kind = "mbconv", kernel = 3 }
k5_se = { kind = "mbconv", kernel = 5, squeeze_excite = true, activation = "hswish" }
skip = { kind = "skip", activation = "none" }
"""


@pytest.fixture(scope="session")
def digits_npz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits as a file: processes that read it need not import scikit-learn, which takes them seconds."""
    from sklearn.datasets import load_digits  # where it is used, not in every worker

    digits = load_digits()
    pixels = np.repeat(digits.images[..., None] * 15, 3, axis=3).astype(np.uint8)
    file = tmp_path_factory.mktemp("digits") / "digits.npz"
    np.savez(file, x_train=pixels, y_train=digits.target)
    return file


def make_lut(space: Space) -> Lut:
    """A plausible table: so many µs to start an operator, and so many per multiply-accumulate."""
    rows = {spec.key(): Row(spec, 8 + 60e-6 * count_spec(spec).macs, samples=9) for spec in space.operators()}
    metadata = Metadata(
        space=space.name, device="made-up", runtime="litert", runtime_version="1", precision="float32", threads=1
    )
    return Lut(metadata, rows)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """On a busy machine two threads wait for each other after every one of these small operators."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_lut() -> Lut:
    return make_lut(load_space("fbnet-tiny"))


@pytest.fixture(scope="session")
def micro_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("space") / "micro.toml"
    path.write_text(MICRO)
    return path


@pytest.fixture(scope="session")
def masked_table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of a grid, so that half of the operators are interpolated."""
    folder = tmp_path_factory.mktemp("masked")
    (folder / "masked.toml").write_text(MASKED)
    name = str(folder / "masked.toml")
    operators = grid_operators(load_space(name), 2)
    rows = {spec.key(): Row(spec, 8 + 60e-5 * count_spec(spec).macs, samples=9) for spec in operators}
    metadata = Metadata(
        space=name,
        device="made-up",
        runtime="litert",
        runtime_version="1",
        precision="float32",
        threads=1,
        grid_points=2,
    )
    write_lut(Lut(metadata, rows), folder / "table.csv")
    return folder / "table.csv"


@pytest.fixture(scope="session")
def micro(micro_file: Path) -> Space:
    return load_space(str(micro_file))


@pytest.fixture(scope="session")
def micro_lut(micro: Space) -> Lut:
    return make_lut(micro)


@pytest.fixture(scope="session")
def micro_lut_file(micro_lut: Lut, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lut") / "micro.csv"
    write_lut(micro_lut, path)
    return path


def objective(space: Space, lut: Lut, settings: Settings, target: float | None) -> Objective:
    """The objective of a table and a target in µs."""
    cost = COSTS.load(settings.cost).build(space, lut)
    loss = LOSSES.load_with(settings.loss, settings.options)
    return Objective("made-up", cost, target, loss, space.skips, settings)


@pytest.fixture
def make(micro: Space, micro_lut: Lut, digits: Data) -> MakeSearch:
    """Makes a search of the micro space and its table under given settings, with a target in µs."""

    def search(settings: Settings, target: float | None = None) -> Search:
        net = SuperNet.of(micro, len(digits.classes), settings.seed, settings.w_start == "alike")
        return Search(net, [objective(micro, micro_lut, settings, target)], micro, digits, settings)

    return search


@pytest.fixture(scope="session")
def folder_of() -> Callable[[Path, Settings], RunFolder]:
    """Describes the folder of a search with these settings."""
    return lambda path, settings: RunFolder(path, settings.as_dict(), {"latency table made-up": "1"})


@pytest.fixture(scope="session")
def digits() -> Data:
    return load_data("digits", (1, 3, 8, 8), seed=0, limit=200)


@pytest.fixture
def stop_at(monkeypatch: pytest.MonkeyPatch) -> StopAt:
    """Lets searches be interrupted after so many steps, as by Ctrl-C, and lists the steps that were taken."""

    @contextlib.contextmanager
    def stopping(die_at: int) -> Iterator[list[int]]:
        steps: list[int] = []

        @contextlib.contextmanager
        def interrupt(terminate: bool = False, quiet: bool = False) -> Iterator[Callable[[], None]]:
            def check() -> None:
                steps.append(1)
                if len(steps) == die_at:
                    raise KeyboardInterrupt

            yield check

        with monkeypatch.context() as patched:
            patched.setattr("fbsearch.machine.loop.interrupt_between_steps", interrupt)
            yield steps

    return stopping
