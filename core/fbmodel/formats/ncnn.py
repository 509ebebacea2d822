"""ncnn: models of one file that `fbprof export` writes, which say what goes in and comes out; layers are not listed."""

import re
from pathlib import Path
from typing import Self

from fbbase.parsing import parse_json
from fbmodel.errors import ModelError, decoding, named
from fbmodel.model import Opaque
from fbmodel.tensors import Tensor, check_shape

_MAGIC = b"NCNN"


class Ncnn(Opaque):
    """Both files of an ncnn model in one (docs/measuring/ncnn.md), of fixed shapes: one `input` is N, C, H, W."""

    suffixes = ".ncnn"
    words = "an ncnn model"

    def __init__(self, path: Path, content: bytes) -> None:
        """Read the layers' text and the line behind it, at the end of the file."""
        super().__init__(path, content)
        with named(path), decoding(path, "ncnn model of one file"):
            start = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
            if content[-4:] != _MAGIC or start < 0:
                raise ValueError("it does not end as one")
            layers, _, line = content[start:-8].decode().rstrip("\n").rpartition("\n")
            told = parse_json(line, str(path), ModelError)
            self.outputs = tuple(_tensor(name, shape) for name, shape in told["outputs"].items())
            self.inputs = tuple(_tensor(name, shape) for name, shape in told.get("inputs", {}).items())
            if self.inputs:
                return
            size = re.search(r"^Input .* input 0=(\d+) 1=(\d+) 2=(\d+)$", layers, re.MULTILINE)
            if size is None:
                raise ValueError("its layers have no input")
            width, height, channels = map(int, size.groups())
            images = max((each.shape or (None,))[0] or 1 for each in self.outputs)
            self.inputs = (_tensor("input", [images, channels, height, width]),)

    @property
    def parameters(self) -> None:
        """Not counted."""
        return

    def rewritten(self, inputs: tuple[Tensor, ...]) -> Self:
        """Raise ModelError: kernels were chosen for their shapes."""
        raise ModelError(f"{self.path}: the shapes of an ncnn model are set when it is exported")


def _tensor(name: str, sides: list[int]) -> Tensor:
    """Return a tensor of float32. Raises ValueError for sides that are none."""
    if not all(type(side) is int for side in sides):
        raise ValueError(f"{name[:80]!r} has no shape")
    check_shape(name, tuple(sides))
    return Tensor(name, tuple(sides), "float32")
