"""fbprof doctor: devices that are well, and devices with one fault each, which it names with its remedy."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fbagents.profile import Profile
from fbbase.commandline import run
from fbprof.cli import fbprof
from fbprof.doctor import Check, check_device, check_host

NO_RUNTIMES = ('"runtimes":{[^}]*}', '"runtimes":{}')
ONE_RUNTIME = ('"runtimes":{([^,}]*)[^}]*}', r'"runtimes":{\1}')
REPLIES = """
import json, re
init = Agent.__init__
def changed(self, threads, cores, memory_bytes, sys_folder, files, reply, read):
    def answered(**message):
        told = json.dumps(message, separators=(",", ":"))
        for pattern, words in CHANGES:
            told = re.sub(pattern, words, told)
        reply(**json.loads(told))
    init(self, threads, cores, memory_bytes, sys_folder, files, answered, read)
Agent.__init__ = changed
"""


@pytest.fixture
def device(tmp_path: Path, python_that: Callable[[str], str]) -> Callable[..., Profile]:
    """This machine with an agent in whose replies patterns become other words, and whose /sys is a folder."""

    def make(*changes: tuple[str, str], sys_files: dict[str, str] | None = None, cores: str | None = None) -> Profile:
        for name, content in (sys_files or {}).items():
            path = tmp_path / "sys" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        body = f"sys.argv += ['--sys', {str(tmp_path / 'sys')!r}]"
        python = python_that(body + REPLIES.replace("CHANGES", repr(changes)))
        return Profile(name="device", description="x", transport="local", python=python, cores=cores)

    return make


def found(profile: Profile) -> dict[str, Check]:
    return {check.name: check for check in check_device(profile)}


def test_this_machine_is_examined_and_every_remedy_is_with_a_fault() -> None:
    checks = list(check_host())
    assert [check.name for check in checks] == ["disk", "load", "compiler", "bundle", "ssh client", "adb key", "phones"]
    assert all(bool(check.remedy) == (check.status != "ok") for check in checks)
    assert "failed" not in {check.status for check in checks}


def test_every_runtime_of_a_device_is_run_and_its_output_compared(device: Callable[..., Profile]) -> None:
    checks = found(device())
    for runtime in ("litert", "onnxruntime", "torch"):
        assert "output as on this machine" in checks[f"runtime {runtime}"].found
    assert checks["agent"].status == "ok"


def test_an_output_that_differs_is_a_failure(device: Callable[..., Profile]) -> None:
    checks = found(device(ONE_RUNTIME, ('"output_sum":(-?)', r'"output_sum":\g<1>1')))
    (check,) = (check for name, check in checks.items() if name.startswith("runtime "))
    assert check.status == "failed"
    assert "its output differs from this machine's" in check.found


def test_capacity_and_clock_that_disagree_are_told(device: Callable[..., Profile]) -> None:
    cores = {0: (592, 1896000), 1: (592, 1896000), 2: (1024, 1800000), 3: (1024, 1800000)}  # an Odroid N2's
    sys_files = {}
    for core, (capacity, khz) in cores.items():
        sys_files[f"devices/system/cpu/cpu{core}/cpu_capacity"] = f"{capacity}\n"
        sys_files[f"devices/system/cpu/cpu{core}/cpufreq/cpuinfo_max_freq"] = f"{khz}\n"
    check = found(device(ONE_RUNTIME, sys_files=sys_files))["cores"]
    assert "0-1 of capacity 592 up to 1.90 GHz, 2-3 of capacity 1024 up to 1.80 GHz" in check.found
    assert "2-3 are the big ones by what they are, though others have a higher clock" in check.found


def test_a_device_without_runtimes_is_told_what_to_install(device: Callable[..., Profile]) -> None:
    check = found(device(NO_RUNTIMES))["runtimes"]
    assert (check.status, check.found) == ("failed", "none")
    assert "install ai-edge-litert or " in check.remedy


def test_cores_of_two_kinds_want_a_choice_and_heat_is_told(device: Callable[..., Profile]) -> None:
    files = {
        f"devices/system/cpu/cpu{core}/cpufreq/cpuinfo_max_freq": f"{khz}\n"
        for core, khz in ((0, 1690000), (1, 2314000))
    }
    files |= {"class/thermal/thermal_zone0/temp": "71500\n", "class/thermal/thermal_zone0/type": "soc\n"}
    checks = found(device(ONE_RUNTIME, sys_files=files))
    assert checks["cores"].found.endswith("0 up to 1.69 GHz, 1 up to 2.31 GHz")
    assert (checks["cores"].status, "--cores big" in checks["cores"].remedy) == ("warning", True)
    assert (checks["temperature"].status, checks["temperature"].found) == ("warning", "72 °C (thermal_zone0 soc)")
    bound = found(device(ONE_RUNTIME, sys_files=files, cores="big"))["cores"]
    assert (bound.status, bound.found) == ("ok", "1; 0 up to 1.69 GHz, 1 up to 2.31 GHz")


def test_a_device_that_cannot_be_reached_is_a_failure_and_the_others_are_examined(
    device: Callable[..., Profile], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.toml"
    python = device(NO_RUNTIMES).python
    other.write_text(f'description = "x"\ntransport = "local"\npython = "{python}"\n')
    gone = tmp_path / "gone.toml"
    gone.write_text('description = "x"\ntransport = "local"\nprogram = "/no/agent"\n')
    assert run(fbprof, ["doctor", "--device", str(gone), "--device", str(other), "--json"]) == 1
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert [(check["name"], check["status"]) for check in report["gone"]] == [("agent", "failed")]
    assert "cannot start the agent with /no/agent" in report["gone"][0]["found"]
    assert "ok" in {check["status"] for check in report["other"]}
    assert "failed: gone: agent" in err
