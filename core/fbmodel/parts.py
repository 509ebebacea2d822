"""Which nodes of a model are timed together, as a runtime runs them as one kernel."""

from collections.abc import Collection, Mapping, Sequence

from fbmodel.model import Model, Node

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
    "ADD", "DIV", "ELU", "GELU", "HARD_SWISH", "LEAKY_RELU", "LOGISTIC", "MAXIMUM", "MINIMUM", "MUL", "PRELU", "RELU",
    "RELU6", "RELU_0_TO_1", "RELU_N1_TO_1", "SUB", "TANH",
}  # fmt: skip
"""What a weighted operator is finished with, element by element: activations, biases, normalisations."""
_LONGEST = 8
"""Most nodes behind a weighted one that belong to it: hard-swish behind a bias and a normalisation has six."""


def separable(model: Model) -> list[range]:
    """Return the nodes of a model in groups of one kernel each: ranges that follow each other and leave none out.

    A weighted operator, such as a convolution, has with it the padding right before it and what is done to each of its
    numbers right behind it (bias, normalisation, activation), where nobody else reads what lies between them. What a
    QuantizeLinear rounds belongs to the operator that made it. Everything else is a group of its own, except that nodes
    stay together between which the model cannot be cut. Raises ModelError where the model's nodes are not listed.
    """
    nodes = model.nodes()
    readers: dict[str, list[int]] = {}
    for number, node in enumerate(nodes):
        for name in node.inputs:
            readers.setdefault(name, []).append(number)
    ends = {tensor.name for tensor in model.outputs}
    found, first = [], 0
    while first < len(nodes):
        last = first
        if nodes[first].kind in _PADS and _is_padded_convolution(nodes, first, readers, ends):
            last += 1
        if nodes[last].kind in _WEIGHTED:
            last = _finished(nodes, first, last, readers, ends)
        last = _rounded(nodes, first, last, readers, ends)
        found.append(range(first, last + 1))
        first = last + 1
    return _joined(found, nodes, readers, model.inseparable())


def _joined(
    groups: Sequence[range], nodes: Sequence[Node], readers: Mapping[str, list[int]], inseparable: Collection[str]
) -> list[range]:
    """Return the groups, those as one between which lies what the model cannot be cut at."""
    reach = {
        number: max(
            (readers[name][-1] for name in node.outputs if name in inseparable and name in readers), default=number
        )
        for number, node in enumerate(nodes)
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


def _is_padded_convolution(nodes: Sequence[Node], pad: int, readers: dict[str, list[int]], ends: set[str]) -> bool:
    """Whether only the convolution right behind a padding reads it."""
    behind = pad + 1
    if behind == len(nodes) or nodes[behind].kind not in _CONVOLUTIONS:
        return False
    return all(readers.get(name) == [behind] and name not in ends for name in nodes[pad].outputs)


def _finished(nodes: Sequence[Node], first: int, weighted: int, readers: dict[str, list[int]], ends: set[str]) -> int:
    """Return the last node of the longest run behind a weighted one that takes in and gives out nothing else."""
    last = weighted
    inside = set(nodes[weighted].outputs)
    for number in range(weighted + 1, min(len(nodes), weighted + 1 + _LONGEST)):
        node = nodes[number]
        if node.kind not in _FUSED or not node.inputs or not inside.issuperset(node.inputs):
            break
        inside.update(node.outputs)
        within = set(range(first, number + 1))
        leaving = {
            name for name in inside if name in ends or any(reader not in within for reader in readers.get(name, ()))
        }
        if leaving <= set(node.outputs):
            last = number
    return last


def _rounded(nodes: Sequence[Node], first: int, last: int, readers: dict[str, list[int]], ends: set[str]) -> int:
    """Return the last of the QuantizeLinear nodes right behind a group which round what only they read."""
    if nodes[first].kind == "QuantizeLinear":
        return last
    made = {name for node in nodes[first : last + 1] for name in node.outputs}
    while last + 1 < len(nodes) and nodes[last + 1].kind == "QuantizeLinear":
        read = nodes[last + 1].inputs
        if not read or not made.issuperset(read) or any(readers[name] != [last + 1] or name in ends for name in read):
            break
        last += 1
    return last
