"""Builds a library by CMake from the source package of a runtime whose wheels hold none that a C program can call."""

import shutil
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path

from fbagents.errors import DeviceError

FETCH_TIMEOUT_S = 600
BUILD_TIMEOUT_S = 4 * 3600
# `pip download` would make the package's metadata, and refuse the package where these tell another version: ncnn's tell
# the day on which they are made. So pip finds it, and it is not asked for any.
FETCH = """
import hashlib, sys
from pip._internal.commands import create_command

package, version, path = sys.argv[1:]
command = create_command("download")
options, _ = command.parse_args(["--no-input"])
with command.main_context():
    session = command.get_default_session(options)
    found = command._build_package_finder(options, session).find_all_candidates(package)
    links = [each.link for each in found if str(each.version) == version and each.link.filename.endswith(".tar.gz")]
    if not links:
        sys.exit(f"there is no source of {package} {version}")
    answer = session.get(links[0].url_without_fragment)
    answer.raise_for_status()
if links[0].hash and hashlib.new(links[0].hash_name, answer.content).hexdigest() != links[0].hash:
    sys.exit(f"{links[0].filename} is damaged")
with open(path, "wb") as file:
    file.write(answer.content)
"""


def build(package: str, version: str, options: Sequence[str], name: str, work: Path) -> Path:
    """Return the library `name` of a package, built in `work` with CMake's options. Raises DeviceError."""
    if shutil.which("cmake") is None:
        raise DeviceError(f"{name} has to be built, and there is no CMake: apt install cmake")
    archive = work / "source.tar.gz"
    _run([sys.executable, "-c", FETCH, package, version, str(archive)], "pip", FETCH_TIMEOUT_S)
    with tarfile.open(archive) as packed:
        packed.extractall(work / "source", filter="data")
    source, built = next((work / "source").iterdir()), work / "built"
    ninja = ["-G", "Ninja"] if shutil.which("ninja") else []
    release = ["-DCMAKE_BUILD_TYPE=Release", "-DCMAKE_SHARED_LINKER_FLAGS=-s"]
    _run(["cmake", "-S", str(source), "-B", str(built), *ninja, *release, *options], "CMake", FETCH_TIMEOUT_S)
    _run(["cmake", "--build", str(built), "--parallel"], "CMake", BUILD_TIMEOUT_S)
    found = next(built.rglob(name), None)
    if found is None:
        raise DeviceError(f"the source of {package} {version} makes no {name}")
    return found


def _run(argv: list[str], what: str, timeout_s: float) -> None:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, errors="replace", timeout=timeout_s)
    except subprocess.TimeoutExpired:
        raise DeviceError(f"{what} did not finish within {timeout_s} s") from None
    if done.returncode != 0:
        raise DeviceError(f"{what} fails: {(done.stderr.strip() or done.stdout.strip())[-1000:]}")
