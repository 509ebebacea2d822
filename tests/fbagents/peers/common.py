"""What the tests of several peers share: an operator, a small space, hostile names, and what a run has written."""

import contextlib
import json
import stat
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from fbagents.agent.client import AgentClient
from fbagents.agent.pieces import Content, Piece
from fbagents.profile import Profile, load_profile
from fbagents.transports import Transport, connect
from fbexport.export import export_chain, export_spec
from fbspace.opspec import OpSpec

SPEC = OpSpec("ir", 16, 24, 16, 16, kernel=3, stride=2, expansion=3)
"""The operator of the fixture `models`."""
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


def write_profile(path: Path, profile: Profile) -> str:
    """Write a profile as a person does; JSON's strings and numbers are TOML's."""
    fields = profile.model_dump(exclude_defaults=True, exclude={"name"})
    tables = {name: fields.pop(name) for name in ("address", "environment", "phone") if name in fields}
    lines = [f"{name} = {json.dumps(value)}" for name, value in fields.items()]
    for table, values in tables.items():
        lines += [f"[{table}]", *(f"{name} = {json.dumps(value)}" for name, value in values.items())]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def wait_until(condition: Callable[[], object], timeout_s: float, what: str) -> float:
    """Wait, and return for how many seconds."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < timeout_s, f"{what}: not within {timeout_s} s"
        time.sleep(0.02)
    return time.monotonic() - start


def counted(table: Path) -> int:
    """Return how many visits that count are in a table's journal."""
    journal = table.with_suffix(".journal.jsonl")
    return journal.read_bytes().count(b'"warm_up":false') if journal.exists() else 0


def sums(table: Path) -> dict[str, tuple[float, float]]:
    """Return the sum of the outputs of every model that was loaded, and the sum of their absolute values."""
    lines = map(json.loads, table.with_suffix(".journal.jsonl").read_text().splitlines())
    loads = [line for line in lines if line["record"] == "loaded"]
    return {line["key"]: (line["loaded"]["output_sum"], line["loaded"]["output_abs_sum"]) for line in loads}


CHAIN = [
    OpSpec("conv", 3, 16, 32, 32, kernel=3),
    OpSpec("ir", 16, 24, 32, 32, 5, 2, 6),
    OpSpec("conv", 24, 900, 16, 16),
]
"""Operators of a small network, the last of which has most of the weights."""


def check_pieces(transport: Transport, folder: Path) -> None:
    """Send operators and a network made of them, with pieces there damaged and gone: the network is always whole."""
    sent: list[int] = []
    with AgentClient(transport) as agent:

        def write(path: str, sha256: str, pieces: Sequence[Piece], following: bytes) -> None:
            sent.append(len(following))
            agent.write(path, sha256, pieces, following)

        def send(name: str, data: bytes) -> Path:
            (folder / name).write_bytes(data)
            remote = Path(transport.send(Content(folder / name), write))
            assert remote.read_bytes() == data
            assert stat.S_IMODE(remote.stat().st_mode) == 0o600
            return remote

        operators = [send(f"{n}.tflite", export_spec(spec, "tflite")) for n, spec in enumerate(CHAIN)]
        assert sent == [path.stat().st_size for path in operators]
        chain = export_chain(CHAIN, "tflite")
        network = send("network.tflite", chain)
        assert sent.pop() < len(chain) / 2
        assert send("again.tflite", chain) == network
        assert len(sent) == len(CHAIN)  # nothing was sent again
        loaded = agent.load("network", str(network), "litert", CHAIN[0].input_shape)

        other = export_chain([*CHAIN, OpSpec("conv", 900, 8, 16, 16)], "tflite")
        with operators[-1].open("r+b") as file:
            file.seek(len(file.read()) // 2)
            file.write(b"damaged")
        send("other.tflite", other)
        assert sent[len(CHAIN) + 1 :] == [len(other)]  # the first try failed, the second sent all of it
        operators[0].unlink()
        Path(network).unlink()
        sent.clear()
        send("third.tflite", export_chain(CHAIN[1:], "tflite"))
        assert len(sent) == 1  # what was sent after the damage is known
    with contextlib.closing(connect(load_profile("local"))) as here, AgentClient(here) as agent:
        own = agent.load("network", str(folder / "network.tflite"), "litert", CHAIN[0].input_shape)
    assert abs(loaded.output_sum - own.output_sum) <= 1e-9 * own.output_abs_sum


def loaded_sums(transport: Transport, model: Path, runtime: str) -> tuple[int, float, float]:
    """Load SPEC's model on a device, and return how many outputs it has and their sums."""
    with AgentClient(transport) as agent:
        loaded = agent.load("m", transport.push(model), runtime, SPEC.input_shape)
    return loaded.outputs, loaded.output_sum, loaded.output_abs_sum
