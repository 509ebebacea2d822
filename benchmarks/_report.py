"""What every benchmark prints: one JSON object on stdout with date, commit, machine, and each figure beside its goal.

Kept in docs/results/data/ it becomes part of docs/results/ (docs/write_results.py).
"""

import json
import os
import platform
import resource
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured number; `goal` is its limit, the largest allowed (`at_most`) or the smallest (`at_least`)."""

    name: str
    value: float
    unit: str
    goal: float | None = None
    sense: Literal["at_most", "at_least"] = "at_most"

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; None where there is no goal."""
        if self.goal is None:
            return None
        return self.value <= self.goal if self.sense == "at_most" else self.value >= self.goal


def report(benchmark: str, figures: Iterable[Figure], **details: Any) -> None:
    """Print the result; `details` are further entries, such as the settings of the run."""
    today = datetime.now(UTC).date().isoformat()
    result = {"benchmark": benchmark, "date": today, "commit": commit(), "machine": machine(), **details, "figures": {}}
    for figure in figures:
        entry = asdict(figure) | {"value": round(figure.value, 4), "met": figure.met}
        result["figures"][entry.pop("name")] = entry
    print(json.dumps(result, indent=2, ensure_ascii=False))


def has_images(benchmark: str, data: Path, **details: Any) -> bool:
    """Whether there are images; where not, that is all that a benchmark reports."""
    if not data.exists():
        print(f"skipped: there is no {data}; give CIFAR-10 as an .npz file with --data", file=sys.stderr)
        report(benchmark, [], **details, missing="CIFAR-10")
    return data.exists()


def commit() -> str | None:
    """Return the commit that runs, with -dirty after it where files differ; None outside of a clone."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=7", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def machine() -> dict[str, Any]:
    """Return what the numbers depend on: processor, cores this process may use, load, versions."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cpu": _cpu_model(),
        "cores": cores,
        "load_1min": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def peak_mb(usage: resource.struct_rusage | None = None) -> float:
    """Return the peak memory of this process, or that in the usage of another, in MB."""
    peak = (usage or resource.getrusage(resource.RUSAGE_SELF)).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3


def _cpu_model() -> str:
    """Return the processor's name, from Linux's /proc/cpuinfo where there is one."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
