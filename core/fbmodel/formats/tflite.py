"""tflite: TFLite models, read and written with the schema of ai-edge-litert."""

from functools import cached_property
from pathlib import Path
from typing import Self

from fbmodel.errors import ModelError, decoding, named
from fbmodel.flatbuffer import packed, unpacked
from fbmodel.formats._tflite_cut import cut_out
from fbmodel.formats._tflite_graph import TfliteGraph
from fbmodel.model import Model
from fbmodel.tensors import Node, Tensor, check_shape, spelled_inputs
from fbmodel.trial import TrialError, try_out


class Tflite(Model):
    """TFLite models; those of several graphs are neither counted nor set to other shapes nor cut."""

    suffixes = ".tflite"
    magic = b"TFL3"
    magic_offset = 4
    resizes = True

    def __init__(self, path: Path, content: bytes) -> None:
        """Read a model."""
        super().__init__(path, content)
        with named(path), decoding(path, "TFLite model"):
            self._graph = TfliteGraph(unpacked(content))
            self.inputs = tuple(self._graph.tensor(number) for number in self._graph.inputs)
            self.outputs = tuple(self._graph.tensor(number) for number in self._graph.outputs)
            for tensor in self.inputs:
                check_shape(tensor.name, tensor.shape)

    @cached_property
    def parameters(self) -> int | None:
        """Numbers of all constants but shapes, axes and single ones."""
        with named(self.path), decoding(self.path, "TFLite model"):
            return self._graph.parameters() if self._is_single else None

    @property
    def macs(self) -> int | None:
        """Multiply-accumulates, where there is one graph."""
        return super().macs if self._is_single else None

    def rewritten(self, inputs: tuple[Tensor, ...]) -> Self:
        """Resize the model in an interpreter of this machine, and write every tensor's shape into the file."""
        asked = spelled_inputs(inputs)
        if not self._is_single:
            raise ModelError(f"{self.path} has several graphs, and its shapes cannot be set")
        sizes = {
            str(number): (tuple(size or 0 for size in tensor.shape or ()), tensor.element)
            for number, tensor in zip(self._graph.inputs, inputs, strict=True)
        }
        try:
            shapes = try_out("litert", self.content, sizes)
        except TrialError as error:
            raise ModelError(f"{self.path} cannot be set to {asked}: {error}") from None
        with named(self.path), decoding(self.path, "TFLite model that takes these shapes"):
            model = unpacked(self.content)
            for number, tensor in enumerate(model.subgraphs[0].tensors):
                if number not in self._graph.constants:
                    tensor.shape, tensor.shapeSignature = shapes[str(number)], None
            return type(self)(self.path, packed(model))

    def nodes(self) -> list[Node]:
        """Return the operators but those that are computed once, as the file has them."""
        return self._nodes

    def inseparable(self) -> set[str]:
        """Return what the file leaves open; a state is another matter, as what reads it is in no part."""
        with named(self.path), decoding(self.path, "TFLite model that can be cut"):
            graph = self._graph
            made = {tensor for number in graph.rows() for tensor in graph.made_by(graph.operators[number])}
            return {graph.names[tensor] for tensor in made if None in graph.shape(tensor)}

    def cut(self, first: int, last: int) -> bytes:
        """Return some operators with the constants that they use."""
        with named(self.path), decoding(self.path, "TFLite model that can be cut"):
            return cut_out(self._graph, self._graph.rows()[first : last + 1])

    @property
    def _is_single(self) -> bool:
        return len(self._graph.model.subgraphs) == 1

    @cached_property
    def _nodes(self) -> list[Node]:
        with named(self.path), decoding(self.path, "TFLite model whose nodes can be listed"):
            return [self._graph.node(number) for number in self._graph.rows()]
