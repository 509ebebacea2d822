"""Own: a network of the user's own Python file, `file.py:function`. Loading it runs that file."""

import contextlib
import re
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from fbbase.errors import UnknownNameError
from fbbase.files import read_text
from fbexport.errors import ExportError
from fbexport.graph import Shapes

MOST_SIDES = 6


def is_own(name: str) -> bool:
    """Whether a network's name is that of a Python file, with a function or without."""
    return name.endswith(".py") or name.rpartition(":")[0].endswith(".py")


def load_module(name: str) -> tuple[nn.Module, Shapes | None]:
    """Return what `file.py:function` returns, in eval mode, and the shapes of its inputs where it says them.

    The file runs with this process's rights; its folder can be imported from, and what it prints goes to stderr. The
    function takes no arguments and returns an nn.Module, or a module and N, C, H, W or a shape for each input; a module
    stands for itself. Raises ExportError where there is no such file, where the file or the function raises, or returns
    something else, and UnknownNameError where the file has no such function.
    """
    file, _, function = name.rpartition(":")
    if not file:
        raise ExportError(f"{name}: name the function that returns the network, too: {name}:FUNCTION")
    text = read_text(Path(file), "Python file", error=ExportError)
    with _running(file):
        own = ModuleType(f"own_{Path(file).stem}")
        own.__file__ = file
        sys.modules[own.__name__] = own  # dataclasses and pickle look a class's module up there
        exec(compile(text, file, "exec"), own.__dict__)
    if not callable(made := own.__dict__.get(function)):
        known = [each for each, value in own.__dict__.items() if getattr(value, "__module__", "") == own.__name__]
        raise UnknownNameError(f"function of {file}", function, known)
    if not isinstance(made, nn.Module):
        with _running(file, function):
            made = made()
    module, told = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    shapes = told if isinstance(told, tuple | list) and told and not isinstance(told[0], int) else [told]
    if not isinstance(module, nn.Module) or not (told is None or all(map(_is_shape, shapes))):
        found = f"({', '.join(map(_told, made))})" if isinstance(made, tuple) else _told(made)
        raise ExportError(
            f"{name} returns {found}; it must return an nn.Module, or that and the shape of its input: "
            "module, (1, 3, 224, 224), or of each: module, ((1, 3, 224, 224), (1, 128))"
        )
    if told is None:
        return module.eval(), None
    return module.eval(), tuple(map(tuple, shapes)) if shapes is told else tuple(told)


def parse_shape(text: str) -> tuple[int, int, int, int]:
    """Return N, C, H, W of a text such as `1x3x224x224`. Raises ExportError."""
    if not re.fullmatch(r"[1-9][0-9]{0,8}(x[1-9][0-9]{0,8}){3}", text):
        raise ExportError(f"{text!r} is not the shape of an input: expected N, C, H and W, such as 1x3x224x224")
    n, c, h, w = map(int, text.split("x"))
    return n, c, h, w


@contextlib.contextmanager
def _running(file: str, function: str = "") -> Iterator[None]:
    """Run a user's code: what it prints goes to stderr, and what it raises becomes an ExportError with the line."""
    path, folder = [*sys.path], str(Path(file).resolve().parent)
    sys.path.insert(0, folder)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except SyntaxError as error:
        raise ExportError(f"{error.filename or file}: line {error.lineno}: {error.msg}") from None
    except (Exception, SystemExit) as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
        where = f"{file}: line {lines[-1]}" if lines else file
        reason = (str(error).splitlines() or [""])[0]
        what = f"{function} raises" if function else "it raises"
        raise ExportError(f"{where}: {what} {type(error).__name__}{f': {reason}' if reason else ''}") from None
    finally:
        sys.path[:] = path


def _is_shape(value: Any) -> bool:
    has_sides = isinstance(value, tuple | list) and 1 <= len(value) <= MOST_SIDES
    return has_sides and all(type(size) is int and size > 0 for size in value)


def _told(value: Any) -> str:
    """Return how a message names a value: by its type, or as it is where that is short."""
    is_plain = isinstance(value, tuple | list | int | None)
    return repr(value) if is_plain and len(repr(value)) < 50 else type(value).__name__
