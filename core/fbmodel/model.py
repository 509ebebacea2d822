"""A model file of any format: opened, set to shapes, listed node by node, cut into parts.

A format is one new file in fbmodel/formats, whose class derives from `Model`.
"""

import functools
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

from fbbase.files import kind_of, read_bytes
from fbbase.plugins import Plugins
from fbmodel.errors import ModelError as ModelError
from fbmodel.errors import named
from fbmodel.tensors import Node as Node
from fbmodel.tensors import Shape as Shape
from fbmodel.tensors import Tensor as Tensor
from fbmodel.tensors import fix_shapes, refuse_other_types

MODEL_BYTES = 2 << 30
"""No larger file is read: neither protobuf nor flatbuffers hold more."""


class Model(ABC):
    """A model file: its inputs and outputs, its nodes in the order in which they run."""

    suffixes: ClassVar[str]
    """Endings of its files with blanks between them, e.g. `.pt .jit`; no other format has them."""
    magic: ClassVar[bytes] = b""
    """What every file of the format has at `magic_offset`, if there is such a thing."""
    magic_offset: ClassVar[int] = 0
    resizes: ClassVar[bool] = False
    """Whether a dimension that the file fixes may be asked to be another."""
    leaves_types: ClassVar[bool] = False
    """Whether the file does not say of which type the numbers of an input are."""

    path: Path
    content: bytes
    """The file that is measured: as it was read, or with the shapes that were given to it."""
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    symbols: Mapping[str, Sequence[str]]
    """Names of the dimensions of inputs, empty where one has none: dimensions that share one have one size."""

    def __init__(self, path: Path, content: bytes) -> None:
        """Read a file's content. Raises ModelError where it is none of the format."""
        self.path, self.content, self.symbols = path, content, {}

    @property
    def format(self) -> str:
        """What messages call it, as `fbexport.formats` does: the name of its file."""
        return type(self).__module__.rpartition(".")[2]

    @property
    @abstractmethod
    def parameters(self) -> int | None:
        """Numbers of all weights, biases and folded statistics; None where they cannot be counted."""

    @property
    def macs(self) -> int | None:
        """Multiply-accumulates of one inference of the whole batch; None where a node's are not known."""
        counts = [node.macs for node in self.nodes()]
        return None if None in counts else sum(count for count in counts if count is not None)

    def with_shapes(self, shapes: Mapping[str, Sequence[int]], elements: Mapping[str, str] | None = None) -> "Model":
        """Return the model with inputs of fixed shapes, which its content has too, where its format has shapes.

        `shapes` are those of some inputs by name, `elements` types of numbers for a format that has none. Raises
        ModelError for an input there is not, another number of dimensions, a fixed dimension that is asked to be
        another, a dimension that stays open, and where the file cannot take the shapes.
        """
        with named(self.path):
            if not self.leaves_types:
                refuse_other_types(self.inputs, elements or {})
            fixed = fix_shapes(self.inputs, shapes, elements or {}, self.symbols, self.resizes)
        return self if fixed == self.inputs else self.rewritten(fixed)

    @abstractmethod
    def rewritten(self, inputs: tuple[Tensor, ...]) -> Self:
        """Return the model with these fixed inputs, of the names and numbers of dimensions that it has."""

    @abstractmethod
    def nodes(self) -> list[Node]:
        """Return what the model computes, in an order in which it can run.

        What depends on constants alone is left out, as it is computed once when the file is loaded, and so is what
        widens integers for the node that reads them: both go along with the parts that need them. Raises ModelError
        for a format that is not listed.
        """

    def inseparable(self) -> Collection[str]:
        """Return the names of activations at which it cannot be cut: their type or shape is known only when it runs."""
        return ()

    def part(self, first: int, last: int) -> bytes:
        """Return nodes `first` to `last` of `nodes()`, both included, as a model file of their own.

        Its inputs are the activations that flow in, by the names that nodes have for them, and its outputs those that
        flow out, with types, quantization and shapes. Raises ModelError where it cannot be cut out, and while inputs
        are open.
        """
        self.with_shapes({})
        if not 0 <= first <= last < len(self.nodes()):
            raise ModelError(f"{self.path} has {len(self.nodes())} nodes, and no nodes {first} to {last}")
        return self.cut(first, last)

    @abstractmethod
    def cut(self, first: int, last: int) -> bytes:
        """Return a part of a model whose inputs are fixed. Raises ModelError where it cannot be cut out."""


class Opaque(Model):
    """A model file that is run, and not looked into; `words` say what it is, e.g. `an ExecuTorch program`."""

    words: ClassVar[str]

    @property
    def macs(self) -> None:
        """Not counted."""
        return

    def nodes(self) -> list[Node]:
        """Raise ModelError: nothing is listed."""
        raise ModelError(f"{self.path}: --layers takes TFLite and ONNX files, and this is {self.words}")

    def cut(self, first: int, last: int) -> bytes:
        """Raise ModelError: nothing is cut."""
        raise ModelError(f"{self.path}: TFLite and ONNX files are cut into parts, and this is {self.words}")


MODEL_FORMATS = Plugins("model format", "fbmodel.formats", base=Model)


def model_suffixes() -> tuple[str, ...]:
    """Return what names of model files end with, in any format."""
    return tuple(sorted(" ".join(_said("suffixes").values()).split()))


def open_model(path: Path) -> Model:
    """Open a model file. Raises ModelError for what is none, damaged, too large, or has another format's suffix.

    Raises FbError that names the package which reading this format needs, where it is not installed.
    """
    path = Path(path)
    content = read_bytes(path, "model file", MODEL_BYTES, ModelError)
    endings = _said("suffixes")
    named = [name for name, each in endings.items() if path.suffix.lower() in each.split()]
    found = _by_content(content)
    if not named:
        looks = f"; its content is {found}: rename it" if found else ""
        raise ModelError(f"{path} has no suffix of a model file ({', '.join(model_suffixes())}){looks}")
    if not content:
        raise ModelError(f"{path} is empty")
    if found not in (None, *named) or (found is None and named[0] in _said("magic")):
        other = found or kind_of(content)
        raise ModelError(f"{path} is no {named[0]} file" + (f": its content is {other}" if other else ""))
    return MODEL_FORMATS.find(named[0])(path, content)


def _by_content(content: bytes) -> str | None:
    """Return the format whose mark a file has, without importing any."""
    offsets = _said("magic_offset")
    marks = _said("magic").items()
    return next((name for name, magic in marks if content.startswith(magic, offsets.get(name, 0))), None)


@functools.cache
def _said(capability: str) -> dict[str, Any]:
    """Return what the formats' files say of themselves, by format; to look it up takes long enough to do it once."""
    return MODEL_FORMATS.declared(capability)
