"""ofa: the YAML tables of ProxylessNAS and once-for-all, by operator and shapes, with the mean of several runs."""

import math
from typing import Any

from fbbase.errors import FbError
from fblut.errors import LutError
from fbprof.imports import Imported, Importer, look_up
from fbspace.blocks import block_of
from fbspace.opspec import OpSpec
from fbspace.space import Space


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
            content = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise LutError(f"{name}: {' '.join(str(error).split())}") from None
        if not isinstance(content, dict):
            raise LutError(f"{name}: expected keys and latencies, found a {type(content).__name__}")
        latencies = {str(key): _mean(value, f"{name}: {str(key)[:100]}") * unit_us for key, value in content.items()}
        return Imported(look_up(latencies, keys_of, space, name), "by shapes")


def keys_of(spec: OpSpec) -> list[str]:
    """Return the keys an operator may have; none where its kind is not one of theirs.

    Their block drops the first 1x1 convolution at expansion 1, which `ir` does not.
    """
    height, width = block_of(spec).output_size(spec)
    ins = f"input:{spec.height}x{spec.width}x{spec.in_channels}"
    outs = f"output:{height}x{width}x{spec.out_channels}"
    if spec.kind == "conv" and spec.groups == 1:
        return [f"{'Conv_1' if spec.kernel == 1 else 'Conv'}-{ins}-{outs}"]
    if spec.kind == "classifier":
        return [f"Logits-{ins}-output:{spec.out_channels}"]
    if (spec.kind == "mbconv" or (spec.kind == "ir" and spec.expansion != 1)) and spec.groups == 1:
        adds = int(spec.stride == 1 and spec.in_channels == spec.out_channels)
        key = (
            f"expanded_conv-{ins}-{outs}-expand:{spec.expansion:g}-kernel:{spec.kernel}-stride:{spec.stride}"
            f"-idskip:{adds}"
        )
        hswish = int(spec.activation == "hswish")
        extended = f"{key}-se:{int(spec.squeeze_excite)}-hs:{hswish}"
        return [extended] if spec.squeeze_excite or hswish else [key, extended]
    return []


def _mean(value: Any, where: str) -> float:
    mean = value.get("mean") if isinstance(value, dict) else value
    if isinstance(mean, bool) or not isinstance(mean, int | float) or not math.isfinite(mean):
        raise LutError(f"{where}: {str(mean)[:60]!r} is not a latency; write a number, or a mean")
    return float(mean)
