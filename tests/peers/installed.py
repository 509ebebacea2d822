"""Which formats have a runtime on this machine: an extra one may lack, and its tests are then skipped."""

import importlib.metadata
import shutil

from fbexport.formats import FORMATS
from fbexport.runtimes import RUNTIMES, runtime_of
from peers.unavailable import unavailable


def is_installed(runtime: str) -> bool:
    """Return whether a runtime runs here; ExecuTorch needs a C++ compiler, too."""
    try:
        importlib.metadata.version(RUNTIMES.find(runtime).package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return runtime != "executorch" or shutil.which("c++") is not None


RUNTIMES_HERE = [name for name in RUNTIMES.names() if is_installed(name)]
FORMATS_HERE = [name for name in FORMATS.names() if runtime_of(name) in RUNTIMES_HERE]


def need(runtime: str) -> None:
    """Skip a test where a runtime is not installed; fail it where it has to be."""
    if runtime not in RUNTIMES_HERE:
        unavailable(f"needs the runtime {runtime}")
