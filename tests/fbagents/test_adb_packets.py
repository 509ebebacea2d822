"""What arrives over adb is parsed with bounds, however it is cut; old devices get checksums; a TCP wire sends all."""

import socket
import struct
import threading
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fbagents.adb.command import Command
from fbagents.adb.link import MAX_PACKET_BYTES, LinkError, Timeouts
from fbagents.adb.packets import PacketLink
from fbagents.adb.wire import TcpWire, connected
from peers.packets import CONNECTED, packet

COMMANDS = [b"CNXN", b"AUTH", b"OPEN", b"OKAY", b"WRTE", b"CLSE", b"STLS", b"SYNC"]


class Recorded:
    """A wire on which a device's bytes lie ready; then it is silent, or closed."""

    def __init__(self, data: bytes, silent: bool = True) -> None:
        self.left, self.silent, self.sent, self.most = data, silent, b"", 0

    def has_data(self, timeout_s: float) -> bool:
        return bool(self.left) or not self.silent

    def read(self, size_bytes: int, timeout_s: float) -> bytes:
        self.most = max(self.most, size_bytes)
        data, self.left = self.left[:size_bytes], self.left[size_bytes:]
        if not data:
            raise TimeoutError("silent") if self.silent else ConnectionResetError("closed")
        return data

    def send(self, header: bytes, payload: bytes, timeout_s: float) -> None:
        self.sent += header + payload

    def close(self) -> None:
        self.left = b""


def no_dialog() -> None:
    raise AssertionError("no key was asked for")


def linked(wire: Any, timeouts: Timeouts | None = None) -> PacketLink:
    return PacketLink(wire, [], timeouts or Timeouts(), no_dialog)


packets = st.builds(
    packet,
    st.sampled_from(COMMANDS),
    st.integers(0, 3),
    st.integers(0, 3),
    st.one_of(
        st.binary(max_size=40),
        st.builds(lambda kind, d: struct.pack("<BI", kind, len(d)) + d, st.integers(0, 5), st.binary(max_size=20)),
    ),
    st.sampled_from([0, 1]),
)
noise = st.builds(b"".join, st.lists(st.one_of(packets, packets, packets, st.binary(max_size=60)), max_size=30))


@given(noise, st.booleans())
def test_a_handshake_ends_whatever_arrives(data: bytes, silent: bool) -> None:
    wire = Recorded(data, silent)
    try:
        linked(wire)
    except (LinkError, OSError):
        assert wire.left == b""  # closed
    assert wire.most <= MAX_PACKET_BYTES


@given(noise, st.booleans())
def test_a_shell_ends_whatever_arrives(data: bytes, silent: bool) -> None:
    wire = Recorded(CONNECTED + packet(b"OKAY", 7, 1) + data, silent)
    try:
        command = Command(linked(wire), b"true")
        command.write(b"x")
        while not command.has_ended and command.pump(0.05):
            pass
        command.end()
        assert len(command.stdout) + len(command.stderr) <= len(data)
    except LinkError:
        assert wire.left == b""
    assert wire.most <= MAX_PACKET_BYTES


@given(st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=50)), max_size=8), st.integers(0, 255), st.data())
def test_frames_are_found_however_packets_cut_them(
    frames: list[tuple[int, bytes]], code: int, data: st.DataObject
) -> None:
    stream = b"".join(struct.pack("<BI", kind, len(text)) + text for kind, text in [*frames, (3, bytes([code]))])
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    parts = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    wire = Recorded(CONNECTED + packet(b"OKAY", 7, 1) + b"".join(packet(b"WRTE", 7, 1, part) for part in parts))
    command = Command(linked(wire), b"true")
    while not command.has_ended:
        assert command.pump(0.05)
    assert bytes(command.stdout) == b"".join(text for kind, text in frames if kind == 1)
    assert bytes(command.stderr) == b"".join(text for kind, text in frames if kind == 2)
    assert command.exit_code == code


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (struct.pack("<6I", 0x45545257, 7, 1, 0, 0, 0), "no adb packet"),  # magic
        (struct.pack("<6I", 0x45545257, 7, 1, (1 << 20) + 1, 0, 0x45545257 ^ 0xFFFFFFFF), "no adb packet"),
        (b"\xff" * 24, "no adb packet"),
        (packet(b"WRTE", 7, 1, struct.pack("<BI", 1, 0xFFFFFFFF)), "not shell v2"),
        (packet(b"WRTE", 7, 1, bytes(5))[:-1], "silent"),
        (packet(b"WRTE", 7, 2, bytes(5)) * 1000, "not answered"),  # streams that nobody opened
    ],
)
def test_what_is_not_adb_closes_the_connection(data: bytes, message: str) -> None:
    wire = Recorded(CONNECTED + packet(b"OKAY", 7, 1) + data)
    link = linked(wire)

    def use() -> None:
        command = Command(link, b"true")
        command.write(b"x")
        while command.pump(0.05):
            pass
        command.write(b"y")

    with pytest.raises(LinkError, match=message):
        use()
    assert link.broken


def test_a_device_that_sends_without_waiting_is_cut_off() -> None:
    link = linked(Recorded(CONNECTED + packet(b"OKAY", 7, 1) + packet(b"WRTE", 7, 1, bytes(1 << 20)) * 40))
    stream = link.open(b"shell,v2,raw:true")
    for _ in range(16):
        assert link.pump(0)
    with pytest.raises(LinkError, match="without waiting"):
        link.pump(0)
    assert sum(map(len, stream.received)) <= 16 << 20


class Endless(Recorded):
    """A device that sends and sends."""

    def read(self, size_bytes: int, timeout_s: float) -> bytes:
        if len(self.left) < size_bytes:
            self.left += packet(b"OKAY", 9, 9) * 100
        return super().read(size_bytes, timeout_s)


def test_an_endless_device_holds_nobody_up() -> None:
    quick = Timeouts(handshake_s=0.1, answer_s=0.1, write_s=0.1)
    start = time.monotonic()
    with pytest.raises(TimeoutError):
        linked(Endless(packet(b"OKAY", 9, 9)), quick)
    assert not linked(Endless(CONNECTED, silent=False), quick).is_open()
    with pytest.raises(LinkError, match="does not open a stream"):
        linked(Endless(CONNECTED, silent=False), quick).open(b"shell:")
    command = Command(linked(Endless(CONNECTED + packet(b"OKAY", 7, 1), silent=False), quick), b"true")
    assert not command.pump(0.1)
    command.write(b"x")
    with pytest.raises(LinkError, match="not been read"):
        command.write(b"y")
    assert time.monotonic() - start < 5


def test_an_old_device_gets_checksums_and_is_held_to_them() -> None:
    banner, line = b"device::", struct.pack("<BI", 1, 2) + b"ok"
    old = packet(b"CNXN", 0x01000000, 4096, banner, sum(banner)) + packet(b"OKAY", 7, 1)
    wire = Recorded(old + packet(b"WRTE", 7, 1, line, sum(line)) + packet(b"WRTE", 7, 1, line, 1))
    link = linked(wire)
    command = Command(link, b"true")
    assert packet(b"OPEN", 1, 0, b"shell,v2,raw:true\0", sum(b"shell,v2,raw:true\0")) in wire.sent
    assert command.chunk_bytes == 4096 - 5
    assert command.pump(0.05)
    assert command.stdout == b"ok"
    with pytest.raises(LinkError, match="damaged"):
        command.pump(0.05)


def test_a_new_device_gets_none() -> None:
    wire = Recorded(CONNECTED + packet(b"OKAY", 7, 1))
    Command(linked(wire), b"true")
    assert wire.sent.endswith(packet(b"OPEN", 1, 0, b"shell,v2,raw:true\0"))


def test_a_tcp_wire_sends_all_in_order_and_notices_the_end() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        ours = connected("127.0.0.1", server.getsockname()[1], 5)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        wire = TcpWire(ours)
        device, _ = server.accept()
        header, payload = bytes(range(24)), bytes(range(250)) * 4000
        sender = threading.Thread(target=wire.send, args=(header, payload, 10))
        sender.start()
        arrived = b""
        while len(arrived) < 24 + len(payload):
            arrived += device.recv(1 << 16)
        sender.join()
        assert arrived == header + payload
        with pytest.raises(TimeoutError):  # nobody reads
            wire.send(header, payload * 20, 0.1)
        assert not wire.has_data(0)
        device.close()
        assert wire.has_data(1)
        with pytest.raises(ConnectionResetError):
            wire.read(24, 1)
        wire.close()
        wire.close()
