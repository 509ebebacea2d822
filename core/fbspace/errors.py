"""Errors of fbspace: all are mistakes in what was asked for, exit code 2."""

from fbbase.errors import FbError


class SpaceError(FbError):
    """A search space file that does not describe a space."""


class SpecError(FbError):
    """An operator spec that cannot exist, or a key that does not parse."""


class ArchitectureError(FbError):
    """An architecture that does not fit its space."""
