"""executorch: ExecuTorch programs, whose kernels are XNNPACK's."""

from collections.abc import Iterator
from pathlib import Path

from fbbase.locks import scratch_folder
from fbexport.graph import Array
from fbexport.runtimes import NativeLibrary, Run, Runtime
from fbexport.runtimes._executorch_program import FLAGS, KERNELS, LIBRARIES, SHIM, Program
from fbmodel.program import read_program


class ExecuTorch(Runtime):
    """ExecuTorch by its C++ libraries: torch is not needed, a C++ compiler is, once."""

    package = "executorch"
    format = "pte"
    agent_source = Path(__file__).with_name("_executorch_program.py")
    native = NativeLibrary(
        "libfbexecutorch.so",
        tuple(f"executorch/lib/lib{name}.so" for name in (*LIBRARIES, *KERNELS)),
        source=SHIM,
        flags=FLAGS,
    )

    def load(self, content: bytes, threads: int) -> Run:
        """Load a program; those of more than one thread that are loaded at once have as many."""
        with scratch_folder() as folder:
            path = folder / "model.pte"
            path.write_bytes(content)
            program = Program(str(path), threads)

        def run(*inputs: Array) -> list[Array]:
            program.feed(inputs)
            program.run()
            outputs: list[Array] = program.outputs()
            return outputs

        return run

    def fallbacks(self, content: bytes, precision: str) -> Iterator[str]:
        """Yield what is left outside XNNPACK, by the file: what a delegate took, it runs."""
        program = read_program(content)
        yield from (f"{kernel} not delegated" for kernel in program.kernels)
        yield from (f"delegate {name}" for name in program.delegates if name != "XnnpackBackend")
