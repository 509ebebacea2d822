"""Phone: what an Android phone needs before it is measured, by the profile's `[phone]`, and what is put back after."""

import re
import time
from dataclasses import dataclass

import click

from fbagents.android.guardian import FIXED_PERFORMANCE, STAY_ON, Change, Guardian, by_hand, restore
from fbagents.errors import AgentLostError, AgentReplyError, AgentTimeoutError, ConnectionLostError, DeviceError
from fbagents.posix.connection import COMMAND_TIMEOUT_S, Connection
from fbagents.profile import PhoneConditions

LOOK_INTERVAL_S = 10.0
BATTERY = "command -v dumpsys >/dev/null || exit 127; exec dumpsys battery"
COLDEST_C, HOTTEST_C = -40.0, 120.0
"""What a battery's thermometer can mean; the rest is noise."""


@dataclass(frozen=True, slots=True)
class Battery:
    """What `dumpsys battery` says: charge in percent and temperature, None where it tells none, and a plug or not."""

    percent: float | None
    temperature_c: float | None
    is_plugged: bool

    def __str__(self) -> str:
        charge = "charge unknown" if self.percent is None else f"charge {self.percent:.0f} %"
        temperature = "" if self.temperature_c is None else f", {self.temperature_c:.1f} °C"
        return f"{charge}{temperature}, {'plugged in' if self.is_plugged else 'not plugged in'}"


def parse_battery(text: str) -> Battery | None:
    """Return what a phone printed of its battery; None where that is neither a charge nor a temperature."""
    fields: dict[str, str] = {}
    for line in text.splitlines()[:200]:
        name, _, value = line.strip().partition(": ")
        fields.setdefault(name, value.strip())  # vendors append lines of their own
    level, scale, tenths_c = (_integer(fields.get(name, "")) for name in ("level", "scale", "temperature"))
    percent = None
    if level is not None and scale and 0 <= level <= scale and fields.get("present") != "false":
        percent = 100.0 * level / scale
    temperature_c = None
    if tenths_c is not None and COLDEST_C <= tenths_c / 10 <= HOTTEST_C:
        temperature_c = tenths_c / 10
    if percent is None and temperature_c is None:
        return None
    plugs = (value for name, value in fields.items() if re.fullmatch(r"[A-Z][A-Za-z]{1,9} powered", name))
    return Battery(percent, temperature_c, "true" in plugs)


class PhonePreparation:
    """Checks charge and temperature, keeps the screen on while an agent runs, and puts every setting back."""

    def __init__(self, name: str, wanted: PhoneConditions) -> None:
        self._name = name
        self._wanted = wanted
        self._connection: Connection | None = None
        self._prefix = ""
        self._guardian: Guardian | None = None
        self._guarded_in = 0
        self._changes: dict[str, Change] = {}
        self._noted: set[str] = set()

    def begin(self, connection: Connection, folder: str) -> None:
        """Prepare the phone for an agent that starts now; `folder` holds what is to be put back.

        Waits for a hot phone to cool down. Raises DeviceError.
        """
        self._connection, self._prefix = connection, f"{folder}/guardian"
        self._check_battery(connection)
        number = connection.ensure()
        if number != self._guarded_in:
            self._guard(connection)
            self._guarded_in = number

    def end(self) -> None:
        """Put the settings back; never raises, and says so where they could not be."""
        connection, guardian = self._connection, self._guardian
        self._connection, self._guardian, self._guarded_in = None, None, 0
        if connection is None or (guardian is not None and guardian.end()):
            return
        try:
            connection.ensure(patient=False)
            if restore(connection, self._prefix):
                return
            what = "its settings could not be put back"
        except DeviceError as error:
            what = f"whether it has put its settings back by itself could not be seen ({error})"
        commands = by_hand(self._changes)
        if commands:
            self._say(f"{what}. The next run puts them back, or you do: {commands}")

    def _guard(self, connection: Connection) -> None:
        names = [name for name in (STAY_ON, FIXED_PERFORMANCE) if getattr(self._wanted, name)]
        if self._guardian is not None:
            self._guardian.abandon()
            self._guardian = None
        if not names:
            return
        try:
            self._guardian = Guardian(connection, self._prefix, names)
        except ConnectionLostError:
            raise
        except (AgentLostError, AgentTimeoutError, AgentReplyError) as error:
            self._say(f"its settings are left as they are: {error}")
            return
        changes = self._guardian.changes
        for name, change in changes.items():
            if name not in self._changes or change.outcome == "set":
                self._changes[name] = change
        screen, clocks = changes.get(STAY_ON), changes.get(FIXED_PERFORMANCE)
        if screen and screen.outcome == "denied":
            self._note_once(
                "the screen cannot be kept on, which slows some phones down: switch on Stay awake in its developer "
                f"options, or USB debugging (Security settings) where there is one ({screen.words[:200]})"
            )
        if clocks and clocks.outcome != "set":
            raise DeviceError(
                f"{self._name} has no mode of fixed performance ({clocks.words[:200]}): take "
                "fixed_performance out of [phone] in the profile"
            )

    def _check_battery(self, connection: Connection) -> None:
        battery = _read(connection)
        if battery is None:
            self._note_once("charge and temperature cannot be read there")
            return
        wanted = self._wanted
        if not battery.is_plugged and battery.percent is not None and battery.percent < wanted.min_battery_percent:
            raise DeviceError(
                f"{self._name} has {battery.percent:.0f} % of its charge left and is not plugged in: charge it, or set "
                f"min_battery_percent (now {wanted.min_battery_percent}) in [phone] of the profile; the same command "
                "continues"
            )
        deadline = time.monotonic() + wanted.cool_down_max_min * 60
        has_waited = False
        while battery and battery.temperature_c is not None and battery.temperature_c > wanted.max_battery_c:
            if time.monotonic() >= deadline:
                raise DeviceError(
                    f"{self._name} is still at {battery.temperature_c:.1f} °C after {wanted.cool_down_max_min:g} min: "
                    f"put it in a cool place, or set max_battery_c (now {wanted.max_battery_c:g}) in [phone] of the "
                    "profile; the same command continues"
                )
            self._say(
                f"is at {battery.temperature_c:.1f} °C, waiting until it is at {wanted.max_battery_c:.1f} °C, at most "
                f"{max(deadline - time.monotonic(), 0.0) / 60:.1f} min"
            )
            has_waited = True
            time.sleep(min(LOOK_INTERVAL_S, max(deadline - time.monotonic(), 0.0)))
            battery = _read(connection)
        if has_waited and battery:
            self._say(str(battery))
        elif battery:
            self._note_once(str(battery))
        if battery and not battery.is_plugged and wanted.stay_on:
            self._note_once("its screen stays on only while it is plugged in")

    def _note_once(self, text: str) -> None:
        if text not in self._noted:
            self._noted.add(text)
            self._say(text)

    def _say(self, text: str) -> None:
        click.echo(f"{self._name}: {text}", err=True)


def _read(connection: Connection) -> Battery | None:
    done = connection.run(BATTERY, timeout_s=COMMAND_TIMEOUT_S)
    return parse_battery(done.stdout) if done.code == 0 else None


def _integer(text: str) -> int | None:
    return int(text) if re.fullmatch(r"-?[0-9]{1,6}", text) else None
