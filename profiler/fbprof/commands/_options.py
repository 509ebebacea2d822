"""Options that several commands have: of a table that predicts, of the device it is held against, and what measures."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from fbprof.commands import _complete as complete

if TYPE_CHECKING:
    from fbagents.profile import Profile

lut = click.option(
    "--lut",
    type=click.Path(path_type=Path),
    shell_complete=complete.tables,
    required=True,
    help="The latency table that predicts.",
)
device = click.option(
    "--device", default="local", show_default=True, shell_complete=complete.devices, help="As for fbprof measure."
)
agent = click.option(
    "--agent",
    type=click.Choice(["benchmark_model"]),
    help="What measures: Google's own program, with --binary.  [default: fbprof's agent, as the profile says]",
)
binary = click.option(
    "--binary",
    type=click.Path(path_type=Path),
    help="The benchmark_model for the device, a file of this machine.",
)
binary_args = click.option("--binary-args", help='Its arguments, such as "--use_gpu=true --num_runs=20".')


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
    from fbagents.benchmark import binary as benchmark_binary

    if not any(profile.agent == "benchmark_model" for profile in profiles):
        return
    if runtime != benchmark_binary.RUNTIME:
        raise click.UsageError(
            f"benchmark_model runs models of {benchmark_binary.RUNTIME}, not of {runtime}: leave out --runtime"
        )
    context = click.get_current_context()
    given = [
        f"--{name}" for name in ("runs", "drop") if context.get_parameter_source(name) == ParameterSource.COMMANDLINE
    ]
    if given:
        raise click.UsageError(
            f"{' and '.join(given)} cannot be had of benchmark_model, which tells no single runs: say how many it "
            'makes with --binary-args "--warmup_runs=2 --num_runs=10"'
        )
