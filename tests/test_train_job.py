"""From an architecture to a trained model file: fbsearch train, fbsearch eval, fbprof export, and the file run."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from fbbase.commandline import run
from fbprof.cli import fbprof
from fbsearch.cli import fbsearch
from fbspace.architecture import Architecture, load_architecture
from fbspace.space import load_space
from fbspace.weights import load_network

Array = NDArray[np.float32]


def run_onnx(file: Path, x: Array) -> Array:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(["output"], {"input": image[None]})[0] for image in x])


def run_tflite(file: Path, x: Array) -> Array:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(file), num_threads=1)
    interpreter.allocate_tensors()
    outputs = []
    for image in x:
        nhwc = np.ascontiguousarray(image.transpose(1, 2, 0)[None])
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], nhwc)
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))
    return np.concatenate(outputs)


def test_the_exported_files_are_as_right_as_eval_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from fbsearch.training.record import held_out

    space = load_space("fbnet-tiny")
    choices = tuple(next(iter(layer.candidates)) for layer in space.layers)
    Architecture(name="small", space="fbnet-tiny", choices=choices).save(tmp_path / "arch.json")
    folder = tmp_path / "out"
    recipe = ["--epochs", "4", "--batch", "32", "--ema", "0.8", "--label-smoothing", "0.1", "--limit", "400"]
    assert run(fbsearch, ["train", str(tmp_path / "arch.json"), "-o", str(folder), *recipe, "--threads", "1"]) == 0
    trained = [str(folder / "arch.json"), "--weights", str(folder / "weights.pt")]
    done = CliRunner().invoke(fbsearch, ["eval", *trained, "--limit", "60", "--json"], catch_exceptions=False)
    said = json.loads(done.stdout)
    assert said["images"] == 60
    assert said["top1_percent"] > 50

    architecture = load_architecture(trained[0])
    data, split = held_out(architecture, "digits", "test", 60)
    x, y = next(data.batches(split, 60))
    logits = load_network(architecture, folder / "weights.pt")(x).detach().numpy()
    for name, runs in (("onnx", run_onnx), ("tflite", run_tflite)):
        file = tmp_path / f"net.{name}"
        assert run(fbprof, ["export", *trained, "--format", name, "-o", str(file)]) == 0
        outputs = runs(file, x.numpy())
        np.testing.assert_allclose(outputs, logits, rtol=1e-3, atol=1e-3)
        assert 100 * np.mean(outputs.argmax(1) == y.numpy()) == pytest.approx(said["top1_percent"])
        log_p = outputs - np.log(np.exp(outputs.astype(np.float64)).sum(1, keepdims=True))
        assert -log_p[np.arange(60), y.numpy()].mean() == pytest.approx(said["cross_entropy"], rel=1e-3)
