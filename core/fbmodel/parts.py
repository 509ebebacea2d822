"""Which nodes of a model are timed together, as a runtime runs them as one kernel."""

from collections.abc import Collection, Sequence

from fbmodel.model import Model

_WEIGHTED = {
    "Conv", "ConvTranspose", "Gemm", "MatMul", "ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul",
    "CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "CONV_3D", "FULLY_CONNECTED", "BATCH_MATMUL",
}  # fmt: skip
_PADS = {"Pad", "PAD", "PADV2"}
_CONVOLUTIONS = {"Conv", "CONV_2D", "DEPTHWISE_CONV_2D", "CONV_3D"}
_FUSED = {
    "Add", "BatchNormalization", "Clip", "Div", "Elu", "Erf", "Gelu", "HardSigmoid",
    "HardSwish", "LeakyRelu", "Max", "Min", "Mish", "Mul", "PRelu", "Relu", "Selu", "Sigmoid", "Softplus", "Softsign",
    "Sub", "Swish", "Tanh", "ThresholdedRelu",
    "RELU", "RELU6", "RELU_0_TO_1", "RELU_N1_TO_1",
}  # fmt: skip
"""What a weighted operator is finished with, element by element: activations, biases, normalisations.

Of TFLite's those alone that XNNPACK puts into the operator before them, as bounds of its results.
"""
_SEQUENCES = (
    ("ReduceMean", "Sub", "Pow", "ReduceMean", "Add", "Sqrt", "Div", "Mul", "Add"),  # layer normalisation
    ("Div", "Erf", "Add", "Mul", "Mul"),  # GELU
)
"""What exporters write for one operator, and runtimes put together again."""
_LONGEST = 8
"""Most nodes behind a weighted one that belong to it: hard-swish behind a bias and a normalisation has six."""


def separable(model: Model) -> list[range]:
    """Return the nodes of a model in groups of one kernel each: ranges that follow each other and leave none out.

    A weighted operator, such as a convolution, has with it the padding right before it and what is done to each of its
    numbers right behind it (bias, normalisation, activation), where nobody else reads what lies between them. What a
    QuantizeLinear rounds belongs to the operator that made it. Everything else is a group of its own, except that nodes
    stay together between which the model cannot be cut. Raises ModelError where the model's nodes are not listed.
    """
    flow, found, first = _Flow(model), list[range](), 0
    while first < len(flow.nodes):
        last = flow.rounded(first, flow.kernel(first))
        found.append(range(first, last + 1))
        first = last + 1
    return _joined(found, flow, model.inseparable())


class _Flow:
    """Who reads what in a model."""

    def __init__(self, model: Model) -> None:
        self.nodes = model.nodes()
        self.ends = {tensor.name for tensor in model.outputs}
        self.readers: dict[str, list[int]] = {}
        for number, node in enumerate(self.nodes):
            for name in node.inputs:
                self.readers.setdefault(name, []).append(number)

    def kernel(self, first: int) -> int:
        """Return the last node of the kernel that begins with a node, before anything is rounded."""
        kinds = [node.kind for node in self.nodes[first : first + 2]]
        if kinds[0] in _PADS and kinds[-1] in _CONVOLUTIONS and self.is_closed(first, first + 1):
            return self.finished(first, first + 1)
        if kinds[0] in _WEIGHTED:
            return self.finished(first, first)
        for sequence in _SEQUENCES:
            last = first + len(sequence) - 1
            found = tuple(node.kind for node in self.nodes[first : last + 1])
            if found == sequence and self.is_closed(first, last):
                return last
        return first

    def finished(self, first: int, weighted: int) -> int:
        """Return the last node of the longest run behind a weighted one that takes in and gives out nothing else."""
        last = weighted
        inside = set(self.nodes[weighted].outputs)
        for number in range(weighted + 1, min(len(self.nodes), weighted + 1 + _LONGEST)):
            node = self.nodes[number]
            if node.kind not in _FUSED or not node.inputs or not inside.issuperset(node.inputs):
                break
            inside.update(node.outputs)
            if self.is_closed(first, number):
                last = number
        return last

    def rounded(self, first: int, last: int) -> int:
        """Return the last of the QuantizeLinear nodes right behind a group which round what only they read."""
        made = {name for node in self.nodes[first : last + 1] for name in node.outputs}
        if self.nodes[first].kind == "QuantizeLinear":
            return last
        while last + 1 < len(self.nodes) and self.nodes[last + 1].kind == "QuantizeLinear":
            read = self.nodes[last + 1].inputs
            if not read or any(
                name not in made or name in self.ends or self.readers[name] != [last + 1] for name in read
            ):
                break
            last += 1
        return last

    def is_closed(self, first: int, last: int) -> bool:
        """Whether what some nodes make is read by them alone, but for what the last makes."""
        inside = set(range(first, last + 1))
        made = (name for node in self.nodes[first:last] for name in node.outputs)
        return all(name not in self.ends and inside.issuperset(self.readers.get(name, ())) for name in made)


def _joined(groups: Sequence[range], flow: "_Flow", inseparable: Collection[str]) -> list[range]:
    """Return the groups, those as one between which lies what the model cannot be cut at."""
    readers = flow.readers
    reach = {
        number: max(
            (readers[name][-1] for name in node.outputs if name in inseparable and name in readers), default=number
        )
        for number, node in enumerate(flow.nodes)
    }
    found: list[range] = []
    furthest = -1
    for group in groups:
        if found and group[0] <= furthest:
            found[-1] = range(found[-1][0], group[-1] + 1)
        else:
            found.append(group)
        furthest = max(furthest, *(reach[number] for number in group))
    return found
