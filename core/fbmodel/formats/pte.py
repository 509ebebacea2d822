"""pte: ExecuTorch programs, which say what goes in and comes out; what is in their delegates is not listed."""

from pathlib import Path
from typing import Self

from fbmodel.errors import ModelError, decoding, named
from fbmodel.model import Opaque
from fbmodel.program import read_program
from fbmodel.tensors import Tensor


class Pte(Opaque):
    """What ExecuTorch runs, of fixed shapes; of several methods the first."""

    suffixes = ".pte"
    words = "an ExecuTorch program"
    magic = b"ET12"
    magic_offset = 4

    def __init__(self, path: Path, content: bytes) -> None:
        """Read a program."""
        super().__init__(path, content)
        with named(path), decoding(path, "ExecuTorch program"):
            program = read_program(content)
        self.inputs, self.outputs = program.inputs, program.outputs

    @property
    def parameters(self) -> None:
        """Not counted."""
        return

    def rewritten(self, inputs: tuple[Tensor, ...]) -> Self:
        """Raise ModelError: delegates were compiled for their shapes."""
        raise ModelError(f"{self.path}: the shapes of an ExecuTorch program are set when it is exported")
