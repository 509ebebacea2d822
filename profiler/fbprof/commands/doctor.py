"""fbprof doctor: what this machine and the devices have and lack for measuring."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from fbbase.commandline import echo_marked
from fbprof.commands import _complete as complete

if TYPE_CHECKING:
    from fbprof.doctor import Check

COLORS = {"ok": "green", "warning": "yellow", "failed": "red"}


@click.command("doctor")
@click.option(
    "--device",
    "devices",
    multiple=True,
    shell_complete=complete.devices,
    help="A device to examine too, as for fbprof measure; repeatable.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the checks as JSON.")
def command(devices: tuple[str, ...], as_json: bool) -> None:
    r"""Examine this machine, and devices, and say what to do about what is missing.

    A device is reached, its agent started, and a small operator run with every runtime there: its output is compared
    with this machine's, and its timing looked at. Exit code 1 says that a check failed; warnings leave it at 0.

    \b
    Example:
      fbprof doctor
      fbprof doctor --device galaxy-s8
    """
    from fbagents.connect import load_profile
    from fbbase.errors import CheckError
    from fbprof.doctor import check_device, check_host

    profiles = [load_profile(device) for device in devices]
    report = {"this machine": _examined("this machine", check_host(), as_json)}
    for profile in profiles:
        report[profile.name] = _examined(profile.name, check_device(profile), as_json)
    if as_json:
        shown = {subject: [asdict(check) for check in checks] for subject, checks in report.items()}
        click.echo(json.dumps(shown, indent=2, ensure_ascii=False))
    failed = [f"{subject}: {c.name}" for subject, checks in report.items() for c in checks if c.status == "failed"]
    if failed:
        raise CheckError(f"failed: {', '.join(failed)}; what to do stands beside each")


def _examined(subject: str, checks: "Iterable[Check]", as_json: bool) -> "list[Check]":
    """Print every check of a subject as it is made, and return them."""
    done = []
    if not as_json:
        click.echo(f"{subject}:")
    for check in checks:
        done.append(check)
        if not as_json:
            remedy = f"\n          what to do: {check.remedy}" if check.remedy else ""
            said = f" {check.name}: {check.found}{remedy}"
            echo_marked(f"{check.status:7}", said, color=COLORS[check.status], before="  ")
    return done
