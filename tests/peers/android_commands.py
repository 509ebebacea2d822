"""What an Android phone's shell has and a Linux machine's lacks: settings, dumpsys, cmd, input; and Android's shell.

The commands keep their values in files and print what phones print; their texts are recorded outputs:
SAMSUNG      zebrunner/mcloud-device issue 150
PIXEL        google/clusterfuzz pull request 4327 (a device of Google's, Android 15)
XIAOMI       d4rken-org/amply pull request 52 (Redmi Note 14, HyperOS)
DRAGON       google/syzkaller issue 79 (Pixel C, Android 7)
EMULATOR     appium/appium issue 7389 (Android 5)
DENIED       Genymobile/scrcpy issue 4778
NOT_FIXED    PowerManagerShellCommand of Android's sources
"""

import os
import shutil
from pathlib import Path

from fbagents.errors import DeviceError
from fbagents.native import debian
from peers.unavailable import unavailable

SAMSUNG = """Current Battery Service state:
  AC powered: false
  USB powered: true
  Wireless powered: false
  Max charging current: 0
  Max charging voltage: 0
  Charge counter: 2967000
  status: 5
  health: 2
  present: true
  level: 100
  scale: 100
  voltage: 4312
  temperature: 309
  technology: Li-ion
  batterySWSelfDischarging: false
  batteryMiscEvent: 65536
  batteryCurrentEvent: 0
  mSecPlugTypeSummary: 2
  LED Charging: true
  LED Low Battery: true
  current now: 0
  charge counter: 2967000
  Adaptive Fast Charging Settings: true
USE_FAKE_BATTERY: false
SEC_FEATURE_BATTERY_SIMULATION: false
FEATURE_WIRELESS_FAST_CHARGER_CONTROL: true
  mWasUsedWirelessFastChargerPreviously: false
  mWirelessFastChargingSettingsEnable: true
LLB CAL: 20180831
LLB MAN:
LLB CURRENT: YEAR2023M8D9
LLB DIFF: 256
BatteryInfoBackUp
  mSavedBatteryAsoc: 96
  mSavedBatteryMaxTemp: 534
  mSavedBatteryMaxCurrent: 2236
  mSavedBatteryUsage: 132
  FEATURE_SAVE_BATTERY_CYCLE: true
  SEC_FEATURE_PREVENT_SWELLING: false
"""
PIXEL = """Current Battery Service state:
  AC powered: true
  USB powered: false
  Wireless powered: false
  Dock powered: false
  Max charging current: 1500000
  Max charging voltage: 5000000
  Charge counter: 3376000
  status: 4
  health: 3
  present: true
  level: 80
  scale: 100
  voltage: 4200
  temperature: 180
  technology: Li-ion
  Charging state: 4
  Charging policy: 1
  Capacity level: 3
"""
XIAOMI = """Current Battery Service state:
  AC powered: true
  USB powered: false
  Wireless powered: false
  Dock powered: false
  Max charging current: 12400000
 Time when the latest updated value of the Max charging current was sent via battery changed broadcast: +3h50m5s130ms
  Max charging voltage: 11000000
  Charge counter: 4274
  status: 2
  health: 2
  present: true
  level: 80
  scale: 100
  voltage: 4228
 Time when the latest updated value of the voltage was sent via battery changed broadcast: +4h6m8s668ms
 The last voltage value sent via the battery changed broadcast: 4232
  temperature: 364
  technology: Li-poly
  Charging state: 0
  Charging policy: 0
  Capacity level: 4
MiuiBatteryService first usage time:
  mSetBatteryUsageTimeCount=56
  mNtpTime=1779945046315
  mParseNtpTime=20260516
"""
DRAGON = """Current Battery Service state:
  AC powered: true
  USB powered: false
  Wireless powered: false
  Max charging current: 2400000
  Max charging voltage: 5000000
  Charge counter: 0
  status: 2
  health: 2
  present: true
  level: 19
  scale: 100
  voltage: 3764
  temperature: 275
  technology: Li-ion
"""
EMULATOR = """Current Battery Service state:
  AC powered: true
  USB powered: false
  Wireless powered: false
  status: 2
  health: 2
  present: true
  level: 89
  scale: 100
  voltage: 0
  temperature: 0
  technology: Li-ion
"""
DENIED = """
Exception occurred while executing 'put':
java.lang.SecurityException: Permission denial: writing to settings requires:android.permission.WRITE_SECURE_SETTINGS
        at com.android.providers.settings.SettingsProvider.enforceWritePermission(SettingsProvider.java:2562)
        at com.android.providers.settings.SettingsProvider.mutateGlobalSetting(SettingsProvider.java:1562)
        at com.android.providers.settings.SettingsProvider.insertGlobalSetting(SettingsProvider.java:1516)
"""
NOT_FIXED = """Failed to set FIXED_PERFORMANCE mode
This is likely because Power HAL AIDL is not implemented on this device
"""
SETTINGS = """#!/bin/sh
cd '{state}' || exit
[ "$2 $3" = "global stay_on_while_plugged_in" ] || exit 255
if [ "$1" != get ] && [ -e denied ]; then cat denied >&2; exit 255; fi
case $1 in
get) if [ -e stay_on ]; then cat stay_on; else echo null; fi ;;
put) echo "$4" >stay_on.new && mv stay_on.new stay_on ;;
delete) rm -f stay_on; echo "Deleted 1 rows" ;;
esac
"""
CMD = """#!/bin/sh
cd '{state}' || exit
[ "$1 $2" = "power set-fixed-performance-mode-enabled" ] || exit 255
if [ -e not_fixed ]; then cat not_fixed >&2; exit 255; fi
echo "$3" >fixed
"""
DUMPSYS = """#!/bin/sh
cd '{state}' && [ "$*" = battery ] || exit 255
cat battery
[ ! -e next ] || mv next battery
"""
INPUT = """#!/bin/sh
echo "$*" >>'{state}'/input
"""
SCRIPTS = {"settings": SETTINGS, "cmd": CMD, "dumpsys": DUMPSYS, "input": INPUT}


class Commands:
    """The commands in `bin`, and what they know in `state`."""

    def __init__(self, folder: Path) -> None:
        self.bin, self.state = folder / "android-bin", folder / "android-state"
        for path in (self.bin, self.state):
            path.mkdir()
        for name, text in SCRIPTS.items():
            program = self.bin / name
            program.write_text(text.format(state=self.state))
            program.chmod(0o755)
        self.tell("battery", SAMSUNG)

    @property
    def stay_on(self) -> str:
        """The setting's value, `null` where it has none."""
        path = self.state / "stay_on"
        return path.read_text().removesuffix("\n") if path.exists() else "null"

    @stay_on.setter
    def stay_on(self, value: str) -> None:
        if value == "null":
            (self.state / "stay_on").unlink(missing_ok=True)
        else:
            self.tell("stay_on", f"{value}\n")

    def tell(self, name: str, text: str) -> None:
        """Let the commands know something."""
        (self.state / name).write_text(text)


def shells() -> dict[str, list[str]]:
    """Return the shells that phones and boards have, by name; Debian's where this machine has none installed."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fbnet-lab-tests" / "shells-bookworm"
    found = {name: shutil.which(name) for name in ("dash", "mksh", "busybox")}
    if not all(found.values()) and not folder.is_dir():
        work = folder.with_name(f"{folder.name}.{os.getpid()}")
        try:
            debian.unpack(["dash", "mksh", "busybox-static"], "bookworm", "amd64", work)
            work.rename(folder)
        except DeviceError as error:
            unavailable(f"no Android shell: {error}")
        except OSError:  # another run was first
            pass
        finally:
            shutil.rmtree(work, ignore_errors=True)
    paths = {name: path or str(folder / "bin" / name) for name, path in found.items()}
    return {"dash": [paths["dash"]], "mksh": [paths["mksh"]], "busybox": [paths["busybox"], "sh"]}
