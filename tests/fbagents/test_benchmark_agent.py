"""The agent that runs benchmark_model: the protocol's answers by real processes of a stand-in that prints like it."""

import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fbagents.agent.client import AgentClient, Input, Planned
from fbagents.agent.pieces import Content
from fbagents.agent.protocol import Cluster, Delegate
from fbagents.benchmark.binary import with_binary
from fbagents.benchmark.facts import FACTS, Facts, parse_facts, parse_state
from fbagents.benchmark.process import RUN, keep
from fbagents.connect import connect, load_profile
from fbagents.errors import AgentReplyError, AgentTimeoutError, DeviceError
from fbagents.profile import Profile
from fbagents.transport import Transport
from peers.given import SPEC
from peers.runs import wait_until

QUICK = "--warmup_runs=1 --warmup_min_secs=0 --num_runs=7 --min_secs=0 "


@pytest.fixture
def model(models: dict[str, Path]) -> Path:
    return models["litert"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "fbnet-lab" / "benchmark_model"


def local(binary: Path, arguments: str = "", **changes: object) -> Profile:
    return with_binary(load_profile("local").model_copy(update=changes), binary, QUICK + arguments)


OPEN: list[Transport] = []


def opened(profile: Profile) -> Transport:
    """Connect; what is connected is closed after the test."""
    OPEN.append(connect(profile))
    return OPEN[-1]


@pytest.fixture(autouse=True)
def closing() -> Iterator[None]:
    yield
    while OPEN:
        OPEN.pop().close()


def load(agent: AgentClient, transport: Transport, model: Path) -> tuple[Delegate, ...]:
    return agent.load("m", transport.push(model), "litert", SPEC.input_shape).delegates


@pytest.mark.parametrize("style", ["2019", "2024", "litert"])
def test_a_visit_is_one_process_whose_average_is_the_sample(
    style: str, benchmark_model: Path, model: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    environment = load_profile("local").environment | {"STAND_IN_LOG": str(log)}
    transport = opened(local(benchmark_model, f"--stand_in_style={style}", environment=environment))
    with AgentClient(transport, threads=2) as agent:
        with connect_local() as own:
            assert (agent.hello.soc, agent.hello.system) == (own.hello.soc, own.hello.system)
            assert agent.hello.clusters == own.hello.clusters
        assert re.fullmatch(r"unknown, in benchmark_model sha256:[0-9a-f]{12}", agent.hello.runtimes["litert"])
        assert agent.hello.agent.startswith("benchmark_model sha256:")
        assert agent.hello.agent.endswith(f"{QUICK}--stand_in_style={style}")
        assert load(agent, transport, model) == ()
        visits = list(agent.run([Planned("m", 1)] * 2))
        assert agent.state().memory_available_bytes
        agent.unload("m")
    told = [line.split(" ", 1) for line in log.read_text().splitlines()]
    assert len(told) == 3  # one for the load
    assert [visit.wall_ns for visit in visits] == [(round(1e3 * float(us)),) for us, _ in told[1:]]
    assert all(visit.cpu_ns is None for visit in visits)
    assert all(rest.endswith(" 2") for _, rest in told)  # threads
    transport.close()


def test_inputs_are_those_that_the_program_makes_itself(benchmark_model: Path, model: Path) -> None:
    transport = opened(local(benchmark_model))
    one = Input("x", SPEC.input_shape, "float32")
    with AgentClient(transport) as agent:
        loaded = agent.load("m", transport.push(model), "litert", (), inputs=[one])
        assert loaded.first_ns is not None
        assert loaded.first_ns > 0
        assert loaded.peak_bytes is None
    for arguments, why in [
        (
            {"inputs": [one, Input(None, (2,), "int32")]},
            "one float32 input, this one has x float32, 1 int32; use another",
        ),
        ({"inputs": []}, "one float32 input, this one has none"),
        ({"inputs": [Input("x", (2,), "int8")]}, "one float32 input, this one has x int8"),
        ({"inputs_path": "values"}, "makes its own input: values cannot be given"),
    ]:
        with AgentClient(transport) as agent, pytest.raises(AgentReplyError, match=why):
            agent.load("m", transport.push(model), "litert", (), **arguments)  # type: ignore[arg-type]


def test_a_model_stays_although_its_file_is_deleted_once_it_is_loaded(
    benchmark_model: Path, model: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "model.tflite"
    copy.write_bytes(model.read_bytes())
    transport = opened(local(benchmark_model))
    with AgentClient(transport) as agent:
        remote = Path(transport.send(Content(copy), agent.write))
        agent.load("m", str(remote), "litert", SPEC.input_shape)
        copy.unlink()
        assert len(list(agent.run([Planned("m", 1)]))) == 1
    transport.close()
    assert not remote.parent.exists()


def connect_local() -> AgentClient:
    return AgentClient(connect(load_profile("local")))


def test_a_process_is_bound_to_cores_and_says_so(benchmark_model: Path, model: Path, tmp_path: Path) -> None:
    last = max(os.sched_getaffinity(0))
    log = tmp_path / "log"
    profile = local(benchmark_model, environment={"STAND_IN_LOG": str(log)})
    transport = opened(profile)
    with AgentClient(transport, cores=str(last)) as agent:
        assert agent.hello.cores == (last,)
        assert agent.state().affinity == (last,)
        load(agent, transport, model)
    assert f"[{last}]" in log.read_text()


def test_cores_that_are_not_there_are_refused(benchmark_model: Path) -> None:
    with pytest.raises(DeviceError, match=r"cannot bind benchmark_model to cores 900 of local.*leave out --cores"):
        AgentClient(opened(local(benchmark_model)), cores="900")


def test_without_taskset_cores_are_refused(
    benchmark_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("sh", "sed", "head", "uname", "sleep", "cat", "tr"):
        (tmp_path / name).symlink_to(
            Path("/usr/bin") / name if Path("/usr/bin", name).exists() else Path("/bin") / name
        )
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DeviceError, match=r"cannot bind benchmark_model to cores 0: local has no taskset"):
        AgentClient(opened(local(benchmark_model)), cores="0")


@pytest.mark.parametrize(
    ("arguments", "delegates"),
    [
        ("--use_gpu=true --stand_in_delegate=completely", (Delegate(name="GPU", extent="completely"),)),
        (
            "--use_gpu=true --stand_in_delegate=partially",
            (Delegate(name="GPU", extent="partially", detail="2 delegate kernels"),),
        ),
        ("--use_gpu --stand_in_delegate=not", (Delegate(name="GPU", extent="not"),)),
        ("--use_gpu=true", (Delegate(name="GPU", extent="untold"),)),
        ("--use_gpu=false", ()),
        (
            "--use_nnapi=1 --stand_in_delegate=not",
            (Delegate(name="GPU", extent="not"), Delegate(name="NNAPI", extent="untold")),
        ),
    ],
)
def test_what_delegates_do_is_told(
    arguments: str, delegates: tuple[Delegate, ...], benchmark_model: Path, model: Path
) -> None:
    transport = opened(local(benchmark_model, arguments))
    with AgentClient(transport) as agent:
        assert load(agent, transport, model) == delegates


def test_delegates_that_change_are_an_error(benchmark_model: Path, model: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.write_text("completely")
    transport = opened(local(benchmark_model, f"--stand_in_delegate_file={state}"))
    with AgentClient(transport) as agent:
        load(agent, transport, model)
        state.write_text("not")
        with pytest.raises(AgentReplyError, match=r"GPU delegate: not at all, not GPU delegate: completely"):
            list(agent.run([Planned("m", 1)]))


@pytest.mark.parametrize(
    ("fault", "message", "kept"),
    [
        ("nan", r"none of the known shapes\. All that it printed is in ", "avg=nan"),
        ("other", r"contradicts itself: Inference of .* All that it printed is in ", "Inference timings in us"),
        ("exit", r"ended with 1: .*Benchmarking failed\.\. All that it printed is in ", "Failed to apply GPU delegate"),
    ],
)
def test_what_a_process_printed_is_kept_where_it_is_of_no_use(
    fault: str, message: str, kept: str, benchmark_model: Path, model: Path, cache: Path
) -> None:
    transport = opened(local(benchmark_model, f"--stand_in_fault={fault}"))
    with pytest.raises(AgentReplyError, match=message) as caught, AgentClient(transport) as agent:
        load(agent, transport, model)
    path = Path(re.search(r"is in (\S+\.txt)", str(caught.value))[1])  # type: ignore[index]
    assert path.parent == cache
    assert kept in path.read_text()


def test_a_process_that_hangs_is_ended(benchmark_model: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fbagents.agent.client.LOAD_TIMEOUT_S", 0.5)
    transport = opened(local(benchmark_model, "--stand_in_fault=hang"))
    start = time.monotonic()
    with pytest.raises(AgentTimeoutError, match=r"did not finish within 1 s.* is in "), AgentClient(transport) as agent:
        load(agent, transport, model)
    assert time.monotonic() - start < 5
    assert not [path for path in Path("/proc").glob("[0-9]*/cmdline") if str(benchmark_model).encode() in read(path)]


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_what_a_broken_connection_left_behind_is_ended(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(Path("/bin/sleep").read_bytes())
    program.chmod(0o755)
    pid = Path(f"{program}.pid")
    first = subprocess.Popen(["sh", "-c", RUN, "sh", "60", str(pid), "", "--", str(program), "50"])
    deadline = time.monotonic() + 10
    while not (pid.exists() and pid.read_text().strip()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    left = int(pid.read_text())
    first.kill()
    first.wait()
    command = Path(f"/proc/{left}/cmdline")  # empty while the program is being started
    wait_until(lambda: str(program).encode() in read(command), 10, "the program is running")
    transport = connect(load_profile("local"))
    done = transport.run(RUN, "60", str(pid), "", "A=b c", "--", "sh", "-c", 'echo "$A"', timeout_s=10)
    assert done[:2] == (0, "b c\n")
    assert str(program).encode() not in read(command)


def test_requests_that_it_cannot_answer(benchmark_model: Path, model: Path) -> None:
    transport = opened(local(benchmark_model))
    with AgentClient(transport) as agent:
        with pytest.raises(AgentReplyError, match="runs models of litert, not of onnxruntime"):
            agent.load("m", str(model), "onnxruntime", SPEC.input_shape)
        with pytest.raises(AgentReplyError, match="visit 0: model 'm' is not loaded"):
            list(agent.run([Planned("m", 1)]))
        load(agent, transport, model)
        with pytest.raises(AgentReplyError, match="tells one average of a visit and no single runs"):
            list(agent.run([Planned("m", 3)]))


def test_a_program_that_cannot_be_run_is_told(tmp_path: Path, benchmark_model: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_bytes(benchmark_model.read_bytes())
    with pytest.raises(DeviceError, match=r"plain is not executable: chmod \+x"):
        AgentClient(opened(local(plain)))
    plain.write_bytes(b"#!/no/such/interpreter\n")
    plain.chmod(0o755)
    transport = opened(local(plain))
    with (
        pytest.raises(DeviceError, match=r"plain cannot be run on local .*a program for Android does not run on Linux"),
        AgentClient(transport) as agent,
    ):
        agent.load("m", "x", "litert", SPEC.input_shape)


def test_a_transport_that_runs_no_programs_is_refused(benchmark_model: Path, tmp_path: Path) -> None:
    journal = Path(__file__).parents[1] / "data" / "replay.journal.jsonl.xz"
    fields = {"transport": "replay", "address": {"journal": str(journal)}}
    profile = with_binary(load_profile("local").model_copy(update=fields), benchmark_model, "")
    with pytest.raises(DeviceError, match="transport replay runs no programs"):
        connect(profile)


def test_facts_are_those_of_this_machine() -> None:
    transport = connect(load_profile("local"))
    facts = parse_facts(transport.run(FACTS, timeout_s=10).stdout)
    assert facts.machine == os.uname().machine
    assert set(os.sched_getaffinity(0)) <= set(facts.online)


FACTS_OF_A_PHONE = """machine aarch64
system Linux 4.9.59 aarch64
soc Exynos 8895
core 0 1 1690000
core 1 1 1690000
core 10 1 2314000
core 2 0 2314000
core 3 1 2314000
"""


def test_words_for_cores_are_the_devices() -> None:
    facts = parse_facts(FACTS_OF_A_PHONE)
    kinds = (Cluster(max_khz=1690000, cores=(0, 1)), Cluster(max_khz=2314000, cores=(3, 10)))
    assert facts == Facts("aarch64", "Exynos 8895", "Linux 4.9.59 aarch64", (0, 1, 3, 10), kinds)
    assert facts.named_cores("big") == [3, 10]
    assert facts.named_cores("little") == [0, 1]
    assert facts.named_cores("all") == [0, 1, 3, 10]
    assert facts.named_cores("2,5") == [2, 5]
    with pytest.raises(DeviceError, match="which cores are middle is not known: the device tells 2 kinds"):
        facts.named_cores("middle")
    assert parse_facts("") == Facts("unknown", "unknown", "unknown", (), ())


def test_a_state_is_read_as_the_agents_read_it() -> None:
    text = "freq 0 1800000\ntemp thermal/thermal_zone0 41200 cpu\ntemp thermal/thermal_zone1 38 x\ndenied freq_khz\n"
    text += "temp power_supply/battery 312 Battery\nmemory 2048\nrubbish\nfreq x y\n"
    assert parse_state(text) == {
        "freq_khz": {"0": 1800000},
        "temperature_c": {"thermal_zone0 cpu": 41.2, "thermal_zone1 x": 38.0, "battery Battery": 31.2},
        "memory_available_bytes": 2048 * 1024,
        "denied": ["freq_khz"],
    }


def test_what_cannot_be_kept_does_not_hide_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/none")
    assert keep("text").startswith("What it printed could not be kept (cannot write /proc/none")
