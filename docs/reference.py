"""The reference: pages that the site's build writes from the code itself (a hook of mkdocs, see mkdocs.yml).

Nothing of it is committed. `commands()` and `api()` return the text, for tests.
"""

import importlib
import inspect
from typing import Any

import click

from fbprof.cli import fbprof
from fbsearch.cli import fbsearch

COMMANDS = """# Commands

What every command says of itself with `--help`.

Results go to stdout, progress and warnings to stderr. Exit codes: 0 fine, 1 a check failed, 2 usage or configuration,
3 device or measurement, 4 partial and resumable by the same command, 130 interrupted (resumable likewise).
"""

API = """# From Python

What stands here is kept: a change of a name or a parameter is told in the changelog. Everything else may change.

```python
from pathlib import Path
from fblut.reading import read_lut
from fbspace.architecture import load_architecture

lut = read_lut(Path("pixel-3"))
print(lut.metadata.soc, len(lut.rows))
for spec in load_architecture("fbnet-a").specs()[:3]:
    print(spec.key())
```
"""

PUBLIC = {
    "Spaces, networks, operators": (
        "fbspace.opspec.OpSpec",
        "fbspace.space.load_space",
        "fbspace.space.Space",
        "fbspace.architecture.load_architecture",
        "fbspace.architecture.choose",
        "fbspace.architecture.Architecture",
        "fbspace.network.build_network",
        "fbspace.network.count_architecture",
        "fbspace.network.count_spec",
        "fbspace.blocks.build_block",
    ),
    "Tables": (
        "fblut.reading.read_lut",
        "fblut.writing.write_lut",
        "fblut.table.Lut",
        "fblut.table.Metadata",
        "fblut.table.Row",
        "fblut.table.Prediction",
        "fblut.compare.compare",
        "fblut.check.check",
    ),
    "Models": ("fbexport.export.export_spec", "fbexport.export.export_network", "fbmodel.model.open_model"),
    "Results of fbprof profile": (
        "fbprof.models.result.read_result",
        "fbprof.models.result.Result",
        "fbprof.models.result.Profiled",
        "fbprof.models.result.Layer",
    ),
    "Searching and training": (
        "fbsearch.jobs.search_job.run_search",
        "fbsearch.fbnet.settings.Settings",
        "fbsearch.training.recipe.Recipe",
    ),
    "Plug-ins": (
        "fbbase.plugins.Plugins",
        "fbbase.options.option",
        "fbspace.blocks.Block",
        "fbsearch.costs.Cost",
        "fbsearch.losses.Loss",
        "fbsearch.strategies.Strategy",
        "fbsearch.sources.Opener",
        "fbsearch.fbnetv2.blocks.MaskedBlock",
        "fbexport.formats.Format",
        "fbmodel.model.Model",
        "fbexport.runtimes.Runtime",
        "fbagents.transport.Transport",
        "fbprof.imports.Importer",
        "fbprof.charts.Charts",
        "fblut.views.View",
    ),
    "Errors": ("fbbase.errors.FbError",),
}


def on_files(files: Any, config: Any) -> Any:
    """Add the pages to those of the site."""
    from mkdocs.structure.files import File

    for name, text in (("commands", commands()), ("api", api())):
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    return files


def commands() -> str:
    """Return the page of the commands: a section for each, with its help."""
    parts = [COMMANDS]
    for tool, group in (("fbprof", fbprof), ("fbsearch", fbsearch)):
        parts += _sections(group, click.Context(group, info_name=tool, terminal_width=100, **group.context_settings))
    return "\n".join(parts)


def _sections(group: click.Group, context: click.Context) -> list[str]:
    parts = []
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        inner = click.Context(command, parent=context, info_name=name, terminal_width=100)
        parts.append(f"## {inner.command_path}\n\n```text\n{command.get_help(inner)}\n```\n")
        if isinstance(command, click.Group):
            parts += _sections(command, inner)
    return parts


def api() -> str:
    """Return the page of what programs may rely on: a section for each subject, with signatures."""
    parts = [API]
    for title, names in PUBLIC.items():
        parts.append(f"## {title}\n")
        parts += map(_entry, names)
    return "\n".join(parts)


def _entry(name: str) -> str:
    found = public(name)
    lines = [f"{name.rpartition('.')[2]}{_signature(found)}"]
    lines += [f"    .{member}{default}" for member, default in capabilities(found).items()]
    lines += [f"    .{member}{_signature(value)}" for member, value in members(found).items()]
    summary = (inspect.getdoc(found) or "").split("\n\n")[0].replace("\n", " ")
    code = "\n".join(lines)
    return f"`{name}`: {summary}\n\n```text\n{code}\n```\n"


def public(name: str) -> Any:
    """Return a function or class by its dotted name."""
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def members(found: Any) -> dict[str, Any]:
    """Return the public methods and properties that a class has itself; none of a function."""
    kinds = (classmethod, property)
    own = vars(found).items() if inspect.isclass(found) else ()
    return {
        name: value for name, value in own if name[0] != "_" and (inspect.isfunction(value) or isinstance(value, kinds))
    }


def capabilities(found: Any) -> dict[str, str]:
    """Return what a plug-in's base class says of a class, by name, with ` = DEFAULT` where there is a default."""
    if not (inspect.isabstract(found) or (inspect.isclass(found) and issubclass(found, Exception))):
        return {}
    own = vars(found)
    return {
        name: f" = {own[name]!r}" if name in own else "" for name in own.get("__annotations__", {}) if name[0] != "_"
    }


def _signature(found: Any) -> str:
    if isinstance(found, property):
        assert found.fget is not None
        return f" -> {inspect.formatannotation(inspect.signature(found.fget).return_annotation)}"
    try:
        text = str(inspect.signature(found.__func__ if isinstance(found, classmethod) else found))
    except ValueError:  # an exception takes what Exception takes
        return "(message)"
    for module in ("typing.", "collections.abc.", "pathlib._local.", "pathlib."):
        text = text.replace(module, "")
    return text
