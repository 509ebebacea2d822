"""torchscript: the graph run with torch's own functions, under torch.jit.trace, weights as constants.

The file is not optimised for inference: such a file would not load. Whoever runs it optimises after loading.
"""

import io
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fbexport.formats import check_precision, unknown_operator
from fbexport.graph import Activation, Array, Binary, Conv, Graph, Linear, Mean, Node, Shuffle
from fbexport.trace import trace

SUFFIX = ".pt"
RUNTIMES = ("torch",)

_FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "none": lambda x: x,
    "relu": torch.relu,
    "relu6": F.relu6,
    "hswish": F.hardswish,
    "hsigmoid": F.hardsigmoid,
    "sigmoid": torch.sigmoid,
    "add": torch.add,
    "mul": torch.mul,
}


def write(module: nn.Module, input_shape: tuple[int, int, int, int], precision: str) -> bytes:
    """Return a TorchScript archive of an eval-mode module: N, C, H, W → N, C, H, W or N, classes.

    A function is traced, not the module: torch numbers the classes of traced modules through the whole process, and
    the same network would give other bytes each time. Raises ExportError.
    """
    check_precision(precision)
    forward = _forward(trace(module, input_shape))
    with warnings.catch_warnings(), torch.no_grad():
        warnings.filterwarnings("ignore", message=".*torch.jit", category=DeprecationWarning)
        warnings.filterwarnings("ignore", message=".*torch.jit", category=FutureWarning)
        script = torch.jit.trace(  # type: ignore[no-untyped-call]
            forward, torch.zeros(input_shape), check_trace=False, _compilation_unit=torch._C.CompilationUnit()
        )
    return _without_debug_records(script.save_to_buffer())


def _forward(graph: Graph) -> Callable[[Tensor], Tensor]:
    """Return the graph as a function."""
    steps = [(node, _step(node)) for node in graph.nodes]

    def forward(x: Tensor) -> Tensor:
        values = {graph.input.name: x}
        for node, step in steps:
            values[node.output.name] = step(*(values[value.name] for value in node.inputs))
        return values[graph.output.name]

    return forward


def _step(node: Node) -> Callable[..., Tensor]:
    """Return one operator as a function of its inputs."""
    match node:
        case Conv():
            weight, bias, after = _tensor(node.weight), _tensor(node.bias), _FUNCTIONS[node.activation]
            return lambda x: after(torch.conv2d(x, weight, bias, node.stride, node.padding, 1, node.groups))
        case Linear():
            weight, bias = _tensor(node.weight), _tensor(node.bias)
            return lambda x: F.linear(x, weight, bias)
        case Activation():
            return _FUNCTIONS[node.function]
        case Binary():
            return _FUNCTIONS[node.operation]
        case Shuffle():
            n, c, h, w = node.output.shape
            split, joined = (n, node.groups, c // node.groups, h, w), (n, c, h, w)
            return lambda x: x.reshape(split).transpose(1, 2).reshape(joined)
        case Mean():
            return lambda x: x.mean((2, 3), keepdim=node.keep_dims)
        case _:
            raise unknown_operator("torchscript", node)


def _tensor(array: Array) -> Tensor:
    """Return an array as a tensor of its own; constants in an archive must not share memory with a module."""
    return torch.from_numpy(array.copy())


def _without_debug_records(archive: bytes) -> bytes:
    """Drop the call stacks that torch stores: they hold paths of this machine and differ from caller to caller."""
    reader, buffer = torch._C.PyTorchFileReader(io.BytesIO(archive)), io.BytesIO()
    writer = torch._C.PyTorchFileWriter(buffer)
    for name in reader.get_all_records():
        if not name.endswith(".debug_pkl") and name not in ("version", "byteorder", ".data/serialization_id"):
            record = reader.get_record(name)
            writer.write_record(name, record, len(record))
    writer.write_end_of_file()
    return buffer.getvalue()
