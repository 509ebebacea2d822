"""Metrics: one JSON line and one TensorBoard step per epoch."""

import json
from pathlib import Path
from types import TracebackType
from typing import Any

from fbbase.files import storage_errors, write_text


class Metrics:
    """Writes metrics of a stage (`search`, `train`) from epoch `start` on; lines that a killed run left after it go.

    Numbers become TensorBoard scalars `stage/name`; lists and lists of lists (per layer, per candidate) become
    `stage/name/layer_01` and `stage/name/layer_01/candidate`.
    """

    def __init__(self, folder: Path, stage: str, start: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.stage = stage
        path = folder / "metrics.jsonl"
        with storage_errors(path):
            folder.mkdir(parents=True, exist_ok=True)
            write_text(path, "".join(f"{line}\n" for line in _kept(path, stage, start)))
            self.file = path.open("a", encoding="utf-8")
            self.board = SummaryWriter(str(folder / "tensorboard" / stage), purge_step=start)

    def __enter__(self) -> "Metrics":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.file.close()
        self.board.close()

    def write(self, epoch: int, values: dict[str, Any]) -> None:
        """Record one epoch."""
        with storage_errors(Path(self.file.name)):
            self.file.write(json.dumps({"stage": self.stage, "epoch": epoch, **values}, ensure_ascii=False) + "\n")
            self.file.flush()
            for name, value in values.items():
                self._scalars(f"{self.stage}/{name}", value, epoch)
            self.board.flush()

    def _scalars(self, name: str, value: Any, epoch: int) -> None:
        if isinstance(value, dict):
            for key, item in value.items():
                self._scalars(f"{name}/{key}", item, epoch)
        else:
            self.board.add_scalar(name, value, epoch)


def _kept(path: Path, stage: str, start: int) -> list[str]:
    """Return the lines of other stages and of epochs before `start`; the half line of a killed run is dropped."""
    if not path.exists():
        return []
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        if record["stage"] != stage or record["epoch"] < start:
            lines.append(line)
    return lines
