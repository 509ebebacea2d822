"""Unpacks Debian packages of any suite and architecture into a folder, by an apt root of its own; needs no root."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from fbagents.errors import DeviceError

KEYRINGS = ("/usr/share/keyrings/debian-archive-keyring.gpg", "/usr/share/keyrings/debian-archive-keyring.pgp")
TIMEOUT_S = 300
# Read after this machine's own configuration: its proxies hold, its architectures, sources and hooks do not.
CONFIGURATION = """
#clear APT::Architectures;
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
APT::Architecture "{architecture}";
APT::Architectures {{ "{architecture}"; }};
APT::Get::AllowUnauthenticated "false";
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
Acquire::AllowInsecureRepositories "false";
Acquire::Languages "none";
Acquire::Retries "1";
Acquire::http::Timeout "10";
Acquire::https::Timeout "10";
Dir::Etc::sourcelist "{root}/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::State::lists "{root}/lists";
Dir::State::status "{root}/status";
Dir::Cache "{root}/cache";
"""


def unpack(packages: Sequence[str], suite: str, architecture: str, folder: Path, closure: bool = False) -> list[str]:
    """Unpack `packages`, and with `closure` all they depend on, into `folder`; return their names with versions.

    `suite` and `architecture` are Debian's names ("bookworm", "arm64"). No package's scripts are run. The mirror is the
    one of this machine's apt, or the environment's DEBIAN_MIRROR; signatures are checked. Raises DeviceError.
    """
    for tool in ("apt-get", "dpkg"):
        if shutil.which(tool) is None:
            raise DeviceError(f"Debian packages cannot be unpacked: {tool} is missing; use a Debian or Ubuntu machine")
    keyring = next((path for path in KEYRINGS if Path(path).is_file()), None)
    if keyring is None:
        raise DeviceError(f"Debian's keys are missing ({KEYRINGS[0]}): apt install debian-archive-keyring")
    source = f"deb [arch={architecture} signed-by={keyring}] {mirror()} {suite} main\n"
    with tempfile.TemporaryDirectory(prefix="fbnet-apt-") as work:
        root = Path(work)
        for name in ("lists/partial", "cache/archives/partial", "packages"):
            (root / name).mkdir(parents=True)
        (root / "status").touch()
        (root / "sources.list").write_text(source)
        (root / "apt.conf").write_text(CONFIGURATION.format(root=root, architecture=architecture))
        configured = ("-c", str(root / "apt.conf"))
        _run(["apt-get", *configured, "update", "-qq"])
        if closure:
            packages = _closure(packages, configured)
        _run(["apt-get", *configured, "download", "-qq", *packages], root / "packages")
        unpacked = sorted((root / "packages").iterdir())
        folder.mkdir(parents=True, exist_ok=True)
        for package in unpacked:
            _run(["dpkg", "-x", str(package), str(folder.absolute())])
        return [package.stem.replace("%3a", ":") for package in unpacked]


def mirror() -> str:
    """Return the address of a Debian mirror: DEBIAN_MIRROR's, else this machine's apt's. Raises DeviceError."""
    if address := os.environ.get("DEBIAN_MIRROR"):
        return address
    told = _run(["apt-get", "indextargets", "--format", "$(REPO_URI) $(ORIGIN)", "Created-By: Packages"])
    repositories = [line.partition(" ") for line in told.splitlines()]
    for wanted in ("Debian", ""):  # apt knows no origin before it has fetched its lists
        for address, _, origin in repositories:
            if origin == wanted and "security" not in address:
                return address
    raise DeviceError("this machine's apt has no Debian mirror: set DEBIAN_MIRROR to the address of one")


def _closure(packages: Sequence[str], configured: Sequence[str]) -> list[str]:
    leave = ["--no-" + kind for kind in ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")]
    lines = _run(["apt-cache", *configured, "depends", "--recurse", *leave, *packages]).splitlines()
    return sorted({line for line in lines if line[:1].isalnum()})  # indented: relations; in brackets: virtual ones


def _run(argv: list[str], folder: Path | None = None) -> str:
    """Return what a program printed. Raises DeviceError with what it complained of."""
    try:
        done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, errors="replace", timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise DeviceError(f"{argv[0]} did not finish within {TIMEOUT_S} s: is there a network?") from None
    if done.returncode != 0:
        raise DeviceError(
            f"Debian packages cannot be fetched: {done.stderr.strip()[-500:]}\n"
            "Is there a network, and does the mirror hold Debian? DEBIAN_MIRROR names another"
        )
    return done.stdout
