"""The emulated arm64 phone from end to end: the native agent's bundle over adb and ssh, both runtimes, whole tables."""

import importlib.metadata
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from fbagents.adb.address import Address
from fbagents.adb.connection import AdbConnection
from fbagents.adb.link import Timeouts
from fbagents.agent.client import AgentClient, Input, Planned
from fbagents.connect import connect
from fbagents.errors import DeviceError
from fbagents.native import bundle
from fbagents.transport import Transport
from fbbase.commandline import run
from fbexport.export import export_spec
from fblut.reading import read_lut
from fbprof.cli import fbprof
from fbprof.journal.journal import read_journal
from fbprof.models.result import read_result
from fbprof.plan.plan import REFERENCES
from fbspace.space import load_space
from peers import phone_image
from peers.given import SPACE, SPEC
from peers.installed import need
from peers.phone import Phone
from peers.runs import asked_for, sums, wait_until, write_profile
from peers.small_models import ELEMENTS, agent_input, identity
from peers.unavailable import unavailable

PACKAGES = {"litert": "ai-edge-litert", "onnxruntime": "onnxruntime", "executorch": "executorch", "ncnn": "ncnn"}
TORCH_THERE = "2.9.1"
over_adb_and_ssh = pytest.mark.parametrize("transport", ["adb", "ssh"])


@pytest.fixture
def phone(emulated_phone: Phone) -> Phone:
    """The phone, and a bundle for it."""
    try:
        bundle.build("aarch64-linux")
    except DeviceError as error:
        unavailable(f"no bundle for the emulated phone: {error}")
    return emulated_phone


@pytest.fixture
def board(emulated_phone: Phone, tmp_path: Path) -> Callable[..., str]:
    """Write a profile of the phone as a person does; the bundle stays, as sending it takes half a minute."""

    def write(transport: str) -> str:
        return write_profile(tmp_path / "phone.toml", emulated_phone.profile(transport, keep=True))

    return write


def measure(device: str, runtime: str, table: Path, *options: str, space: str = "fbnet-tiny") -> int:
    command = ["measure", "--device", device, "--space", space, "--runtime", runtime, "--quick"]
    return run(fbprof, [*command, *options, "-o", str(table)])


def ask(transport: Transport, script: str) -> str:
    """Return what a script prints on the device."""
    done = transport.run(script, timeout_s=20)
    assert done.code == 0, done
    return done.stdout


@over_adb_and_ssh
def test_the_phone_is_an_arm64_machine_and_its_user_androids_shell(emulated_phone: Phone, transport: str) -> None:
    with closing(connect(emulated_phone.profile(transport))) as connection:
        assert ask(connection, "uname -m; id -u; echo $PATH") == "aarch64\n2000\n/system/bin\n"
        assert ask(connection, "touch /x 2>/dev/null || touch /system/x 2>/dev/null || echo no") == "no\n"


@pytest.mark.full  # test_bundle.py runs the host's bundle
@pytest.mark.parametrize("transport", ["adb", "ssh"])
def test_the_bundle_runs_both_runtimes_with_the_hosts_outputs(
    phone: Phone,
    transport: str,
    models: dict[str, Path],
    int8_models: dict[str, Path],
    local: Transport,
    tmp_path: Path,
) -> None:
    with (
        closing(connect(phone.profile(transport))) as there,
        AgentClient(there) as agent,
        AgentClient(local) as here,
    ):
        versions = {runtime: importlib.metadata.version(PACKAGES[runtime]) for runtime in ("litert", "onnxruntime")}
        assert agent.hello.runtimes == versions
        assert agent.hello.agent.startswith("native ")
        assert agent.hello.system.startswith("Linux 6.1.")
        assert agent.hello.cores == (0, 1)
        for runtime in versions:
            loaded = agent.load(runtime, there.push(models[runtime]), runtime, SPEC.input_shape)
            expected = here.load(runtime, str(models[runtime]), runtime, SPEC.input_shape)
            assert loaded.outputs == expected.outputs == 24 * 8 * 8
            assert loaded.output_sum == pytest.approx(expected.output_sum, abs=1e-6 * expected.output_abs_sum)
            assert loaded.output_abs_sum == pytest.approx(expected.output_abs_sum, rel=1e-6)
            loaded = agent.load("int8", there.push(int8_models[runtime]), runtime, SPEC.input_shape)
            expected = here.load("int8", str(int8_models[runtime]), runtime, SPEC.input_shape)
            assert loaded.outputs == expected.outputs
            assert loaded.output_sum == pytest.approx(expected.output_sum, abs=8)
            assert loaded.output_abs_sum == pytest.approx(expected.output_abs_sum, abs=8)
            for element in ELEMENTS:
                path = tmp_path / f"{runtime}-{element}"
                path.write_bytes(identity(runtime, element, (2, 9)))
                loaded = agent.load("any", there.push(path), runtime, (), inputs=[Input("x", (2, 9), element)])
                values = agent_input(element, (2, 9)).astype("float64")
                assert loaded.outputs == values.size
                assert (loaded.output_sum, loaded.output_abs_sum) == (values.sum(), abs(values).sum())
        visits = list(agent.run([Planned("litert", 3), Planned("onnxruntime", 2)]))
        assert [len(visit.wall_ns) for visit in visits] == [3, 2]
        # Nothing of the phone's own C library is used.
        agents = "/data/local/tmp/fbnet-lab"
        libraries = ask(there, f"grep -o '/.*[.]so.*' /proc/$(cat {agents}/fbnet-lab-*/agent.pid)/maps | sort -u")
        (folder,) = {str(Path(line).parent) for line in libraries.splitlines()}
        assert folder == ask(there, f"echo {agents}/bundle-*").strip()
        assert {"libc.so.6", "libLiteRt.so", "libonnxruntime.so.1"} <= {
            Path(line).name for line in libraries.splitlines()
        }
        first = ask(there, f"ls -A {agents}").split()
    with closing(connect(phone.profile(transport))) as there:
        (own,) = ask(there, f"ls -A {agents}").split()  # to ask makes a folder, which is all that is there
        assert own.startswith("fbnet-lab-")
        assert own not in first


@pytest.mark.parametrize(
    ("transport", "runtime", "precision", "space", "operators"),
    [
        ("adb", "litert", "float32", "two", 4),
        # test_built_runtimes.py runs the host's bundle of ExecuTorch
        pytest.param("adb", "executorch", "float32", "two", 4, marks=pytest.mark.full),
        pytest.param("ssh", "onnxruntime", "float32", "two", 4, marks=pytest.mark.full),
        pytest.param("adb", "litert", "int8", "two", 4, marks=pytest.mark.full),
        pytest.param("adb", "litert", "float32", "fbnet-tiny", 71, marks=pytest.mark.full),
        pytest.param("adb", "onnxruntime", "float32", "fbnet-tiny", 71, marks=pytest.mark.full),
        pytest.param("ssh", "litert", "float32", "fbnet-tiny", 71, marks=pytest.mark.full),
        pytest.param("ssh", "onnxruntime", "float32", "fbnet-tiny", 71, marks=pytest.mark.full),
        pytest.param("adb", "litert", "int8", "fbnet-tiny", 71, marks=pytest.mark.full),
        pytest.param("adb", "executorch", "float32", "fbnet-tiny", 71, marks=pytest.mark.full),
        pytest.param("adb", "executorch", "int8", "fbnet-tiny", 71, marks=pytest.mark.full),
        pytest.param("adb", "ncnn", "float32", "fbnet-tiny", 71, marks=pytest.mark.full),
        pytest.param("adb", "ncnn", "int8", "two", 4, marks=pytest.mark.full),
        pytest.param("adb", "torch", "float32", "two", 4, marks=pytest.mark.full),
    ],
)
def test_measuring_the_phone_gives_a_whole_table_and_the_hosts_outputs(
    phone: Phone,
    board: Callable[..., str],
    tmp_path: Path,
    transport: str,
    runtime: str,
    precision: str,
    space: str,
    operators: int,
) -> None:
    need(runtime)
    if space == "two":
        space = str(tmp_path / "two.toml")
        Path(space).write_text(SPACE)
    there, here = tmp_path / "phone.csv", tmp_path / "here.csv"
    options = ["--precision", precision]
    # on a busy machine a sample in seven is preempted: more than the two rounds that would do for the outputs
    assert measure(board(transport), runtime, there, *options, "--rounds", "5", space=space) == 0
    assert measure("local", runtime, here, *options, "--rounds", "1", space=space) == 0
    lut = read_lut(there)
    assert lut.missing(load_space(space).operators()) == []
    in_float = {"BinaryOp in float", "Pooling in float"} if (runtime, precision) == ("ncnn", "int8") else set()
    assert {row.status for row in lut.rows.values()} == {"ok"}
    assert {row.notes for row in lut.rows.values()} == {"", *in_float}
    assert lut.metadata.precision == precision
    there_is = TORCH_THERE if runtime == "torch" else importlib.metadata.version(PACKAGES[runtime])
    assert lut.metadata.runtime_version == there_is
    found, expected = sums(there), sums(here)
    assert found.keys() == expected.keys()
    assert len(expected) == operators + len(REFERENCES)
    share = 1e-3 if precision == "int8" else 1e-6  # the same integers, but for a few that are rounded the other way
    for key, (total, absolute) in expected.items():
        assert found[key] == pytest.approx((total, absolute), abs=share * absolute), key


@pytest.mark.full  # test_adb.py has a phone that goes and comes
def test_a_phone_that_restarts_while_it_is_measured_is_measured_to_the_end(
    phone: Phone, board: Callable[..., str], tmp_path: Path
) -> None:
    """All that was pushed is gone."""
    table, space = tmp_path / "phone.csv", tmp_path / "two.toml"
    journal = table.with_suffix(".journal.jsonl")
    space.write_text(SPACE)

    def restart() -> None:
        wait_until(lambda: journal.exists() and journal.read_bytes().count(b'"record":"visit"') >= 10, 60, "visits")
        phone.restart()

    restarting = threading.Thread(target=restart)
    restarting.start()
    code = measure(board("adb"), "litert", table, "--ci", "0.0001", "--rounds", "12", space=str(space))
    restarting.join()
    assert code == 0
    content = read_journal(journal)
    assert content is not None
    assert (len(content.sessions), content.failed) == (2, {})
    assert min(asked_for(content).values()) == 12
    assert read_lut(table).missing(load_space(str(space)).operators()) == []


def test_a_key_the_phone_does_not_know_is_told_with_what_to_do(
    emulated_phone: Phone, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address = emulated_phone.profile("adb").address | {"key_file": str(tmp_path / "key")}
    with (
        closing(AdbConnection(Address.model_validate(address), Timeouts(dialog_s=1))) as connection,
        pytest.raises(DeviceError, match=r"has not authorised this computer's key .*accept the dialog on the phone"),
    ):
        connection.ensure()
    assert "asks whether it may be used: accept the dialog on the phone" in capsys.readouterr().err


@pytest.fixture
def phone_with_battery(emulated_phone: Phone, tmp_path: Path) -> Iterator[Phone]:
    """Another phone, with programs that busybox has not, or has otherwise."""
    files = {
        f"system/bin/{name}": phone_image.text_file(f'#!/system/bin/sh\necho {name} "$@"\n', 0o755)
        for name in ("dumpsys", "svc")
    }
    phone = Phone(emulated_phone.image, tmp_path, files)
    yield phone
    phone.stop()


@pytest.mark.full  # no other test needs that
def test_a_phone_can_be_given_programs_and_keeps_no_data_when_it_restarts(phone_with_battery: Phone) -> None:
    def answers() -> str:
        with closing(connect(phone_with_battery.profile("adb"))) as transport:
            return ask(transport, "dumpsys battery; svc power; cd /data/local/tmp; ls; touch left")

    assert answers() == "dumpsys battery\nsvc power\nfbnet-lab\n"  # the folder that the transport itself makes
    phone_with_battery.restart()
    assert answers() == "dumpsys battery\nsvc power\nfbnet-lab\n"


def test_the_image_is_built_by_one_process_and_what_a_killed_one_left_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Building is counted here, not done."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    built = []

    def build(folder: Path) -> None:
        assert not folder.exists()
        (folder / "packages").mkdir(parents=True)
        (folder / "kernel").write_text("kernel")
        built.append(folder)

    monkeypatch.setattr(phone_image, "build", build)
    folder = phone_image.prepare()
    shutil.rmtree(folder)
    folder.with_suffix(".part").mkdir()
    threads = [threading.Thread(target=phone_image.prepare) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 2
    assert [path.name for path in folder.iterdir()] == ["kernel"]


@pytest.mark.parametrize("transport", ["adb", pytest.param("ssh", marks=pytest.mark.full)])
def test_a_model_file_is_profiled_and_seen_into(
    transport: str, phone: Phone, board: Callable[..., str], tmp_path: Path
) -> None:
    path = tmp_path / "block.onnx"
    path.write_bytes(export_spec(SPEC, "onnx"))
    device = board(transport)
    few = ["--device", device, "--rounds", "4", "--runs", "2"]
    assert run(fbprof, ["profile", str(path), "--layers", *few, "-o", str(tmp_path / "phone.json")]) == 0
    (found,) = read_result(tmp_path / "phone.json").models
    assert found.first_us
    assert found.peak_bytes is not None
    assert sum(layer.latency_us or 0 for layer in found.layers) == pytest.approx(found.latency_us)
    here = ["profile", str(path), "--rounds", "4", "--runs", "2", "-o", str(tmp_path / "here.json")]
    assert run(fbprof, here) == 0
    there, expected = sums(tmp_path / "phone.csv"), sums(tmp_path / "here.csv")
    for key in expected:
        assert there[key] == pytest.approx(expected[key], rel=1e-4), key


@pytest.mark.full  # test_profile_command.py has it on this machine, and the test before has a model file on the phone
def test_two_settings_are_compared_by_two_agents_at_once(
    phone: Phone, board: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "block.tflite"
    path.write_bytes(export_spec(SPEC, "tflite"))
    arguments = ["ab", str(path), "--b-threads", "2", "--device", board("adb"), "--max-time", "0.2"]
    assert run(fbprof, arguments) in (0, 4)
    assert "2 threads" in capsys.readouterr().out
