"""RunFolder: what a search or a training leaves behind to be continued, and the refusal to continue another one."""

import contextlib
import hashlib
import io
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fbbase.errors import StorageError
from fbbase.files import storage_errors, write_bytes
from fbbase.locks import open_locked
from fbsearch.errors import SearchError
from fbspace.weights import load_tensors

FORMAT = "fbnet-lab checkpoint 2"
SEARCH, TRAIN = "search.ckpt", "train.ckpt"
OWNER = ".owner"
"""The process that writes the folder holds a lock on it."""
FILES = (SEARCH, TRAIN, "arch.json", "weights.pt", "metrics.jsonl")


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The folder of one search or training: its path, its settings (plain values), and hashes of what it reads."""

    path: Path
    settings: dict[str, Any]
    inputs: dict[str, str]

    def save(self, name: str, state: dict[str, Any]) -> None:
        """Write a checkpoint in one step: after a kill the folder holds the old one or the new one."""
        buffer = io.BytesIO()
        torch.save({"format": FORMAT, "settings": self.settings, "inputs": self.inputs, "state": state}, buffer)
        write_bytes(self.path / name, buffer.getvalue())

    def load(self, name: str) -> dict[str, Any] | None:
        """Return what `save` was given, None where there is none.

        Executes no code from the file. Raises SearchError where it is damaged or belongs to another run.
        """
        path = self.path / name
        if not path.exists():
            return None
        content, now = _read(path), self.settings
        then, inputs = content["settings"], content["inputs"]
        names = [name for name in sorted(then.keys() | now.keys()) if then.get(name) != now.get(name)]
        differences = [f"{name}: {then.get(name)!r} then, {now.get(name)!r} now" for name in names]
        differences += [f"another {what}" for what in self.inputs if self.inputs[what] != inputs.get(what)]
        if differences:
            raise SearchError(
                f"{self.path} holds a run with other settings ({'; '.join(differences)}). "
                "Continue it with its own settings, choose another folder with -o, or start over with --fresh"
            )
        state: dict[str, Any] = content["state"]
        return state

    @staticmethod
    def settings_of(path: Path, name: str) -> dict[str, Any]:
        """Return the settings of the run in the folder `path`. Raises SearchError where there is none."""
        if not (path / name).exists():
            raise SearchError(f"{path} is not the folder of a search: it has no {name}")
        settings: dict[str, Any] = _read(path / name)["settings"]
        return settings

    def clear(self, names: Iterable[str] = FILES) -> None:
        """Remove what an earlier run left in the folder under these names, its TensorBoard events, and nothing else."""
        with storage_errors(self.path):
            for name in names:
                (self.path / name).unlink(missing_ok=True)
            for events in (self.path / "tensorboard").rglob("events.out.tfevents.*"):
                events.unlink()


@contextlib.contextmanager
def owned(path: Path) -> Iterator[None]:
    """Let no other process write the run folder `path` meanwhile; the lock ends with the process, however it ends.

    Where no lock can be had, on a file system without any or without permission to write, none is. Raises HeldError
    that says who has it.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(StorageError):
            stack.callback(os.close, open_locked(path / OWNER, path))
        yield


def _read(path: Path) -> dict[str, Any]:
    """Return a checkpoint's content. Executes no code from the file; raises SearchError where it is damaged."""
    try:
        content = load_tensors(path, "checkpoint", SearchError)
    except SearchError:
        content = None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise SearchError(f"{path} is not a checkpoint of this version; start over with --fresh")
    return content


def hash_of(content: str | bytes) -> str:
    """Return a hash by which a run knows what it read."""
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()[:16]
