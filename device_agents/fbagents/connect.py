"""Connect: from the name of a device to its profile, and from a profile to the device."""

import re
from collections.abc import Iterable
from pathlib import Path

import pydantic

from fbagents.benchmark.agent import BenchmarkTransport
from fbagents.benchmark.binary import NAME as BENCHMARK
from fbagents.errors import ProfileError
from fbagents.profile import Profile
from fbagents.transport import Transport
from fbagents.transports import TRANSPORTS
from fbbase.files import read_text
from fbbase.parsing import parse_toml
from fbbase.plugins import PluginFolder

PROFILES = PluginFolder("device", "fbagents.profiles", suffix=".toml")


def load_profile(name: str) -> Profile:
    """Return a profile by name, from a file if `name` ends in .toml, or of the device that TRANSPORT:WHERE names.

    Raises ProfileError, UnknownNameError.
    """
    if (profile := _without_file(name)) is not None:
        return profile
    path = Path(name) if name.endswith(".toml") else PROFILES.path(name)
    told = parse_toml(read_text(path, "device profile"), str(path), ProfileError)
    try:
        profile = Profile.model_validate({"name": path.stem} | told)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        raise ProfileError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    if profile.phone is not None and not TRANSPORTS.find(profile.transport).has_phone_settings:
        raise ProfileError(f"{path}: phone: is for phones over adb, and the transport here is {profile.transport!r}")
    return profile


def connect(profile: Profile, runtimes: Iterable[str] = ()) -> Transport:
    """Connect to a device whose agent is to have `runtimes`: a native one has not all of them unless asked to.

    Raises DeviceError, UnknownNameError for an unknown transport, ProfileError.
    """
    transport = TRANSPORTS.find(profile.transport)(profile)
    transport.runtimes = (*runtimes,)
    return BenchmarkTransport(transport) if profile.agent == BENCHMARK else transport


def _without_file(name: str) -> Profile | None:
    """Return the profile of a device that has none, such as adb:SERIAL or ssh:[USER@]HOST."""
    transport, colon, where = name.partition(":")
    if not colon or name.endswith(".toml") or transport not in TRANSPORTS:
        return None
    if (fields := TRANSPORTS.find(transport).named(where)) is None:
        return None
    if not where or not where.isprintable():
        raise ProfileError(f"--device {transport}:{where!r} names no device; fbprof devices shows what is there")
    return Profile(name=f"{transport}-{re.sub(r'[^A-Za-z0-9_.-]', '-', where)}", transport=transport, **fields)
