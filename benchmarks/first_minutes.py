"""How long a newcomer waits: from `git clone` into an empty folder to a first table of this machine.

usage: python benchmarks/first_minutes.py [--quick]

The repository this file lies in is cloned (what is committed, not what is being edited), and the README's own commands
are run in it: `make install`, with which `make demo` begins, and `make demo`. Nothing is edited in between. What pip
fetches and installs is counted apart, as it depends on the network; everything else counts towards the goal. With
--quick it stops at the table: no search, no verified network.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _report import Figure, report

ROOT = Path(__file__).parents[1]
TABLE = "runs/demo/local.csv"


def timed(command: list[str], folder: Path) -> float:
    """Return the seconds a command takes; what it says goes to stderr."""
    start = time.perf_counter()
    subprocess.run(command, cwd=folder, env=newcomer(), stdout=sys.stderr, check=True)
    return time.perf_counter() - start


def newcomer() -> dict[str, str]:
    """Return the environment without settings and without what points at another checkout or environment."""
    ours = ("PYTHON", "FBPROF", "FBSEARCH", "OMP_")
    known = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    here = str(Path(sys.prefix) / "bin")
    known.pop("VIRTUAL_ENV", None)
    return known | {"PATH": os.pathsep.join(p for p in known["PATH"].split(os.pathsep) if p != here)}


def demo_s(folder: Path, only_table: bool) -> tuple[float, float]:
    """Run `make demo`; return the seconds until its table was written, and until it ended."""
    start = time.perf_counter()
    with subprocess.Popen(
        ["make", "demo"], cwd=folder, env=newcomer(), stdout=subprocess.PIPE, text=True, process_group=0
    ) as demo:
        assert demo.stdout is not None
        table_s = None
        for line in demo.stdout:
            sys.stderr.write(line)
            if table_s is None and line.startswith(f"{TABLE}: "):
                table_s = time.perf_counter() - start
                if only_table:
                    os.killpg(demo.pid, 15)
    if table_s is None or (demo.returncode and not only_table):
        raise SystemExit(f"make demo ended with {demo.returncode}; its output is above")
    return table_s, time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="stop at the table: without search and verified network")
    quick = parser.parse_args().quick
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "fbnet-lab"
        clone_s = timed(["git", "clone", "--quiet", ROOT.as_uri(), str(clone)], Path(folder))
        install_s = timed(["make", "install"], clone)
        table_s, whole_s = demo_s(clone, quick)
        rows = sum(not line.startswith("#") for line in (clone / TABLE).read_text(encoding="utf-8").splitlines()) - 1
    figures = [
        Figure("clone", clone_s, "s"),
        Figure("install", install_s, "s"),
        Figure("first_table_after_the_install", table_s, "s"),
        Figure("clone_and_first_table", clone_s + table_s, "s", goal=300),
    ]
    if not quick:
        figures.append(Figure("verified_network_after_the_install", whole_s, "s"))
    report("first_minutes", figures, quick=quick, rows=rows)


if __name__ == "__main__":
    main()
