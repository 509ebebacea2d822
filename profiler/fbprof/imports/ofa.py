"""ofa: the YAML tables of ProxylessNAS and once-for-all, by operator and shapes, with the mean of several runs."""

import re
from collections.abc import Iterable
from typing import Any

from fbbase.errors import FbError
from fblut.errors import LutError
from fbprof.imports import Imported, Importer, look_up, number_of
from fbspace.blocks import block_of
from fbspace.opspec import OpSpec
from fbspace.space import Space

_EXPANDS = re.compile(
    r"expanded_conv-input:[0-9]+x[0-9]+x([0-9]{1,9})-output:[0-9x]+-expand:([0-9]{1,9}(?:\.[0-9]+)?)-"
)
LARGEST_RATIO = 16
"""No block of such tables expands by more."""


class OnceForAll(Importer):
    """Operators by their shapes."""

    suffixes = (".yaml", ".yml")

    def read(self, text: str, name: str, space: Space, unit_us: float) -> Imported:
        """Read keys such as `expanded_conv-input:112x112x16-output:56x56x24-expand:6-kernel:3-stride:2-idskip:0`.

        Raises LutError, and FbError where PyYAML is not installed.
        """
        try:
            import yaml
        except ModuleNotFoundError:
            raise FbError("to read YAML needs PyYAML: pip install 'fbnet-lab[yaml]'") from None

        try:
            root = yaml.compose(text, Loader=yaml.BaseLoader)  # nodes with lines, and numbers as they are written
        except (yaml.YAMLError, RecursionError, ValueError) as error:
            reason = "it is nested too deep" if isinstance(error, RecursionError) else " ".join(str(error).split())
            raise LutError(f"{name}: {reason[:400]}") from None
        if not isinstance(root, yaml.MappingNode):
            kind = "nothing" if root is None else "a list" if root.id == "sequence" else "a text"
            raise LutError(f"{name}: expected keys and latencies, found {kind}")
        latencies = {
            key: _mean(node, f"{name}: line {node.start_mark.line + 1}: {key[:100]}", name) * unit_us
            for key, node in _entries(root, name).items()
        }
        is_middle = _tells_middles(latencies, name)
        return look_up(latencies, lambda spec: keys_of(spec, is_middle), space, name, "by shapes")


def _entries(mapping: Any, name: str) -> dict[str, Any]:
    """Return the nodes of a mapping by key. Raises LutError for a key that is no text, or is there twice."""
    found: dict[str, Any] = {}
    lines: dict[str, int] = {}
    for key, node in mapping.value:
        line = key.start_mark.line + 1
        if not isinstance(key.value, str):
            raise LutError(f"{name}: line {line}: a key is no text")
        if key.value.isdigit() and node.value == "":
            alone = f"{key.value[:20]!r} stands alone behind a comma"
            raise LutError(f"{name}: line {line}: {alone}: decimals have a point, not a comma")
        if lines.setdefault(key.value, line) != line or key.value in found:
            both = f"in line {lines[key.value]} and in line {line}"
            raise LutError(f"{name}: key {key.value[:100]!r} is there twice, {both}: keep one")
        found[key.value] = node
    return found


def _tells_middles(keys: Iterable[str], name: str) -> bool:
    """Whether `expand:` tells the channels in the middle, as once-for-all's tables do, and not a ratio.

    Raises LutError where the channels that the keys have leave open which it is, or say both.
    """
    found = [(key, int(m[1]), float(m[2])) for key in keys if (m := _EXPANDS.match(key))]
    ratios = [key for key, _, expand in found if expand <= LARGEST_RATIO]
    middles = [key for key, channels, expand in found if expand >= channels]
    all_ratios, all_middles = len(ratios) == len(found), len(middles) == len(found)
    if all_ratios != all_middles or not found:
        return all_middles and bool(found)
    if all_ratios:
        raise LutError(f"{name}: expand: may be a ratio or the channels in the middle, as in {found[0][0]!r:.100}")
    ratio, middle = (next(key for key, _, _ in found if key not in others) for others in (middles, ratios))
    raise LutError(f"{name}: expand: is a ratio in {ratio!r:.100}, but the channels in the middle in {middle!r:.100}")


def keys_of(spec: OpSpec, is_middle: bool = False) -> list[str | tuple[str, ...]]:
    """Return the ways in which an operator may be called, each of one key or more; none where its kind is not theirs.

    Their block drops the first 1x1 convolution at expansion 1, which `ir` does not. With `is_middle`, `expand:` is the
    channels in the middle. A pool is two of theirs: the average and the 1x1 convolution behind it.
    """
    height, width = block_of(spec).output_size(spec)
    ins = f"input:{spec.height}x{spec.width}x{spec.in_channels}"
    outs = f"output:{height}x{width}x{spec.out_channels}"
    if spec.kind == "conv" and spec.groups == 1:
        return [f"{'Conv_1' if spec.kernel == 1 else 'Conv'}-{ins}-{outs}"]
    pooled = f"AvgPool2D-{ins}-output:1x1x{spec.in_channels}"
    one = f"input:1x1x{spec.in_channels}"
    if spec.kind == "pool":
        return [(pooled, f"Conv_2-{one}-{outs}")]
    if spec.kind == "classifier":
        logits = [f"Logits-{one}-output:{spec.out_channels}", f"Logits-{one}-output:1x1x{spec.out_channels}"]
        if (spec.height, spec.width) != (1, 1):
            return [f"Logits-{ins}-output:{spec.out_channels}", *((pooled, key) for key in logits)]
        return list(logits)
    if (spec.kind == "mbconv" or (spec.kind == "ir" and spec.expansion != 1)) and spec.groups == 1:
        adds = int(spec.stride == 1 and spec.in_channels == spec.out_channels)
        expand = block_of(spec).middle_channels(spec) or spec.in_channels if is_middle else spec.expansion
        key = f"expanded_conv-{ins}-{outs}-expand:{expand:g}-kernel:{spec.kernel}-stride:{spec.stride}-idskip:{adds}"
        hswish = int(spec.activation == "hswish")
        extended = f"{key}-se:{int(spec.squeeze_excite)}-hs:{hswish}"
        return [extended] if spec.squeeze_excite or hswish else [key, extended]
    return []


def _mean(node: Any, where: str, name: str) -> float:
    """Return the number of an entry, or its mean. Raises LutError."""
    if node.id == "mapping":
        entries = _entries(node, name)
        node = entries.get("mean", node)
    text = node.value if isinstance(node.value, str) else "a list"
    return number_of(text, f"{where}: {text[:60]!r} is not a latency; write a number, or a mean")
