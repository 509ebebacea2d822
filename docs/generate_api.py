"""Writes docs/api.md, what programs may rely on, from the code itself: python docs/generate_api.py"""

import importlib
import inspect
from pathlib import Path

HEADER = """# From Python

What stands here is kept: a change of a name or a signature is told in the changelog. Everything else may change.
Written by `python docs/generate_api.py`; a test fails when it is out of step.

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
    "Models": ("fbexport.export.export_spec", "fbexport.export.export_network"),
    "Searching and training": (
        "fbsearch.jobs.search_job.run_search",
        "fbsearch.fbnet.settings.Settings",
        "fbsearch.training.recipe.Recipe",
    ),
    "Errors": ("fbbase.errors.FbError",),
}


def reference() -> str:
    """Return the text of docs/api.md."""
    parts = [HEADER]
    for title, names in PUBLIC.items():
        parts.append(f"## {title}\n")
        parts += map(_entry, names)
    return "\n".join(parts)


def _entry(name: str) -> str:
    module, _, attribute = name.rpartition(".")
    found = getattr(importlib.import_module(module), attribute)
    lines = [f"{attribute}{_signature(found)}"]
    if inspect.isclass(found):
        lines += [
            f"    .{member}{_signature(value)}"
            for member, value in vars(found).items()
            if not member.startswith("_") and (inspect.isfunction(value) or isinstance(value, classmethod | property))
        ]
    summary = (inspect.getdoc(found) or "").split("\n\n")[0].replace("\n", " ")
    code = "\n".join(lines)
    return f"`{name}`: {summary}\n\n```text\n{code}\n```\n"


def _signature(found: object) -> str:
    if isinstance(found, property):
        assert found.fget is not None
        return f" -> {inspect.formatannotation(inspect.signature(found.fget).return_annotation)}"
    if isinstance(found, classmethod):
        found = found.__func__
    assert callable(found)
    try:
        text = str(inspect.signature(found))
    except ValueError:  # an exception takes what Exception takes
        return "(message)"
    for module in ("typing.", "collections.abc.", "pathlib._local.", "pathlib."):
        text = text.replace(module, "")
    return text


if __name__ == "__main__":
    (Path(__file__).parent / "api.md").write_text(reference(), encoding="utf-8")
