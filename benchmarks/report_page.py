"""How soon a report is there to be read, and how large it is: full-size tables, opened in a browser without a window.

usage: python benchmarks/report_page.py [--quick]

Two reports. `published` is of the published table pixel-3 beside raspberry-pi-4. `measured` has every chart of a table:
the space fbnet of this machine, measured here in a few rounds with calibrating networks, its journal beside it, and
the same table with other latencies in comparison. Opening is from the start of the navigation until the load
event, by which the page's script has drawn all charts and rows, and two frames more, by which they are painted; the
median of five openings, each by a new browser with a profile of its own, after one that does not count. What the
browser itself takes to start is not part of it.
"""

import argparse
import json
import os
import queue
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from _report import Figure, report

from fblut.reading import read_lut
from fblut.table import Lut, Row
from fblut.writing import write_lut

GOAL_S = 2.0
GOAL_MB = 6.0
OPENINGS = 5
DRAWN = """<script>
addEventListener("load", () => requestAnimationFrame(() => requestAnimationFrame(() => {
  const charts = [...document.querySelectorAll(".chart")];
  fetch("http://127.0.0.1:PORT/", { method: "POST", mode: "no-cors", body: JSON.stringify({
    seconds: performance.now() / 1e3, load: performance.getEntriesByType("navigation")[0].loadEventStart / 1e3,
    charts: charts.length, drawn: charts.filter(chart => chart.querySelector(".main-svg")).length,
    rows: document.querySelectorAll(".rows tbody tr").length,
  }) });
})));
</script>"""
"""Two frames after the load event what was drawn has been painted; then the page tells, to a port of this machine."""


class Listener(ThreadingHTTPServer):
    """Takes what a page tells."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Told)
        self.told: queue.Queue[dict[str, float]] = queue.Queue()


class Told(BaseHTTPRequestHandler):
    """One thing told."""

    server: Listener

    def do_POST(self) -> None:
        """Keep it."""
        self.server.told.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *words: object) -> None:
        """Say nothing."""


def opening(browser: str, page: Path, told: "queue.Queue[dict[str, float]]") -> dict[str, float]:
    """Open a page once; return seconds to the painted charts and to the load event, and what was drawn."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}"]
        more = ["--window-size=1400,1000", "--no-first-run", "--remote-debugging-port=0"]
        with subprocess.Popen(
            [*command, *more, page.as_uri()],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"HOME": folder},
            process_group=0,
        ) as process:
            try:
                return told.get(timeout=60)
            except queue.Empty:
                raise SystemExit("the page did not say within a minute what it drew") from None
            finally:
                os.killpg(process.pid, signal.SIGKILL)


def figures_of(name: str, page: Path, browser: str, openings: int) -> list[Figure]:
    """Return a report's size and opening time. Raises SystemExit where a chart or the rows are not drawn."""
    size_mb = page.stat().st_size / 1e6
    used = page.with_name(f"timed-{page.name}")
    with Listener() as listener:
        threading.Thread(target=listener.serve_forever, daemon=True).start()
        script = DRAWN.replace("PORT", str(listener.server_port))
        used.write_text(page.read_text(encoding="utf-8").replace("</html>", script + "</html>"), encoding="utf-8")
        found = [opening(browser, used, listener.told) for _ in range(openings + 1)][1:]
        listener.shutdown()
    if any(each["drawn"] < each["charts"] or not each["rows"] for each in found):
        raise SystemExit(f"{name}: not all was drawn: {found}")
    return [
        Figure(f"{name}_size", size_mb, "MB", goal=GOAL_MB),
        Figure(f"{name}_opens_in_median", statistics.median(each["seconds"] for each in found), "s", goal=GOAL_S),
        Figure(f"{name}_opens_in_longest", max(each["seconds"] for each in found), "s"),
        Figure(f"{name}_charts", found[0]["charts"], "charts"),
        Figure(f"{name}_rows", found[0]["rows"], "rows"),
    ]


def fbprof(*words: str, folder: Path) -> None:
    """Run fbprof in a folder; what it says goes to stderr."""
    subprocess.run([sys.executable, "-m", "fbprof", *words], cwd=folder, stdout=sys.stderr, check=True)


def slower(row: Row) -> Row:
    """Return a row as of a device twice as slow, and three times as slow at convolutions of 5x5."""
    factor = 3.0 if row.spec.kernel == 5 else 2.0
    names = ("latency_us", "ci_low_us", "ci_high_us")
    return replace(row, **{name: factor * us for name in names if (us := getattr(row, name)) is not None})


def measured(folder: Path) -> Path:
    """Return the report of a table of this machine and the space fbnet, with its journal and another table."""
    fbprof("measure", "--space", "fbnet", "--rounds", "20", "--calibrate", "8", "-o", "here.csv", folder=folder)
    lut = read_lut(folder / "here.csv")
    rows = {key: slower(row) for key, row in lut.rows.items()}
    write_lut(Lut(lut.metadata.model_copy(update={"device": "there"}), rows), folder / "there.csv")
    fbprof("report", "here.csv", "there.csv", "-o", "measured.html", folder=folder)
    return folder / "measured.html"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one opening of the published tables' report")
    quick = parser.parse_args().quick
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        report("report_page", [], missing="a browser (chromium)")
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fbprof("report", "pixel-3", "raspberry-pi-4", "-o", "published.html", folder=folder)
        figures = figures_of("published", folder / "published.html", browser, 1 if quick else OPENINGS)
        if not quick:
            figures += figures_of("measured", measured(folder), browser, OPENINGS)
    version = subprocess.run([browser, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    report("report_page", figures, quick=quick, browser=version)


if __name__ == "__main__":
    main()
