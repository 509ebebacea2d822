"""Result: what a run came to know of model files, as a JSON file that report and compare take."""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic

from fbbase.errors import FbError
from fbbase.files import atomic_write, read_text, write_text
from fbbase.parsing import parse_json
from fbbase.shown import cell
from fblut.table import LARGEST_US, SMALLEST_US
from fbprof.estimate.verdict import Verdict
from fbprof.journal.conditions import device_words

FORMAT = "fbnet-lab profile 1"
CSV_COLUMNS = (
    "device", "model", "runtime", "threads", "cores", "layer", "kind", "shape", "latency_us", "ci_low_us", "ci_high_us",
    "share_percent", "alone_us", "macs", "p50_us", "p90_us", "p99_us", "worst_us", "first_us", "load_us", "peak_bytes",
    "failed", "note",
)  # fmt: skip

LISTED = ("litert", "onnxruntime")
"""Runtimes of the model formats whose nodes are listed; the others' files are not looked into (fbmodel.formats)."""

LONGEST = 5000
"""Characters of a text: a file's path fits, and what files call their nodes, at times whole pages, is cut there."""


def _shortened(text: object) -> object:
    return f"{text[: LONGEST - 1]}…" if isinstance(text, str) and len(text) > LONGEST else text


_Name = Annotated[str, pydantic.BeforeValidator(_shortened)]
_Us = Annotated[float, pydantic.Field(ge=0, le=LARGEST_US, allow_inf_nan=False)]
_Latency = Annotated[float, pydantic.Field(ge=SMALLEST_US, le=LARGEST_US, allow_inf_nan=False)]
_Count = Annotated[int, pydantic.Field(ge=0, lt=1 << 62)]
_Percent = Annotated[float, pydantic.Field(ge=0, le=1e6, allow_inf_nan=False)]


class _Part(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")


class Layer(_Part):
    """One part of a model that runs as one: its nodes, and what it takes within the whole, with its 95 % interval.

    `alone_us` is what it took cut out of the file; None where it could not be run alone, and then it has what is left.
    """

    name: _Name
    kind: _Name
    nodes: _Count
    output_shape: tuple[_Count, ...] | None = None
    macs: _Count | None = None
    latency_us: _Us | None = None
    ci_low_us: _Us | None = None
    ci_high_us: _Us | None = None
    alone_us: _Us | None = None
    note: _Name = ""


class Profiled(_Part):
    """One model under one setting; times in microseconds. One that failed has no numbers, and the reason in `failed`.

    `latency_us` is without the device's drift, with its 95 % interval; the percentiles and `worst_us` are of every
    sample that was kept, as it was. `first_us` is the first run after loading, `load_us` loading itself (medians of the
    loads), `peak_bytes` by how much the process grew at most. `by_cpu_time`: other work came between in nearly every
    run, and those runs count with their thread's CPU time.
    """

    name: _Name
    runtime: _Name
    runtime_version: _Name = ""
    threads: Annotated[int, pydantic.Field(ge=1)] = 1
    cores: _Name = "any"
    inputs: tuple[_Name, ...] = ()
    sha256: _Name = ""
    file_bytes: _Count = 0
    parameters: _Count | None = None
    macs: _Count | None = None
    latency_us: _Latency | None = None
    ci_low_us: _Us | None = None
    ci_high_us: _Us | None = None
    p50_us: _Us | None = None
    p90_us: _Us | None = None
    p99_us: _Us | None = None
    worst_us: _Us | None = None
    samples: _Count = 0
    preempted: _Count = 0
    by_cpu_time: bool = False
    loads: _Count = 0
    first_us: _Us | None = None
    load_us: _Us | None = None
    peak_bytes: _Count | None = None
    kernels: _Name = ""
    failed: _Name = ""
    layers: tuple[Layer, ...] = ()
    layers_note: _Name = ""

    @property
    def half_width_percent(self) -> float | None:
        """Half of the 95 % interval in percent of the latency; None where there is none."""
        if self.latency_us is None or self.ci_low_us is None or self.ci_high_us is None:
            return None
        return 50 * (self.ci_high_us - self.ci_low_us) / self.latency_us

    @property
    def setting(self) -> str:
        """How it was run, in words."""
        bound = "" if self.cores == "any" else f", cores {self.cores}"
        return f"{self.runtime} {self.runtime_version}, {self.threads} thread{'s' * (self.threads != 1)}{bound}"


class Result(_Part):
    """What one device came to: who it is, how well the run went, and every model under every setting."""

    format: Literal["fbnet-lab profile 1"] = FORMAT  # type: ignore[assignment]
    device: _Name
    device_model: _Name | None = None
    soc: _Name = "unknown"
    system: _Name = "unknown"
    agent: _Name = "unknown"
    tool_version: _Name = "unknown"
    measured_at: _Name = "unknown"
    timing: _Name = ""
    conditions: _Name = ""
    drift_range_percent: _Percent | None = None
    reference_us: _Latency | None = None
    reference_error_percent: _Percent | None = None
    speed_error_percent: _Percent | None = None
    verdict: Verdict
    warnings: tuple[_Name, ...] = ()
    models: Annotated[tuple[Profiled, ...], pydantic.Field(min_length=1)]

    @property
    def runtime(self) -> str:
        """Runtime of the reference workload, which runs as the first model does."""
        return self.models[0].runtime

    @property
    def runtime_version(self) -> str:
        """Its version."""
        return self.models[0].runtime_version

    @property
    def threads(self) -> int:
        """Threads of the reference workload."""
        return self.models[0].threads

    @property
    def cores(self) -> str:
        """Cores that it was bound to, `any` where it was not."""
        return self.models[0].cores

    @property
    def could_be_listed(self) -> bool:
        """Whether `--layers` would say more: no layer is listed, and a model is of a kind whose layers can be."""
        is_listed = any(each.layers or each.layers_note for each in self.models)
        return not is_listed and any(each.runtime in LISTED for each in self.models)

    @property
    def where(self) -> str:
        """Which device it is, as far as it tells."""
        return device_words(self.device_model, self.soc)

    @pydantic.field_validator("models")
    @classmethod
    def _no_doubles(cls, models: tuple[Profiled, ...]) -> tuple[Profiled, ...]:
        """Refuse two models of one name: nobody can tell which is meant."""
        name, times = Counter(each.name for each in models).most_common(1)[0]
        if times > 1:
            raise ValueError(f"model {name!r:.80} is there {times} times: keep one")
        return models


def write_result(result: Result, path: Path) -> None:
    """Write a result in one step."""
    write_text(path, json.dumps(result.model_dump(mode="json", exclude_none=True), indent=1, ensure_ascii=False) + "\n")


def write_csv(results: Iterable[Result], path: Path) -> None:
    """Write a line for every layer of every model in one step, and one for the whole of each, whose layer is empty."""
    with atomic_write(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(CSV_COLUMNS)
        for result in results:
            for each in result.models:
                parts: tuple[Profiled | Layer, ...] = (each, *each.layers)
                for part in parts:
                    told: dict[str, object] = {"device": result.device, "model": each.name, "runtime": each.runtime}
                    told |= {"layer": part.name} if isinstance(part, Layer) else {}
                    if part.latency_us is not None and each.latency_us:
                        told["share_percent"] = round(100 * part.latency_us / each.latency_us, 3)
                    if isinstance(part, Layer) and part.output_shape:
                        told["shape"] = "x".join(map(str, part.output_shape))
                    row = part.model_dump(include=set(CSV_COLUMNS)) | told
                    writer.writerow([cell(str(v)) if (v := row.get(name)) is not None else "" for name in CSV_COLUMNS])
        text.detach()


def is_result(path: Path) -> bool:
    """Whether a file is to be read as a result: by its name, as tables are CSV."""
    return path.suffix == ".json"


def read_result(path: Path) -> Result:
    """Read a result. Raises FbError with file and place where it is none."""
    content: Any = parse_json(read_text(path, "result of fbprof profile"), str(path))
    try:
        return Result.model_validate(content)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "file"
        raise FbError(f"{path} is no result of fbprof profile: {where}: {first['msg']}") from None
