"""A phone's settings and condition over a real adbd: put back whatever ends a run, charged and cool before it."""

import contextlib
import os
import re
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fbagents.agent.channel import Channel
from fbagents.android import guardian, phone
from fbagents.android.phone import Battery, parse_battery
from fbagents.connect import connect, load_profile
from fbagents.errors import AgentTimeoutError, DeviceError, ProfileError
from fbagents.profile import PhoneConditions, Profile
from fbagents.transport import Transport
from peers import adbd as peer
from peers import android_commands
from peers.android_commands import DRAGON, EMULATOR, PIXEL, SAMSUNG, XIAOMI, Commands
from peers.processes import DEVNULL, Python
from peers.runs import wait_until, write_profile
from peers.unavailable import unavailable

HOT = SAMSUNG.replace("temperature: 309", "temperature: 435")
LOW = DRAGON.replace("AC powered: true", "AC powered: false")
MEASURE = ["-m", "fbprof", "measure", "--ci", "0.0001", "--rounds", "400"]


class Phone(peer.Adbd):
    """adbd on a machine that has Android's commands and its shell."""

    def __init__(self, root: Path, shell: str, folder: Path) -> None:
        self.commands = Commands(folder)
        (self.commands.bin / "sh").symlink_to(shell)
        super().__init__(root, folder, f"{self.commands.bin}:{peer.PATH}")
        self.device = folder / "device"

    def profile(self, **conditions: object) -> Profile:
        return Profile(
            name="galaxy",
            description="adbd on this machine",
            transport="adb",
            address={"host": "127.0.0.1", "port": self.port},
            folder=str(self.device),
            program="/bin/cat",
            phone=PhoneConditions.model_validate(conditions),
        )

    def guardian_pid(self) -> int:
        return int((self.device / "guardian.pid").read_text())

    def leftovers(self) -> list[str]:
        return sorted(path.name for path in self.device.iterdir()) if self.device.exists() else []


@pytest.fixture(scope="session")
def shell() -> str:
    """Android's shell."""
    return android_commands.shells()["mksh"][0]


@pytest.fixture
def galaxy(
    adbd_root: Path, shell: str, adb_key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Phone]:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    shutil.copytree(adb_key.parent, tmp_path / "home" / ".android")
    shutil.copy(f"{adb_key}.pub", tmp_path / "adb_keys")
    try:
        galaxy = Phone(adbd_root, shell, tmp_path)
    except peer.UnavailableError as error:
        unavailable(f"no adbd: {error}")
    galaxy.commands.stay_on = "0"
    yield galaxy
    galaxy.stop()


@contextlib.contextmanager
def started(galaxy: Phone, **conditions: object) -> Iterator[tuple[Transport, Channel]]:
    """A transport and an agent that runs; the test closes both earlier where it wants to see what comes after."""
    transport = connect(galaxy.profile(**conditions))
    try:
        channel = transport.start([])
        yield transport, channel
        channel.close()
    finally:
        transport.close()


@pytest.mark.parametrize("old", ["0", "2", "null"])
def test_the_screen_stays_on_while_an_agent_runs_and_the_setting_is_put_back(galaxy: Phone, old: str) -> None:
    galaxy.commands.stay_on = old
    with started(galaxy) as (transport, channel):
        assert galaxy.commands.stay_on == "7"
        channel.close()
        transport.start([]).close()
        assert galaxy.commands.stay_on == "7"
    assert (galaxy.commands.stay_on, galaxy.leftovers()) == (old, [])


def test_after_an_error_the_setting_is_put_back(galaxy: Phone) -> None:
    def fail() -> None:
        with started(galaxy) as (_, channel):
            assert galaxy.commands.stay_on == "7"
            channel.receive(0.01)

    with pytest.raises(AgentTimeoutError):
        fail()
    assert (galaxy.commands.stay_on, galaxy.leftovers()) == ("0", [])


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.full), signal.SIGKILL]
)
def test_after_ctrl_c_or_a_killed_host_the_setting_is_put_back(
    galaxy: Phone, number: signal.Signals, tmp_path: Path
) -> None:
    """Ctrl-C lets the host put it back; the phone does so by itself when the host was killed."""
    profile = galaxy.profile().model_copy(update={"program": None, "python": sys.executable})
    device, table = write_profile(tmp_path / "galaxy.toml", profile), tmp_path / "t.csv"
    host = Python(
        [*MEASURE, "--device", device, "--space", "fbnet-tiny", "-o", str(table)],
        stdout=DEVNULL,
        stderr=DEVNULL,
    )
    try:
        wait_until(lambda: galaxy.commands.stay_on == "7", 60, "measuring")
        host.send_signal(number)
        code = host.wait(30)
        wait_until(lambda: galaxy.commands.stay_on == "0", 10, "put back")
        wait_until(lambda: not (galaxy.device / "guardian.pid").exists(), 10, "no guardian")
    finally:
        host.kill()
        host.wait()
    assert not (galaxy.device / "guardian.stay_on").exists()
    if number is signal.SIGINT:
        assert (code, galaxy.leftovers()) == (130, [])


def test_when_the_cable_is_pulled_the_phone_puts_the_setting_back_by_itself(galaxy: Phone) -> None:
    """adbd is killed instead: the guardian's input ends in the same way."""
    with started(galaxy) as (transport, channel):
        galaxy.signal(signal.SIGKILL)
        wait_until(lambda: galaxy.commands.stay_on == "0", 10, "put back")
        channel.close()
        galaxy.stop()
        galaxy.start()
        transport.start([]).close()
        assert galaxy.commands.stay_on == "7"
    assert (galaxy.commands.stay_on, galaxy.leftovers()) == ("0", [])


def test_when_the_phone_restarts_in_a_run_the_first_value_is_put_back(galaxy: Phone) -> None:
    """Nothing lives through a restart but the file, so the guardian is killed before it can put anything back."""
    with started(galaxy) as (transport, channel):
        os.kill(galaxy.guardian_pid(), signal.SIGKILL)
        galaxy.signal(signal.SIGKILL)
        channel.close()
        galaxy.stop()
        galaxy.start()
        assert galaxy.commands.stay_on == "7"
        transport.start([]).close()
    assert (galaxy.commands.stay_on, galaxy.leftovers()) == ("0", [])


def test_when_the_guardian_is_killed_the_host_puts_the_setting_back(
    galaxy: Phone, capsys: pytest.CaptureFixture[str]
) -> None:
    with started(galaxy):
        os.kill(galaxy.guardian_pid(), signal.SIGKILL)
    assert (galaxy.commands.stay_on, galaxy.leftovers()) == ("0", [])
    assert "put back" not in capsys.readouterr().err


@pytest.mark.parametrize("conditions", [{}, {"stay_on": False}])
def test_when_both_are_killed_the_next_run_puts_the_setting_back(
    galaxy: Phone, conditions: dict[str, bool], capsys: pytest.CaptureFixture[str]
) -> None:
    with started(galaxy):
        os.kill(galaxy.guardian_pid(), signal.SIGKILL)
        galaxy.stop()
    told = capsys.readouterr().err
    assert "whether it has put its settings back by itself could not be seen" in told
    assert "adb shell settings put global stay_on_while_plugged_in 0" in told
    assert galaxy.commands.stay_on == "7"
    galaxy.start()
    with started(galaxy, **conditions):
        assert galaxy.commands.stay_on == "7"
    assert (galaxy.commands.stay_on, "guardian.stay_on" in galaxy.leftovers()) == ("0", False)


@pytest.mark.parametrize(
    ("old", "command"), [("0", "put global stay_on_while_plugged_in 0"), ("null", "delete global")]
)
def test_a_setting_that_cannot_be_put_back_is_told_with_the_command_to_type(
    galaxy: Phone, old: str, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    galaxy.commands.stay_on = old
    with started(galaxy):
        galaxy.commands.tell("denied", android_commands.DENIED)
    told = capsys.readouterr().err
    assert "galaxy: its settings could not be put back. The next run puts them back, or you do: adb shell" in told
    assert f"adb shell settings {command}" in told
    assert galaxy.commands.stay_on == "7"


def test_denied_settings_are_told_once_and_the_run_goes_on(galaxy: Phone, capsys: pytest.CaptureFixture[str]) -> None:
    galaxy.commands.tell("denied", android_commands.DENIED)
    with started(galaxy) as (_, channel):
        channel.send(b"hello")
        assert channel.receive(5) == b"hello"
    told = capsys.readouterr().err
    assert told.count("the screen cannot be kept on") == 1
    assert "USB debugging (Security settings)" in told
    assert "SecurityException: Permission denial" in told
    assert (galaxy.commands.stay_on, galaxy.leftovers()) == ("0", [])


def test_a_hostile_value_is_only_shown(galaxy: Phone, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    galaxy.commands.stay_on = "1; touch pwned\x1b[2J"
    with started(galaxy):
        pass
    assert galaxy.commands.stay_on == "1; touch pwned\x1b[2J"
    assert "(1; touch pwned?[2J)" in capsys.readouterr().err
    assert not list(tmp_path.rglob("pwned"))
    assert not Path("/pwned").exists()


@pytest.mark.parametrize("said", ["stay_on set 1;reboot", "wifi set 1", "stay_on set 0\\nstay_on set 1", "\\377\\001"])
def test_a_phone_that_says_nonsense_keeps_its_settings(
    galaxy: Phone, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(guardian, "GUARD", f"printf '{said}\\n'; cat")
    with started(galaxy):
        pass
    assert "galaxy: its settings are left as they are: the script that changes" in capsys.readouterr().err


def test_fixed_performance_is_switched_off_again_and_refused_where_there_is_none(galaxy: Phone) -> None:
    state = galaxy.commands.state
    with started(galaxy, fixed_performance=True):
        assert (state / "fixed").read_text() == "true\n"
    assert (state / "fixed").read_text() == "false\n"
    galaxy.commands.tell("not_fixed", android_commands.NOT_FIXED)
    with (
        pytest.raises(DeviceError, match=r"no mode of fixed performance \(Failed to set.*take fixed_performance out"),
        started(galaxy, fixed_performance=True),
    ):
        pass
    assert (galaxy.commands.stay_on, galaxy.leftovers()) == ("0", [])


def test_a_hot_phone_is_left_to_cool_down(
    galaxy: Phone, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(phone, "LOOK_INTERVAL_S", 0.01)
    galaxy.commands.tell("battery", HOT)
    galaxy.commands.tell("next", SAMSUNG)
    with started(galaxy) as (_, channel):
        channel.send(b"hello")
        assert channel.receive(5) == b"hello"
    assert capsys.readouterr().err.splitlines() == [
        "galaxy: is at 43.5 °C, waiting until it is at 40.0 °C, at most 10.0 min",
        "galaxy: charge 100 %, 30.9 °C, plugged in",
    ]


def test_a_phone_that_stays_hot_is_told_and_its_settings_are_as_before(
    galaxy: Phone, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(phone, "LOOK_INTERVAL_S", 0.01)
    galaxy.commands.tell("battery", HOT)
    with (
        pytest.raises(DeviceError, match=r"galaxy is still at 43\.5 °C after 0\.001 min.*max_battery_c \(now 40\)"),
        started(galaxy, cool_down_max_min=0.001),
    ):
        pass
    assert capsys.readouterr().err.count("waiting until") >= 2
    assert (galaxy.commands.stay_on, galaxy.leftovers()) == ("0", [])
    with started(galaxy, max_battery_c=45.0):
        assert galaxy.commands.stay_on == "7"


def test_a_phone_with_little_charge_is_refused_unless_it_is_plugged_in(galaxy: Phone) -> None:
    galaxy.commands.tell("battery", LOW)
    with (
        pytest.raises(DeviceError, match=r"galaxy has 19 % .* charge it, or set min_battery_percent \(now 20\)"),
        started(galaxy),
    ):
        pass
    with started(galaxy, min_battery_percent=19):
        pass
    galaxy.commands.tell("battery", DRAGON)
    with started(galaxy):
        pass


def test_a_machine_without_androids_commands_is_measured_with_one_note(
    galaxy: Phone, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in android_commands.SCRIPTS:
        (galaxy.commands.bin / name).unlink()
    with started(galaxy) as (transport, _):
        transport.start([]).close()
    assert capsys.readouterr().err == "galaxy: charge and temperature cannot be read there\n"
    assert galaxy.leftovers() == []


@pytest.mark.parametrize(
    ("text", "battery"),
    [
        (SAMSUNG, Battery(100.0, 30.9, True)),
        (PIXEL, Battery(80.0, 18.0, True)),
        (XIAOMI, Battery(80.0, 36.4, True)),
        (LOW, Battery(19.0, 27.5, False)),
        (EMULATOR, Battery(89.0, 0.0, True)),
        (PIXEL.replace("present: true", "present: false"), Battery(None, 18.0, True)),
        (PIXEL.replace("\n", "\r\n"), Battery(80.0, 18.0, True)),
        ("level: 30\nscale: 60\ntemperature: -55", Battery(50.0, -5.5, False)),
        ("level: 101\nscale: 100\ntemperature: 180", Battery(None, 18.0, False)),
        ("level: 1\nscale: 0\ntemperature: 99999", None),
        ("level: 9999999999999999999999\nscale: 100", None),
        ("level: 4; reboot\nscale: $(reboot)", None),
        ("Can't find service: battery", None),
        ("\0" * 70000, None),
        ("", None),
    ],
)
def test_what_phones_print_of_their_battery_is_read_with_bounds(text: str, battery: Battery | None) -> None:
    assert parse_battery(text) == battery


@pytest.mark.parametrize(
    ("transport", "table", "message"),
    [
        ("ssh", "stay_on = true", r"phone: is for phones over adb, and the transport here is 'ssh'"),
        ("local", "", r"phone: is for phones over adb, and the transport here is 'local'"),
        ("adb", "max_battery_c = 99.0", r"phone\.max_battery_c: .*less than or equal to 60"),
        ("adb", "brightness = 3", r"phone\.brightness: Extra inputs"),
    ],
)
def test_a_table_that_cannot_hold_is_refused(transport: str, table: str, message: str, tmp_path: Path) -> None:
    profile = tmp_path / "p.toml"
    profile.write_text(f'description = "x"\ntransport = "{transport}"\n[phone]\n{table}\n')
    with pytest.raises(ProfileError, match=re.escape(str(profile)) + ": " + message):
        load_profile(str(profile))


def test_the_table_has_defaults_and_fits_the_page_on_profiles(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "devices" / "device-profile.md").read_text()
    profile = tmp_path / "p.toml"
    table = re.sub(r"^#", "", page.partition("\n#[phone]")[2].partition("\n\n")[0], flags=re.MULTILINE)
    profile.write_text(f'description = "x"\ntransport = "adb"\n[phone]{table}\n')
    written: Any = load_profile(str(profile)).phone
    assert written == PhoneConditions()
    assert set(PhoneConditions.model_fields) <= set(re.findall(r"^(\w+) =", table, re.MULTILINE))
