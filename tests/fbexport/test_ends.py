"""Networks of several inputs and outputs, in every format: what comes out equals torch's."""

from collections import namedtuple
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fbexport.errors import ExportError
from fbexport.export import export_module
from fbexport.formats import load_format
from fbexport.runtimes import load_model, runtime_of
from fbexport.trace import trace
from fbmodel.model import open_model
from peers.installed import FORMATS_HERE

SHAPES = ((1, 3, 16, 24), (1, 12))
FORMATS = [name for name in ("ncnn", "onnx", "pte", "tflite", "torchscript") if name in FORMATS_HERE]
Pair = namedtuple("Pair", "left right")
Made = Callable[[Tensor, Tensor, Tensor], object]


class Head(nn.Module):
    """An image and a state in; two feature maps and the next state out."""

    def __init__(self, made: Made) -> None:
        super().__init__()
        self.made = made
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.down = nn.Sequential(nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU())
        self.side = nn.Conv2d(16, 8, 1)
        self.gate = nn.Linear(12, 8)
        self.next = nn.Linear(8 + 12, 12)

    def forward(self, image: Tensor, state: Tensor) -> object:
        fine = self.stem(image)
        coarse = self.down(fine)
        fine = fine + F.interpolate(self.side(coarse), scale_factor=2)
        fine = fine * torch.sigmoid(self.gate(state))[:, :, None, None]
        return self.made(fine, coarse, torch.tanh(self.next(torch.cat([fine.mean((2, 3)), state], 1))))


class Function(nn.Module):
    def __init__(self, function: Callable[[Tensor, Tensor], object]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor, y: Tensor) -> object:
        return self.function(x, y)


def head(made: Made) -> nn.Module:
    torch.manual_seed(0)
    return Head(made).eval()


def flat(result: object) -> Iterator[Tensor]:
    if isinstance(result, Tensor):
        yield result
    else:
        for each in result.values() if isinstance(result, dict) else result:
            yield from flat(each)


def assert_equals_torch(module: nn.Module, shapes: tuple[tuple[int, ...], ...], format_name: str) -> None:
    random = torch.Generator().manual_seed(1)
    inputs = [torch.randn(shape, generator=random) for shape in shapes]
    with torch.no_grad():
        expected = list(flat(module(*inputs)))
    content = load_format(format_name).write(module, shapes)
    found = load_model(content, runtime_of(format_name))(*(each.numpy() for each in inputs))
    for y, real in zip(found, expected, strict=True):
        assert y.shape == real.shape
        np.testing.assert_allclose(y, real.numpy(), atol=1e-4)


@pytest.mark.parametrize("format_name", FORMATS)
@pytest.mark.parametrize("images", [1, 2])
def test_a_detectors_head_with_a_state_equals_torch(format_name: str, images: int) -> None:
    shapes = tuple((images, *sides) for _, *sides in SHAPES)
    assert_equals_torch(head(lambda fine, coarse, state: (fine, coarse, state)), shapes, format_name)


OUTPUTS: dict[str, Made] = {
    "dictionary": lambda fine, coarse, state: {"fine": fine, "maps": [coarse, fine.relu()], "state": state},
    "named-tuple": lambda fine, coarse, state: Pair(coarse, state),
    "views": lambda fine, coarse, state: [fine, fine.flatten(1), fine.permute(0, 2, 3, 1), fine.reshape(2, 4, 8, 12)],
}
NOT_IN_NCNN = ("views", (2, 3, 2, 2, 2, 2))
"""It has no axis N that could become 2, and four axes beside N."""


def in_formats(*cases: object) -> list[tuple[object, str]]:
    """Return each case with each format that has it."""
    return [(case, name) for case in cases for name in FORMATS if name != "ncnn" or case not in NOT_IN_NCNN]


@pytest.mark.parametrize(("kind", "format_name"), in_formats(*OUTPUTS))
def test_outputs_of_every_kind_equal_torch(kind: str, format_name: str) -> None:
    made = OUTPUTS[kind]
    assert_equals_torch(head(made), SHAPES, format_name)


@pytest.mark.parametrize(("shape", "format_name"), in_formats((1, 5), (1, 4, 6), (1, 4, 3, 6, 2), (2, 3, 2, 2, 2, 2)))
def test_inputs_of_every_rank_equal_torch(shape: tuple[int, ...], format_name: str) -> None:
    assert_equals_torch(Function(lambda x, y: (x * 2 + y, torch.tanh(y))).eval(), (shape, shape), format_name)
    one = nn.Sequential(nn.Hardtanh(-0.5, 0.5)).eval()
    assert_equals_torch(one, (shape,), format_name)


def test_ends_have_names_of_their_own() -> None:
    graph = trace(head(lambda fine, coarse, state: {"fine": fine, "maps": [coarse, -fine], "state": state}), SHAPES)
    assert [value.name for value in graph.inputs] == ["image", "state"]
    assert graph.names == ("fine", "output_1", "output_2", "state_out")
    assert trace(head(pair), SHAPES).names == ("left", "right")
    graph = trace(Function(lambda x, y: {"of x": x + y}).eval(), ((1, 2), (1, 2)))
    assert graph.names == ("output",)


def pair(fine: Tensor, coarse: Tensor, state: Tensor) -> Pair:
    return Pair(coarse, state)


@pytest.mark.parametrize("format_name", FORMATS)
def test_files_tell_their_ends(tmp_path, format_name: str) -> None:
    made = head(lambda fine, coarse, state: {"fine": fine, "state": state})
    path = tmp_path / f"two{load_format(format_name).suffix}"
    path.write_bytes(load_format(format_name).write(made, SHAPES))
    model = open_model(path)
    inputs, outputs = {"pte": (["input_0", "input_1"], ["output_0", "output_1"])}.get(
        format_name, (["image", "state"], ["fine", "state_out"])
    )
    assert [each.name for each in model.inputs] == inputs
    assert [each.name for each in model.outputs] == (
        ["output_0", "output_1"] if format_name == "torchscript" else outputs
    )
    first = (1, 16, 24, 3) if format_name == "tflite" else SHAPES[0]
    assert [each.shape for each in model.inputs] == [first, SHAPES[1]]


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (lambda x, y: (x + y, x), "returns its input as it is"),
        (lambda x, y: (x + y).relu(), None),
        (lambda x, y: [torch.add(x, y)] * 2, "a tensor twice"),
        (lambda x, y: (x + 1, x + 2), "does not use its input 'y'"),
        (lambda x, y: (x + y, None), "must return tensors"),
        (lambda x, y: (x + y, torch.ones(2)), "depends on no input"),
        (lambda x, y: (), "returns no tensor"),
    ],
)
def test_ends_that_cannot_be_are_told(function: Callable[[Tensor, Tensor], object], told: str | None) -> None:
    module = Function(function).eval()
    if told is None:
        assert len(trace(module, ((1, 2), (1, 2))).inputs) == 2
        return
    with pytest.raises(ExportError, match=told):
        trace(module, ((1, 2), (1, 2)))


def test_shapes_are_as_many_as_inputs() -> None:
    module = Function(torch.add).eval()
    with pytest.raises(ExportError, match="3 shapes are given, and the network takes 2 inputs"):
        trace(module, ((1, 2),) * 3)


def test_int8_and_other_numbers_of_images_are_refused() -> None:
    module = Function(torch.add).eval()
    with pytest.raises(ExportError, match="int8 is for networks of one input"):
        export_module(module, ((1, 2, 2, 2), (1, 2, 2, 2)), "tflite", "int8")
    with pytest.raises(ExportError, match="other numbers of images"):
        export_module(module, ((2, 3), (1, 3)), "ncnn")


def test_torchs_exporter_takes_several_too() -> None:
    module = Function(lambda x, y: (F.softplus(x) + y, x - y)).eval()  # which our tracer does not know
    x, y = np.float32([[0, 1]]), np.float32([[2, 3]])
    for format_name in ("onnx", "torchscript"):
        content = export_module(module, ((1, 2), (1, 2)), format_name)
        found = load_model(content, runtime_of(format_name))(x, y)
        np.testing.assert_allclose(found[0], [[2 + np.log(2), 4.3132617]], rtol=1e-5)
        np.testing.assert_allclose(found[1], x - y)
