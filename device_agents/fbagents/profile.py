"""Profile: how to reach a device and how to measure on it, as a TOML file says it that a person can read."""

from typing import Annotated, Literal, TypeVar

import pydantic

from fbagents.agent.cores import check_cores
from fbagents.errors import ProfileError
from fbbase.errors import FbError
from fbexport.runtimes import RUNTIMES, process_variables

_Address = TypeVar("_Address", bound=pydantic.BaseModel)
ENVIRONMENT = {
    "MALLOC_MMAP_THRESHOLD_": "268435456",
    "MALLOC_TRIM_THRESHOLD_": "1073741824",
    "MALLOC_TOP_PAD_": "67108864",
    "OMP_WAIT_POLICY": "PASSIVE",
}
"""Variables of every agent's process, to which those of runtimes and a profile's own are added.

The allocator's thresholds are fixed: glibc otherwise hands large activations back to the kernel on every run, and
TorchScript's timing is bimodal (docs/measuring/method.md). The last keeps threads from spinning.
"""


def _checked_cores(text: str) -> str:
    try:
        return check_cores(text)
    except FbError as error:
        raise ValueError(str(error)) from None


def _checked_name(text: str) -> str:
    if not text.isprintable() or "/" in text or "\\" in text or not text.strip(" ."):
        raise ValueError(f"{text!r} cannot name a device, whose name names its files: take letters, digits, - and _")
    return text


class PhoneConditions(pydantic.BaseModel, extra="forbid", frozen=True):
    """What an Android phone is to be like while it is measured: the table `[phone]`."""

    stay_on: bool = True
    min_battery_percent: Annotated[int, pydantic.Field(ge=0, le=100)] = 20
    max_battery_c: Annotated[float, pydantic.Field(ge=0, le=60)] = 40.0
    cool_down_max_min: Annotated[float, pydantic.Field(ge=0, le=240)] = 10.0
    fixed_performance: bool = False


class Profile(pydantic.BaseModel, extra="forbid", frozen=True):
    """A device: its transport and where that finds it, which agent runs there, and the agent's environment.

    `address` is the transport's own (a host, a serial number, a port) and checked by it; `folder` is where the agent
    and its models lie on the device; `python` runs the Python agent there. `program` is an agent that lies on the
    device already. `binary`, `binary_arguments`: the agent `benchmark_model` (docs/devices/benchmark-model.md).
    `keep` leaves what was pushed there for the next run. `cores` are those to bind the agent to unless others are
    asked for. `phone` is for phones over adb.
    """

    name: Annotated[str, pydantic.AfterValidator(_checked_name)]
    description: str
    transport: str
    address: dict[str, str | int | float | bool] = {}
    folder: str | None = None
    agent: Literal["python", "native", "benchmark_model"] = "python"
    python: str | None = None
    program: str | None = None
    binary: str | None = None
    binary_arguments: tuple[str, ...] = ()
    keep: bool = False
    cores: Annotated[str, pydantic.AfterValidator(_checked_cores)] | None = None
    phone: PhoneConditions | None = None
    environment: dict[str, str] = pydantic.Field(default={}, validate_default=True)

    @pydantic.field_validator("environment")
    @classmethod
    def _added(cls, environment: dict[str, str]) -> dict[str, str]:
        return default_environment() | environment


def default_environment() -> dict[str, str]:
    """Return the variables of every agent's process."""
    return ENVIRONMENT | process_variables()


def with_agent_for(profile: Profile, runtime: str) -> Profile:
    """Return the profile with an agent that can run a runtime: not all are in the native one.

    One that takes much to send is left to the Python agent where the profile says which Python there is.
    """
    if profile.agent != "native" or profile.program is not None:
        return profile
    found = RUNTIMES.find(runtime)
    if found.native is not None and not (found.lighter and profile.python):
        return profile
    return profile.model_copy(update={"agent": "python"})


def check_address(profile: Profile, model: type[_Address]) -> _Address:
    """Return a profile's address as its transport's model. Raises ProfileError that names the key and those known."""
    try:
        return model.model_validate(profile.address)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"][:1]))
        known = ", ".join(model.model_fields)
        what = "is unknown" if first["type"] == "extra_forbidden" else f"is not usable ({first['msg']})"
        raise ProfileError(
            f"device {profile.name}: address.{key} {what}; known for {profile.transport}: {known}"
        ) from None
