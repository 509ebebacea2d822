"""Metrics: means over images, and one JSON line and one TensorBoard step per epoch."""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fbbase.files import read_bytes, storage_errors, write_text
from fbsearch.errors import SearchError


@dataclass(slots=True)
class Mean:
    """Sums of three values over images. They stay on the device of the batches: reading one waits for a GPU."""

    sums: Tensor = field(default_factory=lambda: torch.zeros(4, dtype=torch.float64))
    """Images, then the values."""

    @torch.no_grad()
    def add(self, images: int, means: Sequence[Tensor], counts: Sequence[Tensor]) -> None:
        """Add a batch: values that are its means, then values that count some of its images."""
        device = counts[0].device
        batch = [mean.double() * images for mean in means] + [count.double() for count in counts]
        self.sums = self.sums.to(device)
        self.sums[0] += images
        self.sums[1:] += torch.stack([value.to(device) for value in batch])

    @property
    def images(self) -> int:
        """The number of images."""
        return int(self.sums[0])

    def values(self) -> list[float]:
        """Return the mean of every value."""
        images, *sums = self.sums.tolist()
        return [value / max(images, 1) for value in sums]


class Metrics:
    """Writes metrics of a stage (`search`, `train`) from epoch `start` on; lines that a killed run left after it go.

    Numbers become TensorBoard scalars `stage/name`, those below them `stage/name/layer_01`, and so on; names and
    what is not there are in the JSON lines alone.
    """

    def __init__(self, folder: Path, stage: str, start: int) -> None:
        from tensorboard.summary.writer.record_writer import RecordWriter

        self.stage = stage
        path = folder / "metrics.jsonl"
        with storage_errors(path):
            folder.mkdir(parents=True, exist_ok=True)
            write_text(path, "".join(f"{line}\n" for line in _kept(path, stage, start)))
            self.file = path.open("a", encoding="utf-8")
            events = folder / "tensorboard" / stage / f"events.out.tfevents.{start:06d}"
            events.parent.mkdir(parents=True, exist_ok=True)
            self.board = RecordWriter(events.open("wb"))
        self._event(0, file_version="brain.Event:2")
        self._event(start, session_log={"status": "START"})  # TensorBoard forgets later steps of a killed run

    def __enter__(self) -> "Metrics":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self.board.close()

    def write(self, epoch: int, values: dict[str, Any]) -> None:
        """Record one epoch."""
        with storage_errors(Path(self.file.name)):
            self.file.write(json.dumps({"stage": self.stage, "epoch": epoch, **values}, ensure_ascii=False) + "\n")
            self.file.flush()
            scalars = [scalar for name, value in values.items() for scalar in _scalars(f"{self.stage}/{name}", value)]
            self._event(epoch, summary={"value": [{"tag": name, "simple_value": x} for name, x in scalars]})

    def _event(self, step: int, **content: Any) -> None:
        """Append one TensorBoard event. SummaryWriter would write in a thread, which Ctrl-C can leave waiting."""
        from tensorboard.compat.proto.event_pb2 import Event

        self.board.write(Event(wall_time=time.time(), step=step, **content).SerializeToString())
        self.board.flush()


def _scalars(name: str, value: Any) -> Iterator[tuple[str, float]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _scalars(f"{name}/{key}", item)
    elif isinstance(value, int | float):
        yield name, float(value)


def _kept(path: Path, stage: str, start: int) -> list[str]:
    """Return the lines of other stages and of epochs before `start`; the half line of a killed run is dropped.

    Raises SearchError for a file of something else.
    """
    if not path.exists():
        return []
    lines = []
    text = read_bytes(path, "record of a training", error=SearchError).decode(errors="replace")
    for line in text.splitlines():
        try:
            record = json.loads(line)
            is_kept = record["stage"] != stage or record["epoch"] < start
        except json.JSONDecodeError:
            continue
        except (LookupError, TypeError, ValueError, RecursionError):
            raise SearchError(
                f"{path} is not the record of a search or training: {line[:60]!r}; move it away"
            ) from None
        if is_kept:
            lines.append(line)
    return lines
