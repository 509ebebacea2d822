"""The two files of an ncnn model in one, as docs/measuring/ncnn.md describes it.

It begins with the `.bin` file, so that ncnn reads it as such: it takes what its layers need, and no more. Then come the
text of the `.param` file, a line of JSON with what ncnn's files do not say (`Settings`), and 8 bytes: how long text and
line are together, and `NCNN`.
"""

import json
import struct
from dataclasses import dataclass, field

_END = struct.Struct("<I4s")
_MAGIC = b"NCNN"


@dataclass(frozen=True, slots=True)
class NcnnFile:
    """An ncnn model: the text of its `.param` file, the content of its `.bin` file, and how it is to be run.

    `options` are attributes of ncnn's Option. `outputs` are shapes N, C, H, W or N, C by blob: ncnn drops sides of 1.
    So are `inputs`, which are only there for others than one input of C, H, W.
    """

    param: str
    weights: bytes
    options: dict[str, bool]
    outputs: dict[str, list[int]]
    inputs: dict[str, list[int]] = field(default_factory=dict)

    def pack(self) -> bytes:
        """Return it as one file."""
        settings = {"options": self.options, "outputs": self.outputs} | ({"inputs": self.inputs} if self.inputs else {})
        text = f"{self.param}{json.dumps(settings, separators=(',', ':'))}\n".encode()
        return self.weights + text + _END.pack(len(text), _MAGIC)

    @classmethod
    def unpack(cls, content: bytes) -> "NcnnFile":
        """Read one file. Raises ValueError for what is none."""
        size, magic = _END.unpack(content[-_END.size :]) if len(content) >= _END.size else (0, b"")
        at = len(content) - _END.size - size
        if magic != _MAGIC or at < 0:
            raise ValueError("it is no ncnn model of one file, or not all of it")
        param, _, line = content[at : -_END.size].decode().rstrip("\n").rpartition("\n")
        settings = json.loads(line)
        return cls(f"{param}\n", content[:at], settings["options"], settings["outputs"], settings.get("inputs", {}))


def options_of(precision: str) -> dict[str, bool]:
    """Return how a model is run: as ncnn does by default, but that float16 takes part in float16 models only."""
    halves = dict.fromkeys(("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic"), precision == "float16")
    return halves | dict.fromkeys(("use_packing_layout", "use_winograd_convolution", "lightmode"), True)
