"""Both tools at the command line: every command has help with an example and a place in the docs; help is quick."""

import os
import subprocess
import sys
import time

import click
import pytest
from click.shell_completion import ShellComplete

from fbbase.commandline import run
from fbprof.cli import fbprof
from fbsearch.cli import fbsearch
from peers.processes import PIPE, Python

TOOLS = {"fbprof": fbprof, "fbsearch": fbsearch}
COMMANDS = [(tool, name) for tool, group in TOOLS.items() for name in group.list_commands(click.Context(group))]


@pytest.mark.parametrize(("tool", "name"), COMMANDS)
def test_every_command_has_help_with_an_example(tool: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(TOOLS[tool], [name, "--help"]) == 0
    out = capsys.readouterr().out
    assert "Example:" in out
    assert f"  {tool} {name}" in out


@pytest.mark.parametrize(("tool", "name"), COMMANDS)
def test_every_option_has_help_or_says_what_it_is(tool: str, name: str) -> None:
    command = TOOLS[tool].get_command(click.Context(TOOLS[tool]), name)
    assert command is not None
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not parameter.help:
            assert parameter.name in ("threads", "seed"), f"{tool} {name} --{parameter.name} has no help"


@pytest.mark.parametrize(("tool", "name"), COMMANDS)
def test_times_memory_and_percentages_have_their_unit_in_help(tool: str, name: str) -> None:
    command = TOOLS[tool].get_command(click.Context(TOOLS[tool]), name)
    assert command is not None
    units = {"max_time_min": "MINUTES", "ci_percent": "PERCENT", "within": "PERCENT", "memory_mb": "MB"}
    for parameter in command.params:
        assert parameter.metavar == units.get(str(parameter.name), parameter.metavar)


@pytest.mark.parametrize("tool", TOOLS)
def test_help_imports_nothing_heavy(tool: str) -> None:
    code = (
        f"import sys; sys.argv = ['{tool}', '--help']\n"
        f"from {tool}.cli import main\n"
        "try: main()\n"
        "except SystemExit: print('|'.join(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    loaded = set(done.stdout.splitlines()[-1].split("|"))
    assert loaded.isdisjoint({"torch", "numpy", "pandas", "onnx", "onnxruntime", "sklearn", "ai_edge_litert"})


@pytest.mark.parametrize("tool", TOOLS)
def test_help_answers_at_once(tool: str) -> None:
    """The goal is 0.4 s (benchmarks/help_speed.py prints the figure); here only that nobody waits for seconds."""

    def took_s() -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", tool, "--help"], capture_output=True, check=True, timeout=60)
        return time.perf_counter() - start

    assert any(took_s() < 5 for _ in range(3))  # a busy machine may take longer once


@pytest.mark.parametrize("tool", TOOLS)
def test_an_unknown_command_is_told_with_the_nearest(tool: str, capsys: pytest.CaptureFixture[str]) -> None:
    name = COMMANDS[[t for t, _ in COMMANDS].index(tool)][1]
    assert run(TOOLS[tool], [name + "x"]) == 2
    assert f"Did you mean {name!r}?" in capsys.readouterr().err


@pytest.mark.parametrize("reader", ["head -1", pytest.param("true", marks=pytest.mark.full)])
def test_a_closed_pipe_is_no_error(reader: str) -> None:
    with subprocess.Popen(reader.split(), stdin=PIPE, stdout=PIPE, text=True) as reads:
        assert reads.stdin is not None
        with Python(["-m", "fbprof", "measure", "--space", "fbnet", "--dry-run"], None, reads.stdin, PIPE) as writes:
            reads.stdin.close()
            _, error = writes.communicate(60)
        assert reads.stdout is not None
        assert reads.stdout.read().startswith("operator" if reader == "head -1" else "")
    assert error == ""
    assert writes.returncode == 0


@pytest.mark.parametrize(
    ("words", "incomplete", "offered"),
    [
        ([], "comp", ["compare"]),
        (["measure"], "--dev", ["--device"]),
        (["measure", "--device"], "pix", ["pixel-3"]),
        (["measure", "--space"], "fbnetv2-t", ["fbnetv2-tiny"]),
        (["measure", "--runtime"], "onnx", ["onnxruntime"]),
        (["compare"], "rasp", ["raspberry-pi-4"]),
        (["compare", "a.csv", "--format"], "m", ["md"]),
    ],
)
def test_the_shell_completes_commands_options_and_names(words: list[str], incomplete: str, offered: list[str]) -> None:
    completion = ShellComplete(fbprof, {}, "fbprof", "_FBPROF_COMPLETE")
    assert [item.value for item in completion.get_completions(words, incomplete)] == offered


@pytest.mark.parametrize(("variable", "coloured"), [("", True), ("1", False)])
def test_colours_are_left_out_where_nobody_wants_them(variable: str, coloured: bool) -> None:
    """At a terminal of its own: the error of a command that is not there."""
    controller, terminal = os.openpty()
    command = ["-m", "fbprof", "compare", "none.csv", "none.csv"]
    with Python(command, stderr=terminal, env={**os.environ, "TERM": "xterm", "NO_COLOR": variable}) as process:
        process.wait(60)
    os.close(terminal)
    written = os.read(controller, 10_000).decode()
    os.close(controller)
    assert "latency table not found: none.csv" in written
    assert ("\x1b[" in written) == coloured
