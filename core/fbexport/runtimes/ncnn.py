"""ncnn: models in ncnn, by the extension module of its Python package."""

import re
from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from fbbase.locks import scratch_folder
from fbexport.graph import Array
from fbexport.runtimes import NativeLibrary, Run, Runtime
from fbexport.runtimes._ncnn_file import NcnnFile, options_of

_IS_INT8 = re.compile(r" 8=1(01)?( |$)")
_MOVING = {
    "Concat", "Crop", "Input", "MemoryData", "Padding", "Permute", "PixelShuffle", "Reshape", "ShuffleChannel", "Split",
    "Tile",
}  # fmt: skip

_LEFT_OUT = (
    "ArgMax BNLL Bias CELU Convolution1D Convolution3D ConvolutionDepthWise1D ConvolutionDepthWise3D CopyTo "
    "CumulativeSum Deconvolution1D Deconvolution3D DeconvolutionDepthWise1D DeconvolutionDepthWise3D DeformableConv2D "
    "DetectionOutput Diag Einsum Embed Flip Fold GLU GRU GridSample InverseSpectrogram LRN LSTM MVN MultiHeadAttention "
    "Normalize Pooling1D Pooling3D PriorBox Proposal PSROIPooling RMSNorm RNN ROIAlign ROIPooling Reorg RotaryEmbed "
    "SDPA SELU SPP Shrink Spectrogram StatisticsPooling Threshold Unfold YoloDetectionOutput Yolov3DetectionOutput"
)
"""Layers that no file of ours has; they would take half of the time to build."""
_FLAGS = (
    "-DNCNN_SHARED_LIB=ON", "-DNCNN_VERSION={patch}", "-DNCNN_VULKAN=OFF", "-DNCNN_PIXEL=OFF", "-DNCNN_BUILD_TOOLS=OFF",
    "-DNCNN_BUILD_BENCHMARK=OFF", "-DNCNN_BUILD_EXAMPLES=OFF", "-DNCNN_INSTALL_SDK=OFF",
    *(f"-DWITH_LAYER_{name.lower()}=OFF" for name in _LEFT_OUT.split()),
)  # fmt: skip


class Ncnn(Runtime):
    """ncnn models, C, H, W in the file, with the options that the file says."""

    package = "ncnn"
    format = "ncnn"
    options: ClassVar = {precision: options_of(precision) for precision in ("float32", "float16", "int8")}
    native = NativeLibrary("libncnn.so", flags=_FLAGS)

    def load(self, content: bytes, threads: int) -> Run:
        """Load a model from a file: of one in memory ncnn would keep pointers into it."""
        import ncnn

        file = NcnnFile.unpack(content)
        net = ncnn.Net()
        for name, value in file.options.items():
            setattr(net.opt, name, value)
        net.opt.num_threads = threads
        with scratch_folder() as folder:
            path = folder / "model.bin"
            path.write_bytes(file.weights)
            if net.load_param_mem(file.param) or net.load_model(str(path)):
                raise ValueError("ncnn cannot load it")

        def run(*inputs: Array) -> list[Array]:
            found: dict[str, list[Array]] = {name: [] for name in file.outputs}
            for images in zip(*map(np.ascontiguousarray, inputs), strict=True):
                extractor = net.create_extractor()
                for name, image in zip(file.inputs or ["input"], images, strict=True):
                    mat = ncnn.Mat(image if 0 < image.ndim <= 4 else image.reshape(-1))
                    extractor.input(name, mat.clone())  # kernels of groups take channels for aligned
                for name, each in found.items():
                    status, output = extractor.extract(name)
                    if status:
                        raise ValueError(f"ncnn cannot compute {name}: status {status}")
                    each.append(np.array(output))
            return [np.stack(each).reshape(file.outputs[name]) for name, each in found.items()]

        return run

    def fallbacks(self, content: bytes, precision: str) -> Iterator[str]:
        """Yield what an int8 model computes in float."""
        if precision == "int8":
            for line in NcnnFile.unpack(content).param.splitlines()[2:]:
                kind, *_ = line.split()
                if kind not in _MOVING and not _IS_INT8.search(line):
                    yield f"{kind} in float"
