"""adb's packets as Android's protocol.txt has them, written apart from the code under test."""

import struct


def packet(command: bytes, first: int, second: int, data: bytes = b"", checksum: int = 0) -> bytes:
    """Write a packet."""
    word = struct.unpack("<I", command)[0]
    return struct.pack("<6I", word, first, second, len(data), checksum, word ^ 0xFFFFFFFF) + data


CONNECTED = packet(b"CNXN", 0x01000001, 1 << 20, b"device::")
