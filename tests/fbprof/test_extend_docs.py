"""docs/extend of imports, views and charts, followed literally: as a file of the project, and in an own package."""

import re
import shutil
import tomllib
from pathlib import Path

import pytest

from fblut.reading import read_lut
from fbspace.space import load_space
from peers.browser import opened
from peers.extending import ROOT, Ended, copy_sources, examples, give, install, page


class Checkout:
    """A folder to work in: with a copy of the sources into which a file is added, or with a package of one's own."""

    def __init__(self, folder: Path, way: str) -> None:
        self.folder, self.way = folder, way

    def add(self, name: str) -> None:
        """Write a page's example under the name, and into the folder or the package, that the page says."""
        place = re.search(r"file in\s+`((?:profiler|luts)/\w+/\w+)/`", page(name))
        file = re.search(r"complete one, `(\w+\.py)`", page(name))
        assert place is not None
        assert file is not None
        code, project = examples(page(name), "python")[0], examples(page(name), "toml")[0]
        if self.way == "file":
            copy_sources(self.folder)
            (self.folder / place[1] / file[1]).write_text(code, encoding="utf-8")
        else:
            install(self.folder / "site", tomllib.loads(project), {file[1]: code})

    def shown(self, name: str) -> list[str]:
        """Return the words of the page's own command, without where its output is redirected to."""
        found = re.findall(r"^    (fbprof .*)$", page(name), re.M)
        assert len(found) == 1
        return str(found[0]).partition(" > ")[0].split()

    def give(self, *commands: list[str]) -> list[Ended]:
        """Give commands to the tools of these sources."""
        return give(commands, self.folder, self.folder if self.way == "file" else ROOT, self.folder / "site")


@pytest.fixture(params=["file", pytest.param("package", marks=pytest.mark.full)])
def checkout(tmp_path: Path, request: pytest.FixtureRequest) -> Checkout:
    """In make test, packages are those of tests/test_outside_package.py."""
    return Checkout(tmp_path, request.param)


def test_import(checkout: Checkout) -> None:
    checkout.add("import")
    keys = [spec.key() for spec in load_space("fbnet").operators()]
    file = checkout.folder / "board.lat"
    file.write_text("".join(f"{key} {0.5 * i}  # ms\n" for i, key in enumerate(keys, start=1)))
    shown = checkout.shown("import")
    wrong = checkout.folder / "wrong.lat"
    wrong.write_text(f"{keys[0]} 1\n{keys[1]} fast\n")
    done, refused = checkout.give(shown, [word.replace("board.lat", "wrong.lat") for word in shown])
    assert done.code == 0, done.err
    lut = read_lut(checkout.folder / "board.csv")
    assert [lut.rows[key].latency_us for key in keys] == [500.0 * i for i in range(1, len(keys) + 1)]
    assert lut.metadata.device == "board"
    assert refused.code == 2
    assert "wrong.lat: line 2: expected a key and a latency" in refused.err


def test_view(checkout: Checkout) -> None:
    checkout.add("view")
    for name, device in (("s8", "pixel-3"), ("iphonex", "raspberry-pi-4")):
        shutil.copy(ROOT / "luts" / "fblut" / "published" / f"{device}.csv", checkout.folder / f"{name}.csv")
    (done,) = checkout.give(checkout.shown("view"))
    assert done.code == 0, done.err
    assert done.out.startswith("\\section*{comparison with s8.csv}\n")
    tables = re.findall(r"\\begin\{tabular\}\{([lr]+)\}\n(.*?)\\end\{tabular\}", done.out, re.DOTALL)
    assert tables
    for sides, body in tables:
        lines = [line for line in body.splitlines() if line != r"\hline"]
        assert {line.count(" & ") + 1 for line in lines} == {len(sides)}
    assert not re.search(r"(?<!\\)_", done.out)


@pytest.mark.full
def test_chart(checkout: Checkout) -> None:
    checkout.add("chart")
    shutil.copy(ROOT / "luts" / "fblut" / "published" / "pixel-3.csv", checkout.folder / "s8.csv")
    done, told, refused = checkout.give(
        checkout.shown("chart"), ["fbprof", "report", "--help"], ["fbprof", "report", "s8.csv", "--slowest", "0"]
    )
    assert done.code == 0, done.err
    report = checkout.folder / "s8.html"
    names = re.findall(r'<div class="chart" id="([\w-]+)"', report.read_text(encoding="utf-8"))
    assert names == ["by-layer", "by-macs", "slowest"]
    found = opened(report)
    assert found["problems"] == []
    assert found["charts"]["slowest"] == 12
    words = " ".join(told.out.split())
    assert "--slowest INTEGER RANGE Operators in the chart of the slowest. [default: 20; of kind of charts" in words
    assert refused.code == 2
    assert "0 is not in the range x>=1" in refused.err
