"""Whether the house is in order: rooms, floors, circles, and lengths of the code, each beside its limit.

usage: python benchmarks/house.py [--quick] [--check]

With --check the exit code is 1 where a limit is not held, and stderr says what breaks it. There is nothing to shorten:
--quick is the same.
"""

import argparse
import statistics
import sys
from collections import Counter
from pathlib import Path

from _c_files import c_circles
from _imports import FLOORS, ROOT, Imports
from _privates import private_uses
from _report import Figure, report

PLUGIN_FOLDERS = {
    "blocks", "charts", "commands", "costs", "formats", "imports", "losses", "runtimes", "sources", "strategies",
    "transports", "views",
}  # fmt: skip
ENGINE = ("fbnet", "theta.py", "strategies", "costs", "losses")
"""What of fbsearch is the paper's search itself."""
AGENT = "agent.py"
"""Sent to devices as one file, which is why it may be long."""


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the same")
    parser.add_argument("--check", action="store_true", help="exit with 1 where a limit is not held")
    check = parser.parse_args().check

    imports = Imports()
    product = [path for floor in FLOORS for folder in floor.split() for path in sorted((ROOT / folder).rglob("*.py"))]
    modules = [path for path in product if path.name not in ("__init__.py", "__main__.py")]
    flat = Counter(path.parent for path in modules if path.parent.name not in PLUGIN_FOLDERS)
    length = {path: lines(path) for path in product}
    engine = ROOT / "search" / "fbsearch"
    longest = max((path for path in modules if path.name != AGENT), key=length.__getitem__)
    fullest = max(flat, key=flat.__getitem__)
    circles, upward = imports.circles() + c_circles(), imports.upward()
    private = private_uses(ROOT / "tests")

    figures = [
        Figure("modules_flat_in_one_folder", flat[fullest], "modules", goal=12),
        Figure("median_module", statistics.median(length[path] for path in modules), "lines", goal=120),
        Figure("longest_module", length[longest], "lines", goal=400),
        Figure("circles", len(circles), "circles", goal=0),
        Figure("upward_imports", len(upward), "imports", goal=0),
        Figure("private_names_in_tests", len(private), "places", goal=0),
        Figure("engine", sum(n for path, n in length.items() if is_engine(path, engine)), "lines", goal=1200),
        Figure("product", sum(length.values()), "lines", goal=40_300),
    ]
    where = {
        "modules_flat_in_one_folder": [str(fullest.relative_to(ROOT))],
        "longest_module": [str(longest.relative_to(ROOT))],
        "circles": [" <-> ".join(circle) for circle in circles],
        "upward_imports": upward,
        "private_names_in_tests": private,
    }
    report("house", figures, where=where)
    broken = [figure for figure in figures if not figure.met]
    for figure in broken:
        print(f"{figure.name} is {figure.value:g} {figure.unit}, at most {figure.goal:g} are allowed", file=sys.stderr)
        print("".join(f"  {place}\n" for place in where.get(figure.name, [])), end="", file=sys.stderr)
    sys.exit(1 if check and broken else 0)


def is_engine(path: Path, engine: Path) -> bool:
    return engine in path.parents and path.relative_to(engine).parts[0] in ENGINE


if __name__ == "__main__":
    main()
