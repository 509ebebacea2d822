"""Model files, this machine with either agent, and the peers: an OpenSSH server, adbd, an emulated arm64 phone."""

import contextlib
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from fbagents.adb.keys import signer
from fbagents.agent.client import AgentClient
from fbagents.connect import connect, load_profile
from fbagents.errors import DeviceError
from fbagents.native import build as native
from fbagents.native import bundle, libraries
from fbagents.native.bundle import Bundle
from fbagents.native.script import agent_script
from fbagents.posix.process import ProcessChannel
from fbagents.transport import Transport
from fbexport.export import export_spec
from fbexport.formats import format_of, load_format
from fbexport.runtimes import RUNTIMES
from peers import adb_server as servers
from peers import adbd, phone
from peers.adb_phone import Phone
from peers.given import SPACE, SPEC
from peers.qdq import qdq_conv
from peers.sshd import SSHD, Sshd
from peers.unavailable import unavailable

SANITIZERS = ["-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """SPEC as a model file for each runtime."""
    folder = tmp_path_factory.mktemp("models")
    paths = {}
    for runtime in RUNTIMES.names():
        name = format_of(runtime)
        paths[runtime] = folder / f"{runtime}{load_format(name).suffix}"
        paths[runtime].write_bytes(export_spec(SPEC, name))
    return paths


@pytest.fixture(scope="session")
def int8_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model from int8 to int8 for each runtime that has one: SPEC for LiteRT, a 1×1 convolution for ONNX Runtime."""
    folder = tmp_path_factory.mktemp("int8_models")
    paths = {"litert": folder / "int8.tflite", "onnxruntime": folder / "int8.onnx"}
    paths["litert"].write_bytes(export_spec(SPEC, "tflite", "int8"))
    paths["onnxruntime"].write_bytes(qdq_conv())
    return paths


@pytest.fixture(scope="session")
def built() -> Bundle:
    """This machine's own bundle, from the user's cache if it is there; nothing is fetched for it."""
    if native.host_target() not in libraries.LOADERS or shutil.which("cc") is None:
        unavailable(f"needs Linux on x86-64 or aarch64 and a C compiler, not {native.host_target()}")
    return bundle.build(native.host_target())


@pytest.fixture
def local() -> Iterator[Transport]:
    with contextlib.closing(connect(load_profile("local"))) as transport:
        yield transport


@pytest.fixture(scope="module", params=["python", "native"])
def agent_argv(request: pytest.FixtureRequest) -> list[str]:
    """How to start either agent on this machine."""
    if request.param == "python":
        return [sys.executable, str(agent_script())]
    if shutil.which("cc") is None:
        pytest.skip("no C compiler cc is on the PATH")
    return [str(native.build(native.host_target())), *native.runtime_options()]


@pytest.fixture(scope="session")
def sanitized() -> Path:
    """The agent with AddressSanitizer and UBSan, compiled with warnings as errors; kept as other agents are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "FLAGS", (*native.FLAGS, *SANITIZERS, "-Werror"))
        return native.build(native.host_target())


def client_of(agent_argv: list[str]) -> AgentClient:
    class Here:
        def start(self, options: Sequence[str]) -> ProcessChannel:
            return ProcessChannel([*agent_argv, *options], {})

    return AgentClient(Here())  # type: ignore[arg-type]


@pytest.fixture
def agent(agent_argv: list[str]) -> Iterator[AgentClient]:
    """Either agent on this machine."""
    with client_of(agent_argv) as client:
        yield client


@pytest.fixture(scope="module")
def one_agent(agent_argv: list[str]) -> Iterator[AgentClient]:
    """Either agent on this machine, the same one in all tests of a file that ask for it."""
    with client_of(agent_argv) as client:
        yield client


@pytest.fixture
def space(tmp_path: Path) -> str:
    """The file of a small space."""
    file = tmp_path / "two.toml"
    file.write_text(SPACE)
    return str(file)


@pytest.fixture
def program(tmp_path: Path) -> Callable[[str, str], Path]:
    """Write an executable shell script; `$real` is this Python."""

    def write(name: str, body: str) -> Path:
        path = tmp_path / "programs" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\nreal={shlex.quote(sys.executable)}\n{body}\n")
        path.chmod(0o755)
        return path

    return write


@pytest.fixture
def new_sshd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Sshd]]:
    """Start servers; lines of sshd_config may be added, and variables of the commands' environment."""
    if SSHD is None or shutil.which("ssh") is None:
        unavailable("needs OpenSSH's server and client: apt install openssh-server openssh-client")
    if not Path("/proc/self/stat").exists():
        unavailable("needs /proc to find the server's processes")
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    servers: list[Sshd] = []

    def new(more: str = "", **variables: str) -> Sshd:
        folder = tmp_path / f"sshd{len(servers)}"
        folder.mkdir()
        servers.append(Sshd(folder, more, **variables))
        return servers[-1]

    yield new
    for server in servers:
        server.stop()


@pytest.fixture
def sshd(new_sshd: Callable[..., Sshd]) -> Sshd:
    return new_sshd()


@pytest.fixture(scope="session")
def adbd_root() -> Path:
    """The folder of Debian's adbd; asked for before a test changes HOME, in whose cache it lies."""
    try:
        return adbd.prepare()
    except adbd.UnavailableError as error:
        unavailable(f"no adbd: {error}")


@pytest.fixture(scope="session")
def adb_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adb key, with its public half beside it."""
    key = tmp_path_factory.mktemp("key") / "adbkey"
    signer(key)
    return key


@pytest.fixture
def tcp_phone(adbd_root: Path, adb_key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Phone]:
    """A phone that listens on TCP and knows this user's key."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    shutil.copytree(adb_key.parent, tmp_path / "home" / ".android")
    shutil.copy(f"{adb_key}.pub", tmp_path / "adb_keys")
    try:
        daemon = adbd.Adbd(adbd_root, tmp_path)
    except adbd.UnavailableError as error:
        unavailable(f"no adbd: {error}")
    yield Phone(daemon)
    daemon.stop()


@pytest.fixture
def adb_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[servers.AdbServer]:
    """An adb server, which is the usual one."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("ADB_SERVER_SOCKET", raising=False)
    try:
        with servers.adb_server(tmp_path) as server:
            monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(server.port))
            yield server
    except adbd.UnavailableError as error:
        unavailable(f"no adb server: {error}")


@pytest.fixture
def two_phones(adbd_root: Path, adb_server: servers.AdbServer, tmp_path: Path) -> Iterator[list[Phone]]:
    """Two phones that know the server's key, not attached yet."""
    try:
        with servers.phones(adbd_root, tmp_path, adb_server, 2) as both:
            yield [Phone(daemon, adb_server) for daemon in both]
    except adbd.UnavailableError as error:
        unavailable(f"no adbd: {error}")


@pytest.fixture
def server_phone(adbd_root: Path, adb_server: servers.AdbServer, tmp_path: Path) -> Iterator[Phone]:
    """A phone that the server knows."""
    try:
        with servers.phones(adbd_root, tmp_path, adb_server) as (daemon,):
            adb_server.attach(daemon)
            yield Phone(daemon, adb_server)
    except adbd.UnavailableError as error:
        unavailable(f"no adbd: {error}")


@pytest.fixture(params=["tcp", "server"])
def adb_phone(request: pytest.FixtureRequest) -> Phone:
    """A phone over TCP, and one that an adb server knows."""
    reached: Phone = request.getfixturevalue(f"{request.param}_phone")
    return reached


@pytest.fixture(scope="session")
def emulated_phone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[phone.Phone]:
    """The one phone of all tests, running; a test that breaks it repairs it."""
    try:
        image = phone.prepare()
    except DeviceError as error:
        unavailable(f"no emulated phone: {error}")
    device = phone.Phone(image, tmp_path_factory.mktemp("phone"))
    yield device
    device.stop()
