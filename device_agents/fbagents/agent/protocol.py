"""The agent's replies, parsed with bounds: what a device sends is never trusted (docs/devices/agent-protocol.md)."""

import math
from typing import Annotated, Literal, Self

import pydantic

from fbagents.errors import AgentReplyError, DeviceError

PROTOCOL = 2
MAX_LINE_BYTES = 4 << 20
MAX_CORES = 1024
NOT_FINITE = "its outputs on the test input are not finite: NaN or infinity is computed, which may take another time"

_Name = Annotated[str, pydantic.Field(max_length=2000)]
_ONE_LINE = pydantic.AfterValidator(lambda text: " ".join(text.split()))
"""What people read of an agent's stands on one line, so that none of it passes for a line of ours."""
_Words = Annotated[_Name, _ONE_LINE]
_Nanoseconds = Annotated[int, pydantic.Field(ge=0, lt=1 << 62)]
_Integer = Annotated[int, pydantic.Field(gt=-(1 << 62), lt=1 << 62)]
_Core = Annotated[int, pydantic.Field(ge=0, lt=MAX_CORES)]
_Sum = Annotated[float, pydantic.BeforeValidator(lambda value: math.nan if value is None else value)]
_Samples = Annotated[tuple[_Nanoseconds, ...], pydantic.Field(min_length=1, max_length=100_000)]


class _Reply(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, strict=False, extra="ignore")

    id: int | None = None


class Cluster(pydantic.BaseModel, frozen=True, extra="ignore"):
    """The cores of one kind that are on: those of the same Linux `capacity` whose clock goes up to the same `max_khz`.

    None is what the device, or an earlier agent, does not tell.
    """

    capacity: Annotated[int, pydantic.Field(gt=0, lt=1 << 40)] | None = None
    max_khz: Annotated[int, pydantic.Field(gt=0, lt=1 << 40)] | None = None
    cores: Annotated[tuple[_Core, ...], pydantic.Field(min_length=1, max_length=MAX_CORES)]


class Hello(_Reply):
    """First line of an agent: what it is and what it can do; `overhead_ns` is what a sample of nothing takes.

    `cores` are those that the agent may run on, after it was bound; `clusters` the device's, the weakest first, None
    where it does not tell. `device_model` is what its maker calls it. `takes_inputs`: a load may have `inputs` and
    `inputs_path`, of which earlier agents know nothing. A replay tells in `recorded_at` when its samples were measured.
    """

    event: Literal["hello"]
    protocol: int
    agent: _Words
    runtimes: dict[_Name, _Words]
    threads: Annotated[int, pydantic.Field(ge=1)]
    cores: tuple[int, ...] | None
    clusters: Annotated[tuple[Cluster, ...], pydantic.Field(max_length=MAX_CORES)] | None = None
    clocks: tuple[_Name, ...]
    overhead_ns: _Nanoseconds | None = None
    takes_inputs: bool = False
    soc: _Words
    system: _Words
    device_model: _Words | None = None
    recorded_at: _Name | None = None


class Delegate(pydantic.BaseModel, frozen=True, extra="ignore"):
    """How much of a model a delegate executes, the rest being left to the CPU; `detail` is what is counted.

    `untold` is one that was asked for, and of which nothing is told.
    """

    name: _Words
    extent: Literal["completely", "partially", "not", "untold"]
    detail: _Words = ""

    def __str__(self) -> str:
        how = {"partially": "only partially", "not": "not at all", "untold": "not told"}.get(self.extent, self.extent)
        return f"{self.name} delegate: {how}" + (f", {self.detail}" if self.detail else "")


class Loaded(_Reply):
    """A model is loaded and ran once; the sums let a host compare outputs across devices.

    `first_ns` is what that first run took, `peak_bytes` how far the process's memory went beyond what it occupied
    before the load, `memory_bytes` by how much it grew; None where the system, or an earlier agent, does not tell.
    `outputs` is 0 for an agent that sees none (`benchmark_model`), and `delegates` are those that it speaks of.
    """

    event: Literal["loaded"]
    model: _Name
    load_ns: _Nanoseconds
    first_ns: _Nanoseconds | None = None
    peak_bytes: Annotated[int, pydantic.Field(ge=0)] | None = None
    memory_bytes: Annotated[int, pydantic.Field(ge=0)] | None = None
    outputs: int
    output_sum: _Sum
    output_abs_sum: _Sum
    delegates: Annotated[tuple[Delegate, ...], pydantic.Field(max_length=100)] = ()

    @property
    def is_finite(self) -> bool:
        """Whether the outputs are numbers, and neither infinity nor NaN is among them."""
        return math.isfinite(self.output_sum) and math.isfinite(self.output_abs_sum)


class Written(_Reply):
    """A file is written and has the content that was meant."""

    event: Literal["written"]


class Visit(_Reply):
    """Raw samples of one visit to a model: wall and, for one thread, thread-CPU nanoseconds of each run."""

    event: Literal["visit"]
    index: Annotated[int, pydantic.Field(ge=0, lt=1 << 62)]
    model: _Name
    start_ns: _Nanoseconds
    wall_ns: _Samples
    cpu_ns: _Samples | None
    core: _Integer | None = None
    freq_khz: _Integer | None = None

    @pydantic.model_validator(mode="after")
    def _of_one_length(self) -> Self:
        if self.cpu_ns is not None and len(self.cpu_ns) != len(self.wall_ns):
            raise ValueError(f"{len(self.wall_ns)} wall times and {len(self.cpu_ns)} CPU times")
        return self


class State(_Reply):
    """The device between two schedules; None for what it does not tell.

    `affinity` are the cores the agent may run on now (hotplug may change what it was bound to); frequencies by core,
    temperatures in degrees Celsius by thermal zone or battery; `denied` names the fields of which something exists that
    the agent may not read.
    """

    event: Literal["state"]
    core: int | None = None
    affinity: tuple[int, ...] | None = None
    freq_khz: dict[_Name, int] | None = None
    temperature_c: dict[_Name, Annotated[float, pydantic.Field(allow_inf_nan=False)]] | None = None
    memory_available_bytes: Annotated[int, pydantic.Field(ge=0)] | None = None
    denied: tuple[_Words, ...] = ()


class Done(_Reply):
    """The schedule is finished; without this line a run does not count."""

    event: Literal["done"]
    visits: int


class Unloaded(_Reply):
    """A model is unloaded."""

    event: Literal["unloaded"]
    model: _Name


class Error(_Reply):
    """A request failed; the agent goes on."""

    event: Literal["error"]
    message: Annotated[str, pydantic.Field(max_length=10_000), _ONE_LINE]


class Bye(_Reply):
    """Last line of an agent."""

    event: Literal["bye"]


Reply = Hello | Written | Loaded | State | Visit | Done | Unloaded | Error | Bye
_ADAPTER: pydantic.TypeAdapter[Reply] = pydantic.TypeAdapter(Annotated[Reply, pydantic.Field(discriminator="event")])


def parse_reply(line: bytes) -> Reply:
    """Parse one line. Raises AgentReplyError that carries the raw text."""
    try:
        return _ADAPTER.validate_json(line)
    except pydantic.ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "line"
        shown = line[:200].decode(errors="backslashreplace")
        raise AgentReplyError(f"the agent sent what is not a reply ({where}: {first['msg']}): {shown!r}") from None


class _Version(pydantic.BaseModel, extra="allow"):
    """What is looked at before the version is known: an agent that tells none is older than those that do."""

    event: Literal["hello"]
    protocol: int = 0
    agent: _Name = "unnamed"


def check_version(line: bytes) -> None:
    """Raise DeviceError where an agent's first line is another version's hello; the error says which is the older.

    Nothing else of the line is judged: another version's hello may have other fields.
    """
    try:
        hello = _Version.model_validate_json(line)
    except pydantic.ValidationError:
        return  # no hello at all: parse_reply tells what it is
    required = [name for name, field in Hello.model_fields.items() if field.is_required()]
    missing = [name for name in required if name not in hello.model_fields_set]
    spoken = f"protocol {hello.protocol} there, {PROTOCOL} here"
    if hello.protocol > PROTOCOL:
        age, why, remedy = "newer", spoken, "update fbnet-lab on this host, or put this host's agent there"
    elif hello.protocol < PROTOCOL or missing:
        why = spoken if hello.protocol < PROTOCOL else f"its hello has no {', '.join(missing)}"
        age, remedy = "older", "put this host's agent there"
    else:
        return
    raise DeviceError(
        f"the agent on the device ({hello.agent:.200}) is {age} than this host ({why}): {remedy}; fbprof agent build "
        "makes it, and a profile without `program` sends it by itself"
    )
