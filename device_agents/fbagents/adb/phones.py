"""Attached phones: what is known of each, which one an address means, and what to do about one that is not ready."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from fbagents.errors import DeviceError, UnreachableError

READY, ON_USB, BLOCKED = "device", "on USB", "blocked"
"""What an adb server calls a phone that can be used; one on USB that was not asked yet; one that cannot be opened."""
ASKING = ("unauthorized", "authorizing", "connecting")
"""States that end when a person accepts the dialog, or by themselves."""
_REMEDIES = {
    READY: "",
    "unauthorized": "unlock the phone and accept the dialog on the phone (Allow USB debugging), with Always allow from "
    "this computer; if none appears, pull the cable and plug it in again",
    "offline": "unlock the phone, pull the cable and plug it in again, or run adb reconnect",
    "no permissions": "the system does not let the adb server open it, which takes a udev rule: on Debian and Ubuntu "
    "apt install android-sdk-platform-tools-common, be in the group plugdev, and plug the phone in again",
}


@dataclass(frozen=True, slots=True)
class Attached:
    """A phone that an adb server or USB shows.

    `state` is the server's word, `device` where all is well; `model` as adb shows it, over USB what the phone calls its
    product; `remedy` says what to do where it cannot be used.
    """

    serial: str
    model: str
    state: str
    by: Literal["server", "usb"]
    server: str = ""
    remedy: str = ""

    @property
    def is_usable(self) -> bool:
        """Whether nothing is known that would keep it from being measured."""
        return self.state in (READY, ON_USB)

    def __str__(self) -> str:
        return f"{self.serial or 'one without a serial number'} ({self.model or 'model not known'}, {self.state})"


def remedy(state: str) -> str:
    """Say what to do about a phone that an adb server reports in this state; empty where it is ready."""
    return _REMEDIES.get(state, "start Android on it, unlock it, and plug it in again")


def is_model(model: str, pattern: str) -> bool:
    """Return whether a model's name matches a pattern; adb shows all but letters and digits as underscores."""
    return fnmatchcase(_plain(model), _plain(pattern))


def choose(phones: Sequence[Attached], serial: str | None, model: str | None, where: str) -> Attached:
    """Return the phone that is meant. Raises UnreachableError where it is not there, DeviceError for several."""
    if serial is not None:
        found, wanted = [phone for phone in phones if phone.serial == serial], f" with serial {serial}"
    elif model is not None:
        found, wanted = [phone for phone in phones if is_model(phone.model, model)], f" of model {model}"
    else:
        found, wanted = list(phones), ""
    if len(found) == 1:
        return found[0]
    if found:
        raise several(found, wanted, where)
    raise missing(phones, wanted, where)


def several(found: Sequence[Attached], wanted: str, where: str) -> DeviceError:
    """Say which phones an address may mean."""
    example = next((phone for phone in found if phone.is_usable), found[0])
    return DeviceError(
        f"{len(found)} phones{wanted} are attached ({where}): {_listed(found)}. Choose one with --device adb:SERIAL, "
        f"as in --device adb:{example.serial}, or set serial in the address of a profile"
    )


def missing(phones: Sequence[Attached], wanted: str, where: str) -> UnreachableError:
    """Say that the phone is not there, and which others are."""
    if phones:
        return UnreachableError(
            f"no phone{wanted} is attached ({where}), only {_listed(phones)}. Plug it in, or choose one of these "
            "with --device adb:SERIAL"
        )
    return UnreachableError(
        f"no phone{wanted} is attached ({where}): is the cable in, the phone unlocked, and USB debugging on? "
        "fbprof devices says how, and shows when it is there"
    )


def _listed(phones: Sequence[Attached]) -> str:
    return ", ".join(map(str, phones[:20])) + (", …" if len(phones) > 20 else "")


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9*?]", "_", text)
