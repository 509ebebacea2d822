"""How long the gradient of a depthwise convolution takes on maps smaller than its kernel, beside the library's own way.

usage: python benchmarks/small_maps.py [--quick]

5x5 kernels on 1x1 maps of 1,104 channels, batch 128, channels last, one thread: the last stages of FBNet on images of
32x32. Each figure is the median thread-CPU time of 20 runs.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from _report import Figure, report
from torch import Tensor, nn

from fbsearch.machine.convolutions import use_own_convolutions
from fbsearch.machine.process import before_torch

BATCH, CHANNELS, KERNEL = 128, 1104, 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer runs")
    before_torch()
    runs = 3 if parser.parse_args().quick else 20
    torch.set_num_threads(1)
    x = torch.randn(BATCH, CHANNELS, 1, 1).to(memory_format=torch.channels_last).requires_grad_()
    library = nn.Conv2d(CHANNELS, CHANNELS, KERNEL, padding=KERNEL // 2, groups=CHANNELS, bias=False)
    library = library.to(memory_format=torch.channels_last)
    ours = nn.Conv2d(CHANNELS, CHANNELS, KERNEL, padding=KERNEL // 2, groups=CHANNELS, bias=False)
    ours.load_state_dict(library.state_dict())
    use_own_convolutions(ours)
    g = torch.randn_like(library(x))
    gradients = [backward(conv, x, g) for conv in (library, ours)]
    torch.testing.assert_close(gradients[0](), gradients[1](), rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        forward = median_ms(lambda: library(x), runs)
    theirs, own = (median_ms(gradient, runs) for gradient in gradients)
    report(
        "small_maps",
        [
            Figure("forward", forward, "ms"),
            Figure("backward_of_the_library", theirs, "ms"),
            Figure("backward_of_ours", own, "ms"),
            Figure("faster", theirs / own, "x", 2, "at_least"),
        ],
        runs=runs,
    )


def backward(conv: nn.Conv2d, x: Tensor, g: Tensor) -> Callable[[], Tensor]:
    """Return what computes the gradient of the weights, forward pass not included."""
    y = conv(x)
    return lambda: torch.autograd.grad(y, conv.weight, g, retain_graph=True)[0]


def median_ms(call: Callable[[], object], runs: int) -> float:
    call()
    taken = []
    for _ in range(runs):
        start = time.thread_time_ns()
        call()
        taken.append((time.thread_time_ns() - start) / 1e6)
    return statistics.median(taken)


if __name__ == "__main__":
    main()
