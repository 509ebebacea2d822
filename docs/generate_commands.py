"""Writes docs/commands.md from the tools' own help: python docs/generate_commands.py"""

from pathlib import Path

import click

from fbprof.cli import fbprof
from fbsearch.cli import fbsearch

HEADER = """# Commands

Generated from the tools' own help by `python docs/generate_commands.py`; a test fails when it is out of step.

Results go to stdout, progress and warnings to stderr. Exit codes: 0 fine, 1 a check failed, 2 usage or configuration,
3 device or measurement, 4 partial and resumable by the same command, 130 interrupted (resumable likewise).
"""


def reference() -> str:
    """Return the text of docs/commands.md."""
    parts = [HEADER]
    for tool, group in (("fbprof", fbprof), ("fbsearch", fbsearch)):
        parts += sections(group, click.Context(group, info_name=tool, terminal_width=100, **group.context_settings))
    return "\n".join(parts)


def sections(group: click.Group, context: click.Context) -> list[str]:
    """Return a section for each command of a group, and after it those of the groups among them."""
    parts = []
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        inner = click.Context(command, parent=context, info_name=name, terminal_width=100)
        parts.append(f"## {inner.command_path}\n\n```text\n{command.get_help(inner)}\n```\n")
        if isinstance(command, click.Group):
            parts += sections(command, inner)
    return parts


if __name__ == "__main__":
    (Path(__file__).parent / "commands.md").write_text(reference(), encoding="utf-8")
