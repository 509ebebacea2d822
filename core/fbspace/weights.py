"""Weights of a network: reproducible random ones for timing, trained ones from a file."""

import io
import math
import pickle
from pathlib import Path

import torch
from torch import Tensor, nn

from fbbase.errors import FbError
from fbbase.files import write_bytes
from fbspace.architecture import Architecture
from fbspace.network import build_network
from fbspace.space import Space

UNREADABLE = (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError)
"""What torch.load raises for bytes that are no torch file: its unpickler trips wherever they lead it."""


def randomize(module: nn.Module, seed: int) -> nn.Module:
    """Give a module reproducible weights and BN statistics that keep activations near one, and set it to eval mode.

    He-normal weights, so that no layer is timed on denormal numbers; BN statistics that are not the identity, so that
    an export that folds them wrongly cannot pass for right.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                fan_in = layer.weight[0].numel()
                layer.weight.normal_(0, math.sqrt(2 / fan_in), generator=generator)
                if layer.bias is not None:
                    layer.bias.normal_(0, 0.1, generator=generator)
            elif isinstance(layer, nn.BatchNorm2d):
                assert layer.running_mean is not None
                assert layer.running_var is not None
                layer.weight.uniform_(0.5, 1.5, generator=generator)
                layer.bias.normal_(0, 0.1, generator=generator)
                layer.running_mean.normal_(0, 0.1, generator=generator)
                layer.running_var.uniform_(0.5, 1.5, generator=generator)
    return module.eval()


def save_weights(module: nn.Module, path: Path) -> None:
    """Write a module's weights in one step; the file is a plain state dict."""
    buffer = io.BytesIO()
    torch.save({name: value.detach().cpu() for name, value in module.state_dict().items()}, buffer)
    write_bytes(path, buffer.getvalue())


def load_weights(path: Path) -> dict[str, Tensor]:
    """Read a state dict without executing code from the file. Raises FbError where it is none."""
    if not Path(path).is_file():
        raise FbError(f"weights not found: {path}")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise FbError(f"{path} is not a weights file: {reason}") from None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
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
    classes = next((value.shape[0] for name, value in state.items() if name.endswith("fc.weight")), None)
    network = build_network(architecture, space, classes=classes)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise FbError(f"{weights} does not fit network {architecture.name!r}: {first}") from None
    return network.eval()
