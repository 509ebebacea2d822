"""What more options cost when masks share one convolution: peak memory and time of a step (FBNetV2, section 3.1).

usage: python benchmarks/masking_scale.py [--quick]

Eight blocks on 16x16 maps, batch 64, two threads; 1 to 16 widths in every layer, of which the largest is always the
same, and 1 to 4 resolutions. A step is a forward and a backward pass under a random sample of soft weights. Beside it
the explicit construction: a block of its own for every width, run one by one and summed. Every point is a process of
its own, points take turns, and of each one's steps the median counts; memory is the peak over that of the idle process.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from typing import Any

import torch
from _report import Figure, peak_mb, report
from torch import Tensor, nn

from fbsearch.fbnetv2.blocks import Choice, Widths
from fbsearch.fbnetv2.blocks.mbconv import MaskedMBConv
from fbsearch.fbnetv2.masks import at_sides
from fbsearch.machine.process import before_torch
from fbspace.blocks import build_block
from fbspace.opspec import OpSpec

BATCH, SIDE, EXPANSION, STEM = 64, 16, 6.0, 32
LAYERS = ((32, 1), (48, 2), (48, 1), (64, 2), (64, 1), (96, 1), (96, 1), (128, 1))
"""Largest width and stride of every layer."""
OPTIONS = (1, 2, 4, 8, 16)
RESOLUTIONS = (1, 2, 4)


def widths_of(largest: int, options: int) -> tuple[int, ...]:
    """Return so many widths up to the largest, evenly spaced down to half of it."""
    if options == 1:
        return (largest,)
    return tuple(round(largest / 2 + largest / 2 * i / (options - 1)) for i in range(options))


def sample(options: int, generator: torch.Generator) -> Tensor:
    return torch.softmax(torch.randn(options, generator=generator), 0)


class Masked(nn.Module):
    """Blocks that share their weights among the widths, at one or several resolutions."""

    def __init__(self, options: int, resolutions: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, STEM, 3, padding=1)
        self.sides = [SIDE - 2 * i for i in reversed(range(resolutions))]
        ins, blocks = (STEM,), []
        for largest, stride in LAYERS:
            outs = widths_of(largest, options)
            spec = OpSpec("mbconv", max(ins), largest, SIDE, SIDE, 3, stride, EXPANSION, activation="relu")
            blocks.append(MaskedMBConv(spec, Widths(ins, (EXPANSION,), outs)))
            ins = outs
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Map N, 3, side, side to N, channels."""
        x, ins, sides = self.stem(x), torch.ones(1), list(self.sides)
        at = sample(len(sides), generator)
        for block in self.blocks:
            assert isinstance(block, MaskedMBConv)
            choice = Choice(ins, torch.ones(1), sample(len(block.widths.outs), generator))
            below = [-(-side // block.spec.stride) for side in sides]
            if len(sides) == 1:
                x = block(x, choice)
            else:
                x = at_sides(lambda y, b=block, c=choice: b(y, c), x, at, sides, max(below))
            sides, ins = below, choice.outs
        return x.mean((2, 3))


class Explicit(nn.Module):
    """A block for every width."""

    def __init__(self, options: int, resolutions: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, STEM, 3, padding=1)
        ins, layers = STEM, []
        for largest, stride in LAYERS:
            specs = [
                OpSpec("mbconv", ins, width, SIDE, SIDE, 3, stride, EXPANSION) for width in widths_of(largest, options)
            ]
            layers.append(nn.ModuleList(build_block(spec) for spec in specs))
            ins = largest
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Map N, 3, side, side to N, channels."""
        x = self.stem(x)
        for layer, (largest, _) in zip(self.layers, LAYERS, strict=True):
            assert isinstance(layer, nn.ModuleList)
            outputs = [block(x) for block in layer]
            x = torch.stack(
                [
                    g * nn.functional.pad(y, (0, 0, 0, 0, 0, largest - y.shape[1]))
                    for g, y in zip(sample(len(layer), generator), outputs, strict=True)
                ]
            ).sum(0)
        return x.mean((2, 3))


def measure(kind: str, options: int, resolutions: int, steps: int) -> dict[str, Any]:
    """Return the seconds of every step and the peak memory over that of the idle process, in MB."""
    before_torch()
    torch.set_num_threads(2)
    torch.manual_seed(0)
    idle_mb = peak_mb()
    net = (Masked if kind == "masked" else Explicit)(options, resolutions).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = torch.randn(BATCH, 3, SIDE, SIDE).contiguous(memory_format=torch.channels_last)
    generator, seconds = torch.Generator().manual_seed(0), []
    for _ in range(steps + 1):
        start = time.perf_counter()
        net(x, generator).square().mean().backward()
        for parameter in net.parameters():
            parameter.grad = None
        seconds.append(time.perf_counter() - start)
    return {"seconds": seconds[1:], "memory_mb": peak_mb() - idle_mb}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one turn of few steps")
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        kind, *numbers = arguments.one
        print(json.dumps(measure(kind, *map(int, numbers))))
        return
    points = [("masked", options, 1) for options in OPTIONS]
    points += [("masked", 1, resolutions) for resolutions in RESOLUTIONS[1:]]
    points += [("explicit", options, 1) for options in (OPTIONS[:3] if arguments.quick else OPTIONS)]
    turns, steps = (1, 2) if arguments.quick else (3, 6)
    results: dict[tuple[str, int, int], list[dict[str, Any]]] = {point: [] for point in points}
    for turn in range(turns):
        for point in points:
            print(f"turn {turn + 1} of {turns}: {point}", file=sys.stderr)
            argv = [sys.executable, __file__, "--one", *map(str, point), str(steps)]
            output = subprocess.run(argv, check=True, stdout=subprocess.PIPE).stdout
            results[point].append(json.loads(output))
    seconds = {p: statistics.median(s for r in found for s in r["seconds"]) for p, found in results.items()}
    memory = {p: statistics.median(r["memory_mb"] for r in found) for p, found in results.items()}
    base, most = ("masked", 1, 1), ("masked", OPTIONS[-1], 1)
    figures = [
        Figure("memory_of_16_to_1_options", memory[most] / memory[base], "x", 1.05),
        Figure("time_of_16_to_1_options", seconds[most] / seconds[base], "x", 1.10),
    ]
    for kind, options, resolutions in points:
        name = f"{kind}_{options}_options" if resolutions == 1 else f"{kind}_{resolutions}_resolutions"
        point = (kind, options, resolutions)
        figures += [Figure(f"{name}_step", seconds[point], "s"), Figure(f"{name}_memory", memory[point], "MB")]
    for name, point in (
        (f"explicit_{points[-1][1]}_to_1_options", points[-1]),
        ("4_to_1_resolutions", ("masked", 1, RESOLUTIONS[-1])),
    ):
        first = (point[0], 1, 1)
        figures.append(Figure(f"memory_of_{name}", memory[point] / memory[first], "x"))
        figures.append(Figure(f"time_of_{name}", seconds[point] / seconds[first], "x"))
    report("masking_scale", figures, quick=arguments.quick, batch=BATCH, turns=turns)


if __name__ == "__main__":
    main()
