"""Settings: which of flag, environment, project file and user file counts, and what is refused."""

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from fbbase.commandline import run
from fbprof.cli import fbprof

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "user"))
    (tmp_path / "user" / "fbprof").mkdir(parents=True)
    return tmp_path


def taken(option: str, *flags: str, command: str = "measure") -> object:
    """Return what a command would take for an option."""
    ctx = fbprof.make_context("fbprof", [command])
    found = fbprof.get_command(ctx, command)
    assert found is not None
    return found.make_context(command, [*flags], parent=ctx, resilient_parsing=False).params[option]


def test_flags_come_before_the_environment_before_the_folder_before_the_user(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert taken("space") == "fbnet-tiny"
    (here / "user" / "fbprof" / "config.toml").write_text('space = "user"\n')
    assert taken("space") == "user"
    (here / "fbprof.toml").write_text('space = "folder"\n')
    assert taken("space") == "folder"
    (here / "fbprof.toml").write_text('space = "folder"\n[measure]\nspace = "own"\n')
    assert taken("space") == "own"
    monkeypatch.setenv("FBPROF_SPACE", "environment")
    assert taken("space") == "environment"
    monkeypatch.setenv("FBPROF_MEASURE_SPACE", "nearer")
    assert taken("space") == "nearer"
    assert taken("space", "--space", "flag") == "flag"


def test_numbers_flags_and_several_values(here: Path) -> None:
    (here / "fbprof.toml").write_text('device = ["a", "b"]\n[measure]\nmax-time = 2.5\nquick = true\n')
    assert taken("devices") == ("a", "b")
    assert taken("max_time_min") == 2.5
    assert taken("quick") is True
    (here / "fbprof.toml").write_text('device = "a"\n')
    assert taken("devices") == ("a",)
    assert taken("device", "t.json", "--lut", "l.csv", command="verify") == "a"


def test_what_others_measured_is_not_said_to_be_of_this_folders_device(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "fbprof.toml").write_text('device = "mine"\nruntime = "litert"\n')
    monkeypatch.setenv("FBPROF_PRECISION", "int8")
    with pytest.raises(click.MissingParameter, match="device"):
        taken("device", "f.csv", "--space", "fbnet", "-o", "t.csv", command="import")
    flags = ("f.csv", "--space", "fbnet", "-o", "t.csv", "--device", "theirs")
    assert taken("runtime", *flags, command="import") == "unknown"
    assert taken("precision", *flags, command="import") == "unknown"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("device = \n", "fbprof.toml: "),
        ('[measure]\ndevise = "a"\n', "unknown setting of measure in fbprof.toml 'devise'. Did you mean 'device'?"),
        ('[mesure]\ndevice = "a"\n', "unknown command in fbprof.toml 'mesure'. Did you mean 'measure'?"),
        ('devise = "a"\n', "unknown setting in fbprof.toml 'devise'. Did you mean 'device'?"),
    ],
)
def test_mistakes_are_named(text: str, message: str, here: Path, capsys: Captured) -> None:
    (here / "fbprof.toml").write_text(text)
    assert run(fbprof, ["config"]) == 2
    assert message in capsys.readouterr().err
    assert run(fbprof, ["measure", "--dry-run"]) == 2
    assert message in capsys.readouterr().err


def test_a_bad_value_is_refused_as_a_flags_is(here: Path, capsys: Captured) -> None:
    (here / "fbprof.toml").write_text("[measure]\nthreads = 100\n")
    assert run(fbprof, ["measure", "--dry-run"]) == 2
    assert "Invalid value for '--threads': 100" in capsys.readouterr().err


def test_config_says_where_each_value_comes_from(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    assert run(fbprof, ["config"]) == 0
    assert "nothing is set" in capsys.readouterr().out
    (here / "fbprof.toml").write_text('device = "a"\n[measure]\nspace = "fbnet"\n')
    monkeypatch.setenv("FBPROF_DEVICE", "b")
    assert run(fbprof, ["config", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["settings"]
    of_measure = {s["option"]: (s["value"], s["source"]) for s in listed if s["command"] == "measure"}
    assert of_measure == {"device": ("b", "environment FBPROF_DEVICE"), "space": ("fbnet", "fbprof.toml")}
    assert not [s for s in listed if s["command"] in ("import", "fit", "init", "config")]


def test_init_asks_three_questions_and_what_it_writes_holds(here: Path) -> None:
    result = CliRunner().invoke(fbprof, ["init"], input="local\nfbnet\nonnxruntime\n")
    assert result.exit_code == 0, result.output
    assert "next: fbprof measure -o local.csv" in result.output
    assert (taken("devices"), taken("space"), taken("runtime")) == (("local",), "fbnet", "onnxruntime")
    assert run(fbprof, ["measure", "--dry-run", "-o", "t.csv"]) == 0
    listed = json.loads(CliRunner().invoke(fbprof, ["config", "--json"]).output)["settings"]
    assert [s["command"] for s in listed if s["option"] == "runtime"] == ["measure"]  # model files have their own


def test_init_refuses_what_is_not_known_and_keeps_what_is_there(here: Path, capsys: Captured) -> None:
    answers = {"--device": "local", "--space": "fbnet-tiny", "--runtime": "litert"}
    for option, message in (("--device", "'nowhere'"), ("--space", "'nowhere'"), ("--runtime", "runtime 'nowhere'")):
        flags = [word for pair in (answers | {option: "nowhere"}).items() for word in pair]
        assert run(fbprof, ["init", *flags]) == 2
        assert message in capsys.readouterr().err
        assert not (here / "fbprof.toml").exists()
    flags = [word for pair in answers.items() for word in pair]
    assert run(fbprof, ["init", *flags]) == 0
    (here / "fbprof.toml").write_text("# mine\n")
    assert run(fbprof, ["init", *flags]) == 2
    assert "is there already" in capsys.readouterr().err
    assert (here / "fbprof.toml").read_text() == "# mine\n"
    assert run(fbprof, ["init", *flags, "--force"]) == 0
