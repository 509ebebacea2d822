"""The documentation keeps up: dependencies are explained, links lead somewhere, no page names what is not there."""

import json
import re
import runpy
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def test_every_dependency_has_a_line_that_says_what_it_is_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    explained = (ROOT / "docs" / "project" / "dependencies.md").read_text(encoding="utf-8")
    extras = [line for lines in project["optional-dependencies"].values() for line in lines]
    for requirement in [*project["dependencies"], *extras]:
        name = re.match(r"[A-Za-z0-9_-]+", requirement)[0]  # type: ignore[index]
        assert re.search(rf"(^\| {name} \| \S|\b{name}\b.*)", explained, re.M), name


def test_every_direct_dependency_has_one_tested_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pinned = re.findall(r"^([\w.-]+)==", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.M)
    names = {name.lower().replace("_", "-") for name in pinned}
    extras = [line for lines in project["optional-dependencies"].values() for line in lines]
    for requirement in [*project["dependencies"], *extras]:
        name = re.match(r"[A-Za-z0-9_-]+", requirement)[0].lower().replace("_", "-")  # type: ignore[index]
        is_own = name == "fbnet-lab"  # further extras of this project
        assert is_own or name in names or "armv7l'" in requirement.partition("==")[2], requirement


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_within_the_project_lead_somewhere(page: Path) -> None:
    prose = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", prose):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_of_the_project_that_a_page_names_are_there(page: Path) -> None:
    folders = "benchmarks|tests|core|search|profiler|device_agents|luts|docs"
    text = page.read_text(encoding="utf-8")
    named = re.findall(rf"(?<![\w/.-])((?:{folders})/[\w/.-]+\.[a-z]+)\b", text)
    examples = {"NAME", *re.findall(r'^(\w+) = "my_package', text, re.M)}
    assert [name for name in named if Path(name).stem not in examples and not (ROOT / name).exists()] == []
    in_packages = re.findall(r"`(fb[a-z]+/[\w/-]+(?:\.[a-z]+|/))`", text)
    assert [name for name in in_packages if "NAME" not in name and not any(ROOT.glob(f"*/{name}"))] == []


def test_pages_that_the_code_names_are_there() -> None:
    """A message or comment that sends its reader to a page names one that there is."""
    folders = ("core", "luts", "device_agents", "profiler", "search", "tests", "benchmarks")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".toml", ".c")]
    named = {(path, page) for path in files for page in re.findall(r"\bdocs/[\w/-]+\.md\b", path.read_text("utf-8"))}
    assert len(named) > 20
    assert [f"{path.relative_to(ROOT)}: {page}" for path, page in named if not (ROOT / page).exists()] == []


def test_every_fault_names_tests_that_exist() -> None:
    page = (ROOT / "docs" / "project" / "faults.md").read_text(encoding="utf-8")
    code = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    defined = set(re.findall(r"^def (test_\w+)\(", code, re.M))
    named = set(re.findall(r"`(test_\w+)`", page))
    assert named - defined == set()
    rows = [line for line in page.splitlines() if line.startswith("| ") and not line.startswith("| fault")]
    assert len(rows) >= 15
    assert [row for row in rows if "`test_" not in row] == []


def test_the_results_are_those_of_the_records() -> None:
    pages = runpy.run_path(str(ROOT / "docs" / "write_results.py"))["pages"]()
    folder = ROOT / "docs" / "results"
    assert sorted(pages) == sorted(path.name for path in folder.glob("*.md"))
    for name, text in pages.items():
        assert (folder / name).read_text(encoding="utf-8") == text, f"{name}: run python docs/write_results.py"
    for path in (folder / "data").glob("*.json"):
        record = json.loads(path.read_text(encoding="utf-8"))
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", record["date"]), path.name
        assert re.match(r"[0-9a-f]{7}", record["commit"]), path.name
        assert "machine" in record, path.name
        shown = [name for name, text in pages.items() if f"{record['date']}; commit {record['commit']};" in text]
        assert shown, f"{path.name} is on no page: name its benchmark in SUBJECTS of docs/write_results.py"


def test_figures_of_the_readme_are_results() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.search(r"How far a table can be trusted.*?\n((?:\|.*\n)+)", readme, re.S)
    assert rows is not None
    results = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "results").glob("*.md"))
    figures = re.findall(r"\d+\.\d+ %|\d+ %|0\.9\d+", rows[1])
    assert len(figures) >= 8
    assert [figure for figure in figures if figure not in results] == []


@pytest.mark.parametrize(("answers", "code"), [("0", 0), ("1", 1), ("4 0", 0), ("4 1", 1), ("4 4", 4), ("2", 2)])
def test_the_script_for_continuous_integration_passes_the_answer_on(answers: str, code: int, tmp_path: Path) -> None:
    """The script of docs/measuring/ab.md asks once more, for longer, where the first answer is that it cannot tell."""
    page = (ROOT / "docs/measuring/ab.md").read_text(encoding="utf-8")
    (script,) = re.findall(r"```sh\n(.*?)```", page, re.S)
    (tmp_path / "latency.sh").write_text(script)
    (tmp_path / "codes").write_text("".join(f"{answer}\n" for answer in answers.split()))
    stand_in = """#!/bin/sh\necho "$*" >> asked\ncode=$(head -n 1 codes)\nsed -i 1d codes\nexit "$code"\n"""
    (tmp_path / "fbprof").write_text(stand_in)
    (tmp_path / "fbprof").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    assert (
        subprocess.run(["sh", "latency.sh", "a b", "c"], cwd=tmp_path, env=environment, check=False).returncode == code
    )
    asked = (tmp_path / "asked").read_text().splitlines()
    assert len(asked) == len(answers.split())
    assert all(line.startswith("ab a b c --device board.toml --fail-above 3% --format md") for line in asked)
    (workflow,) = re.findall(r"```yaml\n(.*?)```", page, re.S)
    steps = yaml.safe_load(workflow)["jobs"]["latency"]["steps"]
    for step in steps:
        subprocess.run(["bash", "-n"], input=step.get("run", ""), text=True, check=True)
    assert sum("sh ci/latency.sh main.tflite pr.tflite" in step.get("run", "") for step in steps) == 1
