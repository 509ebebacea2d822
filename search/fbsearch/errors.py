"""Errors of fbsearch.

FbError
├── DataError       2  images or labels that cannot be used
├── SearchError     2  settings that do not fit the run folder, the table or each other
├── DivergedError   1  the loss is not a number any more
└── Interrupted   130  Ctrl-C; the same command continues
"""

from fbbase.errors import CheckError, FbError


class DataError(FbError):
    """Images or labels that cannot be used; says what, where and what to do."""


class SearchError(FbError):
    """Settings that do not fit the run folder, the table or each other."""


class DivergedError(CheckError):
    """The loss is not a number any more; says at which step and with which learning rate."""


class Interrupted(FbError):  # noqa: N818  # an event, not a mistake
    """Ctrl-C; what was saved last is where the same command continues."""

    exit_code = 130
