"""What names a phone and lets it in, without one: addresses in profiles, and the key of this machine."""

import re
import stat
from pathlib import Path
from typing import Any

import pytest

from fbagents.adb.keys import signer
from fbagents.errors import DeviceError, ProfileError
from fbagents.profile import Profile, load_profile
from fbagents.transports import connect


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
