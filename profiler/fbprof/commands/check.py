"""fbprof check: whether latency tables can be trusted."""

import json
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fbbase.errors import CheckError
from fbprof.commands import _complete as complete

if TYPE_CHECKING:
    from fblut.check import Finding
    from fblut.table import Lut

SHOWN = 10

Found = list[tuple[str | None, "Finding"]]
"""Findings, each with the table it is of; None stands for what is wrong among the tables."""


@click.command("check")
@click.argument("tables", nargs=-1, required=True, shell_complete=complete.tables, type=click.Path(path_type=Path))
@click.option("--strict", is_flag=True, help="Exit with 1 for warnings too.")
@click.option("--all", "every", is_flag=True, help=f"Every finding, not only the first {SHOWN} of a rule.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings and the verdict as JSON.")
def command(tables: tuple[Path, ...], strict: bool, every: bool, as_json: bool) -> None:
    r"""Check whether latency tables can be trusted.

    Errors are rows that are malformed, failed or missing; warnings are a larger kernel or expansion that is faster than
    a smaller one, wide or missing intervals, noise, and tables that do not belong together. The last line is the
    verdict. Exit code 1 says that there are errors.

    \b
    Example:
      fbprof check local.csv
      fbprof check --strict monday.csv tuesday.csv
    """
    found = _check(tables)
    errors = sum(finding.severity == "error" for _, finding in found)
    warnings = len(found) - errors
    verdict = _verdict(errors, warnings)
    if as_json:
        findings = [{"table": table} | asdict(finding) for table, finding in found]
        answer = {"verdict": verdict.partition(":")[0], "errors": errors, "warnings": warnings, "findings": findings}
        click.echo(json.dumps(answer, indent=2, ensure_ascii=False))
    else:
        _print(found, every)
        click.echo(verdict)
    if errors:
        raise CheckError(f"{_count(errors, 'error')} found; each line on stdout ends with what to do")
    if strict and warnings:
        raise CheckError(f"{_count(warnings, 'warning')} found, and --strict allows none")


def _check(tables: tuple[Path, ...]) -> Found:
    from fblut.check import Finding, check, check_tables, known_space
    from fblut.errors import LutError
    from fblut.reading import read_lut

    found: Found = []
    luts: dict[str, Lut] = {}
    for path in dict.fromkeys(tables):
        try:
            lut = read_lut(path)
        except LutError as error:  # a broken table is what this command is for; a missing file is not
            message = f"{error}; correct the file or measure again"
            found.append((str(path), Finding("error", "malformed", (), message)))
        else:
            luts[str(path)] = lut
            found += [(str(path), finding) for finding in check(lut, known_space(lut.metadata))]
    return found + [(None, finding) for finding in check_tables(luts)]


def _print(found: Found, every: bool) -> None:
    for (table, severity, rule), group in groupby(found, key=lambda f: (f[0], f[1].severity, f[1].rule)):
        findings = [finding for _, finding in group]
        shown = findings if every else findings[:SHOWN]
        click.echo(f"{table or 'among the tables'}: {rule}, {_count(len(findings), severity)}")
        for finding in shown:
            click.echo(f"  {finding.message}")
        if len(shown) < len(findings):
            click.echo(f"  … and {len(findings) - len(shown)} more (--all shows them)")


def _verdict(errors: int, warnings: int) -> str:
    if errors:
        return f"do not use: {_count(errors, 'error')}"
    return f"usable: {_count(warnings, 'warning')}" if warnings else "good"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"
