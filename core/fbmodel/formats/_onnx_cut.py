"""The nodes of an ONNX graph that compute something when it runs, and parts cut out of it."""

from collections.abc import Callable, Iterable, Mapping

from onnx import ModelProto, NodeProto, SparseTensorProto, TensorProto, ValueInfoProto, helper

from fbmodel.errors import ModelError
from fbmodel.formats._onnx_graph import KINDS, OnnxGraph, called, reads, shape_tensor
from fbmodel.tensors import Node, Tensor

_LEAST_IR = 4
"""Older files list their constants among the inputs; from here on they need not."""


class Rows:
    """The nodes that are listed and cut, by their number in the graph; all others go along with what reads them."""

    def __init__(self, graph: OnnxGraph, types: Mapping[str, Tensor]) -> None:
        """Choose the nodes; `types` are those of all names that have a known one."""
        self.graph, self.types = graph, types
        self.folded = graph.folded(types)
        nodes = graph.graph.node
        self.carried = {number for number, node in enumerate(nodes) if graph.is_carried(node)} - self.folded
        self.numbers = sorted(graph.live(self.folded) - self.carried)
        self.readers: dict[str, set[int]] = {}
        for row, number in enumerate(self.numbers):
            for name in self.flowing(reads(nodes[number])):
                self.readers.setdefault(name, set()).add(row)

    def flowing(self, names: Iterable[str]) -> list[str]:
        """Return the activations that lie behind some names, once each, in order."""
        found: dict[str, None] = {}
        for name in names:
            number = self.graph.maker.get(name)
            if name in self.graph.constants or number in self.folded:
                continue
            if number in self.carried:
                found.update(dict.fromkeys(self.flowing(reads(self.graph.graph.node[number]))))
            else:
                found[name] = None
        return list(found)

    def node(self, row: int, macs: Callable[[NodeProto, Mapping[str, Tensor]], int | None]) -> Node:
        """Return how a node is listed."""
        node = self.graph.graph.node[self.numbers[row]]
        outputs = tuple(name for name in node.output if name in self.readers or name in self.graph.output_names)
        first = self.types.get(outputs[0])
        shape = first.shape if first is not None and first.is_fixed else None
        return Node(
            node.name or outputs[0],
            node.op_type,
            tuple(self.flowing(reads(node))),
            outputs,
            tuple(size for size in shape if size is not None) if shape is not None else None,
            macs(node, self.types),
        )

    def part(self, first: int, last: int) -> ModelProto:
        """Return some nodes as a model. Raises ModelError where the type or shape of what is cut is not known."""
        chosen = set(range(first, last + 1))
        nodes, constants, inputs = self._needed([self.numbers[row] for row in sorted(chosen)])
        made = [name for row in sorted(chosen) for name in self.graph.graph.node[self.numbers[row]].output]
        outputs = [name for name in made if self.readers.get(name, set()) - chosen or name in self.graph.output_names]
        where = called(self.graph.graph.node[self.numbers[first]])
        graph = helper.make_graph(
            nodes,
            self.graph.graph.name or "part",
            [self._input(name, where) for name in inputs],
            [self._output(name, where) for name in outputs],
            [each for each in constants if isinstance(each, TensorProto)],
            sparse_initializer=[each for each in constants if isinstance(each, SparseTensorProto)],
        )
        whole = self.graph.model
        model = ModelProto(ir_version=max(whole.ir_version, _LEAST_IR), producer_name="fbnet-lab", graph=graph)
        model.opset_import.extend(whole.opset_import)
        model.functions.extend(whole.functions)
        return model

    def _needed(self, numbers: list[int]) -> tuple[list[NodeProto], list[object], list[str]]:
        """Return nodes with those that go along, in order, the constants of all, and what flows in from outside."""
        nodes = self.graph.graph.node
        taken, constants, inputs = set(numbers), dict[str, object](), dict[str, None]()
        made = {name for number in numbers for name in nodes[number].output}
        waiting = [name for number in reversed(numbers) for name in reversed(list(reads(nodes[number])))]
        seen: set[str] = set()
        while waiting:
            name = waiting.pop()
            if name in seen or name in made:
                continue
            seen.add(name)
            number = self.graph.maker.get(name)
            if name in self.graph.constants:
                constants[name] = self.graph.constants[name]
            elif number is None or number not in self.folded | self.carried:
                inputs[name] = None
            elif (known := self._known_shape(nodes[number])) is not None:
                constants[name] = known
            else:
                taken.add(number)
                waiting += reversed(list(reads(nodes[number])))
        return [nodes[number] for number in sorted(taken)], list(constants.values()), list(inputs)

    def _known_shape(self, node: NodeProto) -> TensorProto | None:
        """Return as a constant what a folded Shape or Size node gives."""
        if node.op_type not in ("Shape", "Size"):
            return None
        shape = self.types[node.input[0]].shape if node.input[0] in self.types else None
        return None if shape is None or None in shape else shape_tensor(node, tuple(size or 0 for size in shape))

    def is_known(self, name: str) -> bool:
        """Whether the type and the whole shape of a name are known."""
        return name in self.types and self.types[name].is_fixed

    def _input(self, name: str, where: str) -> ValueInfoProto:
        """Return the description of a name that flows in. Raises ModelError where it is not known."""
        if not self.is_known(name):
            what = "the shape of" if name in self.types else "the type of"
            raise ModelError(f"node {where!r} cannot be cut out: {what} {name[:80]!r} is known only when it runs")
        return self._described(self.types[name])

    def _output(self, name: str, where: str) -> ValueInfoProto:
        """Return the description of a name that flows out, whose shape may be open. Raises ModelError as `_input`."""
        whole = next((each for each in self.graph.graph.output if each.name == name), None)
        if name in self.types:
            return self._described(self.types[name])
        return self._input(name, where) if whole is None else whole

    def _described(self, tensor: Tensor) -> ValueInfoProto:
        return helper.make_tensor_value_info(tensor.name, KINDS[tensor.element], tensor.shape)
