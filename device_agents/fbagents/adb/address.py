"""Address: which phone an adb profile means, which of those that are attached that is, and what keeps it from use."""

import re
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Annotated

import pydantic
from pydantic_core import PydanticCustomError

from fbagents.errors import DeviceError, UnreachableError
from fbagents.transport import Attached

DEFAULT_KEY = "~/.android/adbkey"
DEFAULT_PORT = 5555
DEFAULT_SERVER = "127.0.0.1:5037"

READY, ON_USB, BLOCKED = "device", "on USB", "blocked"
"""What an adb server calls a phone that can be used; one on USB that was not asked yet; one that cannot be opened."""
ASKING = ("unauthorized", "authorizing", "connecting")
"""States that end when a person accepts the dialog, or by themselves."""
UDEV_RULE = (
    "which takes a udev rule: on Debian and Ubuntu apt install android-sdk-platform-tools-common, be in the group "
    "plugdev, and plug the phone in again"
)
_REMEDIES = {
    READY: "",
    ON_USB: "",
    "unauthorized": "unlock the phone and accept the dialog on the phone (Allow USB debugging), with Always allow from "
    "this computer; if none appears, {again}",
    "offline": "unlock the phone, and {again}",
    "no permissions": f"the system does not let the adb server open it, {UDEV_RULE}",
}

_HOST = r"[A-Za-z0-9_][A-Za-z0-9_.%-]*"
_Text = Annotated[str, pydantic.Field(pattern=r"^[^\x00-\x1f\x7f]+$", max_length=255)]
_File = Annotated[str, pydantic.Field(pattern=r"^[^\x00-\x1f]+$", max_length=1000)]
_ConfigFile = Annotated[str, pydantic.Field(pattern=r'^[^"\\$\x00-\x1f]+$', max_length=1000)]


class Address(pydantic.BaseModel, extra="forbid", frozen=True, strict=True):
    """A phone that listens on TCP (`host`), or one that is attached, here or at an adb server elsewhere.

    Without `host`, `serial` and `model` it is the one phone that is attached. `serial` may also be a place, `usb:PATH`
    or `transport:ID`, as an adb server lists them.
    """

    host: Annotated[str, pydantic.Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.:%-]*$", max_length=255)] | None = None
    port: Annotated[int, pydantic.Field(ge=1, le=65535)] = DEFAULT_PORT
    serial: _Text | None = None
    model: _Text | None = None
    server: Annotated[str, pydantic.Field(pattern=rf"^({_HOST}|\[[0-9A-Fa-f:.]+\]):[0-9]{{1,5}}$")] | None = None
    tunnel: Annotated[str, pydantic.Field(pattern=rf"^([A-Za-z0-9_][A-Za-z0-9_.+-]*@)?{_HOST}$")] | None = None
    config_file: _ConfigFile | None = None
    key_file: _File = DEFAULT_KEY

    @pydantic.field_validator("port", "serial", "model", "server", "tunnel", "config_file")
    @classmethod
    def _goes_with(cls, value: object, info: pydantic.ValidationInfo) -> object:
        by_tcp = info.data.get("host") is not None
        if info.field_name == "port" and not by_tcp:
            raise PydanticCustomError("without_host", "it is the port of host, which is missing")
        if info.field_name != "port" and by_tcp:
            raise PydanticCustomError("with_host", "host says already which phone is meant")
        if info.field_name == "config_file" and info.data.get("tunnel") is None:
            raise PydanticCustomError("without_tunnel", "it is for tunnel, which is missing")
        return value

    def __str__(self) -> str:
        if self.host is not None:
            return f"{self.host} port {self.port}"
        if self.serial is not None:
            which = f"the phone {self.serial}"
        elif self.model is not None:
            which = f"the phone of model {self.model}"
        else:
            which = "the attached phone"
        places = ([f"adb server {self.server}"] if self.server else []) + ([self.tunnel] if self.tunnel else [])
        return f"{which} ({' on '.join(places)})" if places else which


def seen(
    serial: str, model: str, state: str, by: str, server: str = "", obstacle: str = "", places: Sequence[str] = ()
) -> Attached:
    """Return a phone that an adb server or USB shows, with what to do where it cannot be used."""
    again = "pull the cable and plug it in again"
    if _is_on_network(serial):
        again = f"run adb disconnect {shlex.quote(serial)} and then adb connect {shlex.quote(serial)}"
    remedy = obstacle or _REMEDIES.get(state, "start Android on it, unlock it, and {again}").format(again=again)
    return Attached(f"adb:{serial}" if serial else "", serial, model, state, by, server, remedy, tuple(places))


def told_apart(phones: Sequence[Attached]) -> list[Attached]:
    """Return phones that `--device` names by a place where their serial is none, or that of several."""
    count = Counter(phone.serial for phone in phones)
    unclear = [phone for phone in phones if phone.places and (not phone.serial or count[phone.serial] > 1)]
    return [replace(phone, device=f"adb:{phone.places[0]}") if phone in unclear else phone for phone in phones]


def network_place(serial: str | None) -> tuple[str, int] | None:
    """Return host and port where a serial is that of a phone on the network, HOST:PORT; a place is none."""
    match = re.fullmatch(rf"({_HOST}|\[[0-9A-Fa-f:.]+\]):([0-9]{{1,5}})", serial or "")
    if match is None or match[1] == "transport" or not 0 < int(match[2]) < 65536:
        return None
    return match[1].strip("[]"), int(match[2])


def _is_on_network(serial: str | None) -> bool:
    return network_place(serial) is not None or (serial or "").endswith("._tcp")


def is_model(model: str, pattern: str) -> bool:
    """Return whether a model's name matches a pattern; adb shows all but letters and digits as underscores."""
    return fnmatchcase(_plain(model), _plain(pattern))


def choose(phones: Sequence[Attached], serial: str | None, model: str | None, where: str) -> Attached:
    """Return the phone that is meant. Raises UnreachableError where it is not there, DeviceError for several."""
    if serial is not None:
        found = [phone for phone in phones if serial in (phone.serial, *phone.places)]
        wanted = f" at {serial}" if re.match("usb:|transport:", serial) else f" with serial {serial}"
    elif model is not None:
        found, wanted = [phone for phone in phones if is_model(phone.model, model)], f" of model {model}"
    else:
        found, wanted = list(phones), ""
    if len(found) == 1:
        return found[0]
    if found:
        example = next((phone for phone in found if phone.is_usable), found[0])
        how = "adb:SERIAL" if example.name == example.serial else "adb:usb:PATH or adb:transport:ID"
        raise DeviceError(
            f"{len(found)} phones{wanted} are attached ({where}): {_listed(found)}. Choose one with --device {how}, as "
            f"in --device {shlex.quote(example.device)}, or set serial in the address of a profile"
        )
    if _is_on_network(serial):
        raise UnreachableError(
            f"no phone{wanted} is attached ({where}): is it on, and in this network? An adb server knows a phone on "
            f"the network once adb connect {serial} was run"
        )
    if phones:
        raise UnreachableError(
            f"no phone{wanted} is attached ({where}), only {_listed(phones)}. Plug it in, or choose one of these "
            "with --device adb:SERIAL"
        )
    raise UnreachableError(
        f"no phone{wanted} is attached ({where}): is the cable in, the phone unlocked, and USB debugging on? "
        "fbprof devices says how, and shows when it is there"
    )


def _listed(phones: Sequence[Attached]) -> str:
    return ", ".join(map(str, phones[:20])) + (", …" if len(phones) > 20 else "")


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9*?]", "_", text)
