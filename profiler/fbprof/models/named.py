"""Named: from what a person types for a model to a file whose inputs have fixed shapes."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fbagents.agent.client import Input
from fbbase.arrays import read_arrays
from fbbase.errors import UnknownNameError
from fbexport.errors import ExportError
from fbexport.formats import format_for, load_format
from fbexport.runtimes import DEFAULT, RUNTIMES, runtime_of
from fbmodel.model import Model, ModelError, Tensor, model_suffixes, open_model
from fbmodel.tensors import ELEMENTS, spelled
from fbspace.architecture import ZOO

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True)
class Shape:
    """One `--shape`: of which input (None: the only one), its sides, and its type of elements where it is told."""

    name: str | None
    sides: tuple[int, ...]
    element: str | None = None


def parse_shape(text: str) -> Shape:
    """Return what `NAME=1x3x320x320`, `1x3x320x320` or `ids=1x128:int64` says; a lone `x` of no sides is a scalar.

    Raises ModelError.
    """
    name, equals, rest = text.rpartition("=")
    sides, colon, element = rest.partition(":")
    if not re.fullmatch(r"[1-9][0-9]{0,8}(x[1-9][0-9]{0,8}){0,7}|scalar", sides) or (equals and not name):
        raise ModelError(
            f"--shape {text!r} is no shape: write NAME=1x3x320x320, or 1x3x320x320 where the model has one input; "
            "scalar for a single number"
        )
    numbers = () if sides == "scalar" else tuple(int(side) for side in sides.split("x"))
    return Shape(name or None, numbers, element if colon else None)


def is_module(text: str) -> bool:
    """Whether a text is a `file.py:function`."""
    return re.search(r"\.py:[A-Za-z_]\w*$", text) is not None


def load_named(
    text: str, runtime: str | None, precision: str, seed: int, shapes: Sequence[Shape], folder: Path
) -> tuple[Model, Sequence[Shape]]:
    """Return the model that a text names: a file, a network's file or published name, or `file.py:function`.

    Networks and modules are exported, in the format of `runtime`, into `folder`. With it come the shapes that are left
    for the file: a module is exported with its own. Raises FbError that says what is wrong.
    """
    if is_module(text):
        return _exported_module(text, runtime or DEFAULT, precision, shapes, folder)
    return _opened(text, runtime, precision, seed, folder), shapes


def _opened(text: str, runtime: str | None, precision: str, seed: int, folder: Path) -> Model:
    path = Path(text)
    if text.endswith(".json") or (text in ZOO and not path.exists()):
        return _exported_network(text, runtime or DEFAULT, precision, seed, folder)
    if not path.exists() and not path.suffix:
        raise UnknownNameError("model file or published network", text, ZOO.names())
    if precision != "float32":
        raise ModelError(f"{text}: --precision {precision} is for what is exported here; a file is as it is")
    return open_model(path)


def runtime_for(model: Model, asked: str | None) -> str:
    """Return the runtime that runs a model: the one asked for, if it runs the file's format. Raises ModelError."""
    if asked is None:
        return runtime_of(model.format)
    wanted = RUNTIMES.find(asked).format
    if wanted != model.format:
        raise ModelError(f"{model.path.name}: runtime {asked} runs {wanted} files, and this is {model.format}")
    return asked


def shaped(model: Model, shapes: Sequence[Shape], batch: int | None = None) -> Model:
    """Return a model all of whose inputs have fixed shapes: those asked for, else the file's, of so many images.

    Raises ModelError, input by input.
    """
    wanted: dict[str, tuple[int, ...]] = {}
    elements: dict[str, str] = {}
    names = [each.name for each in model.inputs]
    for shape in shapes:
        if not names:
            raise ModelError(f"{model.path.name} has no input: leave --shape out")
        if shape.name is None and len(names) != 1:
            raise ModelError(
                f"{model.path.name} has the inputs {', '.join(names)}: name the one that is meant, "
                f"--shape {names[0]}={'x'.join(map(str, shape.sides))}"
            )
        name = names[0] if shape.name is None else shape.name
        if name in wanted:
            raise ModelError(f"{model.path.name}: --shape is given twice for input {name}: give one")
        wanted[name] = shape.sides
        if shape.element is not None:
            elements[name] = shape.element
    if batch is not None:
        if all((wanted.get(each.name) or each.shape) == () for each in model.inputs):
            raise ModelError(f"{model.path.name} has no input with a first side: --batch {batch} changes nothing in it")
        for each in model.inputs:
            sides = wanted.get(each.name) or each.shape
            if sides:
                wanted[each.name] = _with_batch(model, each, sides, batch)
    made = model.with_shapes(wanted, elements)
    for each in made.inputs:
        if each.element not in ELEMENTS:
            raise ModelError(
                f"{model.path.name}: input {each.name} takes {each.element}, and what can be fed is "
                f"{', '.join(ELEMENTS)}"
            )
        if 0 in (each.shape or ()):
            raise ModelError(f"{model.path.name}: input {each.name} is {spelled(each.shape)}, which holds nothing")
    return made


def values_of(model: Model, path: Path | None) -> bytes | None:
    """Return the values of a model's inputs from an .npz file, one after the other as agents read them.

    Raises ModelError where an array lacks, or has another shape or type than its input.
    """
    if path is None:
        return None
    arrays = read_arrays(path, "file of inputs", ModelError)
    unknown = arrays.keys() - {each.name for each in model.inputs}
    if unknown:
        has = ", ".join(each.name for each in model.inputs) or "none"
        raise ModelError(f"{path}: array {min(unknown)!r:.80} is no input of {model.path.name}, which has {has}")
    parts = []
    for each in model.inputs:
        array = arrays.get(each.name)
        if array is None:
            raise ModelError(f"{path} has no array {each.name!r}, which {model.path.name} takes in")
        told = f"{array.dtype.name} of {spelled(array.shape)}"
        if array.shape != each.shape or array.dtype.newbyteorder("=") != np.dtype(each.element):
            raise ModelError(
                f"{path}: array {each.name!r} is {told}, and the input is {each.element} of {spelled(each.shape)}"
            )
        parts.append(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes())
    return b"".join(parts)


def inputs_of(model: Model) -> tuple[Input, ...]:
    """Return what agents are told of a model's inputs, whose shapes are fixed."""
    return tuple(Input(each.name, _fixed(each), each.element) for each in model.inputs)


def _fixed(tensor: Tensor) -> tuple[int, ...]:
    sides = tuple(side for side in tensor.shape or () if side is not None)
    assert len(sides) == len(tensor.shape or ()), f"{tensor.name} has no fixed shape"
    return sides


def _with_batch(model: Model, tensor: Tensor, sides: tuple[int | None, ...], batch: int) -> tuple[int, ...]:
    rest = [side for side in sides[1:] if side is not None]
    if len(rest) != len(sides) - 1:
        raise ModelError(
            f"{model.path.name}: input {tensor.name} is {spelled(sides)}: --batch {batch} fixes the first side only; "
            f"give the others by --shape {tensor.name}=…"
        )
    return (batch, *rest)


def _exported_network(name: str, runtime: str, precision: str, seed: int, folder: Path) -> Model:
    from fbexport.export import export_network
    from fbspace.architecture import load_architecture

    architecture, format_name = load_architecture(name), _format_for(runtime, precision)
    content = export_network(architecture, format_name, precision, seed=seed)
    stem = Path(name).stem if precision == "float32" else f"{Path(name).stem}-{precision}"
    return _written(content, format_name, stem, folder)


def export_own(
    text: str, format_name: str, precision: str, shapes: Sequence[Shape]
) -> tuple[bytes, "nn.Module", list[tuple[int, ...]], list[Shape]]:
    """Export a person's own module by the tracer of this project, or else by torch's exporter of the format.

    Return the file, the module, the shapes of its inputs, and those of `shapes` that are none of its. Raises FbError.
    """
    from fbexport.export import export_module
    from fbexport.graph import shapes_of
    from fbexport.own import load_module
    from fbexport.trace import input_names

    module, told = load_module(text)
    names, known = input_names(module) or ["input"], shapes_of(told) if told else ()
    names += [f"input_{at}" for at in range(len(names), len(known))]
    sides = dict(zip(names, known, strict=False))
    left, found = [], set()
    for each in shapes:
        is_only = each.name in (None, "input") and each.name not in names
        name = names[0] if is_only else str(each.name)
        if name not in names:
            left.append(each)
        elif is_only and len(sides) > 1:
            raise ModelError(
                f"{text} has the inputs {', '.join(sides)}: name the one that is meant by --shape {name}=…"
            )
        elif each.element not in (None, "float32") or name in found or not each.sides:
            raise ModelError(f"{text}: an input is of float32, and has one shape: give --shape {name}=1x3x224x224 once")
        else:
            sides[name] = each.sides
            found.add(name)
    if not sides:
        raise ModelError(f"{text} does not say its input's shape: give --shape 1x3x224x224, or return (module, shape)")
    in_order = [sides[name] for name in names if name in sides]
    lacking = [name for name in names[: len(in_order)] if name not in sides]
    if lacking:
        raise ModelError(f"{text} has the inputs {', '.join(names)}: give the shape of {lacking[0]}, too")
    try:
        content = export_module(module, tuple(in_order), format_name, precision)
    except ExportError as error:
        raise ModelError(f"{text}: {error}") from None
    return content, module, in_order, left


def _exported_module(
    text: str, runtime: str, precision: str, shapes: Sequence[Shape], folder: Path
) -> tuple[Model, list[Shape]]:
    format_name = _format_for(runtime, precision)
    content, _, _, left = export_own(text, format_name, precision, shapes)
    return _written(content, format_name, text.rpartition(":")[2], folder), left


def _format_for(runtime: str, precision: str) -> str:
    """Return the format that is exported for a runtime. Raises ModelError for one that is not opened as a file."""
    name = format_for(runtime, precision)
    if load_format(name).suffix not in model_suffixes():
        raise ModelError(
            f"runtime {runtime}: files of {name} are not profiled, only {', '.join(model_suffixes())}; its operators "
            f"and networks are timed by fbprof measure --runtime {runtime}"
        )
    return name


def _written(content: bytes, format_name: str, stem: str, folder: Path) -> Model:
    """Open what was exported."""
    path = folder / f"{stem}{load_format(format_name).suffix}"
    path.write_bytes(content)
    try:
        return open_model(path)
    except ModelError as error:
        raise ModelError(str(error).replace(f"{folder}/", "")) from None  # a folder that is gone when it is read
