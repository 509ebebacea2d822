"""Quantised networks: calibrated by training images, run in a device's runtime, and fine-tuned to their rounding."""

from pathlib import Path

import torch
from torch import Tensor, nn

from fbexport.formats import format_for, load_format
from fbexport.noise import LEAST_NOISE, Calibrated
from fbexport.noise import calibrated as calibrated_by
from fbexport.quantization.fake import FakeQuantized
from fbexport.quantization.files import RANGES, read_ranges, write_ranges
from fbexport.quantization.quantized import quantize
from fbexport.quantization.scheme import Ranges
from fbexport.runtimes import load_model
from fbexport.trace import trace
from fbsearch.errors import DataError
from fbsearch.images.data import Data, batch_count
from fbsearch.machine.seeds import generator_of

CALIBRATION_IMAGES = 256
CALIBRATION_METHOD = LEAST_NOISE
CALIBRATION_BATCH = 64


class RuntimeNetwork(nn.Module):
    """A model file in its runtime on this machine, called like the network it was written of."""

    def __init__(self, content: bytes, runtime: str, batch: int, threads: int = 1) -> None:
        """Load a model that was written for so many images at a time. Raises ExportError."""
        super().__init__()
        self._run, self._batch = load_model(content, runtime, threads), batch

    def forward(self, x: Tensor) -> Tensor:
        """Map N, C, H, W to N, classes; N is at most the batch, which zeros fill up."""
        images = x.new_zeros((self._batch, *x.shape[1:]))
        images[: len(x)] = x
        return torch.from_numpy(self._run(images.contiguous().numpy())[0][: len(x)])


def calibrated(network: nn.Module, data: Data, images: int, method: str, seed: int) -> Calibrated:
    """Return the ranges of a network's values over so many random images that it was trained with, or more.

    Raises DataError where there are none, ExportError, UnknownNameError for another method.
    """
    if not len(data.training):
        raise DataError(f"{data.name} has no training images to calibrate int8 by")
    size = min(CALIBRATION_BATCH, images)
    most = min(-(-images // size), batch_count(data.training, size))
    batches = data.batches(data.training, size, generator_of(seed, "calibration"), most)
    return calibrated_by(trace(network.eval(), (1, *data.input_shape[1:])), [x for x, _ in batches], method)


def in_runtime(
    network: nn.Module, data: Data, runtime: str, precision: str, ranges: Ranges | None, batch: int, threads: int = 1
) -> RuntimeNetwork:
    """Return a network as its runtime computes it in a precision. Raises ExportError."""
    shape = (batch, *data.input_shape[1:])
    content = load_format(format_for(runtime, precision)).write(network, shape, precision, ranges)
    return RuntimeNetwork(content, runtime, batch, threads)


def ranges_for(
    network: nn.Module, data: Data, weights: Path, file: Path | None, images: int, method: str, seed: int
) -> tuple[Ranges, str]:
    """Return a network's ranges and in words where they come from: a file, or calibration, which is written to `file`.

    Without `file` those beside the weights are taken, if a training left any there. Raises ExportError for ranges of
    other weights.
    """
    found = next((path for path in (file, weights.with_name(RANGES)) if path is not None and path.exists()), None)
    if found is not None:
        return read_ranges(found, weights), f"ranges of {found}"
    made = calibrated(network, data, images, method, seed)
    if file is not None:
        write_ranges(file, made.ranges, made.method, made.images, weights)
    return made.ranges, str(made)


def to_fine_tune(network: nn.Module, data: Data, seed: int) -> FakeQuantized:
    """Return a trained network in a form that computes as its int8 model does, to train on."""
    ranges = calibrated(network, data, CALIBRATION_IMAGES, CALIBRATION_METHOD, seed).ranges
    return FakeQuantized(quantize(trace(network, (1, *data.input_shape[1:])), ranges), ranges)
