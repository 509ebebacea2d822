"""An adb server behind a real sshd: the tunnel that OpenSSH makes, that fbprof ends, and that breaks."""

import getpass
import os
import signal
import stat
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fbagents.adb.address import Address
from fbagents.adb.connection import AdbConnection
from fbagents.agent.client import AgentClient
from fbagents.connect import connect
from fbagents.errors import ConnectionLostError, DeviceError, UnreachableError
from fbagents.profile import Profile
from peers.adb_phone import Phone
from peers.adb_server import AdbServer
from peers.runs import wait_until
from peers.sshd import Sshd

CLIENT = """
Host lab1
  HostName 127.0.0.1
  Port {port}
  IdentityFile {folder}/key
  IdentitiesOnly yes
  UserKnownHostsFile {folder}/known_hosts
  LocalForward {taken} 127.0.0.1:9
"""


class Lab:
    """A host with an adb server and a phone, reached by SSH; the client's configuration asks for a forwarding too."""

    def __init__(self, sshd: Sshd, server: AdbServer, serial: str) -> None:
        self.sshd, self.server, self.serial = sshd, server, serial
        self.config = sshd.folder / "lab_config"
        self.config.write_text(CLIENT.format(port=sshd.port, folder=sshd.folder, taken=server.port))
        self.address: dict[str, str | int | float | bool] = {
            "tunnel": f"{getpass.getuser()}@lab1",
            "server": server.address,
            "config_file": str(self.config),
        }

    def connection(self) -> AdbConnection:
        return AdbConnection(Address.model_validate(self.address))


@pytest.fixture
def lab(new_sshd: Callable[..., Sshd], server_phone: Phone, monkeypatch: pytest.MonkeyPatch) -> Lab:
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", "1")  # the one here does not answer
    assert server_phone.server is not None
    return Lab(new_sshd(), server_phone.server, server_phone.serial)


def test_a_phone_of_another_host_is_reached_and_the_tunnel_ended(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tempfile.mkdtemp(dir="/tmp")  # short, as a socket's path has to be
    monkeypatch.setattr("tempfile.tempdir", temporary)
    profile = Profile(
        name="lab1-phone",
        description="a phone of another host",
        transport="adb",
        address=lab.address,
        folder=str(tmp_path / "device"),
        python=sys.executable,
    )
    transport = connect(profile)
    model = tmp_path / "m.tflite"
    model.write_bytes(os.urandom(3_000_000))
    assert Path(transport.push(model)).read_bytes() == model.read_bytes()
    with AgentClient(transport) as agent:
        assert "litert" in agent.hello.runtimes
    assert lab.sshd.logins() == 1
    (folder,) = Path(temporary).glob("fbssh-*")
    sockets = [path for path in folder.iterdir() if path.name.startswith("forward")]
    assert [stat.S_IMODE(path.stat().st_mode) for path in (folder, *sockets)] == [0o700, 0o600]
    transport.close()
    assert not folder.exists()
    Path(temporary).rmdir()
    wait_until(lambda: not lab.sshd.sessions(), 5, "the login ends")


def test_a_tunnel_that_breaks_is_noticed_at_once_and_made_again(lab: Lab) -> None:
    connection = lab.connection()
    assert connection.ensure() == 1
    assert str(connection) == f"the phone {lab.serial} (adb server {lab.server.address} on {getpass.getuser()}@lab1)"
    shell = connection.start("sleep 60")
    lab.sshd.signal_sessions(signal.SIGKILL)
    start = time.monotonic()
    with pytest.raises(ConnectionLostError, match=r"the adb server .* on .*@lab1"):
        shell.receive(30)
    assert time.monotonic() - start < 3
    assert connection.ensure() == 2
    assert connection.run("exit 3", timeout_s=10).code == 3
    connection.close()


@pytest.mark.full  # test_adb.py freezes a phone
def test_a_frozen_host_is_noticed_within_seconds(lab: Lab) -> None:
    connection = lab.connection()
    connection.ensure()
    shell = connection.start("sleep 60")
    lab.sshd.signal_sessions(signal.SIGSTOP)
    start = time.monotonic()
    with pytest.raises(ConnectionLostError):
        shell.receive(30)
    assert time.monotonic() - start < 13
    connection.close()
    lab.sshd.signal_sessions(signal.SIGKILL)


def test_a_host_without_an_adb_server_is_told(lab: Lab) -> None:
    lab.server.stop()
    connection = lab.connection()
    with pytest.raises(UnreachableError, match=r"no adb server answers at .* on .*@lab1 .*adb start-server"):
        connection.ensure()
    connection.close()


def test_the_hosts_key_is_checked(lab: Lab) -> None:
    (lab.sshd.folder / "known_hosts").unlink()
    connection = lab.connection()
    with pytest.raises(DeviceError, match=r"the host key of .*lab1 is unknown"):
        connection.ensure()
    connection.close()


def test_a_host_that_allows_no_forwarding_is_told(lab: Lab, new_sshd: Callable[..., Sshd]) -> None:
    strict = Lab(new_sshd("AllowTcpForwarding no"), lab.server, lab.serial)
    connection = strict.connection()
    with pytest.raises(UnreachableError, match="no adb server answers at"):
        connection.ensure()
    connection.close()
