"""The documentation as a site: built without a warning, with a reference of every command and of the public API."""

import difflib
import html
import inspect
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from fbprof.cli import fbprof
from fbsearch.cli import fbsearch

ROOT = Path(__file__).parents[1]
PUBLIC_API = Path(__file__).parent / "data" / "public_api.txt"
GENERATED = {"reference/commands.md", "reference/api.md"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def reference() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "docs" / "reference.py"))


@pytest.mark.full  # test_report.py has a browser
def test_the_site_loads_nothing_from_elsewhere(site: Path) -> None:
    home = (site / "index.html").read_text(encoding="utf-8")
    assert not re.search(r'(?:src|href)="https?://[^"]+\.(?:js|css|woff2?)"', home)


def test_the_site_has_every_page() -> None:
    listed = set(re.findall(r": ([a-z0-9/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.M))
    assert listed == {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")} | GENERATED


def commands_of(group: click.Group, path: str) -> Iterator[tuple[str, click.Command]]:
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        assert command is not None
        yield f"{path} {name}", command
        if isinstance(command, click.Group):
            yield from commands_of(command, f"{path} {name}")


def test_the_reference_has_every_command_with_every_option(site: Path) -> None:
    page = html.unescape((site / "reference" / "commands" / "index.html").read_text(encoding="utf-8"))
    headings = re.findall(r"<h2[^>]*>((?:fbprof|fbsearch)[\w -]+)<", page)
    sections = dict(zip(headings, re.split(r"<h2", page)[1:], strict=True))
    commands = [*commands_of(fbprof, "fbprof"), *commands_of(fbsearch, "fbsearch")]
    assert headings == [path for path, _ in commands]
    assert {"fbprof measure", "fbprof agent bundle", "fbsearch run", "fbsearch spaces check"} <= set(headings)
    for path, command in commands:
        for parameter in command.params:
            words = (
                parameter.opts
                if isinstance(parameter, click.Option)
                else [parameter.make_metavar(click.Context(command))]
            )
            assert [word for word in words if word not in sections[path]] == [], path


def test_what_programs_rely_on_has_not_changed_unseen(reference: dict[str, Any]) -> None:
    """The names and parameters of the public API are those in a file, line by line."""
    found = []
    for name in (name for names in reference["PUBLIC"].values() for name in names):
        value = reference["public"](name)
        found.append(f"{name}({parameters(value)})")
        found += [f"    .{member}{default}" for member, default in reference["capabilities"](value).items()]
        found += [f"    .{member}({parameters(each)})" for member, each in reference["members"](value).items()]
    pinned = PUBLIC_API.read_text(encoding="utf-8").splitlines()
    difference = "\n".join(difflib.unified_diff(pinned, found, lineterm="", n=0))
    assert found == pinned, f"write this into {PUBLIC_API.name}, and tell the change in CHANGELOG.md:\n{difference}"


def parameters(value: Any) -> str:
    if isinstance(value, property):
        return "property"
    try:
        names = inspect.signature(value.__func__ if isinstance(value, classmethod) else value).parameters
    except ValueError:  # an exception takes what Exception takes
        return "message"
    return ", ".join(name for name in names if name not in ("self", "cls"))


def test_the_page_of_the_api_shows_each_name_and_its_example_runs(
    reference: dict[str, Any], site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (site / "reference" / "api" / "index.html").read_text(encoding="utf-8")
    names = [line.partition("(")[0] for line in PUBLIC_API.read_text(encoding="utf-8").splitlines() if line[0] != " "]
    assert [name for name in names if f"<code>{name}</code>" not in page] == []
    exec(re.search(r"```python\n(.*?)```", reference["api"](), re.S)[1], {})  # type: ignore[index]
    out = capsys.readouterr().out
    assert out.startswith("Snapdragon 845 105\n")
    assert "conv_in3x224x224_out16_k3_s2_e1_g1_relu" in out
