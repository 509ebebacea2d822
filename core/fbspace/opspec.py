"""OpSpec: one operator at one shape, and its canonical key, the primary key of every latency table."""

import re
from dataclasses import dataclass

from fbspace.errors import SpecError

ACTIVATIONS = ("none", "relu", "relu6", "hswish")
"""Activation functions a block may use."""

POOLING = ("pool", "classifier")
"""Kinds of blocks that average over all pixels."""

_KEY = re.compile(
    r"(?P<kind>[a-z][a-z0-9]*)_in(?P<cin>\d+)x(?P<h>\d+)x(?P<w>\d+)_out(?P<cout>\d+)"
    r"_k(?P<k>\d+)_s(?P<s>\d+)_e(?P<e>\d+(?:\.\d+)?)_g(?P<g>\d+)_(?P<act>[a-z]+\d?)(?P<se>_se)?"
)


@dataclass(frozen=True, slots=True, order=True)
class OpSpec:
    """An operator: a block kind with everything its latency depends on.

    `height` and `width` are those of the input, in pixels. Two layers with equal specs are the same operator and
    are measured once. Raises SpecError when the numbers cannot describe an operator.
    """

    kind: str
    in_channels: int
    out_channels: int
    height: int
    width: int
    kernel: int = 1
    stride: int = 1
    expansion: float = 1
    groups: int = 1
    activation: str = "relu"
    squeeze_excite: bool = False

    def __post_init__(self) -> None:
        counts = {
            "in_channels": self.in_channels,
            "out_channels": self.out_channels,
            "height": self.height,
            "width": self.width,
            "kernel": self.kernel,
            "stride": self.stride,
            "groups": self.groups,
        }
        for name, value in counts.items():
            if value < 1:
                raise SpecError(f"{name} must be at least 1, not {value}, in a {self.kind!r} operator")
        if not self.expansion > 0 or float(_decimal(self.expansion)) != self.expansion:
            raise SpecError(f"expansion must be positive with at most 4 decimals, not {self.expansion}")
        if self.kernel % 2 == 0:
            raise SpecError(f"kernel must be odd, not {self.kernel}")
        if self.in_channels % self.groups or self.out_channels % self.groups:
            raise SpecError(
                f"groups={self.groups} must divide in_channels={self.in_channels} and out_channels={self.out_channels}"
            )
        if self.activation not in ACTIVATIONS:
            raise SpecError(f"activation must be one of {', '.join(ACTIVATIONS)}, not {self.activation!r}")

    def key(self) -> str:
        """Return the canonical key, e.g. `ir_in24x56x56_out32_k5_s2_e6_g1_relu`; `from_key` parses it back."""
        return (
            f"{self.kind}_in{self.in_channels}x{self.height}x{self.width}_out{self.out_channels}"
            f"_k{self.kernel}_s{self.stride}_e{_decimal(self.expansion)}_g{self.groups}_{self.activation}"
            + ("_se" if self.squeeze_excite else "")
        )

    @classmethod
    def from_key(cls, key: str) -> "OpSpec":
        """Parse a canonical key. Raises SpecError for anything that `key` would not have written."""
        m = _KEY.fullmatch(key)
        if m is None:
            raise SpecError(f"not an operator key: {key!r} (expected e.g. ir_in24x56x56_out32_k5_s2_e6_g1_relu)")
        spec = cls(
            kind=m["kind"],
            in_channels=int(m["cin"]),
            out_channels=int(m["cout"]),
            height=int(m["h"]),
            width=int(m["w"]),
            kernel=int(m["k"]),
            stride=int(m["s"]),
            expansion=float(m["e"]),
            groups=int(m["g"]),
            activation=m["act"],
            squeeze_excite=m["se"] is not None,
        )
        if spec.key() != key:
            raise SpecError(f"not a canonical operator key: {key!r} (canonical: {spec.key()!r})")
        return spec

    @property
    def is_identity(self) -> bool:
        """Whether the operator vanishes from the network: a skip that changes no shape.

        It is never exported nor measured, and costs nothing by construction.
        """
        return self.kind == "skip" and self.stride == 1 and self.in_channels == self.out_channels

    @property
    def output_size(self) -> tuple[int, int]:
        """Height and width of the output: pooling ends in 1x1, everything else divides by the stride, rounded up."""
        if self.kind in POOLING:
            return 1, 1
        return -(-self.height // self.stride), -(-self.width // self.stride)

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """Shape of the input: 1, channels, height, width."""
        return 1, self.in_channels, self.height, self.width


def _decimal(value: float) -> str:
    """Format an expansion without superfluous digits: 6, 0.75, 5.4566."""
    return f"{value:.4f}".rstrip("0").rstrip(".")
