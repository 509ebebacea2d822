"""A C compiler, and the mark of tests that need one."""

import shutil

import pytest

COMPILER = shutil.which("cc")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C compiler cc is on the PATH")
