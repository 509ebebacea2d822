"""Errors of fbprof.

FbError
├── ExportError         2  a module cannot be written in the format asked for
├── JournalError        2  a journal that is damaged or belongs to another run
├── NetworksError       2  a file of measured networks that is malformed, or that no table can be made of
└── MeasurementError    3  the device answered, but not with a measurement
"""

from fbbase.errors import FbError


class ExportError(FbError):
    """A module that a model format cannot express; the message names the operator and the module it came from."""


class JournalError(FbError):
    """A journal of raw samples that is damaged, or that another configuration wrote."""


class NetworksError(FbError):
    """A file of measured networks that cannot be read, or from which operators cannot be told."""


class MeasurementError(FbError):
    """A measurement that could not be made."""

    exit_code = 3


def module_name(path: str) -> str:
    """Return how messages name a part of a network: by its path, as in torch's `named_modules`."""
    return f"module {path!r}" if path else "the network itself"
