"""What names a phone and lets it in, without one: addresses in profiles, and the key of this machine."""

import re
import stat
from pathlib import Path
from typing import Any

import pytest

from fbagents.adb.address import Address, choose, is_model, seen
from fbagents.adb.keys import signer
from fbagents.adb.route import banner_model
from fbagents.connect import connect, load_profile
from fbagents.errors import DeviceError, ProfileError
from fbagents.profile import Profile, check_address


def test_a_key_is_made_once_private_and_never_replaced(tmp_path: Path) -> None:
    key = tmp_path / "home" / ".android" / "adbkey"
    public = signer(key).GetPublicKey()
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(key.parent.stat().st_mode) == 0o700
    assert sorted(path.name for path in key.parent.iterdir()) == ["adbkey", "adbkey.pub"]
    made = key.read_bytes()
    Path(f"{key}.pub").unlink()
    assert signer(key).GetPublicKey().split()[0] == public.split()[0]
    assert key.read_bytes() == made
    for content, message in ((b"no key", "is not an adb key"), (b"\xff", "is not an adb key")):
        key.write_bytes(content)
        with pytest.raises(DeviceError, match=re.escape(str(key)) + f" {message}.*address.key_file"):
            signer(key)
    with pytest.raises(DeviceError, match=r"cannot use the adb key .*Not a directory"):
        signer(key / "x" / "adbkey")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ({"host": "a\nb"}, "address.host is not usable"),
        ({"host": "-x"}, "address.host is not usable"),
        ({"host": "b", "port": 70000}, "address.port is not usable"),
        ({"host": "b", "port": "5555"}, "address.port is not usable"),
        ({"host": "b", "key_file": "a\0b"}, "address.key_file is not usable"),
        ({"host": "b", "serial": "x"}, r"address.serial is not usable \(host says already"),
        ({"port": 5555}, r"address.port is not usable \(it is the port of host"),
        ({"config_file": "x"}, r"address.config_file is not usable \(it is for tunnel"),
        ({"serial": "a\nb"}, "address.serial is not usable"),
        ({"server": "lab"}, "address.server is not usable"),
        ({"server": "-x:5037"}, "address.server is not usable"),
        ({"tunnel": "-oProxyCommand=x"}, "address.tunnel is not usable"),
        ({"tunnel": "me@-x"}, "address.tunnel is not usable"),
        ({"hosts": "b"}, "address.hosts is unknown; known for adb: host, port, serial, model, server, tunnel"),
    ],
)
def test_an_address_that_is_none_is_refused(address: dict[str, Any], message: str) -> None:
    with pytest.raises(ProfileError, match=message):
        connect(Profile(name="phone", description="x", transport="adb", address=address))


@pytest.mark.parametrize("name", ["galaxy-s8", "pixel-3"])
def test_the_phones_profiles_are_addresses(name: str) -> None:
    connect(load_profile(name)).close()


@pytest.mark.parametrize(
    ("model", "pattern", "same"),
    [
        ("SM_G950F", "SM-G950*", True),
        ("SM-G950U1", "SM-G950*", True),
        ("SM_G955F", "SM-G950*", False),
        ("Pixel_3", "Pixel 3", True),
        ("Pixel_3_XL", "Pixel 3", False),
        ("", "Pixel 3", False),
        ("Pixel_3", "[P]ixel_3", False),
    ],
)
def test_models_match_as_adb_shows_them(model: str, pattern: str, same: bool) -> None:
    assert is_model(model, pattern) is same


def test_a_phone_is_chosen_by_model() -> None:
    """Debian's adbd tells no model, so the server's list is made up here."""
    phones = [seen("a", "SM_G950F", "device", "server"), seen("b", "Pixel_3", "device", "server")]
    assert choose(phones, None, "SM-G950*", "here").serial == "a"
    twins = [*phones, seen("c", "SM_G950F", "unauthorized", "server")]
    with pytest.raises(DeviceError, match=r"2 phones of model SM-G950\* are attached \(here\): a .* c .*adb:a"):
        choose(twins, None, "SM-G950*", "here")
    assert choose(twins, "c", None, "here").serial == "c"


def test_the_model_that_a_phone_tells_in_its_banner() -> None:
    banner = b"device::ro.product.name=dreamlte;ro.product.model=SM-G950F;ro.product.device=dreamlte;features=shell_v2"
    assert banner_model(banner) == "SM-G950F"
    assert banner_model(b"device::ro.product.model=\x1b[2J;") == "?[2J"
    assert banner_model(b"device::features=shell_v2") == ""


def test_a_servers_profile_is_checked_like_any_other() -> None:
    given = {"server": "lab:5037", "model": "Pixel 3"}
    address = check_address(Profile(name="phone", description="x", transport="adb", address=given), Address)
    assert str(address) == "the phone of model Pixel 3 (adb server lab:5037)"
    assert str(Address()) == "the attached phone"
    assert str(Address(serial="R58", tunnel="me@lab1")) == "the phone R58 (me@lab1)"
