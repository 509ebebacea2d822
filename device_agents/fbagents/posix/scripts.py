"""Scripts that run on a device: constants, which get what comes from a profile or a file as "$1", "$2", …, unparsed."""

from importlib.resources import files


def script(package: str, name: str) -> str:
    """Return a script that lies beside a package's modules."""
    return files(package).joinpath(f"{name}.sh").read_text(encoding="utf-8")


PREPARE, START = script(__package__, "prepare"), script(__package__, "start")
HASH = script(__package__, "hash")
CHECK = HASH + '[ -f "$1" ] && has_hash "$1" "$2"'
UPLOAD = HASH + script(__package__, "upload")
DAMAGED = 4
"""How UPLOAD ends where what arrived has another hash."""
MISSING = HASH + script(__package__, "missing")
REMOVE = 'rm -rf -- "$@"'
