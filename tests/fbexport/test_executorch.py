"""ExecuTorch: its runtime here, and its own exporter's files beside ours."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from fbexport.errors import ExportError
from fbexport.export import export_spec
from fbexport.runtimes import fallbacks, load_model
from fbspace.blocks import build_block
from fbspace.opspec import OpSpec
from fbspace.weights import randomize
from peers.installed import RUNTIMES_HERE

pytestmark = pytest.mark.skipif("executorch" not in RUNTIMES_HERE, reason="needs the runtime executorch")
EVERYTHING = OpSpec("ir", 24, 24, 9, 9, kernel=5, expansion=3, groups=2, activation="hswish", squeeze_excite=True)
QUIET = """
import os, sys, numpy
from fbexport.runtimes import load_model
run = load_model(open(sys.argv[1], "rb").read(), "executorch", int(sys.argv[2]))
shape = run(numpy.zeros((1, 24, 9, 9), "float32"))[0].shape
print(shape, "torch" in sys.modules, len(os.listdir("/proc/self/task")))
"""


def image(spec=EVERYTHING):
    return torch.randn(spec.input_shape, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_all_of_ours_is_delegated(precision):
    assert fallbacks(export_spec(EVERYTHING, "pte", precision), "executorch", precision) == []


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_it_has_the_threads_asked_for_is_silent_and_needs_no_torch(tmp_path, threads):
    path = tmp_path / "model.pte"
    path.write_bytes(export_spec(EVERYTHING, "pte"))
    argv = [sys.executable, "-c", QUIET, str(path), str(threads)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == (f"(1, 24, 9, 9) False {threads}\n", "")


def test_models_of_several_numbers_of_threads_run_in_turn():
    module, x = randomize(build_block(EVERYTHING), 0), image()
    with torch.no_grad():
        expected = module(x).numpy()
    content = export_spec(EVERYTHING, "pte")
    runs = [load_model(content, "executorch", threads) for threads in (1, 2, 2, 1)]
    for run in runs * 3:
        (got,) = run(x.numpy())
        assert np.abs(got - expected).max() <= 1e-5 * np.abs(expected).max()
    with pytest.raises(ExportError, match="models of another number of threads are loaded"):
        load_model(content, "executorch", 3)
    del runs, run
    assert load_model(content, "executorch", 3)(x.numpy())[0].shape == expected.shape


@pytest.mark.parametrize("content", [b"", b"no model at all", b"\x30\0\0\0ET12" + bytes(100)])
def test_what_is_no_program_is_refused_in_words(content):
    with pytest.raises(ExportError, match=r"^runtime executorch refuses the model: \w"):
        load_model(content, "executorch")


def test_a_program_that_is_cut_short_is_refused():
    content = export_spec(EVERYTHING, "pte")
    with pytest.raises(ExportError, match="runtime executorch refuses the model: "):
        load_model(content[: len(content) // 2], "executorch")


def test_no_compiler_is_told(tmp_path):
    path = tmp_path / "model.pte"
    path.write_bytes(export_spec(EVERYTHING, "pte"))
    environment = {name: value for name, value in os.environ.items() if name != "CXX"} | {"PATH": str(tmp_path)}
    argv = [sys.executable, "-c", QUIET, str(path), "1"]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=120)
    assert "ExportError: runtime executorch refuses the model: " in done.stderr
    assert "no compiler is found: apt install g++, or set CXX" in done.stderr


@pytest.mark.full  # importing the exporter and its first export take seconds
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("is_channels_last", [True, False])
def test_ours_equals_the_official_exporters(is_channels_last):
    partitioner = pytest.importorskip("executorch.backends.xnnpack.partition.xnnpack_partitioner", exc_type=ImportError)
    from executorch.exir import to_edge_transform_and_lower

    module, x = randomize(build_block(EVERYTHING), 0), image()
    example = x.to(memory_format=torch.channels_last) if is_channels_last else x
    lowered = to_edge_transform_and_lower(
        torch.export.export(module, (example,)), partitioner=[partitioner.XnnpackPartitioner()]
    )
    official = lowered.to_executorch().buffer
    (theirs,) = load_model(official, "executorch")(x.numpy())
    (ours,) = load_model(export_spec(EVERYTHING, "pte"), "executorch")(x.numpy())
    assert np.abs(ours - theirs).max() <= 1e-5 * np.abs(theirs).max()
    assert fallbacks(official, "executorch", "float32") == ["dim_order_ops::_to_dim_order_copy.out not delegated"]
