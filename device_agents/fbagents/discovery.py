"""Discovery: which phones are attached, which profiles are known, and whether a device can be reached now."""

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fbagents.profile import PROFILES, Profile, attached_profile, load_profile
from fbagents.transports import TRANSPORTS
from fbbase.errors import FbError

if TYPE_CHECKING:
    from fbagents.adb.phones import Attached

CHECK_TIMEOUT_S = 3.0


def attached() -> "list[Attached]":
    """Return the phones of the adb server that answers here, or else those on USB; nothing is started.

    Raises DeviceError where neither can be asked, and FbError where the extra `adb` is not installed.
    """
    adb = TRANSPORTS.module("adb")
    phones: list[Attached] = adb.attached()
    return phones


def attached_profiles() -> list[Profile]:
    """Return a profile of every attached phone that can be used, as --device adb:SERIAL has. Raises as `attached`."""
    return [attached_profile(phone.serial, phone.model) for phone in attached() if phone.is_usable]


def known() -> list[Profile]:
    """Return the profiles that have a name. Raises ProfileError."""
    return [load_profile(name) for name in PROFILES.names()]


def reachable(profile: Profile) -> str | None:
    """Return None where a device answers now, and else why it does not; takes a few seconds at most.

    Nothing runs on the device. A transport that has no `check(profile, timeout_s)` is only asked whether it would try.
    """
    try:
        transport = TRANSPORTS.module(profile.transport)
        if hasattr(transport, "check"):
            transport.check(profile, CHECK_TIMEOUT_S)
        else:
            transport.connect(profile).close()
    except FbError as error:
        return str(error)
    return None


def all_reachable(profiles: Sequence[Profile]) -> dict[str, str | None]:
    """Return `reachable` of each profile by its name, asked side by side."""
    answers: dict[str, str | None] = {profile.name: "did not answer in time" for profile in profiles}

    def ask(profile: Profile) -> None:
        answers[profile.name] = reachable(profile)

    threads = [threading.Thread(target=ask, args=(profile,), daemon=True) for profile in profiles]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(3 * CHECK_TIMEOUT_S)
    return dict(answers)
