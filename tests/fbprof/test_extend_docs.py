"""docs/extend of imports, views and charts, followed literally: the page's file is added, and it works."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fblut.reading import read_lut
from fbspace.space import load_space

sys.path.insert(0, str(Path(__file__).parent))
from test_report import opened

ROOT = Path(__file__).parents[2]
SOURCES = ("search", "profiler", "device_agents", "luts")


class Checkout:
    """A copy of the sources into which files are added, and a folder to work in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in SOURCES:
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))

    def add(self, page: str) -> None:
        """Write a page's example into the folder, and under the name, that the page says."""
        text = self.page(page)
        package = re.search(r"file in\s+`((?:profiler|luts)/\w+/\w+)/`|every file in `([\w/]+)/`", text)
        name = re.search(r"complete one, `(\w+\.py)`", text)
        code = re.search(r"```python\n(.*?)```", text, re.DOTALL)
        assert package is not None
        assert name is not None
        assert code is not None
        (self.folder / (package[1] or package[2]) / name[1]).write_text(code[1], encoding="utf-8")

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
        known = os.environ | {"PYTHONPATH": os.pathsep.join(str(self.folder / name) for name in SOURCES)}
        command = [sys.executable, "-m", "fbprof", *words]
        return subprocess.run(command, cwd=self.folder, env=known, capture_output=True, text=True, timeout=120)


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


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
    done = checkout.run(["report", "pixel-3"])
    assert done.returncode == 0, done.stderr
    report = checkout.folder / "pixel-3.html"
    names = re.findall(r'<div class="chart" id="([\w-]+)"', report.read_text(encoding="utf-8"))
    assert names == ["by-layer", "by-macs", "slowest"]
    found = opened(report)
    assert found["problems"] == []
    assert found["charts"]["slowest"] == 20
