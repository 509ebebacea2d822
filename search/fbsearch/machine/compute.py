"""Compute: where and in what precision a network is trained: device, mixed precision, compilation."""

import contextlib
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from fbsearch.errors import SearchError
from fbsearch.machine.convolutions import use_own_convolutions

AMP = {"none": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True, slots=True)
class Compute:
    """Device, precision of matrix products and convolutions (a key of AMP), and whether networks are compiled.

    It does not decide what is learnt, only with which rounding: a run may go on with another one.
    """

    device: torch.device = torch.device("cpu")  # noqa: RUF009  # immutable
    amp: str = "none"
    compile: bool = False

    @classmethod
    def choose(
        cls, device: str = "auto", amp: str = "none", compile: bool = False, local_rank: int | None = None
    ) -> "Compute":
        """Return the device `auto` (CUDA where there is one), `cpu`, `cuda` or `cuda:1`.

        With `local_rank`, the number of this process on its host, `auto` and `cuda` mean the GPU of that number.
        Raises SearchError where the device or its precision is not there.
        """
        if amp not in AMP:
            raise SearchError(f"--amp is one of {', '.join(AMP)}, not {amp!r}")
        there = torch.cuda.is_available()
        name = ("cuda" if there else "cpu") if device == "auto" else device
        if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
            raise SearchError(f"--device is auto, cpu, cuda, or one of several GPUs (cuda:1), not {device!r}")
        if local_rank is not None and name != "cpu":
            if name != "cuda":
                raise SearchError(
                    f"--device {device} with torchrun: each process takes the GPU of its number; use cuda"
                )
            name = f"cuda:{local_rank}"
        chosen = torch.device(name)
        if chosen.type == "cuda" and not there:
            build = "this torch is for CPUs only" if torch.version.cuda is None else "torch finds no GPU"
            raise SearchError(f"--device {device}: {build}. Use --device cpu or auto, or install torch with CUDA")
        if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
            raise SearchError(f"there is no {name}: there are {torch.cuda.device_count()} GPUs, counted from cuda:0")
        if amp == "fp16" and chosen.type != "cuda":
            raise SearchError("--amp fp16 needs a GPU; on a CPU use --amp bf16 or none")
        if compile and not any(map(shutil.which, (os.environ.get("CXX", "c++"), "g++", "clang++"))):
            raise SearchError("--compile needs a C++ compiler (g++ or clang++), and none is found; leave it away")
        return cls(chosen, amp, compile)

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """Return the context of a forward pass and its loss; weights and gradients stay float32."""
        if self.amp == "none":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, AMP[self.amp])

    def place(self, module: M) -> M:
        """Move a module to the device, in the memory layout and form that convolutions are fast in."""
        if self.device.type == "cpu":
            use_own_convolutions(module)
        return module.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]

    def batch(self, x: Tensor) -> Tensor:
        """Move N, C, H, W to the device, in the same layout."""
        return x.to(self.device, memory_format=torch.channels_last, non_blocking=True)

    def compiled(self, module: nn.Module) -> Callable[[Tensor], Tensor]:
        """Return what to call in the module's place: itself, or a compiled form that has the same weights."""
        return torch.compile(module) if self.compile else module


def channels_last(x: Tensor) -> Tensor:
    """Return images laid out as the supernet's convolutions are."""
    return x.contiguous(memory_format=torch.channels_last)
