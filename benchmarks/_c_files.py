"""Who calls whom among the native agent's C files, read from their includes, and the circles among them."""

import re
from pathlib import Path

from _imports import ROOT, circles

FOLDER = ROOT / "device_agents" / "on-device"
_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_INCLUDE = re.compile(r'^#include "(\w+)\.h"', re.MULTILINE)
_PROTOTYPE = re.compile(r"^(?!typedef )(?:extern )?\w[\w *]*?\b(\w+)(?:\(.*\))?;", re.MULTILINE)


def includes(folder: Path = FOLDER) -> dict[str, set[str]]:
    """Return each file by name, its header counted with it, and the other files whose headers it includes."""
    found: dict[str, set[str]] = {}
    for path in sorted(folder.glob("*.[ch]")):
        found.setdefault(path.stem, set()).update({*_INCLUDE.findall(path.read_text(encoding="utf-8"))} - {path.stem})
    return found


def strays(folder: Path = FOLDER) -> list[str]:
    """Return what a header declares and the file of its name does not define: includes would not tell who has it."""
    found = []
    for header in sorted(folder.glob("*.h")):
        source = header.with_suffix(".c")
        text = _COMMENT.sub("", source.read_text(encoding="utf-8")) if source.exists() else ""
        for name in _PROTOTYPE.findall(_COMMENT.sub("", header.read_text(encoding="utf-8"))):
            if not re.search(rf"^\w[\w *]*\b{name}(?:\(.*\) \{{|;| =)", text, re.MULTILINE):
                found.append(f"{header.name} declares {name}, which {source.name} does not define")
    return found


def c_circles(folder: Path = FOLDER) -> list[list[str]]:
    """Return the circles of files that call each other."""
    return circles(includes(folder))
