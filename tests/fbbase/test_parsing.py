"""JSON, TOML and numbers of others, and how text of others is shown."""

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fbbase.commandline import run
from fbbase.errors import FbError
from fbbase.parsing import json_lines, number, parse_json, parse_toml
from fbbase.shown import cell, escaped

ESCAPES = "\x1b]0;title\x07\x1b[31mred\x1b[2J\x9b0m\u202e"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "f: it is nested too deep"),
        ('{"a":' * 100_000, "f: it is nested too deep"),
        (f'{{"a": {"9" * 5000}}}', "f: it has a number of thousands of digits"),
        ('{"a": "\\ud800"}', r"f: a text has the character U\+D800"),
        ('{"a": [{"b\\u0000": 1}]}', r"f: a text has the character U\+0000"),
        ('{"a": 1,\n"b": 2,\n"a": 3}', "f: key 'a' is there twice, in line 1 and in line 3: keep one"),
        ('{"a": {"a": 1, "a": 2}}', "f: key 'a' is there twice: keep one"),
        ('{"a": }', "f: line 1, column 7: Expecting value"),
    ],
)
def test_json_that_cannot_be_meant_is_one_sentence(text: str, message: str) -> None:
    with pytest.raises(FbError, match=f"^{message}"):
        parse_json(text, "f")


def test_json_is_what_the_standard_says() -> None:
    text = '{"a": [1, 2.5, "\\u00e4\\ud83d\\ude00", null, true, {"a": 1}]}'
    assert parse_json(text, "f") == json.loads(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = " + "[" * 5000 + "]" * 5000, "f: it is nested too deep"),
        ("a = " + "9" * 5000, "f: it has a number of thousands of digits"),
        ('a = "\\u0000"', r"f: a text has the character U\+0000"),
        ("a = 1\na = 2", "f: Cannot overwrite a value"),
    ],
)
def test_toml_that_cannot_be_meant_is_one_sentence(text: str, message: str) -> None:
    with pytest.raises(FbError, match=f"^{message}"):
        parse_toml(text, "f")


def test_lines_that_are_not_as_expected_are_named() -> None:
    assert list(json_lines('{"a": 1}\n{"a": 2}\n', "f", lambda line: line["a"])) == [1, 2]
    for text in ("[]", '{"b": 1}', "3", '"a"', "null"):
        with pytest.raises(FbError, match=r"^f: line 2: not as expected"):
            list(json_lines('{"a": 1}\n' + text, "f", lambda line: line["a"]))


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_is_what_python_writes(value: float) -> None:
    assert number(repr(value)) == value


@pytest.mark.parametrize("text", ["", "٥", "5_0", "1:30", "1,5", "nan", "inf", "1e999", "0x10", "1 2", "--1"])
def test_what_is_no_plain_number(text: str) -> None:
    assert number(text) is None


@given(st.text())
def test_nothing_that_a_terminal_obeys_is_shown(text: str) -> None:
    shown = escaped(text)
    assert all(each in "\n\t" or each.isprintable() or not each.isascii() for each in shown)
    assert not set(shown) & {chr(code) for code in range(0x7F, 0xA0)}
    assert escaped(shown) == shown
    assert not cell(text).startswith(("=", "+", "-", "@"))
    assert "\n" not in cell(text)


def test_a_terminal_is_shown_escapes_in_results_errors_and_usage(capfd: pytest.CaptureFixture[str]) -> None:
    @click.group()
    def tool() -> None: ...

    @tool.command()
    @click.argument("what")
    def go(what: str) -> None:
        click.echo(f"{ESCAPES} µ")
        click.echo(json.dumps({"a": ESCAPES}, ensure_ascii=False))
        raise FbError(f"device {ESCAPES}")

    assert run(tool, ["go", "x"]) == 2
    assert run(tool, [ESCAPES]) == 2
    said = "".join(capfd.readouterr())
    assert "\\x1b]0;title\\x07\\x1b[31mred\\x1b[2J\\u009b0m\\u202e µ" in said
    assert said.count("\\x1b") >= 6
    assert not any(character in said for character in "\x1b\x07\x9b\u202e")
    assert json.loads(said.splitlines()[1]) == {"a": ESCAPES}


SCRIPT = """
import sys, time, click
from fbbase.commandline import main
@click.group()
def tool(): pass
@tool.command()
def go():
    try:
        print("begun", file=sys.stderr, flush=True)
        time.sleep(30)
    finally:
        time.sleep(0.5)
@tool.command()
def say():
    click.echo("said")
    click.echo("told", err=True)
main(tool)
"""


@pytest.fixture
def script(tmp_path: Path) -> list[str]:
    (tmp_path / "tool.py").write_text(SCRIPT)
    return [sys.executable, str(tmp_path / "tool.py")]


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams_end_in_peace(script: list[str], closed: str) -> None:
    done = subprocess.run(
        ["sh", "-c", f'"$@" {closed}', "sh", *script, "say"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert set((done.stdout + done.stderr).split()) <= {"said", "told"}


def test_a_full_stdout_is_one_sentence(script: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*script, "say"], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 3
    assert done.stderr == "error: no space left on the disk (while writing); free some and run again\n"


@pytest.mark.parametrize("pause_s", [0.0, 0.05, 0.3, 0.6])
def test_a_second_interrupt_ends_without_a_traceback(script: list[str], pause_s: float) -> None:
    process = subprocess.Popen([*script, "go"], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert process.stderr.readline() == "begun\n"
    for _ in range(2):
        process.send_signal(2)
        try:
            process.wait(pause_s)
        except subprocess.TimeoutExpired:
            continue
    said = process.communicate(timeout=20)[1]
    assert "Traceback" not in said
    assert process.returncode in (130, -2)
