"""docs/extend of imports, views and charts, followed literally: as a file of the project, and in an own package."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from fblut.reading import read_lut
from fbspace.space import load_space
from peers.browser import opened

ROOT = Path(__file__).parents[2]
SOURCES = ("core", "search", "profiler", "device_agents", "luts")


class Checkout:
    """A folder to work in: with a copy of the sources into which a file is added, or with a package of one's own."""

    def __init__(self, folder: Path, way: str) -> None:
        self.folder, self.way = folder, way

    def add(self, page: str) -> None:
        """Write a page's example under the name, and into the folder or the package, that the page says."""
        text = self.page(page)
        place = re.search(r"file in\s+`((?:profiler|luts)/\w+/\w+)/`", text)
        name = re.search(r"complete one, `(\w+)\.py`", text)
        code = re.search(r"```python\n(.*?)```", text, re.DOTALL)
        toml = re.search(r"```toml\n(.*?)```", text, re.DOTALL)
        assert place is not None
        assert name is not None
        assert code is not None
        assert toml is not None
        if self.way == "file":
            for source in SOURCES:
                shutil.copytree(ROOT / source, self.folder / source, ignore=shutil.ignore_patterns("__pycache__"))
            package = self.folder / place[1]
        else:
            package = self.folder / "site" / "my_package"
            self.install(package, tomllib.loads(toml[1])["project"]["entry-points"])
        (package / f"{name[1]}.py").write_text(code[1], encoding="utf-8")

    def install(self, package: Path, groups: dict[str, dict[str, str]]) -> None:
        """Leave a package and what it says of its entry points as an installer does."""
        info = package.with_name("my_package-1.0.dist-info")
        for folder in (package, info):
            folder.mkdir(parents=True)
        (package / "__init__.py").touch()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
        for group, points in groups.items():
            lines = [f"{name} = {value}\n" for name, value in points.items()]
            (info / "entry_points.txt").write_text(f"[{group}]\n{''.join(lines)}")

    def page(self, name: str) -> str:
        """Return the text of a page."""
        return (ROOT / "docs" / "extend" / f"{name}.md").read_text(encoding="utf-8")

    def shown(self, page: str) -> list[str]:
        """Return the words of the page's own command, without where its output is redirected to."""
        found = re.findall(r"^    fbprof (.*)$", self.page(page), re.M)
        assert len(found) == 1
        return str(found[0]).partition(" > ")[0].split()

    def run(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        """Run fbprof of these sources."""
        sources = self.folder if self.way == "file" else ROOT
        paths = [*(sources / name for name in SOURCES), self.folder / "site"]
        known = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths))}
        command = [sys.executable, "-m", "fbprof", *words]
        return subprocess.run(command, cwd=self.folder, env=known, capture_output=True, text=True, timeout=120)


@pytest.fixture(params=["file", "package"])
def checkout(tmp_path: Path, request: pytest.FixtureRequest) -> Checkout:
    return Checkout(tmp_path, request.param)


def test_import(checkout: Checkout) -> None:
    checkout.add("import")
    keys = [spec.key() for spec in load_space("fbnet").operators()]
    file = checkout.folder / "board.lat"
    file.write_text("".join(f"{key} {0.5 * i}  # ms\n" for i, key in enumerate(keys, start=1)))
    done = checkout.run(checkout.shown("import"))
    assert done.returncode == 0, done.stderr
    lut = read_lut(checkout.folder / "board.csv")
    assert [lut.rows[key].latency_us for key in keys] == [500.0 * i for i in range(1, len(keys) + 1)]
    assert lut.metadata.device == "board"
    file.write_text(f"{keys[0]} 1\n{keys[1]} fast\n")
    done = checkout.run(checkout.shown("import"))
    assert done.returncode == 2
    assert "board.lat: line 2: expected a key and a latency" in done.stderr


def test_view(checkout: Checkout) -> None:
    checkout.add("view")
    for name, device in (("s8", "pixel-3"), ("iphonex", "raspberry-pi-4")):
        shutil.copy(ROOT / "luts" / "fblut" / "published" / f"{device}.csv", checkout.folder / f"{name}.csv")
    done = checkout.run(checkout.shown("view"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("\\section*{comparison with s8.csv}\n")
    tables = re.findall(r"\\begin\{tabular\}\{([lr]+)\}\n(.*?)\\end\{tabular\}", done.stdout, re.DOTALL)
    assert tables
    for sides, body in tables:
        lines = [line for line in body.splitlines() if line != r"\hline"]
        assert {line.count(" & ") + 1 for line in lines} == {len(sides)}
    assert not re.search(r"(?<!\\)_", done.stdout)


def test_chart(checkout: Checkout) -> None:
    checkout.add("chart")
    shutil.copy(ROOT / "luts" / "fblut" / "published" / "pixel-3.csv", checkout.folder / "s8.csv")
    done = checkout.run(checkout.shown("chart"))
    assert done.returncode == 0, done.stderr
    report = checkout.folder / "s8.html"
    names = re.findall(r'<div class="chart" id="([\w-]+)"', report.read_text(encoding="utf-8"))
    assert names == ["by-layer", "by-macs", "slowest"]
    found = opened(report)
    assert found["problems"] == []
    assert found["charts"]["slowest"] == 12
    told = " ".join(checkout.run(["report", "--help"]).stdout.split())
    assert "--slowest INTEGER RANGE Operators in the chart of the slowest. [default: 20; of kind of charts" in told
    done = checkout.run(["report", "s8.csv", "--slowest", "0"])
    assert done.returncode == 2
    assert "0 is not in the range x>=1" in done.stderr
