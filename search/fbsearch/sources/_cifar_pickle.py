"""Reading the pickles of CIFAR's Python version without executing anything that a file asks for.

A pickle may call whatever it can import. This reader resolves five names, each to a function of this module that only
builds data, and refuses every other; NumPy's own unpickling is not involved either.
"""

import io
import pickle
from typing import Any

import numpy as np

from fbsearch.errors import DataError

_FAULTS = (
    pickle.UnpicklingError,
    ArithmeticError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
)


def load_cifar_pickle(content: bytes, what: str) -> dict[bytes, Any]:
    """Return the dictionary of a file, its strings as bytes, its array as uint8. Raises DataError, naming `what`."""
    try:
        loaded = _Reader(io.BytesIO(content), encoding="bytes").load()
    except _FAULTS as error:
        raise DataError(f"{what} is not a file of CIFAR's Python version: {error}; fetch it again") from None
    if not isinstance(loaded, dict):
        raise DataError(f"{what} holds a {type(loaded).__name__}, not the dictionary of a CIFAR file; fetch it again")
    loaded = {key.encode() if isinstance(key, str) else key: value for key, value in loaded.items()}
    try:
        return {key: value.array() if isinstance(value, _Array) else value for key, value in loaded.items()}
    except _FAULTS as error:
        raise DataError(f"{what} has a damaged array: {error}; fetch it again") from None


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        known: dict[tuple[str, str], Any] = {
            ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
            ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
            ("numpy", "ndarray"): "ndarray",
            ("numpy", "dtype"): _Dtype,
            ("_codecs", "encode"): _encode,
        }
        if (module, name) not in known:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no CIFAR file needs")
        return known[module, name]


class _Dtype:
    """The element type that an array names; its byte order and the like, which follow as state, do not matter."""

    def __init__(self, code: Any, *rest: Any) -> None:
        self.code = code

    def __setstate__(self, state: Any) -> None:
        pass


class _Array:
    """An array's state as the pickle gives it: version, shape, element type, Fortran order, bytes."""

    state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def array(self) -> Any:
        _, shape, dtype, fortran, content = self.state
        if not isinstance(dtype, _Dtype) or dtype.code not in ("u1", b"u1"):
            raise ValueError("its elements are not uint8")
        return np.frombuffer(content, np.uint8).reshape(shape, order="F" if fortran else "C")


def _reconstruct(*_: Any) -> _Array:
    return _Array()


def _encode(text: str, encoding: Any) -> bytes:
    if encoding not in ("latin1", b"latin1"):
        raise pickle.UnpicklingError(f"it asks for the encoding {encoding!r}")
    return text.encode("latin1")
