"""Device profiles and the transports they name."""

import os
import re
from pathlib import Path

import pytest

import fbagents.transports
from fbagents.agent.client import AgentClient
from fbagents.errors import ProfileError
from fbagents.profile import PROFILES, load_profile
from fbagents.transports import TRANSPORTS, connect
from fbbase.errors import FbError, UnknownNameError
from fbbase.plugins import PluginFolder


@pytest.mark.parametrize("name", PROFILES.names())
def test_every_known_profile_loads_and_names_a_known_transport(name: str) -> None:
    profile = load_profile(name)
    assert profile.name == name
    assert profile.transport in TRANSPORTS.names()


@pytest.mark.parametrize("name", TRANSPORTS.names())
def test_every_transport_has_connect(name: str) -> None:
    assert callable(TRANSPORTS.module(name).connect)


def test_a_profile_file_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('description = "x"\ntransport = "local"\n')
    assert load_profile(str(file)).name == "mine"
    connect(load_profile(str(file))).close()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("transport = ", "Invalid value"),
        ('transport = "local"', "description: Field required"),
        ('description = "x"\ntransport = "local"\ntreads = 2', "treads: Extra inputs"),
    ],
)
def test_a_wrong_profile_is_told(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(ProfileError, match=message):
        load_profile(str(file))


def test_unknown_names_list_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown device 'locla'. Did you mean 'local'. Known: .*local"):
        load_profile("locla")
    with pytest.raises(FbError, match="device profile not found"):
        load_profile(str(tmp_path / "none.toml"))
    file = tmp_path / "mine.toml"
    file.write_text('description = "x"\ntransport = "pigeon"\n')
    with pytest.raises(UnknownNameError, match="unknown transport 'pigeon'"):
        connect(load_profile(str(file)))


def test_the_example_in_the_docs_is_a_transport(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[2] / "docs" / "extend" / "transport.md").read_text(encoding="utf-8")
    code, profile = (re.search(rf"```{kind}\n(.*?)```", page, re.S)[1] for kind in ("python", "toml"))  # type: ignore[index]
    (tmp_path / "nice.py").write_text(code)
    (tmp_path / "slow.toml").write_text(profile)
    monkeypatch.setattr(fbagents.transports, "__path__", [*fbagents.transports.__path__, str(tmp_path)])
    monkeypatch.setattr(PluginFolder, "_files", lambda _: {"nice": tmp_path / "nice.py"})
    with AgentClient(connect(load_profile(str(tmp_path / "slow.toml")))) as agent:
        assert os.getpriority(os.PRIO_PROCESS, agent._channel._process.pid) == 19  # type: ignore[attr-defined]
