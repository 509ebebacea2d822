"""What is sent to a device arrives whole, and only what the device lacks of it is sent."""

import contextlib
import stat
from collections.abc import Sequence
from pathlib import Path

from fbagents.agent.client import AgentClient
from fbagents.agent.pieces import Content, Piece
from fbagents.connect import connect, load_profile
from fbagents.transport import Transport
from fbexport.export import export_chain, export_spec
from fbspace.opspec import OpSpec
from peers.given import SPEC

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
