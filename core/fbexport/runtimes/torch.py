"""torch: TorchScript files, in torch's own interpreter."""

import io

from fbexport.graph import Array
from fbexport.runtimes import NativeLibrary, Run, Runtime
from fbexport.runtimes._torch_shim import FLAGS, SHIM


class Torch(Runtime):
    """TorchScript by torch; its only precision is float32, and all its kernels are of it."""

    package = "torch"
    format = "torchscript"
    lighter = "executorch"
    native = NativeLibrary(
        "libfbtorch.so",
        ("torch/lib/libtorch_cpu.so", "torch/lib/libc10.so"),
        source=SHIM,
        flags=FLAGS,
        beside=("torch/lib/libgomp*.so*", "torch.libs/*.so*"),
        unused=("libz.so.1",),
        versions={"aarch64-linux": "2.9.1"},  # later wheels take more than 420 MB
    )

    def load(self, content: bytes, threads: int) -> Run:
        """Load a TorchScript archive; it runs on as many threads as torch has."""
        import torch

        module = torch.jit.load(io.BytesIO(content))  # type: ignore[no-untyped-call]

        def run(*inputs: Array) -> list[Array]:
            # To profile for optimising would cost a second.
            with torch.no_grad(), torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
                y = module(*map(torch.from_numpy, inputs))
            return [each.numpy() for each in (y if isinstance(y, tuple) else (y,))]

        return run
