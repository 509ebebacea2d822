"""Errors of fbexport: a module that cannot be written in the format asked for, exit code 2."""

from fbbase.errors import FbError


class ExportError(FbError):
    """A module that a model format cannot express; the message names the operator and the module it came from."""


def module_name(path: str) -> str:
    """Return how messages name a part of a network: by its path, as in torch's `named_modules`."""
    return f"module {path!r}" if path else "the network itself"
