"""Errors of fblut: a table that cannot be read or does not hold what is asked of it, exit code 2."""

from fbbase.errors import FbError


class LutError(FbError):
    """A latency table that is malformed, incomplete, or of another kind than the work needs."""
