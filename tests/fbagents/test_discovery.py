"""What is attached, known and reachable, and profiles of devices that have no file."""

import json
import re
import time
import tomllib
from importlib.resources import files
from pathlib import Path

import pytest

from fbagents import discovery
from fbagents.adb.address import Address
from fbagents.connect import PROFILES, connect, load_profile
from fbagents.errors import DeviceError, ProfileError
from fbagents.posix import openssh
from fbagents.profile import Profile, check_address
from fbagents.transport import Attached
from fbbase.commandline import run
from fbprof.cli import fbprof
from peers.adb_phone import Phone
from peers.adb_server import AdbServer

DOCS = Path(__file__).parents[2] / "docs" / "devices"


@pytest.fixture
def attached(adb_server: AdbServer, two_phones: list[Phone]) -> list[str]:
    """The serials of a phone that is ready and of one that does not know the server's key."""
    ready, new = two_phones
    new.known_keys.unlink()
    return [adb_server.attach(ready.adbd), adb_server.attach(new.adbd, "unauthorized")]


@pytest.fixture
def nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """No adb server, nothing on USB."""
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", "1")
    monkeypatch.delenv("ADB_SERVER_SOCKET", raising=False)
    monkeypatch.setattr("fbagents.adb.route.usb_phones", list)


def test_attached_phones_are_listed_with_their_state(
    adb_server: AdbServer, attached: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    ready, new = attached
    found = {phone.serial: phone for phone in discovery.attached()}
    assert found[ready] == Attached(f"adb:{ready}", ready, "", "device", "server", adb_server.address)
    assert (found[new].state, found[new].is_usable) == ("unauthorized", False)
    assert "accept the dialog on the phone" in found[new].remedy
    assert [profile.address for profile in discovery.attached_profiles()] == [{"serial": ready}]
    assert discovery.attached_profiles() == [load_profile(f"adb:{ready}")]
    assert run(fbprof, ["devices"]) == 0
    out = capsys.readouterr().out
    assert re.search(rf"{re.escape(ready)} +- +device +adb server", out)
    assert f"fbprof measure --device adb:{ready}\n" in out
    assert f"adb:{new}" not in out
    assert run(fbprof, ["devices", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert {phone["serial"]: phone["usable"] for phone in listed["attached"]} == {ready: True, new: False}
    assert [profile["name"] for profile in listed["known"]] == PROFILES.names()


def test_whether_an_attached_phone_is_reachable(adb_server: AdbServer, attached: list[str]) -> None:
    ready, new = attached
    assert discovery.reachable(load_profile(f"adb:{ready}")) is None
    assert "is unauthorized: unlock the phone" in str(discovery.reachable(load_profile(f"adb:{new}")))
    host, _, port = ready.rpartition(":")
    tcp = Profile(name="x", description="x", transport="adb", address={"host": host, "port": int(port)})
    assert discovery.reachable(tcp) is None
    elsewhere = Profile(
        name="x", description="x", transport="adb", address={"server": adb_server.address, "serial": ready}
    )
    assert discovery.reachable(elsewhere) is None
    adb_server.stop()
    assert "no adb server answers" in str(discovery.reachable(elsewhere))


@pytest.mark.usefixtures("nothing")
def test_nothing_attached_is_told_quickly_with_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    start = time.monotonic()
    assert run(fbprof, ["devices"]) == 0
    assert time.monotonic() - start < 2
    out = capsys.readouterr().out
    assert "attached: no phone. Plug one in" in out
    assert all(f"  {name} " in out for name in PROFILES.names())
    assert "no phone of model Pixel 3 is attached (USB)" in str(discovery.reachable(load_profile("pixel-3")))
    assert "no phone is attached (USB)" in str(discovery.reachable(load_profile("phone")))


@pytest.mark.usefixtures("nothing")
def test_what_cannot_be_asked_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def refuse() -> None:
        raise DeviceError("USB cannot be used here")

    monkeypatch.setattr("fbagents.adb.route.usb_phones", refuse)
    assert run(fbprof, ["devices"]) == 0
    assert "attached: not known: USB cannot be used here" in capsys.readouterr().out


@pytest.mark.usefixtures("nothing")
def test_devices_are_checked_side_by_side(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    local = load_profile("local")
    lost = Profile(name="lost", description="x", transport="ssh", address={"host": "nowhere.invalid"})
    none = Profile(name="none", description="x", transport="adb", address={"host": "127.0.0.1", "port": 1})
    monkeypatch.setattr(discovery, "known", lambda: [local, lost, none])
    assert run(fbprof, ["devices", "--check", "--json"]) == 0
    answers = {one["name"]: (one["reachable"], one["reason"]) for one in json.loads(capsys.readouterr().out)["known"]}
    assert answers["local"] == (True, None)
    assert answers["lost"][0] is answers["none"][0] is False
    assert "nothing answers at 127.0.0.1 port 1: Connection refused" in answers["none"][1]
    assert run(fbprof, ["devices", "--check"]) == 0
    assert "not reachable: nothing answers" in capsys.readouterr().out


def test_devices_without_a_file_are_named_by_how_they_are_reached() -> None:
    phone = load_profile("adb:192.168.1.7:5555")
    assert (phone.name, phone.agent, phone.cores) == ("adb-192.168.1.7-5555", "native", "big")
    assert phone.address == {"serial": "192.168.1.7:5555"}
    board = load_profile("ssh:pi@rpi5")
    assert (board.name, board.agent, board.address) == ("ssh-pi-rpi5", "native", {"host": "rpi5", "user": "pi"})
    assert load_profile("ssh:rpi5").address == {"host": "rpi5"}
    for wrong in ("adb:", "ssh:", "adb:a\nb"):
        with pytest.raises(ProfileError, match="names no device"):
            load_profile(wrong)
    assert load_profile("adb:../../x").name == "adb-..-..-x"
    with pytest.raises(ProfileError, match=r"address\.host is not usable"):
        connect(load_profile("ssh:-oProxyCommand=x"))


def test_a_profiles_environment_is_added_to_the_one_of_all() -> None:
    given = Profile(name="x", description="x", transport="local", environment={"A": "1", "OMP_WAIT_POLICY": "ACTIVE"})
    usual = load_profile("local").environment
    assert given.environment == usual | {"A": "1", "OMP_WAIT_POLICY": "ACTIVE"}
    assert usual == {
        "MALLOC_MMAP_THRESHOLD_": "268435456",
        "MALLOC_TRIM_THRESHOLD_": "1073741824",
        "MALLOC_TOP_PAD_": "67108864",
        "OMP_WAIT_POLICY": "PASSIVE",
        "ORT_DISABLE_TELEMETRY": "1",
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }


def test_the_template_is_a_profile_as_it_is_and_with_every_field(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = files("fbagents").joinpath("template.toml").read_text(encoding="utf-8")
    assert run(fbprof, ["devices", "--template"]) == 0
    assert capsys.readouterr().out == text
    assert f"```toml\n{text}```" in (DOCS / "device-profile.md").read_text(encoding="utf-8")
    (tmp_path / "mine.toml").write_text(text)
    connect(load_profile(str(tmp_path / "mine.toml"))).close()
    general, _, rest = re.sub(r"^#(?! )", "", text, flags=re.M).partition("[address]\n")
    _, attached, tcp, rest = re.split(r"^# (?:adb|adb, a phone that.*|ssh):.*\n", rest, maxsplit=3, flags=re.M)
    ssh, _, more = rest.partition("[phone]")
    assert set(tomllib.loads(f"{general}[phone]{more}")) | {"address"} == set(Profile.model_fields)
    fields = tomllib.loads(f"{general}[phone]{more}")
    for model, table in ((Address, attached), (Address, tcp), (openssh.Address, ssh)):
        address = tomllib.loads(table)
        check = Profile.model_validate(fields | {"address": address})
        if "serial" in address:
            assert "model" in address
        assert check_address(check, model).model_fields_set == set(address)
    keys = set(tomllib.loads(attached)) | set(tomllib.loads(tcp))
    assert keys == set(Address.model_fields)
    assert set(tomllib.loads(ssh)) == set(openssh.Address.model_fields)
