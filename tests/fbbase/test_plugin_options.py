"""Options of plug-ins at a command: of several kinds in one, refused where two cannot be told apart."""

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from fbbase.commandline import CommandFolder, run
from fbbase.errors import FbError
from fbbase.plugins import PluginFolder

PLUGIN = """
class {name}:
    {option}
"""
COMMAND = """
import click
from fbbase.commandline import options_of_plugins
from fbbase.plugins import PluginFolder

@click.command()
@click.option("--quick", is_flag=True, help="In a hurry.")
@options_of_plugins(PluginFolder("sauce", "pantry.sauces"), PluginFolder("side", "pantry.sides"), in_range=False)
def command(**options):
    click.echo(sorted(options.items()))
"""


@pytest.fixture
def pantry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with a command, and two kinds of plug-ins whose options it has."""
    for folder in ("", "commands", "sauces", "sides"):
        (tmp_path / "pantry" / folder).mkdir()
        (tmp_path / "pantry" / folder / "__init__.py").touch()
    (tmp_path / "pantry" / "commands" / "cook.py").write_text(COMMAND)
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "pantry"]:
        monkeypatch.delitem(sys.modules, name)
    return tmp_path / "pantry"


def write(pantry: Path, file: str, option: str) -> None:
    (pantry / file).write_text(PLUGIN.format(name="Anything", option=option))


@pytest.fixture
def kitchen() -> CommandFolder:
    return CommandFolder("kitchen", package="pantry.commands")


def test_help_names_plug_ins_and_defaults(pantry: Path, kitchen: CommandFolder) -> None:
    write(pantry, "sauces/red.py", 'salt: float = option(0.5, "Grams of salt.", least=0)')
    write(pantry, "sauces/green.py", 'salt: float = option(0.5, "Grams of salt.")')
    write(
        pantry,
        "sides/rice.py",
        'salt: float = option(2.0, "Grams in the water.")\n    hot: bool = option(True, "Hot.")',
    )
    done = CliRunner().invoke(kitchen, ["cook", "--salt", "-1", "--no-hot"])
    assert done.output == "[('hot', False), ('quick', False), ('salt', -1.0)]\n"
    told = " ".join(CliRunner().invoke(kitchen, ["cook", "--help"]).output.split())
    assert "Grams of salt. [default: 0.5; of sauce green, sauce red] Grams in the water. [default: 2.0; of side" in told
    assert "--hot / --no-hot Hot. [default: True; of side rice]" in told
    assert not any(name.startswith(("pantry.sauces", "pantry.sides")) for name in sys.modules)
    assert PluginFolder("sauce", "pantry.sauces").names() == ["green", "red"]


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ('quick: bool = option(False, "No time.")', "cook has two options --quick ('In a hurry.' and 'No time.  [def"),
        ('salt: int = option(1, "Grains.")', "sauce red and side rice have options --salt of two types; rename one"),
    ],
)
def test_two_that_cannot_be_told_apart_are_refused(
    pantry: Path, kitchen: CommandFolder, option: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write(pantry, "sauces/red.py", 'salt: float = option(0.5, "Grams of salt.", least=0)')
    write(pantry, "sides/rice.py", option)
    assert run(kitchen, ["cook"]) == FbError.exit_code
    assert words in capsys.readouterr().err
