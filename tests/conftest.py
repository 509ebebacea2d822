"""Fixtures that several packages' tests share: the folder of data, and model files of every format run in runtimes."""

import functools
import gc
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before onnxruntime is imported
# Workers share the cores, and threads of small operators mostly wait for each other: five times as long with two.
os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np
import pytest
import torch
from hypothesis import settings
from numpy.typing import NDArray
from torch import nn

from fbexport.runtimes import load_model, runtime_of
from peers.installed import need
from peers.processes import start_server

Array = NDArray[np.float32]

# The same examples on every machine: a test that passed here passes there.
settings.register_profile("fixed", derandomize=True, deadline=None, max_examples=60)
settings.register_profile("full", derandomize=True, deadline=None)
settings.load_profile("fixed")

# A shell that starts this in the background has Ctrl-C ignored, here and in every process the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

SHARED = Path(__file__).parents[2] / "shared"
LONGEST = (
    "fbagents/test_phone.py",
    "fbsearch/test_distributed.py",
    "fbagents/test_ssh_faults.py",
    "test_doc_commands.py",
    "fbagents/test_bundle.py",
    "fbprof/test_farm.py",
    "fbagents/test_bundle_push.py",
    "test_lean.py",
    "test_main_job.py",
    "fbsearch/test_two_hosts.py",
    "fbprof/test_report.py",
    "fbmodel/test_others.py",
    "fbagents/test_ssh.py",
    "fbagents/test_adb.py",
    "fbagents/test_native_agent.py",
    "fbspace/test_extend_block.py",
    "test_package.py",
    "test_site.py",
    "test_outside_package.py",
    "test_train_job.py",
)
"""Files to begin with where workers share the files (`--dist loadfile`), so that no worker ends with a long one."""


def pytest_configure(config: pytest.Config) -> None:
    """Start the server of processes, once for all workers; without a choice of tests, properties get all examples."""
    if not config.option.markexpr:
        settings.load_profile("full")
    if not hasattr(config, "workerinput"):
        folder = tempfile.TemporaryDirectory(prefix="fbnet-lab-tests-")
        server = start_server(Path(folder.name))

        def end() -> None:
            assert server.stdin is not None
            server.stdin.close()
            server.wait()
            folder.cleanup()

        config.add_cleanup(end)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Collect without looking for garbage: a worker keeps what it finds, and looked through all of it many times."""
    gc.disable()
    try:
        return (yield)  # type: ignore[return-value]
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first; the others keep their order."""
    places = {Path(__file__).parent / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how long `make` has taken until here, with lint and the tests before."""
    if began := os.environ.get("MAKE_BEGAN"):
        terminalreporter.write_line(f"make began {time.time() - float(began):.0f} s ago")


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Random numbers are the same in every run, also for a test that draws them without a seed of its own."""
    torch.manual_seed(0)
    np.random.seed(0)  # libraries draw from it
    random.seed(0)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of public data beside the checkout; tests that need it skip without it."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the data folder {SHARED}, which is not part of the project")
    return SHARED


@pytest.fixture(scope="session")
def run_model() -> Callable[[str, bytes, Array], Array]:
    """Run a model file of a format on one NCHW input in the format's first runtime."""

    def run(format_name: str, content: bytes, x: Array) -> Array:
        need(runtime_of(format_name))
        return load_model(content, runtime_of(format_name))(x)[0]

    return run


@pytest.fixture(scope="session")
def assert_equals_torch(
    run_model: Callable[[str, bytes, Array], Array],
) -> Callable[..., None]:
    """Assert that a model file computes what its module computes, within 1e-4 of the largest output."""

    @functools.lru_cache(maxsize=64)  # a module is compared in every format
    def fed(module: nn.Module, shape: tuple[int, int, int, int]) -> tuple[Array, Array]:
        x = torch.randn(shape, generator=torch.Generator().manual_seed(7))
        with torch.no_grad():
            return x.numpy(), module(x).numpy()

    def check(
        format_name: str,
        content: bytes,
        module: nn.Module,
        shape: tuple[int, int, int, int],
        may_vanish: bool = False,  # a single ReLU may leave nothing of a random input: then both must be zero
    ) -> None:
        x, expected = fed(module, shape)
        got = run_model(format_name, content, x)
        assert got.shape == expected.shape
        largest = np.abs(expected).max()
        assert largest > 0 or may_vanish
        assert np.abs(got - expected).max() <= 1e-4 * largest

    return check


@pytest.fixture(scope="session")
def benchmark_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program that times models for real and prints as Google's benchmark_model does, which is not available here."""
    source = Path(__file__).parent / "peers" / "benchmark_stand_in.py"
    program = tmp_path_factory.mktemp("binary") / "benchmark_model"
    program.write_text(f"#!{sys.executable}\n{source.read_text()}")
    program.chmod(0o755)
    return program


OWN_BLOCK = '''
from dataclasses import dataclass

from torch import nn

from fbbase.options import option
from fbspace.blocks import Block
from fbspace.layers import conv_bn


@dataclass(frozen=True)
class Own(Block):
    """A convolution, with a parameter of every type; it does not say how it starts."""

    dilation: int = option(1, "pixels between taps", least=1, most=4)
    ratio: float = option(1, "share of the channels", above=0)
    is_wide: bool = option(False, "whether it is wide")
    mode: str = option("mean", "how it pools", choices=("mean", "max"))

    def build(self, spec):
        return nn.Sequential(*conv_bn(spec.in_channels, spec.out_channels, 1, spec.stride))
'''


@pytest.fixture
def own_block(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a kind of block with parameters of its own, which an installed package adds."""
    site = tmp_path_factory.mktemp("site")
    (site / "own_block.py").write_text(OWN_BLOCK)
    (site / "own-1.0.dist-info").mkdir()
    (site / "own-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: own\nVersion: 1.0\n")
    (site / "own-1.0.dist-info" / "entry_points.txt").write_text("[fbspace.blocks]\nown = own_block\n")
    monkeypatch.syspath_prepend(site)
    return "own"
