"""OpSpec: one operator at one shape, and its canonical key, the primary key of every latency table."""

import json
import re
from dataclasses import dataclass, fields

from fbspace.errors import SpecError

ACTIVATIONS = ("none", "relu", "relu6", "hswish", "silu", "gelu")
"""Activation functions a block may use."""

Value = bool | int | float | str
"""What a block's own parameter may be."""

MOST_CHANNELS = 65_536
MOST_PIXELS = 16_384
"""Of a side."""
MOST_KERNEL = 255
MOST_STRIDE = 256
MOST_EXPANSION = 1024.0
MOST_LAYERS = 1000
"""Of a network."""
MOST_NUMBERS = 1 << 28
"""Weights of an operator, and values of a map within it: 1 GB of either."""
_MOST = {
    "in_channels": MOST_CHANNELS, "out_channels": MOST_CHANNELS, "height": MOST_PIXELS, "width": MOST_PIXELS,
    "kernel": MOST_KERNEL, "stride": MOST_STRIDE, "groups": MOST_CHANNELS,
}  # fmt: skip
_COUNTS = ("in_channels", "out_channels", "height", "width", "kernel", "stride", "groups")
_KEY = re.compile(
    r"(?P<kind>[a-z][a-z0-9]*)_in(?P<in_channels>\d{1,9})x(?P<height>\d{1,9})x(?P<width>\d{1,9})_out(?P<out_channels>\d{1,9})"
    r"_k(?P<kernel>\d{1,9})_s(?P<stride>\d{1,9})_e(?P<expansion>\d{1,9}(?:\.\d{1,9})?)_g(?P<groups>\d{1,9})_(?P<activation>[a-z]+\d?)"
    r"(?P<squeeze_excite>_se)?(?P<own>(_[a-z][a-z0-9_]*=[A-Za-z0-9.+-]+)*)"
)
_PARAMETER = re.compile(r"_([a-z][a-z0-9_]*)=([A-Za-z0-9.+-]+)")


@dataclass(frozen=True, slots=True, order=True, repr=False)
class OpSpec:
    """An operator: a block kind with everything its latency depends on.

    `height` and `width` are those of the input, in pixels. `parameters` are those of the block's own that are not at
    their default, by name (`fbspace.blocks.own_parameters`). Two layers with equal specs are the same operator and
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
    parameters: tuple[tuple[str, Value], ...] = ()

    def __post_init__(self) -> None:
        for name in _COUNTS:
            if not 1 <= getattr(self, name) <= _MOST[name]:
                bound = "at least 1" if getattr(self, name) < 1 else f"at most {_MOST[name]}"
                raise SpecError(f"{name} must be {bound}, not {getattr(self, name)}, in a {self.kind!r} operator")
        if self.expansion > MOST_EXPANSION:
            raise SpecError(f"expansion must be at most {MOST_EXPANSION:g}, not {self.expansion:g}")
        if not self.expansion > 0 or float(_decimal(self.expansion)) != self.expansion:
            raise SpecError(f"expansion must be positive with at most 4 decimals, not {self.expansion}")
        if self.kernel % 2 == 0:
            raise SpecError(f"kernel must be odd, not {self.kernel}")
        if self.in_channels % self.groups or self.out_channels % self.groups:
            raise SpecError(
                f"groups={self.groups} must divide in_channels={self.in_channels} and out_channels={self.out_channels}"
            )
        middle = self.in_channels * max(self.expansion, 1.0)
        weights = middle * max(self.in_channels, self.out_channels)
        dense = self.in_channels * self.out_channels * self.kernel**2 / self.groups
        pixels = self.height * self.width
        numbers = {
            "weights": max(weights, dense),
            "values in a map": pixels * max(middle, self.out_channels / self.stride**2),
        }
        for what, count in numbers.items():
            if count > MOST_NUMBERS:
                raise SpecError(f"a {self.kind!r} operator may have at most {MOST_NUMBERS} {what}, not {count:.3g}")
        if self.activation not in ACTIVATIONS:
            raise SpecError(f"activation must be one of {', '.join(ACTIVATIONS)}, not {self.activation!r}")
        if self.parameters and repr(_parsed("".join(f"_{each}" for each in self.own))) != repr(self.parameters):
            raise SpecError(
                f"parameters {self.parameters} cannot stand in a key: they are sorted by name, and a word has letters, "
                "digits, dots and dashes and is no number"
            )

    def __repr__(self) -> str:
        """Show the fields; runs are identified by a hash of this, which parameters change only where there are some."""
        shown = [each.name for each in fields(self) if each.name != "parameters" or self.parameters]
        return f"OpSpec({', '.join(f'{name}={getattr(self, name)!r}' for name in shown)})"

    @property
    def own(self) -> tuple[str, ...]:
        """The parameters as text, e.g. `dilation=2`."""
        return tuple(f"{name}={v if isinstance(v, str) else json.dumps(v)}" for name, v in self.parameters)

    def key(self) -> str:
        """Return the canonical key, e.g. `ir_in24x56x56_out32_k5_s2_e6_g1_relu`; `from_key` parses it back."""
        return (
            f"{self.kind}_in{self.in_channels}x{self.height}x{self.width}_out{self.out_channels}"
            f"_k{self.kernel}_s{self.stride}_e{_decimal(self.expansion)}_g{self.groups}_{self.activation}"
            + ("_se" if self.squeeze_excite else "")
            + "".join(f"_{each}" for each in self.own)
        )

    @classmethod
    def from_key(cls, key: str) -> "OpSpec":
        """Parse a canonical key. Raises SpecError for anything that `key` would not have written."""
        m = _KEY.fullmatch(key)
        if m is None:
            raise SpecError(f"not an operator key: {key!r} (expected e.g. ir_in24x56x56_out32_k5_s2_e6_g1_relu)")
        spec = cls(
            kind=m["kind"],
            **{name: int(m[name]) for name in _COUNTS},
            expansion=float(m["expansion"]),
            activation=m["activation"],
            squeeze_excite=m["squeeze_excite"] is not None,
            parameters=_parsed(m["own"]),
        )
        if spec.key() != key:
            raise SpecError(f"not a canonical operator key: {key!r} (canonical: {spec.key()!r})")
        return spec

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """Shape of the input: 1, channels, height, width."""
        return 1, self.in_channels, self.height, self.width


def _decimal(value: float) -> str:
    """Format an expansion without superfluous digits: 6, 0.75, 5.4566."""
    return f"{value:.4f}".rstrip("0").rstrip(".")


def _parsed(own: str) -> tuple[tuple[str, Value], ...]:
    """Return the parameters at the end of a key: words, and what JSON reads as a number, true or false."""
    return tuple(sorted((name, _value(text)) for name, text in _PARAMETER.findall(own))) if own else ()


def _value(text: str) -> Value:
    try:
        value: Value = json.loads(text)
        return value
    except ValueError:
        return text
