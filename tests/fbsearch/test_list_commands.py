"""fbsearch spaces and zoo: the numbers they print, against those of the paper."""

import json
from pathlib import Path

import pytest
import torch

from fbbase.commandline import run
from fbsearch.cli import fbsearch
from fbspace.architecture import load_architecture
from fbspace.network import build_network
from fbspace.space import SPACES


def test_spaces(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(SPACES), "names", lambda _: ["fbnet"])  # the others take seconds
    assert run(fbsearch, ["spaces", "--json"]) == 0
    spaces = {space["name"]: space for space in json.loads(capsys.readouterr().out)}
    fbnet = spaces["fbnet"]
    assert (fbnet["layers"], fbnet["candidates"], fbnet["operators"]) == (22, 9, 107)
    assert fbnet["architectures_log10"] == pytest.approx(20.99, abs=0.01)
    assert fbnet["smallest"]["macs"] < 250e6 < 385e6 < fbnet["largest"]["macs"]
    assert run(fbsearch, ["spaces"]) == 0
    assert "10^21.0" in capsys.readouterr().out


def test_a_space_of_ones_own_is_begun_and_checked(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    assert run(fbsearch, ["spaces", "new", str(file), "--from", "fbnet-cifar"]) == 0
    assert run(fbsearch, ["spaces", "new", str(file)]) == 2
    assert run(fbsearch, ["spaces", "new", str(tmp_path / "mine")]) == 2
    capsys.readouterr()
    assert run(fbsearch, ["spaces", "check", str(file), "--json"]) == 0
    (mine,) = json.loads(capsys.readouterr().out)
    assert run(fbsearch, ["spaces", "check", "fbnet-cifar", "--json"]) == 0
    (original,) = json.loads(capsys.readouterr().out)
    assert mine == original | {"name": "mine"}
    assert run(fbsearch, ["spaces", "check", str(file)]) == 0
    text = file.read_text().replace("expansion = 1, groups = 2", 'squeeze_activation = "hswish"', 1)
    file.write_text(text)
    assert run(fbsearch, ["spaces", "check", str(file)]) == 2
    line = 1 + text[: text.index("squeeze_activation")].count("\n")
    assert f"line {line}: candidates.k3_e1_g2: squeeze_activation is of squeeze-excite" in capsys.readouterr().err


def test_zoo(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(fbsearch, ["zoo", "--json"]) == 0
    zoo = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert zoo["fbnet-a"]["macs"] / 1e6 == pytest.approx(249.9, rel=0.005)
    assert zoo["fbnet-a"]["published"]["macs_million"] == 249
    assert run(fbsearch, ["zoo"]) == 0
    assert "249.9 M" in capsys.readouterr().out


def test_one_network_layer_by_layer_sums_to_its_total(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(fbsearch, ["zoo", "show", "fbnet-a", "--json"]) == 0
    network = json.loads(capsys.readouterr().out)
    assert len(network["layers"]) == 1 + 22 + 2
    assert sum(layer["macs"] for layer in network["layers"]) == network["macs"]
    assert sum(layer["parameters"] for layer in network["layers"]) == network["parameters"]
    assert [layer["choice"] for layer in network["layers"][1:4]] == ["skip", "k3_e3", "k3_e1"]
    assert run(fbsearch, ["zoo", "show", "fbnet-a"]) == 0
    assert "249.9 M MACs, 4.32 M parameters" in capsys.readouterr().out


def test_an_unknown_network_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(fbsearch, ["zoo", "show", "fbnet-d"]) == 2
    assert "Did you mean" in capsys.readouterr().err


def test_a_network_is_shown_and_written_with_other_widths_and_size(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "small.json"
    argv = ["zoo", "show", "fbnet-a", "--width", "0.35", "--size", "96", "-o", str(file), "--json"]
    assert run(fbsearch, argv) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["name"], shown["input_size"]) == ("fbnet-a-96-0.35", 96)
    assert run(fbsearch, ["zoo", "show", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == shown
    assert build_network(load_architecture(str(file)))(torch.zeros(1, 3, 96, 96)).shape == (1, 1000)
    assert run(fbsearch, ["zoo", "show", "fbnet-a", "--width", "0"]) == 2
