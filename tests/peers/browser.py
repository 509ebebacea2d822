"""A real browser that opens the page of a report, uses it, and tells what is to be seen."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from peers.unavailable import unavailable

BEFORE = """<script>
window.problems = [];
window.addEventListener("error", event => problems.push(String(event.message)));
for (const name of ["error", "warn"]) { console[name] = (...words) => problems.push(words.join(" ")); }
</script>"""
USE = """<script>
const column = number => [...document.querySelectorAll(".rows tbody tr")].map(tr => tr.cells[number].textContent);
const type = words => {
  const filter = document.getElementById("filter");
  filter.value = words;
  filter.dispatchEvent(new Event("input"));
};
const titles = [...document.querySelectorAll(".rows th button")];
const found = { keys: column(0), titles: titles.map(button => button.textContent) };
const latency = found.titles.indexOf("latency µs");
titles[latency].click();
found.ascending = column(latency);
titles[latency].click();
found.descending = column(latency);
type("K5 e6");
found.filtered = column(0);
found.count = document.getElementById("count").textContent;
type("no such operator");
found.nothing = column(0);
type("");
found.all = column(0).length;
found.charts = Object.fromEntries([...document.querySelectorAll(".chart")].map(
  chart => [chart.id, chart.querySelectorAll(".main-svg .point, .main-svg .js-line, .main-svg image").length]));
found.wide = document.documentElement.scrollWidth > innerWidth;
found.loaded_ms = performance.now();
</script>"""
LOOK = """<script>
const bottom = name => document.querySelector(name)?.getBoundingClientRect().bottom;
const found = {
  wide: document.documentElement.scrollWidth > innerWidth,
  bottoms: { total: bottom(".total"), next: bottom(".next"), bar: bottom(".bars li") },
  bars: [...document.querySelector(".bars")?.children ?? []].map(
    li => [li.querySelector(".what").textContent, li.querySelector("i").getBoundingClientRect().width]),
  text: document.body.innerText,
  elements: [...new Set([...document.querySelectorAll("*")].map(each => each.localName))],
};
</script>"""
TELL = """<script>
const answer = document.createElement("pre");
answer.id = "answer";
answer.textContent = JSON.stringify({ ...found, problems });
document.body.append(answer);
</script>"""


def looked_at(page: Path, *options: str) -> dict[str, Any]:
    """Open a page without a table of operators in a browser, and return what was seen."""
    return opened(page, *options, use=LOOK)


def opened(page: Path, *options: str, use: str = USE) -> dict[str, Any]:
    """Open a page in a browser, use it, and return what was seen."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        unavailable("needs a browser (chromium)")
    text = page.read_text(encoding="utf-8")
    used = page.with_name("used.html")
    used.write_text(
        text.replace("<title>", BEFORE + "<title>", 1).replace("</html>", use + TELL + "</html>"), encoding="utf-8"
    )
    profile = page.with_name("browser")
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}", *options]
    environment = os.environ | {"HOME": str(page.parent)}
    done = subprocess.run(
        [*command, "--virtual-time-budget=8000", "--dump-dom", used.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env=environment,
    )
    answer = re.search(r'<pre id="answer">(.*?)</pre>', done.stdout, re.DOTALL)
    assert answer is not None, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(answer[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    return found
