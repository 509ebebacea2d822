"""RunFolder: what a search leaves behind after every epoch, and the refusal to continue another search's folder."""

import dataclasses
import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fbbase.files import storage_errors, write_bytes
from fblut.table import Lut
from fblut.writing import format_lut
from fbsearch.data import Data
from fbsearch.errors import SearchError
from fbsearch.settings import Settings
from fbspace.space import Space
from fbspace.weights import UNREADABLE

FORMAT = "fbnet-lab checkpoint 1"
SEARCH, TRAIN = "search.ckpt", "train.ckpt"
FILES = (SEARCH, TRAIN, "arch.json", "weights.pt", "metrics.jsonl")


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The folder of one search: its path, its settings, and hashes of what it reads (table, space, images)."""

    path: Path
    settings: Settings
    inputs: dict[str, str]

    @classmethod
    def of(cls, path: Path, settings: Settings, space: Space, lut: Lut, data: Data) -> "RunFolder":
        """Describe the folder of a search with these settings and inputs."""
        inputs = {
            "latency table": _hash(format_lut(lut)),
            "search space": _hash(repr((space.stem, space.layers, space.heads))),
            "images": data.fingerprint,
        }
        return cls(path, settings, inputs)

    def save(self, name: str, state: dict[str, Any]) -> None:
        """Write a checkpoint in one step: after a kill the folder holds the old one or the new one."""
        header = {"format": FORMAT, "settings": dataclasses.asdict(self.settings), "inputs": self.inputs}
        buffer = io.BytesIO()
        torch.save({**header, "state": state}, buffer)
        write_bytes(self.path / name, buffer.getvalue())

    def load(self, name: str) -> dict[str, Any] | None:
        """Return the state that `save` wrote, None where there is none.

        Executes no code from the file. Raises SearchError where it is damaged or belongs to another search.
        """
        path = self.path / name
        if not path.exists():
            return None
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
            known = isinstance(content, dict) and content.get("format") == FORMAT
        except UNREADABLE:
            known = False
        if not known:
            raise SearchError(f"{path} is not a checkpoint of this version; start over with --fresh")
        differences = self.settings.differences(content["settings"])
        inputs = content["inputs"]
        differences += [f"another {what}" for what in self.inputs if self.inputs[what] != inputs.get(what)]
        if differences:
            raise SearchError(
                f"{self.path} holds a search with other settings ({'; '.join(differences)}). "
                "Continue it with its own settings, choose another folder with -o, or start over with --fresh"
            )
        state: dict[str, Any] = content["state"]
        return state

    def clear(self) -> None:
        """Remove what an earlier search left in the folder, and nothing else."""
        with storage_errors(self.path):
            for name in FILES:
                (self.path / name).unlink(missing_ok=True)
            for events in (self.path / "tensorboard").rglob("events.out.tfevents.*"):
                events.unlink()


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
