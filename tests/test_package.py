"""The package as people install it: a wheel built from the source distribution has all files, and works on its own."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from fbbase import __version__

ROOT = Path(__file__).parents[1]
FILES = (
    "fbbase/constraints.txt",
    "fbprof/report/page.html",
    "fbprof/report/style.css",
    "fbprof/commands/measure.py",
    "fbspace/spaces/fbnet.toml",
    "fbspace/zoo/fbnet-a.json",
    "fblut/published/pixel-3.csv",
    "fblut/published/NOTICE.md",
    "fbagents/profiles/local.toml",
    "fbagents/android/guard.sh",
    "fbagents/on-device/agent.c",
    "fbagents/on-device/agent.py",
)

INSTALL = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check", "install", "--no-compile", "--target"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the source distribution, and of that alone the wheel."""
    folder = tmp_path_factory.mktemp("dist")
    code = "import sys; from hatchling.build import build_sdist; build_sdist(sys.argv[1])"
    build = folder / "build"
    subprocess.run([*INSTALL, str(build), "hatchling>=1.27"], check=True, timeout=300)
    environment = {"PYTHONPATH": str(build), "PATH": "/usr/bin:/bin"}
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True, cwd=ROOT, env=environment, timeout=300)
    (source,) = folder.glob("*.tar.gz")
    assert source.stat().st_size < 8e6
    with tarfile.open(source) as archive:
        archive.extractall(folder / "source")  # our own, and Python 3.11.2 knows no filter
    (unpacked,) = (folder / "source").iterdir()
    code = code.replace("build_sdist", "build_wheel")
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True, cwd=unpacked, env=environment, timeout=300)
    (found,) = folder.glob("*.whl")
    return found


def test_the_wheel_has_all_files_and_no_more(wheel: Path) -> None:
    assert wheel.name == f"fbnet_lab-{__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = archive.read(f"fbnet_lab-{__version__}.dist-info/METADATA").decode()
    assert names >= set(FILES)
    tops = {name.split("/")[0] for name in names}
    assert tops == {
        "fbbase",
        "fbspace",
        "fbmodel",
        "fbsearch",
        "fbexport",
        "fbprof",
        "fbagents",
        "fblut",
        f"fbnet_lab-{__version__}.dist-info",
    }
    assert not [name for name in names if "__pycache__" in name or name.endswith((".so", ".o"))]
    assert all(f"{package}/py.typed" in names for package in tops if not package.endswith("dist-info"))
    assert f"Version: {__version__}" in metadata
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_it_works_from_where_it_was_installed(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "site"
    subprocess.run([*INSTALL, str(target), "--no-deps", str(wheel)], check=True, timeout=300)
    code = (
        "import fbprof, fbprof.cli, sys; assert fbprof.__file__.startswith(sys.argv.pop(1)), fbprof.__file__; "
        "sys.argv[0] = 'fbprof'; fbprof.cli.main()"
    )
    environment = {"PYTHONPATH": str(target), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    for arguments, words in ((["luts"], "raspberry-pi-4"), (["compare", "pixel-3", "raspberry-pi-4"], "1.766")):
        command = [sys.executable, "-c", code, str(target), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=120)
        assert done.returncode == 0, done.stderr
        assert words in done.stdout
