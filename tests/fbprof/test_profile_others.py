"""Models that no one here wrote, profiled, and where their time goes held against the runtimes' own profilers."""

from pathlib import Path

import numpy as np
import pytest

from fbbase.commandline import run
from fbexport.export import export_network
from fblut.statistics import spearman
from fbmodel.model import open_model
from fbprof.cli import fbprof
from fbprof.models.result import Profiled, read_result
from fbspace.architecture import load_architecture
from peers.models import OTHERS, model_of_others
from peers.profilers import LiteRtProfiler, by_onnxruntime, paired

SAMPLE = ("silero-if", "face-front")
"""One of each format that is seen into in `make test`; all of them are in `make test-full`."""


def profile(name: str, folder: Path, *options: str) -> Profiled:
    """Profile one of the models at its shapes; it gets numbers that it takes."""
    other = OTHERS[name]
    path = model_of_others(other.file)
    shapes = [f"{each}={'x'.join(map(str, shape))}" for each, shape in other.shapes.items()]
    is_silent = open_model(path).format == "torchscript"  # of types and shapes
    shapes += [f"{each}=scalar{':int64' * is_silent}" for each in other.numbers]
    arguments = [argument for shape in shapes for argument in ("--shape", shape)]
    if other.numbers:
        random = np.random.default_rng(0)
        values = {each: random.normal(size=shape).astype("float32") for each, shape in other.shapes.items()}
        np.savez(folder / "values.npz", **values, **{each: np.array(n) for each, n in other.numbers.items()})
        arguments += ["--inputs", str(folder / "values.npz")]
    quick = ["--rounds", "4", "--runs", "2", "-o", str(folder / "result.json")]
    assert run(fbprof, ["profile", str(path), *arguments, *quick, *options]) == 0
    (found,) = read_result(folder / "result.json").models
    return found


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in SAMPLE else pytest.mark.full) for n in OTHERS])
def test_a_model_of_others_is_profiled_and_seen_into(name: str, tmp_path: Path) -> None:
    is_cut = model_of_others(OTHERS[name].file).suffix != ".jit"
    found = profile(name, tmp_path, *["--layers"] * is_cut)
    assert found.latency_us
    assert found.parameters
    if is_cut:
        assert len(found.layers) > 1
        assert sum(each.latency_us or 0 for each in found.layers) == pytest.approx(found.latency_us)
        shapes = OTHERS[name].shapes | dict.fromkeys(OTHERS[name].numbers, ())
        fixed = open_model(model_of_others(OTHERS[name].file)).with_shapes(shapes)
        assert sum(each.nodes for each in found.layers) == len(fixed.nodes())


@pytest.mark.parametrize("format_name", ["onnx", pytest.param("tflite", marks=pytest.mark.full)])
def test_the_dear_layers_are_those_that_the_runtimes_profiler_finds(format_name: str, tmp_path: Path) -> None:
    path = tmp_path / f"network.{format_name}"
    path.write_bytes(export_network(load_architecture("fbnet-96-0.35-1"), format_name))
    arguments = ["profile", str(path), "--layers", "--rounds", "20", "-o", str(tmp_path / "result.json")]
    assert run(fbprof, arguments) == 0
    (model,) = read_result(tmp_path / "result.json").models
    pairs = paired(path, model, by_onnxruntime(path, 50) if format_name == "onnx" else LiteRtProfiler(path).kernels(50))
    assert len(pairs) >= 0.8 * len(model.layers)
    assert (spearman([layer.latency_us or 0 for layer, _ in pairs], [us for _, us in pairs]) or 0) > 0.7
