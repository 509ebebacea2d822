"""Discovery: which devices are attached, which profiles are known, and whether a device can be reached now."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from fbagents.connect import PROFILES, load_profile
from fbagents.profile import Profile
from fbagents.transport import Attached
from fbagents.transports import TRANSPORTS
from fbbase.errors import FbError

CHECK_TIMEOUT_S = 3.0


def attached() -> list[Attached]:
    """Return the devices that are plugged in, such as phones; nothing is started.

    Raises FbError where none is seen and some cannot be asked for.
    """
    found: list[Attached] = []
    trouble: FbError | None = None
    for name in TRANSPORTS.names():
        try:
            found += TRANSPORTS.find(name).attached()
        except FbError as error:
            trouble = trouble or error
    if trouble is not None and not found:
        raise trouble
    return found


def attached_profiles() -> list[Profile]:
    """Return a profile of every attached device that can be used, as --device adb:SERIAL has. Raises as `attached`."""
    return [load_profile(it.device) for it in attached() if it.is_usable]


def attached_twice() -> dict[Attached, Attached]:
    """Return what is attached a second time, as a phone over USB and a network, by what each is attached as first.

    The devices are asked; one that does not answer is taken for another. Raises as `attached`.
    """
    phones = sorted((it for it in attached() if it.is_usable), key=lambda it: "usb:" not in str(it.places))
    if len(phones) < 2:
        return {}
    with ThreadPoolExecutor(len(phones)) as pool:
        identities = list(pool.map(_identity, phones))
    first: dict[str, Attached] = {}
    pairs = [(phone, first.setdefault(told, phone)) for phone, told in zip(phones, identities, strict=True) if told]
    return {phone: other for phone, other in pairs if other is not phone}


def _identity(phone: Attached) -> str:
    return TRANSPORTS.find(phone.device.partition(":")[0]).identity(phone)


def known() -> list[Profile]:
    """Return the profiles that have a name. Raises ProfileError."""
    return [load_profile(name) for name in PROFILES.names()]


def reachable(profile: Profile) -> str | None:
    """Return None where a device answers now, and else why it does not; takes a few seconds at most."""
    try:
        TRANSPORTS.find(profile.transport).check(profile, CHECK_TIMEOUT_S)
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
