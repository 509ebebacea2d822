"""fbprof devices: what is attached, what is known, what answers."""

import json
import shlex
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from fbagents.profile import Profile
    from fbagents.transport import Attached


@click.command("devices")
@click.option("--check", is_flag=True, help="Also ask every known device whether it can be reached now (seconds).")
@click.option("--template", is_flag=True, help="Print a commented device profile to start from, and stop.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def command(check: bool, template: bool, as_json: bool) -> None:
    r"""List the phones that are attached, and the device profiles that are known.

    Phones are those of the adb server that answers on this machine, or else those on USB. Nothing is started, neither
    here nor on a phone.

    \b
    Example:
      fbprof devices
      fbprof devices --check
      fbprof devices --template > my-phone.toml
    """
    from importlib.resources import files

    from fbagents.discovery import all_reachable, attached, known
    from fbbase.errors import FbError

    if template:
        click.echo(files("fbagents").joinpath("template.toml").read_text(encoding="utf-8"), nl=False)
        return
    trouble, phones = "", []
    try:
        phones = attached()
    except FbError as error:
        trouble = str(error)
    profiles = known()
    reasons = all_reachable(profiles) if check else None
    if as_json:
        listed = [asdict(phone) | {"usable": phone.is_usable, "device": phone.device or None} for phone in phones]
        answer = {"attached": listed, "trouble": trouble, "known": [_known(profile, reasons) for profile in profiles]}
        click.echo(json.dumps(answer, indent=2, ensure_ascii=False))
        return
    _print_attached(phones, trouble)
    _print_known(profiles, reasons)


def _known(profile: "Profile", reasons: "dict[str, str | None] | None") -> dict[str, object]:
    known: dict[str, object] = {name: getattr(profile, name) for name in ("name", "transport", "description")}
    if reasons is not None:
        known |= {"reachable": reasons[profile.name] is None, "reason": reasons[profile.name]}
    return known


def _print_attached(phones: "list[Attached]", trouble: str) -> None:
    if trouble:
        click.echo(f"attached: not known: {trouble}")
    elif not phones:
        click.echo(
            "attached: no phone. Plug one in with a cable that carries data, unlock it, and switch on USB debugging\n"
            "  (Settings, About phone, tap Build number seven times; then System, Developer options)"
        )
    else:
        click.echo("attached")
        rows = [(phone.serial or "-", phone.model or "-", phone.state, _by(phone)) for phone in phones]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row, phone in zip(rows, phones, strict=True):
            click.echo("  " + "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
            click.echo(
                f"    {'fbprof measure --device ' + shlex.quote(phone.device) if phone.is_usable else phone.remedy}"
            )


def _by(phone: "Attached") -> str:
    return {"server": f"adb server {phone.server}", "usb": "USB, without an adb server"}.get(phone.by, phone.by)


def _print_known(profiles: "list[Profile]", reasons: "dict[str, str | None] | None") -> None:
    click.echo("\nknown, for --device NAME")
    width = max((len(profile.name) for profile in profiles), default=0)
    for profile in profiles:
        click.echo(f"  {profile.name:{width}}  {profile.transport:6}  {profile.description}")
        if reasons is not None:
            reason = reasons[profile.name]
            click.echo(f"  {'':{width}}  {'reachable' if reason is None else 'not reachable: ' + reason}")
    if reasons is None:
        click.echo("\nfbprof devices --check asks them whether they can be reached now")
