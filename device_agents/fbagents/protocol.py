"""The agent's replies, parsed with bounds: what a device sends is never trusted (docs/agent-protocol.md)."""

from typing import Annotated, Literal

import pydantic

from fbagents.errors import AgentReplyError

PROTOCOL = 1
MAX_LINE_BYTES = 4 << 20

_Name = Annotated[str, pydantic.Field(max_length=2000)]
_Nanoseconds = Annotated[int, pydantic.Field(ge=0, lt=1 << 62)]
_Samples = Annotated[tuple[_Nanoseconds, ...], pydantic.Field(min_length=1, max_length=100_000)]


class _Reply(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, strict=False, extra="ignore")

    id: int | None = None


class Hello(_Reply):
    """First line of an agent: what it is and what it can do; `overhead_ns` is what a sample of nothing takes."""

    event: Literal["hello"]
    protocol: int
    agent: _Name
    runtimes: dict[_Name, _Name]
    threads: Annotated[int, pydantic.Field(ge=1)]
    cores: tuple[int, ...] | None
    clocks: tuple[_Name, ...]
    overhead_ns: _Nanoseconds | None = None
    soc: _Name
    system: _Name


class Loaded(_Reply):
    """A model is loaded and ran once on the test input; the sums let a host compare outputs across devices.

    `memory_bytes` is by how much the agent grew, None where the system does not tell.
    """

    event: Literal["loaded"]
    model: _Name
    load_ns: _Nanoseconds
    memory_bytes: Annotated[int, pydantic.Field(ge=0)] | None = None
    outputs: int
    output_sum: float
    output_abs_sum: float


class Visit(_Reply):
    """Raw samples of one visit to a model: wall and, for one thread, thread-CPU nanoseconds of each run."""

    event: Literal["visit"]
    index: Annotated[int, pydantic.Field(ge=0)]
    model: _Name
    start_ns: _Nanoseconds
    wall_ns: _Samples
    cpu_ns: _Samples | None
    core: int | None = None
    freq_khz: int | None = None


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
    denied: tuple[_Name, ...] = ()


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
    message: Annotated[str, pydantic.Field(max_length=10_000)]


class Bye(_Reply):
    """Last line of an agent."""

    event: Literal["bye"]


Reply = Hello | Loaded | State | Visit | Done | Unloaded | Error | Bye
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
