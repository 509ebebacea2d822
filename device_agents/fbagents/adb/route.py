"""Route: from an address to an open link: TCP, the adb server that answers, or USB, in this order."""

import re
import time
from dataclasses import replace

from fbagents.adb.address import ASKING, BLOCKED, DEFAULT_SERVER, READY, Address, choose, network_place
from fbagents.adb.link import Link, LinkError, Timeouts
from fbagents.adb.open import ask_for_the_dialog, refused, tcp_link, usb_link
from fbagents.adb.packets import PacketLink
from fbagents.adb.server import Server, server_at, server_behind, usual_server
from fbagents.adb.server_link import ServerLink
from fbagents.adb.usb import printable, usb_phones
from fbagents.errors import DeviceError, UnreachableError
from fbagents.posix import openssh
from fbagents.transport import Attached

LOOK_INTERVAL_S = 0.5


class Route:
    """The way to the phone of an address; once found, it stays the same phone. Prints as the phone's name."""

    def __init__(
        self, address: Address, timeouts: Timeouts | None = None, tunnel_timeout_s: float = openssh.OPEN_TIMEOUT_S
    ) -> None:
        self._address = address
        self._timeouts = timeouts or Timeouts()
        self._tunnel_timeout_s = tunnel_timeout_s
        self._serial = address.serial
        self._name = str(address)
        self._by_server = False
        self._tunnel: openssh.OpenSsh | None = None

    def __str__(self) -> str:
        return self._name

    def open(self) -> Link:
        """Connect and authenticate. Raises DeviceError in words that say what to do on the phone."""
        address = self._address
        if (place := self.tcp()) is not None:
            return tcp_link(*place, address.key_file, self._timeouts)
        server = self.server()
        return self._open_usb() if server is None else self._open_server(server)

    def tcp(self) -> tuple[str, int] | None:
        """Return host and port of a phone that is reached without an adb server and without USB, else None."""
        if self._address.host is not None:
            return self._address.host, self._address.port
        place = None if self._by_server else network_place(self._address.serial)
        return place if place is not None and self.server() is None else None

    def phones(self) -> tuple[list[Attached], str]:
        """Return the phones of the adb server, or else those on USB, and which it was. Raises DeviceError."""
        server = self.server()
        return (usb_phones(), "USB") if server is None else (server.phones(), f"adb server {server.name}")

    def find(self) -> Attached:
        """Return the phone as it is attached now, without opening it. Raises DeviceError."""
        phones, where = self.phones()
        if where == "USB" and phones and self._address.model is not None and self._serial is None:
            # over USB only the phone itself tells its model: any that could be asked may be the one
            return next((phone for phone in phones if phone.is_usable), phones[0])
        return choose(phones, self._serial, self._address.model, where)

    def server(self) -> Server | None:
        """Return the adb server to use: the address's own, the usual one if it answers, else None.

        Raises DeviceError where a tunnel cannot be made.
        """
        address = self._address
        if address.tunnel is not None:
            if self._tunnel is None:
                user, _, host = address.tunnel.rpartition("@")
                lab = openssh.Address(host=host, user=user or None, config_file=address.config_file)
                self._tunnel = openssh.OpenSsh(lab, self._tunnel_timeout_s)
            self._tunnel.ensure(patient=False)
            there = address.server or DEFAULT_SERVER
            return server_behind(self._tunnel.forward(there), f"{there} on {address.tunnel}")
        if address.server is not None:
            return server_at(address.server)
        server = usual_server()
        return server if server.answers() else None

    def close(self) -> None:
        """End the tunnel; never raises."""
        if self._tunnel is not None:
            self._tunnel.close()
            self._tunnel = None

    def _open_server(self, server: Server) -> Link:
        where = f"adb server {server.name}"
        phone = choose(server.phones(), self._serial, self._address.model, where)
        self._found(phone.name, where)
        self._by_server = True
        if phone.state in ASKING:
            phone = self._accepted(server, phone)
        if phone.state != READY:
            raise UnreachableError(f"{self} is {phone.state}: {phone.remedy}")
        try:
            return ServerLink(server, phone.name, self._timeouts)
        except LinkError as error:
            raise UnreachableError(f"cannot reach {self}: {error}") from None

    def _accepted(self, server: Server, phone: Attached) -> Attached:
        """Wait until a person has accepted the dialog. Raises DeviceError."""
        ask_for_the_dialog(str(self))
        deadline = time.monotonic() + self._timeouts.dialog_s
        while phone.state in ASKING:
            if time.monotonic() >= deadline:
                raise refused(str(self), f"(that of the adb server {server.name})")
            time.sleep(LOOK_INTERVAL_S)
            # it may be away for a moment: people pull the cable and plug it in again
            phone = next((now for now in server.phones() if now.device == phone.device), phone)
        return phone

    def _open_usb(self) -> PacketLink:
        phones, model, key = usb_phones(), self._address.model, self._address.key_file
        if self._serial is None and model is not None:
            return self._open_model(phones, model, key)
        phone = choose(phones, self._serial, None, "USB")
        if phone.state == BLOCKED:
            raise DeviceError(phone.remedy)
        self._found(phone.name, "USB")
        return usb_link(phone.name, key, self._timeouts)

    def _open_model(self, phones: list[Attached], model: str, key: str) -> PacketLink:
        """Ask every phone on USB for its model, and keep the one that is meant."""
        links: dict[str, PacketLink] = {}
        told: list[Attached] = []
        obstacles: list[DeviceError] = []
        for phone in phones:
            try:
                if phone.state == BLOCKED:
                    raise DeviceError(phone.remedy)
                link = links[phone.name] = usb_link(phone.name, key, self._timeouts)
                told.append(replace(phone, model=banner_model(link.banner), state=READY))
            except DeviceError as error:
                obstacles.append(error)
        try:
            self._found(choose(told, None, model, "USB").name, "USB")
            return links.pop(self._serial or "")
        except UnreachableError as error:
            raise (obstacles[0] if obstacles else error) from None
        finally:
            for link in links.values():
                link.close()

    def _found(self, name: str, where: str) -> None:
        self._serial = name
        self._name = f"the phone {name} ({where})"


def banner_model(banner: bytes) -> str:
    """Return the model that a phone tells when it answers."""
    match = re.search(rb"ro\.product\.model=([^;]{1,100})", banner)
    return printable(match[1].decode(errors="replace") if match else None)
