"""torchscript: TorchScript archives, which say which arguments they take and not of which shape."""

import copy
import io
import math
import re
import warnings
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import torch

from fbbase.files import check_archive
from fbmodel.errors import ModelError, decoding, named
from fbmodel.model import Opaque
from fbmodel.tensors import Tensor

_NUMBERS = {"IntType": "int64", "FloatType": "float32", "BoolType": "bool"}
"""Arguments that are single numbers, as arrays of no dimension."""


class TorchScript(Opaque):
    """What torch.jit.save writes; loading it runs no Python.

    Shapes are kept beside the file. One that `fbprof export` wrote has those of its inputs in a record of its own.
    """

    suffixes = ".pt .pth .jit .torchscript"
    words = "TorchScript"
    magic = b"PK"
    leaves_types = True

    def __init__(self, path: Path, content: bytes) -> None:
        """Load an archive."""
        super().__init__(path, content)
        with named(path), decoding(path, "TorchScript archive"), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*torch.jit")
            names = check_archive(io.BytesIO(content))
            if not any("/code/" in name for name in names):
                raise ModelError("it holds weights and no program: save what torch.jit.script or trace gives")
            told = {"input_shape": b""}
            load: Any = torch.jit.load
            self._module = load(io.BytesIO(content), map_location="cpu", _extra_files=told)
            forward = self._module.forward.schema
            taken = [each for each in forward.arguments[1:] if not each.has_default_value()]
            shapes = [_shape(each) for each in told["input_shape"].split(b",")]
            shapes = shapes if len(shapes) == len(taken) else [None] * len(taken)
            self.inputs = tuple(_argument(each, shape) for each, shape in zip(taken, shapes, strict=True))
            self.outputs = tuple(_results(forward.returns))

    @cached_property
    def parameters(self) -> int:
        """Numbers of all parameters, and of the constants of a program that was frozen."""
        graph = self._module.inlined_graph  # its nodes do not keep it
        frozen = (
            node.t("value")
            for node in graph.findAllNodes("prim::Constant")
            if node.hasAttribute("value") and node.kindOf("value") == "t"
        )
        arrays = (*self._module.parameters(), *frozen)
        return sum(math.prod(each.shape) for each in arrays if each.is_floating_point() and each.numel() > 1)

    def rewritten(self, inputs: tuple[Tensor, ...]) -> Self:
        """Return the model with other inputs and the same content."""
        made = copy.copy(self)
        made.inputs = inputs
        return made


def _shape(text: bytes) -> tuple[int, ...] | None:
    """Return a shape such as `1x3x224x224`; None for anything else."""
    return tuple(map(int, text.split(b"x"))) if re.fullmatch(rb"[1-9][0-9]{0,8}(x[1-9][0-9]{0,8}){0,7}", text) else None


def _argument(argument: Any, shape: tuple[int, ...] | None) -> Tensor:
    """Return the input that an argument without a default is. Raises ModelError for one of another kind."""
    kind = argument.type.kind()
    if kind == "TensorType":
        return Tensor(argument.name, shape, "float32")
    if kind in _NUMBERS:
        return Tensor(argument.name, (), _NUMBERS[kind])
    raise ModelError(
        f"its argument {argument.name!r} is {argument.type.annotation_str}, and tensors and numbers are fed"
    )


def _results(returns: Any) -> list[Tensor]:
    """Return the outputs that are tensors, each by its place."""
    kinds = [each.type for each in returns]
    if len(kinds) == 1 and kinds[0].kind() == "TupleType":
        kinds = kinds[0].elements()
    return [Tensor(f"output_{at}", None, "float32") for at, each in enumerate(kinds) if each.kind() == "TensorType"]
