"""Weights of a network: reproducible random ones for timing, trained ones from a file."""

import io
import math
import pickle
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fbbase.arrays import DECODING_FAULTS
from fbbase.errors import FbError
from fbbase.files import ARRAY_BYTES, check_archive, kind_of, open_regular, write_bytes
from fbspace.architecture import Architecture
from fbspace.network import build_network
from fbspace.space import Space

NAMED = 3
"""So many tensors are named of those that do not fit."""


def randomize(module: nn.Module, seed: int) -> nn.Module:
    """Give a module reproducible weights and BN statistics that keep activations near one, and set it to eval mode.

    He-normal weights, so that no layer is timed on denormal numbers; BN statistics that are not the identity, so that
    an export that folds them wrongly cannot pass for right.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Linear):
                fan_in = layer.weight[0].numel()
                layer.weight.normal_(0, math.sqrt(2 / fan_in), generator=generator)
                if layer.bias is not None:
                    layer.bias.normal_(0, 0.1, generator=generator)
                continue
            for name, own in layer.named_parameters(recurse=False):  # of normalisations and scales
                if name == "bias":
                    own.normal_(0, 0.1, generator=generator)
                else:
                    own.uniform_(0.5, 1.5, generator=generator)
            if isinstance(layer, nn.BatchNorm2d):
                assert layer.running_mean is not None
                assert layer.running_var is not None
                layer.running_mean.normal_(0, 0.1, generator=generator)
                layer.running_var.uniform_(0.5, 1.5, generator=generator)
    return module.eval()


def save_weights(module: nn.Module, path: Path) -> None:
    """Write a module's weights in one step; the file is a plain state dict."""
    buffer = io.BytesIO()
    torch.save({name: value.detach().cpu() for name, value in module.state_dict().items()}, buffer)
    write_bytes(path, buffer.getvalue())


def load_tensors(path: Path, what: str, error: type[FbError] = FbError) -> Any:
    """Read what torch.save wrote, without executing code from the file, and check it by its checksums.

    Raises `error` for what is no such file, is damaged, or holds more than tensors and plain values.
    """
    with open_regular(path, what, ARRAY_BYTES, error) as file:
        head = file.read(16)
        is_archive = head.startswith(b"PK")
        if not is_archive and not head.startswith(b"\x80"):
            raise error(f"{path} is not a {what} file: {kind_of(head) or 'nothing that torch writes'}")
        try:
            file.seek(0)
            if is_archive:
                names = check_archive(file)
                if not any(name.endswith("data.pkl") for name in names):
                    held = f"an archive of other files ({_first(names)})"
                    raise error(f"{path} is not a {what} file: {held}; give one that torch.save wrote")
            return torch.load(file, map_location="cpu", weights_only=True)
        except zipfile.BadZipFile as reason:
            raise error(f"{path} is not a {what} file, or damaged: {reason}; copy it again") from None
        except pickle.UnpicklingError:
            held = "it holds more than tensors and plain values, such as code, or is damaged; that is never loaded"
            raise error(f"{path} is not a {what} file: {held}") from None
        except DECODING_FAULTS as reason:
            raise error(
                f"{path} is not a {what} file: it is damaged ({type(reason).__name__}); copy it again"
            ) from None


def load_weights(path: Path) -> dict[str, Tensor]:
    """Read a state dict without executing code from the file. Raises FbError where it is none."""
    state = load_tensors(path, "weights")
    if not isinstance(state, dict) or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
        raise FbError(f"{path} is not a weights file: expected a state dict of tensors")
    for name, value in state.items():
        wrong = _not_real(value)
        if wrong:
            raise FbError(
                f"{path}: {name} holds {wrong}, where weights are finite real numbers: the training diverged or the "
                "file is damaged; take those of an earlier checkpoint, or train again"
            )
    return state


def _not_real(value: Tensor) -> str | None:
    """Return in words what a tensor holds that no weight is; None for finite real numbers."""
    if value.layout != torch.strided or value.is_quantized:
        return "sparse or quantised numbers"
    if value.is_complex():
        return "complex numbers"
    real = value.float()  # what float32 cannot hold is infinite there
    return None if real.isfinite().all() else "NaN" if real.isnan().any() else "infinities"


def load_network(
    architecture: Architecture, weights: Path | None = None, space: Space | None = None, seed: int = 0
) -> nn.Sequential:
    """Return the network in eval mode with the weights of a file, or random ones.

    The number of classes follows the file's last layer, so a network trained on ten classes loads although its space
    has a thousand. Raises FbError where the weights belong to another network.
    """
    if weights is None:
        network = build_network(architecture, space)
        randomize(network, seed)
        return network
    state = load_weights(weights)
    last = next((value for name, value in state.items() if name.endswith("fc.weight") and value.ndim == 2), None)
    network = build_network(architecture, space, classes=None if last is None else max(len(last), 1))
    _check_fit(network.state_dict(), state, f"{weights} does not fit network {architecture.name!r}")
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise FbError(
            f"{weights} does not fit network {architecture.name!r}: {str(error).splitlines()[-1].strip()[:200]}"
        ) from None
    return network.eval()


def _check_fit(wanted: dict[str, Tensor], given: dict[str, Tensor], complaint: str) -> None:
    """Raise FbError that counts what is missing, unknown, and of another shape, and names the first of each."""
    parts = {
        "missing": [name for name in wanted if name not in given],
        "unknown": [name for name in given if name not in wanted],
        "of another shape": [
            f"{name}, {_sizes(given[name])} in place of {_sizes(tensor)}"
            for name, tensor in wanted.items()
            if name in given and given[name].shape != tensor.shape
        ],
    }
    found = [f"{len(names)} are {what} ({_first(names)})" for what, names in parts.items() if names]
    if found:
        raise FbError(f"{complaint}, which has {len(wanted)} tensors: {'; '.join(found)}")


def _first(names: Sequence[str]) -> str:
    return ", ".join(name[:100] for name in names[:NAMED]) + (", …" if len(names) > NAMED else "")


def _sizes(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a number"
