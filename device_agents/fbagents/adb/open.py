"""Opens the connection to a phone's adbd, over TCP or USB, and says in words what went wrong and what to do."""

import socket
from pathlib import Path

import click

from fbagents.adb.keys import signer
from fbagents.adb.link import LinkError, Timeouts
from fbagents.adb.packets import PacketLink
from fbagents.adb.usb import open_usb
from fbagents.adb.wire import TcpWire, Wire, connected
from fbagents.errors import DeviceError, UnreachableError


def tcp_link(host: str, port: int, key_file: str, timeouts: Timeouts) -> PacketLink:
    """Connect to a phone that listens on TCP, and authenticate. Raises DeviceError."""
    where = f"{host} port {port}"
    try:
        wire = TcpWire(connected(host, port, timeouts.handshake_s))
    except socket.gaierror:
        raise UnreachableError(f"the name {host} is not known here: check address.host, or give an IP") from None
    except ConnectionRefusedError:
        raise UnreachableError(
            f"cannot reach {where}: no adbd listens there. Is the phone on, and in this network? With a cable, "
            f"adb tcpip {port} makes it listen until it is restarted"
        ) from None
    except OSError as error:
        raise _explain(error, where) from None
    return _authenticated(wire, where, key_file, timeouts)


def usb_link(name: str, key_file: str, timeouts: Timeouts) -> PacketLink:
    """Connect to a phone on USB, and authenticate. Raises DeviceError."""
    return _authenticated(open_usb(name), f"the phone {name}", key_file, timeouts)


def ask_for_the_dialog(where: str) -> None:
    """Tell the person that the phone waits for an answer."""
    click.echo(f"{where} asks whether it may be used: accept the dialog on the phone", err=True)


def refused(where: str, key: str) -> DeviceError:
    """Say what to do where nobody accepted the dialog."""
    return DeviceError(
        f"{where} has not authorised this computer's key {key}: unlock the phone, run the same command again, accept "
        "the dialog on the phone (Allow USB debugging) and tick Always allow from this computer"
    )


def _authenticated(wire: Wire, where: str, key_file: str, timeouts: Timeouts) -> PacketLink:
    key = Path(key_file).expanduser()
    asked = False

    def ask() -> None:
        nonlocal asked
        asked = True
        ask_for_the_dialog(where)

    try:
        return PacketLink(wire, [signer(key)], timeouts, ask)
    except (OSError, LinkError) as error:
        if asked and isinstance(error, TimeoutError | ConnectionError):
            raise refused(where, str(key)) from None
        raise _explain(error, where) from None
    except DeviceError:
        wire.close()
        raise


def _explain(error: OSError | LinkError, where: str) -> DeviceError:
    if isinstance(error, TimeoutError):
        return UnreachableError(f"{where} does not answer: is the phone on, unlocked, and in this network?")
    if isinstance(error, OSError):
        return UnreachableError(f"cannot reach {where}: {error.strerror or error}")
    if "STLS" in str(error):
        return DeviceError(f"{where} is Android's wireless debugging, which wants TLS: use adb tcpip 5555 instead")
    return DeviceError(f"what answers at {where} does not speak adb: {str(error)[:200]}")
