"""Device profiles and the transports they name."""

import json
from pathlib import Path

import pytest

from fbagents.connect import PROFILES, connect, load_profile
from fbagents.errors import ProfileError
from fbagents.transport import Transport
from fbagents.transports import TRANSPORTS
from fbbase.errors import FbError, UnknownNameError


@pytest.mark.parametrize("name", PROFILES.names())
def test_every_known_profile_loads_and_names_a_known_transport(name: str) -> None:
    profile = load_profile(name)
    assert profile.name == name
    assert profile.transport in TRANSPORTS.names()


@pytest.mark.parametrize("name", TRANSPORTS.names())
def test_every_transport_fits_its_base(name: str) -> None:
    assert issubclass(TRANSPORTS.find(name), Transport)


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


@pytest.mark.parametrize("name", ["../../x", "a/b", "..", "", "a\\b", "a\nb"])
def test_a_name_that_leads_elsewhere_is_refused(name: str, tmp_path: Path) -> None:
    file = tmp_path / "p.toml"
    file.write_text(f'description = "x"\ntransport = "local"\nname = {json.dumps(name)}\n')
    with pytest.raises(ProfileError, match=r"name: .*cannot name a device, whose name names its files"):
        load_profile(str(file))
