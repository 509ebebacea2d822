"""The commands that README, docs and help show: all have arguments that their program takes, and many run as written.

Those that run are as few as have together every command, every option and every named choice (a preset, a format, a
space, …) that a page shows; the others differ from them by how these are combined. Each runs by itself in this
process, on this machine, in a folder in which the files that it names exist, with what makes it short added at its end
(`SHORTER`): few rounds of measuring, one step of each epoch, few epochs and images. Tables of the pages are made up
(`plausible_table`), of the space fbnet where a command names a published network of it and of fbnet-tiny elsewhere;
device profiles in files are recordings; journal, networks and weights come from a quick measurement and search.
`ELSEWHERE` lists what does not run here, and why.
"""

import io
import itertools
import os
import re
from collections.abc import Sequence
from pathlib import Path

import click
import doc_commands
import pytest
from doc_commands import ROOT, Shown, all_shown

from fbbase.commandline import run
from fbprof.cli import fbprof
from fbsearch.cli import fbsearch
from peers.installed import RUNTIMES_HERE

TOOLS = {"fbprof": fbprof, "fbsearch": fbsearch}
ONE_STEP = ["--epochs", "1", "--steps", "1", "--batch", "4", "--limit", "40", "--threads", "1"]
SHORTER = {
    r"fbprof measure": ["--rounds", "1", "--calibrate", "0", "--fresh"],
    r"fbprof profile": ["--rounds", "4"],
    r"fbprof ab": ["--max-time", "0.05"],
    r"fbprof validate": ["--networks", "8", "--rounds", "5", "--fresh"],
    r"fbsearch run": [*ONE_STEP, "--train-epochs", "0", "--samples", "2"],
    r"fbsearch train": ONE_STEP,
    r"fbsearch train .*--warmup": ["--epochs", "3"],
    r"fbsearch train fbnet-a": ["--amp", "none"],  # bf16 is slow on many CPUs; it runs on the small network of scale.md
    r"fbsearch sample": ["-n", "2"],
}
ADDED = {
    r"fbprof import board\.lat ": "a format that the page adds; tests/fbprof/test_extend_docs.py",
    r"fbprof report .*--slowest": "a chart that the page adds; tests/fbprof/test_extend_docs.py",
    r"fb(prof|search) .*phantom": "a block that the page adds; tests/fbspace/test_extend_block.py",
    r"fbprof compare .*--format latex": "a view that the page adds; tests/fbprof/test_extend_docs.py",
    r"fbsearch run .*(--cost storage|--loss hinge|--strategy hard|--data idx:)": "a plug-in that the page adds; "
    "tests/fbsearch/test_extend_docs.py",
    r"fbprof export .*--format summary": "a format that the page adds; tests/fbexport/test_extend_docs.py",
    r"fbprof measure .*--runtime reference": "a runtime that the page adds; tests/fbexport/test_extend_docs.py",
    r"fbprof measure .*--device slow\.toml": "a transport that the page adds; tests/fbagents/test_extend_transport.py",
    r"fbprof profile .*onnx\.gz": "a format of model files that the page adds; tests/test_outside_package.py",
    r"fbprof slowest ": "a command that the page adds; tests/test_extend_command.py",
}
ELSEWHERE = ADDED | {
    r"fbprof (measure|doctor|verify|profile|ab) .*--device (galaxy-s8|phone|pixel-3|adb:\S+|ssh:\S+)( |$)": "a phone "
    "or a board",
    r"fbprof \w+ .*--agent benchmark_model": "Google's program; tests/fbprof/test_benchmark_model.py",
    r"fbprof agent ": "fetches a compiler and runtimes; tests/fbagents/test_native_agent.py and test_bundle.py",
    r"fbprof measure --space fbnetv2-tiny": "2,264 operators, half a minute; tests/fbprof/test_grid.py",
    r"torchrun ": "eight GPUs, or two hosts; tests/fbsearch/test_distributed.py and test_two_hosts.py",
    r"python docs/write_results\.py": "writes pages of this checkout; tests/test_docs.py holds them against their data",
    r"python benchmarks/": "minutes, and its figures are of a quiet machine",
    r"make demo": "two minutes; tests/test_main_job.py runs its commands, benchmarks/first_minutes.py all of it",
    r"make house": "reads the whole checkout; benchmarks/house.py",
    r"make install": "fetches packages; benchmarks/first_minutes.py",
    r"make test": "it runs this test",
    r"pip install ": "fetches packages; benchmarks/install_size.py",
    r"pytest ": "other tests, or those of a format that a reader adds",
}
if "ncnn" not in RUNTIMES_HERE:
    ELSEWHERE |= {r"fbprof measure .*--runtime ncnn": "a runtime that is not installed here"}
DEAREST = (
    r"fbsearch (plot .*--format|spaces$|sample )",
    r"fbsearch run .*(--augment|--amp|--preset quick)",
    r"fbsearch train .*--preset int8",
    r"fbprof measure .*--(runtime (onnxruntime|executorch|ncnn)|precision int8)",
    r"fbprof ab ",
    r"fbprof (validate|verify) .*--(plot|within)",
    r"fbprof profile .*--layers --max-time",
)
"""Those that take longest run in `make test-full`: tests of these commands have what they show."""
ANSWERS_NO = ("ab", "check", "compare", "verify")
"""Commands that ran as well where they exit with 1 or 4: a check failed, or could not tell."""
SHOWN = all_shown()


def row_of(shown: Shown) -> str | None:
    """Return the row of ELSEWHERE that a command is under."""
    return next((pattern for pattern in ELSEWHERE if re.match(pattern, shown.text)), None)


def parts_of(shown: Shown) -> set[str]:
    """Return what a command is made of: the command, its options, and options with a choice that has a name."""
    command: click.Command | None = TOOLS[shown.tool]
    path, words = shown.tool, list(shown.words)
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        path, command = f"{path} {words[0]}", command.get_command(click.Context(command), words.pop(0))
    made = {path, *(f"{name}= {path}" for name, _ in shown.variables)}
    for word, value in itertools.pairwise([*words, ""]):
        if word.startswith("-") and word != "-o":
            made |= {f"{path} {word}", f"{path} {word} {value}" if re.fullmatch(r"[a-z][\w-]*", value) else path}
    return made


def covering(every: list[Shown]) -> list[Shown]:
    """Return few commands that have all parts that those have which run here."""
    parts = {shown: parts_of(shown) for shown in every if shown.tool in TOOLS and row_of(shown) is None}
    left = set().union(*parts.values())
    chosen = []
    while left:
        chosen.append(max(parts, key=lambda shown: len(parts[shown] & left)))
        left -= parts[chosen[-1]]
    return sorted(chosen, key=every.index)


def test_what_is_listed_as_run_elsewhere_is_still_shown() -> None:
    assert {row_of(shown) for shown in SHOWN} - {None} == set(ELSEWHERE)


def test_all_have_the_arguments_that_their_program_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where no settings are
    monkeypatch.setattr(click.Command, "invoke", lambda command, context: None)  # parsed, and not run
    shown = [each for each in SHOWN if row_of(each) not in ADDED]
    assert len(shown) > 150
    wrong = {f"{each}: {each.text}": problem for each in shown if (problem := problem_of(each))}
    assert wrong == {}


def problem_of(shown: Shown) -> str:
    """Return what is wrong with a command's arguments, nothing where they are fine."""
    tool, words = shown.tool, list(shown.words)
    if tool == "torchrun":
        tool, words = words[words.index("-m") + 1], words[words.index("-m") + 2 :]
    if tool in TOOLS:
        try:
            TOOLS[tool].main(words, standalone_mode=False)
        except click.ClickException as error:
            return error.format_message()
        return ""
    if tool == "make":
        is_target = re.search(rf"^([\w-]+ )*{words[0]}\b.*:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
        return "" if is_target else "no such target"
    if tool == "pip":
        return ""
    text = (ROOT / words[0]).read_text(encoding="utf-8")  # python and pytest: a file here, and options that it knows
    return ", ".join(word for word in words[1:] if word.startswith("--") and f'"{word}"' not in text)


def shorter(text: str) -> list[str]:
    """Return the options that make a command short."""
    return [option for pattern, options in SHORTER.items() if re.match(pattern, text) for option in options]


def call(tool: str, words: Sequence[str]) -> None:
    """Run a command in a short time."""
    assert run(TOOLS[tool], [*words, *shorter(f"{tool} {words[0]}")]) == 0


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder from which commands get what they name."""
    folder = tmp_path_factory.mktemp("base")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        doc_commands.fill(folder, call, any(shown.page == doc_commands.MASKS for shown in COVERING))
    return folder


COVERING = covering(SHOWN)


@pytest.mark.parametrize(
    "shown",
    [
        pytest.param(shown, marks=pytest.mark.full if any(re.match(p, shown.text) for p in DEAREST) else ())
        for shown in COVERING
    ],
    ids=str,
)
def test_it_runs_as_written(
    shown: Shown,
    base: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(("FBPROF_", "FBSEARCH_"))]:
        monkeypatch.delenv(name)
    for name, value in shown.variables:
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr("sys.stdin", io.StringIO("\n" * 9))  # whoever is asked takes what is proposed
    doc_commands.lay_out(base, tmp_path, shown)
    code = run(TOOLS[shown.tool], [*shown.words, *shorter(shown.text)])
    if code == 3 and "every sample of a model was preempted" in capsys.readouterr().err:
        pytest.skip("too much else runs on this machine to time a network of milliseconds, and the command said so")
    assert code in ({0, 1, 4} if shown.words[0] in ANSWERS_NO else {0}), shown.text
