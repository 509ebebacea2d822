"""The guardian's script in the shells that phones and boards have: whatever ends it, the settings are put back."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fbagents.android.guardian import GUARD, RESTORE
from peers import android_commands
from peers.android_commands import Commands
from peers.runs import wait_until

HOSTILE = ["1; touch pwned", "$(touch pwned)", "`touch pwned`", "-1", "123", "7 7", "*", "", "null; touch pwned"]


@pytest.fixture
def commands(tmp_path: Path) -> Commands:
    return Commands(tmp_path)


class Host:
    """Starts the script as a connection does."""

    def __init__(self, shell: list[str], commands: Commands, folder: Path) -> None:
        self.folder = folder / "it's a folder"
        self.folder.mkdir()
        self._shell, self._path = shell, f"{commands.bin}:{os.environ['PATH']}"
        self.started: list[subprocess.Popen[str]] = []

    def run(self, script: str, *names: str) -> subprocess.Popen[str]:
        guardian = subprocess.Popen(
            [*self._shell, "-c", script, "sh", f"{self.folder}/guardian", *names],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.folder,
            env={"PATH": self._path},
        )
        self.started.append(guardian)
        return guardian

    def guard(self, *names: str) -> tuple[subprocess.Popen[str], list[str]]:
        """Start a guardian and return it with what it said before it was ready."""
        guardian = self.run(GUARD, *(names or ["stay_on"]))
        assert guardian.stdout is not None
        said = []
        while (line := guardian.stdout.readline().rstrip("\n")) != "ready":
            assert line, said
            said.append(line)
        return guardian, said

    def files(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())


@pytest.fixture(params=["dash", "mksh", "busybox"])
def host(request: pytest.FixtureRequest, commands: Commands, tmp_path: Path) -> Iterator[Host]:
    host = Host(android_commands.shells()[request.param], commands, tmp_path)
    yield host
    for process in host.started:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()


@pytest.mark.parametrize("end", ["a line", "end of input", signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
@pytest.mark.parametrize("old", ["0", "3", "null"])
def test_whatever_ends_the_guardian_the_old_value_is_put_back(
    host: Host, commands: Commands, old: str, end: str | signal.Signals
) -> None:
    commands.stay_on = old
    guardian, said = host.guard()
    assert (said, commands.stay_on) == ([f"stay_on set {old}"], "7")
    assert host.files() == ["guardian.pid", "guardian.stay_on"]
    if isinstance(end, signal.Signals):
        guardian.send_signal(end)
    output, _ = guardian.communicate("end\n" if end == "a line" else None, timeout=10)
    assert (output.splitlines()[-1], guardian.returncode) == ("restored", 0)
    assert (commands.stay_on, host.files()) == (old, [])


def test_the_screen_is_woken(host: Host, commands: Commands) -> None:
    host.guard()
    assert (commands.state / "input").read_text() == "keyevent KEYCODE_WAKEUP\n"


def test_a_host_that_is_gone_before_the_guardian_is_ready_changes_nothing_for_good(
    host: Host, commands: Commands
) -> None:
    commands.stay_on = "0"
    guardian = host.run(GUARD, "stay_on")
    assert guardian.stdout is not None
    assert guardian.stdin is not None
    guardian.stdout.close()
    guardian.stdin.close()
    guardian.wait(10)
    assert (commands.stay_on, host.files()) == ("0", [])


@pytest.mark.parametrize("old", ["0", "null"])
def test_after_a_guardian_was_killed_the_next_one_puts_back_the_first_value(
    host: Host, commands: Commands, old: str
) -> None:
    """So it is, too, where the phone was restarted: the file is there and its guardian is not."""
    commands.stay_on = old
    for _ in range(2):
        guardian, said = host.guard()
        assert said == [f"stay_on set {old}"]
        guardian.kill()
        guardian.wait(10)
        assert commands.stay_on == "7"
    guardian, _ = host.guard()
    assert guardian.communicate("end\n", timeout=10)[0] == "restored\n"
    assert (commands.stay_on, host.files()) == (old, [])


def test_after_a_guardian_was_killed_its_record_is_enough(host: Host, commands: Commands) -> None:
    commands.stay_on = "1"
    guardian, _ = host.guard("stay_on", "fixed_performance")
    guardian.kill()
    guardian.wait(10)
    restoring = host.run(RESTORE)
    assert (restoring.communicate(timeout=10)[0], restoring.returncode) == ("", 0)
    assert (commands.stay_on, (commands.state / "fixed").read_text(), host.files()) == ("1", "false\n", [])
    assert host.run(RESTORE).wait(10) == 0


def test_what_a_person_chose_after_a_guardian_was_killed_stands(host: Host, commands: Commands) -> None:
    commands.stay_on = "0"
    guardian, _ = host.guard()
    guardian.kill()
    guardian.wait(10)
    commands.stay_on = "3"
    guardian, said = host.guard()
    assert said == ["stay_on set 3"]
    guardian.communicate("end\n", timeout=10)
    assert (commands.stay_on, host.files()) == ("3", [])


def test_a_guardian_that_still_runs_hands_over_to_the_next(host: Host, commands: Commands) -> None:
    commands.stay_on = "0"
    first, _ = host.guard()
    second, said = host.guard()
    assert first.wait(10) == 0
    assert (said, commands.stay_on) == (["stay_on set 0"], "7")
    assert second.communicate("end\n", timeout=10)[0] == "restored\n"
    assert (commands.stay_on, host.files()) == ("0", [])


def test_a_number_in_the_file_that_is_another_process_is_left_alone(host: Host, commands: Commands) -> None:
    other = subprocess.Popen(["sleep", "60"])
    host.started.append(other)  # type: ignore[arg-type]
    for text in (str(other.pid), "-1", "1; touch pwned", "$$"):
        (host.folder / "guardian.pid").write_text(f"{text}\n")
        guardian, _ = host.guard()
        guardian.communicate("end\n", timeout=10)
    assert other.poll() is None
    assert host.files() == []


def test_denied_settings_are_told_in_the_phones_words_and_leave_nothing(host: Host, commands: Commands) -> None:
    commands.stay_on = "0"
    commands.tell("denied", android_commands.DENIED)
    guardian, (said,) = host.guard()
    assert said.startswith("stay_on denied Exception occurred while executing 'put': java.lang.SecurityException:")
    assert guardian.communicate("end\n", timeout=10)[0] == "restored\n"
    assert (commands.stay_on, host.files()) == ("0", [])


@pytest.mark.parametrize("value", HOSTILE)
def test_a_hostile_value_is_neither_evaluated_nor_written(host: Host, commands: Commands, value: str) -> None:
    commands.stay_on = value
    guardian, (said,) = host.guard()
    assert said == f"stay_on denied {value}".strip()
    guardian.communicate("end\n", timeout=10)
    assert commands.stay_on == value
    commands.stay_on = "7"
    (host.folder / "guardian.stay_on").write_text(f"{value}\n")
    guardian, said_then = host.guard()
    assert said_then == ["stay_on set 7"]
    guardian.communicate("end\n", timeout=10)
    (host.folder / "guardian.stay_on").write_text(f"{value}\n")
    assert host.run(RESTORE).wait(10) == 1
    assert commands.stay_on == "7"
    assert host.files() == ["guardian.stay_on"]  # and no pwned


def test_fixed_performance_is_switched_on_and_off_again(host: Host, commands: Commands) -> None:
    guardian, said = host.guard("stay_on", "fixed_performance")
    assert said == ["stay_on set null", "fixed_performance set false"]
    assert (commands.state / "fixed").read_text() == "true\n"
    guardian.communicate("end\n", timeout=10)
    assert (commands.state / "fixed").read_text() == "false\n"
    commands.tell("not_fixed", android_commands.NOT_FIXED)
    guardian, (said_then,) = host.guard("fixed_performance")
    assert said_then == "fixed_performance denied " + " ".join(android_commands.NOT_FIXED.split())
    assert guardian.communicate("end\n", timeout=10)[0] == "restored\n"


def test_what_cannot_be_put_back_now_is_kept_for_later(host: Host, commands: Commands) -> None:
    commands.stay_on = "0"
    guardian, _ = host.guard()
    commands.tell("denied", android_commands.DENIED)
    assert guardian.communicate("end\n", timeout=10)[0] == "failed\n"
    assert (commands.stay_on, host.files()) == ("7", ["guardian.stay_on"])
    (commands.state / "denied").unlink()
    assert host.run(RESTORE).wait(10) == 0
    assert (commands.stay_on, host.files()) == ("0", [])


def test_without_androids_commands_nothing_is_changed(host: Host, commands: Commands) -> None:
    (commands.bin / "settings").unlink()
    guardian, said = host.guard()
    assert said == ["stay_on absent"]
    assert guardian.communicate("end\n", timeout=10)[0] == "restored\n"
    wait_until(lambda: host.files() == [], 5, "no files")
