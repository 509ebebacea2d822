"""Errors of fbprof.

FbError
├── JournalError        2  a journal that is damaged or belongs to another run
├── NetworksError       2  a file of measured networks that is malformed, or that no table can be made of
└── MeasurementError    3  the device answered, but not with a measurement
"""

from fbbase.errors import FbError


class JournalError(FbError):
    """A journal of raw samples that is damaged, or that another configuration wrote."""


class NetworksError(FbError):
    """A file of measured networks that cannot be read, or that does not determine its operators."""


class MeasurementError(FbError):
    """A measurement that could not be made."""

    exit_code = 3
