"""The kinds of operators that every format writes, for those formats that write no others yet."""

from fbexport.formats import unknown_operator
from fbexport.graph import Activation, Binary, Constant, Conv, Graph, Linear, Mean, Node, Shuffle

_FUNCTIONS = ("relu", "relu6", "hswish", "hsigmoid", "sigmoid")


def check_first_kinds(format_name: str, graph: Graph) -> None:
    """Raise UnknownOperatorError for an operator that is of none of the first kinds."""
    for node in graph.nodes:
        if not _is_first(node) or not {len(value.shape) for value in (*node.inputs, node.output)} <= {2, 4}:
            raise unknown_operator(format_name, node)


def _is_first(node: Node) -> bool:
    match node:
        case Linear():
            return len(node.output.shape) == 2
        case Activation():
            return node.function in _FUNCTIONS
        case Binary():
            return node.operation in ("add", "mul") and not any(isinstance(value, Constant) for value in node.inputs)
        case _:
            return isinstance(node, Conv | Shuffle | Mean)
