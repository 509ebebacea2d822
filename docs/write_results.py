"""Writes the pages in docs/results/ from the records in docs/results/data/: python docs/write_results.py

A record is what a benchmark printed (`python benchmarks/NAME.py > docs/results/data/NAME.json`), or a quotation: tables
and notes that a page of an earlier commit held, where the program's own output was not kept.
"""

import ast
import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results"
SUBJECTS = {
    "tables": (
        "Tables and their predictions",
        ("lut_error", "two_speeds", "repeatability", "efficiency", "drift", "validate", "predict", "export_speed"),
    ),
    "models": ("Models of others and runtimes", ("ab", "layers", "predict", "runtimes")),
    "devices": (
        "Agents and devices",
        ("agent_overhead", "agents", "many_devices", "bundle", "adb_link"),
    ),
    "searching": (
        "Searching",
        (
            *(
                "search_step",
                "small_maps",
                "search_optimum",
                "search_quality",
                "search_gpu",
                "skip_collapse",
                "exact",
                "images",
            ),
            *("two_phones", "masking_quality", "masking_memory", "masking_scale"),
        ),
    ),
    "int8": ("int8", ("int8", "int8_search", "int8_accuracy")),
    "tools": (
        "The tools",
        ("coverage", "hostile", "kills", "first_minutes", "install_size", "help_speed", "report_page", "house"),
    ),
}
"""The pages: title, and the benchmarks whose records they show, in this order."""
INDEX = """# Results

What was measured, with date, machine and commit. The manuals say how and why, and refer to these pages for figures.

These pages are written by `python docs/write_results.py` from the files in `docs/results/data/`. A new run of a
benchmark replaces its file or stands beside it (`NAME-WHAT.json`):

    python benchmarks/lut_error.py > docs/results/data/lut_error.json
    python docs/write_results.py

Every benchmark prints one JSON object with each figure beside its goal, and knows `--quick`. Those that need CIFAR-10
(an `.npz` file, `--data`) or an NVIDIA GPU say so under `missing` where there is none, and exit with 0.

*Quoted* means that the program's own output was not kept: the figures are those that a page of this documentation held
at that commit, with the machine as far as the page named it.

| benchmark | question | results |
|---|---|---|
"""


def pages() -> dict[str, str]:
    """Return the text of every page by its name."""
    files = sorted((RESULTS / "data").glob("*.json"), key=lambda path: path.stem)
    records = [json.loads(path.read_text(encoding="utf-8")) for path in files]
    written = {}
    links = {}
    for page, (title, benchmarks) in SUBJECTS.items():
        sections = []
        for benchmark in benchmarks:
            own = [record for record in records if record["benchmark"] == benchmark]
            sections += map(_section, own)
            if own:
                links[benchmark] = f"[{title}]({page}.md)"
        written[f"{page}.md"] = "\n".join([f"# {title}\n", *sections])
    rows = [
        f"| `{path.stem}` | {_question(path)} | {links.get(path.stem, '–')} |"
        for path in sorted((ROOT / "benchmarks").glob("[!_]*.py"))
    ]
    return {"index.md": INDEX + "\n".join(rows) + "\n"} | written


def _question(program: Path) -> str:
    """Return the first sentence of a benchmark's docstring."""
    return (ast.get_docstring(ast.parse(program.read_text(encoding="utf-8"))) or "").split("\n")[0].rstrip(".")


def _section(record: dict[str, Any]) -> str:
    program = ROOT / "benchmarks" / f"{record['benchmark']}.py"
    title = record.get("title") or _question(program)
    command = record.get("command") or ("" if "title" in record else f"python benchmarks/{program.name}")
    cpu, cores = record["machine"].get("cpu"), record["machine"].get("cores")
    where = [cpu, f"{cores} core{'s' if cores > 1 else ''}" if cores else None]
    told = [f"`{command}`"] if command else []
    told += [record["date"], f"commit {record['commit']}", ", ".join(filter(None, where)) or "machine not recorded"]
    told += [f"quoted from {record['quoted_from']}"] if "quoted_from" in record else []
    parts = [f"## {title}\n", "; ".join(told) + ".\n"]
    for table in [*record.get("tables", []), *_figures(record)]:
        parts += [f"{table['caption']}:\n"] if "caption" in table else []
        parts += [_row(table["columns"]), "|" + "---|" * len(table["columns"]), *map(_row, table["rows"]), ""]
    notes = record.get("notes", [])
    parts += [f"- {note}" for note in notes] + [""] * bool(notes)
    return "\n".join(parts)


def _figures(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the table of what a benchmark printed, each figure beside its goal; none of a quotation."""
    if not record.get("figures"):
        return []
    rows = []
    for name, figure in record["figures"].items():
        limit = {"at_most": "at most", "at_least": "at least"}[figure["sense"]]
        goal = "" if figure["goal"] is None else f"{limit} {figure['goal']:g}{'' if figure['met'] else ', not met'}"
        rows.append([name.replace("_", " "), f"{figure['value']:g} {figure['unit']}", goal])
    return [{"columns": ["figure", "value", "goal"], "rows": rows}]


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    for name, text in pages().items():
        (RESULTS / name).write_text(text, encoding="utf-8")
