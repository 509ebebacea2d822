"""Ranks: the processes that share one search under torchrun; a search of one process is the case of one rank."""

import contextlib
import datetime
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from fbbase.errors import FbError, PartialError
from fbbase.interrupt import Terminated
from fbsearch.errors import SearchError
from fbsearch.machine.compute import Compute

MEET = datetime.timedelta(minutes=10)
"""Time for all processes to find each other."""
WAIT = datetime.timedelta(days=30)
"""Time to wait for the other ranks, of which the first may train a network. A rank that dies is noticed at once."""
STOPS: tuple[Callable[[], BaseException], ...] = (Terminated, KeyboardInterrupt)
"""What ends a search between two steps."""

T = TypeVar("T")


class LostRankError(PartialError):
    """Another rank ended or cannot be reached; what was saved last is where the same command continues."""


class EndedElsewhere(Exception):  # noqa: N818  # an event, not a mistake
    """Another rank failed, and says why; this one ends with the same exit code and in silence."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(f"another rank failed with exit code {exit_code}")
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process's rank, and how many there are; all draw the same architectures, and each its part of a batch.

    Every method with the word "all" in its description is called by all ranks, in the same order. Raises LostRankError.
    """

    rank: int = 0
    world: int = 1
    group: Any = None

    def __deepcopy__(self, memo: object) -> "Ranks":
        """Return itself: copies of a network are on the same rank."""
        return self

    @property
    def is_first(self) -> bool:
        """Whether this rank writes files, shows progress and prints."""
        return self.rank == 0

    def add(self, values: Tensor) -> Tensor:
        """Return the sum over all ranks."""
        return self._reduced(values, dist.ReduceOp.SUM)

    def gather(self, values: Tensor) -> Tensor:
        """Return the values of all ranks, stacked in their order."""
        if self.world == 1:
            return values[None]
        gathered = [torch.empty_like(values) for _ in range(self.world)]
        with _lost_ranks():
            dist.all_gather(gathered, values, group=self.group)
        return torch.stack(gathered)

    def share(self, images: int) -> float:
        """Return this rank's share of the images that all ranks have in a step."""
        return images / float(self.add(torch.tensor(float(images)))) if self.world > 1 else 1.0

    def add_gradients(self, parameters: Iterable[nn.Parameter], loss: Tensor) -> Tensor:
        """Sum the gradients of all ranks, and return the sum of their losses.

        Each rank's loss is that of its part of the batch times its share of the images, so the sums are loss and
        gradient of the whole batch.
        """
        if self.world == 1:
            return loss
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients] + [loss.reshape(1).to(gradients[0])])
        sums = torch.split(self.add(flat), [*(gradient.numel() for gradient in gradients), 1])
        for gradient, summed in zip(gradients, sums, strict=False):
            gradient.copy_(summed.view_as(gradient))
        return sums[-1][0]

    def from_first(self, make: Callable[[], T]) -> T:
        """Return to all ranks what `make` returns on the first one; if it fails there, all end."""
        with self.together():
            box = [make() if self.is_first else None]
        if self.world > 1:
            with _lost_ranks():
                dist.broadcast_object_list(box, src=0, group=self.group, device=torch.device("cpu"))
        return box[0]  # type: ignore[return-value]

    def copy_from_first(self, tensors: Iterable[Tensor]) -> None:
        """Give the tensors of all ranks, which are on the CPU, the values that they have on the first one."""
        tensors = list(tensors)
        if self.world > 1:
            flat = torch.cat([tensor.detach().flatten() for tensor in tensors])
            with _lost_ranks():
                dist.broadcast(flat, src=0, group=self.group)
            with torch.no_grad():
                for tensor, value in zip(tensors, torch.split(flat, [t.numel() for t in tensors]), strict=True):
                    tensor.copy_(value.view_as(tensor))

    def agree(self, check_interrupt: Callable[[], None], due: bool) -> tuple[BaseException | None, bool]:
        """Return to all what ends them after this step, if one is interrupted, and whether it is due on the first."""
        asked = 0
        try:
            check_interrupt()
        except (Terminated, KeyboardInterrupt) as stop:
            asked = 1 + STOPS.index(type(stop))
        told = torch.tensor([asked, int(due and self.is_first)])
        stop_code, is_due = self._reduced(told, dist.ReduceOp.MAX).tolist()
        return (STOPS[stop_code - 1]() if stop_code else None), bool(is_due)

    def end(self, error: BaseException) -> NoReturn:
        """Raise an error that all ranks have met: it is the first one's to tell."""
        raise error if self.is_first else EndedElsewhere(exit_code_of(error))

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Wait at the end for all ranks; if one failed, all end: the first that did with its error, others in silence.

        What is done within has no collective steps of its own.
        """
        if self.world == 1:
            yield
            return
        error: BaseException | None = None
        try:
            yield
        except (FbError, KeyboardInterrupt) as caught:
            error = caught
        try:
            codes = self.gather(torch.tensor(0 if error is None else exit_code_of(error))).tolist()
        except LostRankError as lost:
            raise error or lost from None
        if any(codes):
            first = next(rank for rank, code in enumerate(codes) if code)
            if error is None or first != self.rank:
                raise EndedElsewhere(codes[first])
            raise error

    @classmethod
    @contextlib.contextmanager
    def joined(cls, compute: Compute) -> "Iterator[Ranks]":
        """Join the processes that torchrun started with this one, and part from them at the end.

        Without torchrun that is one rank. Small numbers go between CPUs (gloo), large ones between GPUs where the
        network is on one (nccl). Raises SearchError where the processes do not find each other.
        """
        world = world_size()
        if world == 1:
            yield cls()
            return
        backend = "gloo"
        if compute.device.type == "cuda":
            backend = "cpu:gloo,cuda:nccl"
            torch.cuda.set_device(compute.device)
        try:
            dist.init_process_group(backend, timeout=MEET)
            group = dist.new_group(backend=backend, timeout=WAIT)
        except (RuntimeError, ValueError) as error:
            raise SearchError(
                f"rank {os.environ['RANK']} of {world} did not find the others at {os.environ.get('MASTER_ADDR')}:"
                f"{os.environ.get('MASTER_PORT')} ({_first_line(error)}). Start the command on every host with the "
                "same --nnodes, --master-addr and --master-port of torchrun; where a host has several networks, name "
                "the one between the hosts in GLOO_SOCKET_IFNAME (and NCCL_SOCKET_IFNAME)"
            ) from None
        try:
            yield cls(dist.get_rank(), world, group)
        finally:
            dist.destroy_process_group()

    def _reduced(self, values: Tensor, operation: Any) -> Tensor:
        if self.world > 1:
            with _lost_ranks():
                dist.all_reduce(values, operation, group=self.group)
        return values


def exit_code_of(error: BaseException) -> int:
    """Return the exit code that an error ends a command with."""
    return error.exit_code if isinstance(error, FbError) else 130 if isinstance(error, KeyboardInterrupt) else 1


def world_size() -> int:
    """Return how many processes torchrun has started, 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1


def local_rank() -> int | None:
    """Return the number of this process on its host; None where there is only this one."""
    return int(os.environ.get("LOCAL_RANK", "0")) if world_size() > 1 else None


@contextlib.contextmanager
def _lost_ranks() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise LostRankError(
            f"another process of this search has ended or is out of reach ({_first_line(error)}); it says why itself. "
            "The same command continues from what was saved last"
        ) from None


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:200]
