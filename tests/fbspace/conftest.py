"""A package of one's own, as an installer leaves it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def install_package() -> Callable[[Path, Mapping[str, Any], Mapping[str, str]], None]:
    """Leave my_package with files, and the entry points that its pyproject.toml says, in a folder of packages."""

    def install(site: Path, pyproject: Mapping[str, Any], files: Mapping[str, str]) -> None:
        package, info = site / "my_package", site / "my_package-1.0.dist-info"
        for folder in (package, info):
            folder.mkdir(parents=True)
        for name, text in {"__init__.py": "", **files}.items():
            (package / name).write_text(text, encoding="utf-8")
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
        lines = []
        for group, points in pyproject["project"]["entry-points"].items():
            lines += [f"[{group}]", *(f"{name} = {value}" for name, value in points.items())]
        (info / "entry_points.txt").write_text("\n".join(lines) + "\n")

    return install
