"""Networks that we export, where every number is known: counts, groups of kernels, parts in every precision."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from fbexport.export import export_network
from fbmodel.errors import ModelError
from fbmodel.model import open_model
from fbmodel.parts import separable
from fbspace.architecture import load_architecture
from fbspace.network import count_architecture
from peers.running import RUN, chained, numbers_for

PRECISIONS = [("tflite", "float32"), ("tflite", "float16"), ("tflite", "int8"), ("onnx", "float32"), ("onnx", "int8")]
MACS = 16 * 16 * (8 * 3 * 9 + 8 * 25 + 8 * 4) + 8 * 10
PARAMETERS = (8 * 3 * 9 + 8) + (8 * 25 + 8) + (8 * 4 + 8) + (80 + 10)
"""Of the small network of conftest.py, normalisation folded."""


@pytest.mark.parametrize(("format_name", "precision"), [*PRECISIONS, ("torchscript", "float32")])
def test_what_is_said_of_a_small_network(small: Callable[..., Path], format_name: str, precision: str) -> None:
    model = open_model(small(format_name, precision))
    assert (model.format, model.parameters) == (format_name, PARAMETERS)
    assert model.macs == (None if format_name == "torchscript" else MACS)
    assert [len(model.inputs), len(model.outputs)] == [1, 1]
    assert sorted(model.inputs[0].shape or ()) == [1, 3, 32, 32]


def test_a_torchscript_file_is_run_at_the_shape_that_it_was_exported_for(small: Callable[..., Path]) -> None:
    """Its reshapes have sizes in them."""
    with pytest.raises(ModelError, match=r"input 'x': dimension 2 is fixed at 32 in the file and is asked to be 48"):
        open_model(small("torchscript")).with_shapes({"x": (1, 3, 48, 48)})


@pytest.mark.parametrize("text", ["", "1x3", "0x3", "1x3x", "x", "1x-3", "9" * 4000])
def test_a_shape_that_others_wrote_into_an_archive_is_read_or_left_alone(text: str, tmp_path: Path) -> None:
    script, path = torch.jit.trace(torch.relu, torch.zeros(1, 3)), tmp_path / "model.pt"
    torch.jit.save(script, str(path), _extra_files={"input_shape": text})
    assert open_model(path).inputs[0].shape == ((1, 3) if text == "1x3" else None)


@pytest.mark.parametrize(("format_name", "precision"), PRECISIONS)
def test_the_parts_compute_what_the_whole_does(small: Callable[..., Path], format_name: str, precision: str) -> None:
    model = open_model(small(format_name, precision))
    given = numbers_for(model)
    whole = RUN[format_name](model.content, given)
    one_by_one = [range(number, number + 1) for number in range(len(model.nodes()))]
    apart = (format_name, precision) == ("onnx", "int8")  # a convolution apart from its rounding runs in float32
    for groups in (separable(model), separable(model) if apart else one_by_one):
        found = chained(model, given, groups)
        for name, expected in whole.items():
            if precision == "int8":
                assert np.abs(found[name].astype(int) - expected.astype(int)).max() <= 1
            else:
                np.testing.assert_allclose(found[name], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "format_name", "precision"),
    [
        ("fbnet-a", "onnx", "float32"),
        ("fbnetv2-f1", "tflite", "int8"),
        ("mobilenetv2", "tflite", "float16"),
        ("mobilenetv3-large", "tflite", "float32"),
        ("mobilenetv3-small", "onnx", "int8"),
    ],
)
def test_published_networks_have_the_multiply_accumulates_that_the_space_counts(
    name: str, format_name: str, precision: str, tmp_path: Path
) -> None:
    architecture = load_architecture(name)
    path = tmp_path / f"network.{format_name}"
    path.write_bytes(export_network(architecture, format_name, precision))
    assert open_model(path).macs == count_architecture(architecture).macs


def test_what_ends_a_convolution_belongs_to_it(small: Callable[..., Path]) -> None:
    model = open_model(small("onnx"))
    kinds = [[model.nodes()[number].kind for number in group] for group in separable(model)]
    assert kinds == [
        ["Conv", "HardSwish"],
        ["Conv", "Clip"],
        ["Conv"],  # the sum reads the stem's output, too
        ["Add"],
        ["ReduceMean"],
        ["Gemm"],
    ]


def test_what_xnnpack_runs_as_one_belongs_together(small: Callable[..., Path]) -> None:
    model = open_model(small("tflite"))
    kinds = [[model.nodes()[number].kind for number in group] for group in separable(model)]
    assert kinds == [
        ["PAD", "CONV_2D"],
        ["HARD_SWISH"],
        ["DEPTHWISE_CONV_2D"],  # its activation is an option of the operator
        ["CONV_2D"],
        ["ADD"],
        ["MEAN"],
        ["FULLY_CONNECTED"],
    ]


def test_integers_are_widened_by_what_reads_them_and_rounded_by_what_made_them(small: Callable[..., Path]) -> None:
    model = open_model(small("onnx", "int8"))
    nodes = model.nodes()
    assert "DequantizeLinear" not in [node.kind for node in nodes]
    groups = separable(model)
    assert {nodes[group[-1]].kind for group in groups} == {"QuantizeLinear", "Reshape"}  # which moves integers
    parts = [type(model)(model.path, model.part(group[0], group[-1])) for group in groups]
    assert {tensor.element for part in parts for tensor in (*part.inputs, *part.outputs)} == {"uint8"}


def test_half_precision_weights_go_along_and_are_no_nodes(small: Callable[..., Path]) -> None:
    model = open_model(small("tflite", "float16"))
    assert [node.kind for node in model.nodes()] == [
        node.kind for node in open_model(small("tflite")).nodes() if node.kind != "DEQUANTIZE"
    ]


@pytest.mark.parametrize("size", [16, 48])
def test_a_tflite_file_takes_another_size(small: Callable[..., Path], size: int) -> None:
    model = open_model(small("tflite")).with_shapes({"input": (2, size, size, 3)})
    assert model.outputs[0].shape == (2, 10)
    assert model.macs == 2 * ((MACS - 80) * size * size // (32 * 32) + 80)
    assert model.nodes()[1].output_shape == (2, size // 2, size // 2, 8)  # behind the padding


def test_torch_is_only_for_files_of_its_own(small: Callable[..., Path]) -> None:
    code = (
        "import sys; from pathlib import Path; from fbmodel.model import open_model\n"
        "from fbmodel.parts import separable\n"
        "for path in sys.argv[1:]: separable(open_model(Path(path)))\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, small("onnx"), small("tflite")], check=True, timeout=120)


@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize(
    ("format_name", "words"), [("pte", "an ExecuTorch program"), ("ncnn", "an ncnn model")], ids=["pte", "ncnn"]
)
def test_what_is_not_listed_says_what_goes_in_and_comes_out(
    small: Callable[..., Path], precision: str, format_name: str, words: str
) -> None:
    model = open_model(small(format_name, precision))
    assert [(each.name, each.shape, each.element) for each in model.inputs] == [("input", (1, 3, 32, 32), "float32")]
    assert [(each.name, each.shape, each.element) for each in model.outputs] == [("output", (1, 10), "float32")]
    assert (model.parameters, model.macs) == (None, None)
    assert model.with_shapes({"input": (1, 3, 32, 32)}) is model
    with pytest.raises(ModelError, match="dimension 2 is fixed at 32 in the file and is asked to be 16"):
        model.with_shapes({"input": (1, 3, 16, 16)})
    for ask in (model.nodes, lambda: model.part(0, 0)):
        with pytest.raises(ModelError, match=f"TFLite and ONNX files, and this is {words}"):
            ask()


def test_a_missing_package_is_one_sentence_that_says_how_to_get_it(small: Callable[..., Path]) -> None:
    code = (
        "import sys; from pathlib import Path; from fbmodel.model import open_model\n"
        "sys.modules['torch'] = None\n"
        "try: open_model(Path(sys.argv[1]))\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    command = [sys.executable, "-c", code, small("torchscript")]
    done = subprocess.run(command, check=True, timeout=120, capture_output=True, text=True)
    remedy = "pip install 'fbnet-lab[torch]'"
    assert done.stdout == f"FbError model format 'torchscript' needs the package 'torch': {remedy}\n"
