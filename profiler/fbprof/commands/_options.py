"""What several commands have: options of what is timed, by which program and against which table, and JSON."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from fbbase.commandline import Command, option_of
from fbbase.options import options_of
from fbprof.commands import _complete as complete
from fbprof.plan.timing import Timing

if TYPE_CHECKING:
    from fbagents.profile import Profile

PATH = click.Path(path_type=Path)
TIMING = {each.name: each for each in options_of(Timing)}


def timing(name: str, *flags: str, **changes: Any) -> Callable[[Command], Command]:
    """Return the option of a field of `Timing`; `flags` and `changes` as `option_of` takes them."""
    return option_of(TIMING[name], *flags, **changes)


def program(command: Command) -> Command:
    """Add the options that say which program measures."""
    agent = click.option(
        "--agent",
        type=click.Choice(["benchmark_model"]),
        help="What measures: Google's own program, with --binary.  [default: fbprof's agent, as the profile says]",
    )
    binary = click.option("--binary", type=PATH, help="The benchmark_model for the device, a file of this machine.")
    arguments = click.option("--binary-args", help='Its arguments, such as "--use_gpu=true --num_runs=20".')
    return agent(binary(arguments(command)))


def table_and_device(command: Command) -> Command:
    """Add the options of a table that predicts, and of the device it is held against."""
    help_of_table = "The latency table that predicts."
    lut = click.option("--lut", type=PATH, shell_complete=complete.tables, required=True, help=help_of_table)
    device = click.option(
        "--device", default="local", show_default=True, shell_complete=complete.devices, help="As for fbprof measure."
    )
    return lut(device(program(command)))


def fed(command: Command) -> Command:
    """Add the options that say in which runtime model files run, and what goes in."""
    runtime = click.option(
        "--runtime", shell_complete=complete.runtimes, help="Runtime.  [default: the one that runs such files]"
    )
    shapes = click.option(
        "--shape", "shapes", multiple=True, metavar="[NAME=]1x3x320x320", help="Shape of an input; repeatable."
    )
    inputs = click.option("--inputs", type=PATH, help="Values of the inputs, an .npz by name.  [default: made up]")
    return runtime(shapes(inputs(command)))


def at(command: Command) -> Command:
    """Add the option that says at which of the device's speeds a table stands."""
    speeds = click.Choice(["peak", "mean", "sustained-so-far"])
    words = "Which of the speeds that the device had in the run the table is of."
    return click.option("--at", type=speeds, default="mean", show_default=True, help=words)(command)


def measured_elsewhere(command: Command) -> Command:
    """Add the options of a table that is made of others' latencies: of which space, where it goes, in which runtime."""
    space = click.option(
        "--space",
        required=True,
        shell_complete=complete.spaces,
        help="Search space of the latencies: a known name or a .toml file.",
    )
    output = click.option("-o", "--output", type=PATH, required=True, help="The table to write.")
    runtime = click.option("--runtime", default="unknown", show_default=True, help="Runtime they were measured in.")
    return space(output(runtime(command)))


devices = click.option(
    "--device",
    "devices",
    multiple=True,
    shell_complete=complete.devices,
    help="Device profile: a known name or a .toml file; several are measured side by side.  [default: local]",
)
max_time = timing("max_time_min", "--max-time")
seed = timing("seed")
fresh = click.option("--fresh", is_flag=True, help="Start over; earlier samples are set aside (.old).")
as_json = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


def check_runs(timing: Mapping[str, Any]) -> None:
    """Raise click.BadParameter where --drop leaves nothing of --runs."""
    if timing["dropped"] >= timing["runs"]:
        raise click.BadParameter(f"--drop {timing['dropped']} leaves nothing of --runs {timing['runs']}")


def print_json(answer: Any) -> None:
    """Print a command's answer as JSON."""
    click.echo(json.dumps(answer, indent=2, ensure_ascii=False))


def with_binary(profile: "Profile", agent: str | None, binary: Path | None, binary_args: str | None) -> "Profile":
    """Return a profile that is measured as --agent, --binary and --binary-args say. Raises click.UsageError."""
    from fbagents.benchmark import binary as benchmark_binary

    if agent is None and binary is None:
        if binary_args is not None and profile.agent != benchmark_binary.NAME:
            raise click.UsageError("--binary-args goes with --agent benchmark_model --binary PATH")
        if binary_args is None:
            return profile
        return benchmark_binary.with_binary(profile, Path(profile.binary or ""), binary_args)
    if binary is None:
        raise click.UsageError("--agent benchmark_model needs --binary PATH, the program for the device")
    if agent is None:
        raise click.UsageError("--binary goes with --agent benchmark_model")
    return benchmark_binary.with_binary(profile, binary, binary_args or "")


def check_benchmark(profiles: "Sequence[Profile]", runtime: str) -> None:
    """Raise click.UsageError where benchmark_model cannot do what is asked for."""
    from fbagents.benchmark.binary import RUNTIME

    if not any(profile.agent == "benchmark_model" for profile in profiles):
        return
    if runtime != RUNTIME:
        raise click.UsageError(f"benchmark_model runs models of {RUNTIME}, not of {runtime}: leave out --runtime")
    context = click.get_current_context()
    flags = {"runs": "--runs", "dropped": "--drop"}
    given = [f for name, f in flags.items() if context.get_parameter_source(name) == ParameterSource.COMMANDLINE]
    if given:
        raise click.UsageError(
            f"{' and '.join(given)} cannot be had of benchmark_model, which tells no single runs: say how many it "
            'makes with --binary-args "--warmup_runs=2 --num_runs=10"'
        )
