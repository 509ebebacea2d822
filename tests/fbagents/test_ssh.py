"""The ssh transport against a real OpenSSH server: the agent's contract, logging in, and hostile names."""

import contextlib
import os
import shlex
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fbagents.agent.client import AgentClient, Planned
from fbagents.agent.protocol import PROTOCOL
from fbagents.connect import connect, load_profile
from fbagents.errors import AgentReplyError, DeviceError, ProfileError
from fbagents.posix.openssh import Address, OpenSsh
from fbagents.posix.remote import folder_argument
from fbagents.posix.scripts import START
from fbagents.profile import Profile
from fbagents.transport import Transport
from peers.given import HOSTILE, SPEC
from peers.sending import check_pieces, loaded_sums


def start_and_close(profile: Profile) -> None:
    with contextlib.closing(connect(profile)) as transport, AgentClient(transport):
        pass


@pytest.mark.parametrize("runtime", ["litert", "onnxruntime", pytest.param("torch", marks=pytest.mark.full)])
def test_every_runtime_gives_the_same_outputs_as_on_this_machine(
    sshd: Any, local: Transport, models: dict[str, Path], runtime: str
) -> None:
    transport = connect(sshd.profile())
    try:
        assert loaded_sums(transport, models[runtime], runtime) == loaded_sums(local, models[runtime], runtime)
    finally:
        transport.close()


def test_the_agents_contract_holds_and_one_login_serves_every_command(sshd: Any, models: dict[str, Path]) -> None:
    transport = connect(sshd.profile())
    with AgentClient(transport, cores="0") as agent:
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
    with AgentClient(transport) as agent:
        agent.load("m", transport.push(models["litert"]), "litert", SPEC.input_shape)
    transport.close()
    assert sshd.logins() == 1
    deadline = time.monotonic() + 5
    while sshd.sessions() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert sshd.sessions() == []


def test_files_are_private_written_once_and_removed_in_the_end(sshd: Any, tmp_path: Path) -> None:
    device, model = sshd.folder / "device", tmp_path / "m.tflite"
    model.write_bytes(b"one")
    transport = connect(sshd.profile())
    first = Path(transport.push(model))
    inode = first.stat().st_ino
    assert transport.push(model) == str(first)
    assert first.stat().st_ino == inode
    model.write_bytes(b"two")
    second = Path(transport.push(model))
    assert (first.read_bytes(), second.read_bytes()) == (b"one", b"two")
    with AgentClient(transport):
        for path in device.rglob("*"):
            assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    (device / "others.txt").write_text("not ours")
    transport.close()
    assert [path.name for path in device.rglob("*")] == ["others.txt"]


def test_a_network_is_sent_as_what_its_operators_lack(sshd: Any, tmp_path: Path) -> None:
    with contextlib.closing(connect(sshd.profile())) as transport:
        check_pieces(transport, tmp_path)


def test_folders_that_killed_runs_left_behind_go_after_a_week(sshd: Any) -> None:
    names = {"fbnet-lab-0123456789abcdef": 8, "fbnet-lab-0123456789abcdee": 1, "fbnet-lab-mine": 8}
    for name, days in names.items():
        folder = sshd.folder / "device" / name
        folder.mkdir(parents=True)
        (folder / "m.tflite").write_bytes(b"x")
        os.utime(folder, (time.time() - days * 86400,) * 2)
    transport = connect(sshd.profile())
    with AgentClient(transport):
        pass
    transport.close()
    left = {path.name for path in (sshd.folder / "device").iterdir()}
    assert left == {"fbnet-lab-0123456789abcdee", "fbnet-lab-mine"}


def test_an_unknown_host_key_is_refused_and_not_written_down(sshd: Any) -> None:
    known_hosts = sshd.folder / "known_hosts"
    known_hosts.write_text("")
    with pytest.raises(DeviceError, match=r"host key of .*127\.0\.0\.1 port \d+ is unknown.*ssh-keyscan -p \d+"):
        start_and_close(sshd.profile())
    assert known_hosts.read_text() == ""
    assert sshd.logins() == 0


def test_a_changed_host_key_is_refused_even_where_the_users_configuration_accepts_it(sshd: Any) -> None:
    sshd.trust(sshd.folder / "other_key")
    (sshd.folder / "client_config").write_text("StrictHostKeyChecking no\n")
    with pytest.raises(DeviceError, match=r"is not the one in .*ssh-keygen -R '\[127\.0\.0\.1\]:\d+'"):
        start_and_close(sshd.profile())
    assert sshd.logins() == 0


def test_a_wrong_key_is_told_with_its_name(sshd: Any) -> None:
    profile = sshd.profile()
    wrong = profile.model_copy(update={"address": profile.address | {"key_file": str(sshd.folder / "other_key")}})
    with pytest.raises(DeviceError, match=r"does not let us in with the key .*other_key.*ssh-copy-id"):
        start_and_close(wrong)


def test_nothing_listening_and_an_unknown_name_are_told_at_once(sshd: Any) -> None:
    sshd.stop()
    start = time.monotonic()
    with pytest.raises(DeviceError, match="no SSH server listens there"):
        start_and_close(sshd.profile())
    assert time.monotonic() - start < 5
    profile = sshd.profile(address={"host": "nowhere.invalid"})
    with pytest.raises(DeviceError, match=r"name nowhere\.invalid is not known here"):
        start_and_close(profile)


def test_the_clients_own_configuration_and_a_jump_host_are_used(new_sshd: Callable[..., Any]) -> None:
    """The board's address is known only by an alias, and reached through another server."""
    board, gate = new_sshd(), new_sshd("PermitTTY no")
    lines = [
        f"Host {name}\n Hostname 127.0.0.1\n Port {server.port}\n IdentityFile {server.folder}/key\n"
        f" UserKnownHostsFile {server.folder}/known_hosts\n"
        for name, server in (("board", board), ("gate", gate))
    ]
    config = board.folder / "client_config"
    config.write_text("".join(lines))
    profile = board.profile(address={"host": "board", "jump": "gate", "config_file": str(config)})
    transport = connect(profile)
    with AgentClient(transport) as agent:
        assert agent.hello.protocol == PROTOCOL
    transport.close()
    assert (board.logins(), gate.logins()) == (1, 1)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if at in (1, 3) else pytest.mark.full) for at, n in enumerate(HOSTILE)]
)
def test_hostile_folders_and_values_are_only_names(
    sshd: Any, name: str, tmp_path: Path, program: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model's name, the folder, the program and the environment all hold what a shell would act on."""
    before = set(Path.home().iterdir())
    python = program(name, 'printf %s "$VALUE" >"$SEEN"; exec "$real" "$@"')
    seen, model = tmp_path / "seen", tmp_path / f"m.{name}"
    model.write_bytes(b"content")
    folder = sshd.folder / name / "device"
    profile = sshd.profile(folder=str(folder), python=str(python), environment={"VALUE": name, "SEEN": str(seen)})
    transport = connect(profile)
    remote = transport.push(model)
    with AgentClient(transport):
        assert Path(remote).read_bytes() == b"content"
        assert Path(remote).parent.parent == folder
        assert seen.read_text() == name
    transport.close()
    assert list(folder.iterdir()) == []
    assert set(Path.home().iterdir()) == before
    assert not list(tmp_path.rglob("pwned"))


@settings(max_examples=60)
@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20), max_size=4))
def test_a_remote_shell_sees_exactly_the_arguments(arguments: list[str]) -> None:
    """The string that ssh sends is given to a real shell, as sshd does."""
    connection = OpenSsh(Address(host="x"))
    command = connection.argv('for word; do printf "%s\\0" "$word"; done', *arguments)[-1]
    connection.close()
    done = subprocess.run(["sh", "-c", command], capture_output=True, check=True)
    assert done.stdout == "".join(f"{word}\0" for word in arguments).encode()


def test_the_environment_is_set_as_given(tmp_path: Path) -> None:
    values = [f"V{number}={text}" for number, text in enumerate(HOSTILE)]
    code = f"import os; assert [os.environ[f'V{{n}}'] for n in range({len(HOSTILE)})] == {HOSTILE!r}"
    argv = ["sh", "-c", START, "sh", str(tmp_path / "pid"), *values, "--", sys.executable, "-c", code]
    assert subprocess.run(argv, check=False).returncode == 0


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ({}, "address.host is not usable"),
        ({"host": "-oProxyCommand=touch pwned"}, "address.host is not usable"),
        ({"host": "a\nb"}, "address.host is not usable"),
        ({"host": "a b"}, "address.host is not usable"),
        ({"host": "b", "user": "-x"}, "address.user is not usable"),
        ({"host": "b", "port": 70000}, "address.port is not usable"),
        ({"host": "b", "port": True}, "address.port is not usable"),
        ({"host": "b", "jump": "-x"}, "address.jump is not usable"),
        ({"host": "b", "key_file": 'a" b'}, "address.key_file is not usable"),
        ({"host": "b", "pasword": "x"}, "address.pasword is unknown; known for ssh: host, port, user, key_file"),
    ],
)
def test_an_address_that_is_none_is_refused(address: dict[str, Any], message: str) -> None:
    with pytest.raises(ProfileError, match=message):
        connect(Profile(name="board", description="x", transport="ssh", address=address))


@pytest.mark.parametrize("changes", [{"environment": {"A-B": "x"}}, {"folder": "a\0b"}, {"python": ""}])
def test_a_profile_that_no_command_can_hold_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ProfileError, match="device board"):
        connect(Profile(name="board", description="x", transport="ssh", address={"host": "b"}, **changes))


def test_a_folder_is_never_an_option() -> None:
    given = ["-rf", "~/lab", ".cache/x/", "/data/lab", "/"]
    assert [folder_argument(text) for text in given] == ["./-rf", "./lab", "./.cache/x", "/data/lab", "/"]


def test_the_raspberry_pis_profile_is_an_address() -> None:
    transport = connect(load_profile("raspberry-pi-4"))
    transport.close()


@pytest.mark.parametrize("number", [0, 1])
def test_the_profiles_in_the_docs_connect(tmp_path: Path, number: int) -> None:
    page = (Path(__file__).parents[2] / "docs" / "devices" / "ssh.md").read_text(encoding="utf-8")
    (tmp_path / "board.toml").write_text(page.split("```toml\n")[1 + number].split("```")[0])
    connect(load_profile(str(tmp_path / "board.toml"))).close()


def test_a_long_temporary_folder_does_not_break_the_socket(
    sshd: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    transport = connect(sshd.profile())
    with AgentClient(transport):
        pass
    transport.close()


def test_no_option_leaves_the_host_key_unchecked() -> None:
    options = shlex.join(Address(host="b").options())
    assert "StrictHostKeyChecking=yes" in options
    assert "BatchMode=yes" in options
