"""The adb transport against Debian's real adbd: outputs, shell v2, hostile names, keys, and connections that break."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fbagents.agent import AgentClient, Planned
from fbagents.errors import AgentReplyError
from fbagents.profile import Profile, load_profile
from fbagents.transports import Transport, connect
from fbagents.transports.adb import AdbConnection, address_of
from fbbase.commandline import run
from fblut.reading import read_lut
from fbprof.cli import fbprof
from fbspace.opspec import OpSpec
from fbspace.space import load_space

sys.path.insert(0, str(Path(__file__).parent / "peers"))
import adbd as peer

SPEC = OpSpec("ir", 16, 24, 16, 16, kernel=3, stride=2, expansion=3)  # as in conftest
HOSTILE = ["two words", 'it\'s "quoted"', "a;touch pwned", "$(touch pwned)`touch pwned`", "line\nbreak", "-rf", "é*?"]
SPACE = """
description = "two layers"
input = { channels = 3, size = 16 }
classes = 4
head_channels = [16]
stem = [{ kind = "conv", channels = 8, kernel = 3, stride = 2 }]
stages = [{ channels = 8, repeats = 2, stride = 1 }]
[candidates]
k3 = { kind = "ir", kernel = 3, expansion = 2 }
skip = { kind = "skip" }
"""


@pytest.fixture(scope="session")
def root() -> Path:
    try:
        return peer.prepare()
    except peer.UnavailableError as error:
        pytest.skip(f"no adbd: {error}")


@pytest.fixture
def phone(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator["Phone"]:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    try:
        phone = Phone(root, tmp_path)
    except peer.UnavailableError as error:
        pytest.skip(f"no adbd: {error}")
    yield phone
    phone.stop()


class Phone(peer.Adbd):  # type: ignore[name-defined,misc]
    """adbd, and the profile by which it is reached."""

    def __init__(self, root: Path, folder: Path, program: Path | None = None) -> None:
        super().__init__(root, program, folder)
        self.device = folder / "device"

    def profile(self, **changes: object) -> Profile:
        fields = {
            "name": "phone",
            "description": "adbd on this machine",
            "transport": "adb",
            "address": {"host": "127.0.0.1", "port": self.port},
            "folder": str(self.device),
            "python": sys.executable,
            "environment": load_profile("local").environment,
        }
        return Profile.model_validate(fields | changes)

    def connection(self) -> AdbConnection:
        connection = AdbConnection(address_of(self.profile()))
        connection.ensure()
        return connection


def write_profile(path: Path, profile: Profile) -> str:
    """Write a profile as a person does; JSON's strings and numbers are TOML's."""
    fields = {name: json.dumps(getattr(profile, name)) for name in ("description", "transport", "folder", "python")}
    lines = [f"{name} = {value}" for name, value in fields.items()]
    for table in ("address", "environment"):
        lines += [f"[{table}]", *(f"{name} = {json.dumps(value)}" for name, value in getattr(profile, table).items())]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def wait_until(condition: Callable[[], object], timeout_s: float, what: str) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {timeout_s} s"
        time.sleep(0.02)


@pytest.fixture
def space(tmp_path: Path) -> str:
    file = tmp_path / "two.toml"
    file.write_text(SPACE)
    return str(file)


def counted(table: Path) -> int:
    journal = table.with_suffix(".journal.jsonl")
    return journal.read_bytes().count(b'"warm_up":false') if journal.exists() else 0


def sums(table: Path) -> dict[str, tuple[float, float]]:
    """Return the output sums of every model that was loaded."""
    lines = map(json.loads, table.with_suffix(".journal.jsonl").read_text().splitlines())
    loads = [line for line in lines if line["record"] == "loaded"]
    return {line["key"]: (line["loaded"]["output_sum"], line["loaded"]["output_abs_sum"]) for line in loads}


def loaded_sums(transport: Transport, model: Path, runtime: str) -> tuple[int, float, float]:
    with AgentClient(transport) as agent:
        loaded = agent.load("m", transport.push(model), runtime, SPEC.input_shape)
    return loaded.outputs, loaded.output_sum, loaded.output_abs_sum


def test_the_agents_contract_holds_and_outputs_are_as_on_this_machine(
    phone: Phone, local: Transport, models: dict[str, Path]
) -> None:
    transport = connect(phone.profile())
    with AgentClient(transport, cores=[0]) as agent:
        assert {"litert", "onnxruntime", "torch"} <= set(agent.hello.runtimes)
        for name in ("litert", "onnxruntime"):
            agent.load(name, transport.push(models[name]), name, SPEC.input_shape)
        visits = list(agent.run([Planned("litert", 5), Planned("onnxruntime", 2)]))
        assert [(visit.model, len(visit.wall_ns), visit.core) for visit in visits] == [
            ("litert", 5, 0),
            ("onnxruntime", 2, 0),
        ]
        assert agent.state().affinity == (0,)
        agent.unload("litert")
        with pytest.raises(AgentReplyError, match="'litert' is not loaded"):
            list(agent.run([Planned("litert", 1)]))
    assert loaded_sums(transport, models["litert"], "litert") == loaded_sums(local, models["litert"], "litert")
    transport.close()
    assert list(phone.device.iterdir()) == []


def test_measuring_over_adb_gives_a_table_and_the_same_outputs(phone: Phone, space: str, tmp_path: Path) -> None:
    device = write_profile(tmp_path / "phone.toml", phone.profile())
    tables = {name: tmp_path / f"{Path(name).stem}.csv" for name in (device, "local")}
    for name, table in tables.items():
        assert run(fbprof, ["measure", "--device", name, "--space", space, "--rounds", "4", "-o", str(table)]) == 0
    assert read_lut(tables[device]).missing(load_space(space).operators()) == []
    assert len(sums(tables[device])) == 8
    assert sums(tables[device]) == sums(tables["local"])
    assert list(phone.device.iterdir()) == []
