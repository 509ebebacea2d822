"""Sizes that cannot be are refused with the bound, before anything is allocated or counted for minutes."""

import json
import math
import time
from pathlib import Path

import pytest

from fbbase.errors import FbError
from fbspace.architecture import load_architecture
from fbspace.errors import SpaceError, SpecError
from fbspace.listing import scale
from fbspace.network import count_architecture
from fbspace.opspec import OpSpec
from fbspace.space import load_space
from fbspace.space.toml_lines import line_of

TOML = """description = "d"
input = { channels = 3, size = 32 }
classes = 4
head_channels = [32]
stem = [{ kind = "conv", channels = 16, kernel = 3, stride = 2 }]
stages = [{ channels = 16, repeats = 1, stride = 1 }]
[candidates]
a = { kind = "ir", kernel = 3, expansion = 1 }
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("channels = 16, repeats", "channels = 1000000000, repeats", r"line 6: .*less than or equal to 65536"),
        ("channels = 16, repeats", "channels = 65536, repeats", r"line 4: head_channels: .*at most 268435456 weights"),
        ("repeats = 1", "repeats = 1000000000", "line 6: .*less than or equal to 65536"),
        ("repeats = 1", "repeats = 60000", "line 6: stages: they have 60000 layers together, at most 1000"),
        ("size = 32", "size = 1000000000", "line 2: .*less than or equal to 65536"),
        ("size = 32", "size = 16384", "line 5: .*at most 268435456 values in a map"),
        ("classes = 4", "classes = 1000000000", "line 3: .*less than or equal to 65536"),
        ("kernel = 3, expansion", "kernel = 999999999, expansion", "line 8: .*less than or equal to 65536"),
        ("kernel = 3, expansion", "kernel = 1001, expansion", "line 8: candidates.a: kernel must be at most 255"),
        ("expansion = 1", "expansion = inf", "line 8: .*less than or equal to 1024"),
        ("expansion = 1", "expansion = nan", "line 8: .*less than or equal to 1024"),
        ("expansion = 1", "expansion = 1e9", "line 8: .*less than or equal to 1024"),
        ("stride = 1 }", "stride = 1000 }", "line 8: candidates.a: stride must be at most 256"),
        (
            "stages = [{ channels = 16",
            f"stages = [{{ channels = {list(range(8, 16000, 8))}",
            "line 6: stages: they have 3996001 operators, at most 2000000 are possible",
        ),
    ],
)
def test_a_space_of_impossible_sizes_is_refused_with_its_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in TOML
    (tmp_path / "s.toml").write_text(TOML.replace(old, new))
    start = time.monotonic()
    with pytest.raises(SpaceError, match=message):
        load_space(str(tmp_path / "s.toml"), build=True)
    assert time.monotonic() - start < 60  # it took minutes; the machine may be busy


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ({"kind": "ir", "kernel": 3, "expansion": 1, "channels": 10**9}, "less than or equal to 65536"),
        ({"kind": "ir", "kernel": 3, "expansion": 1024, "channels": 65536}, "at most 268435456"),
        ({"kind": "ir", "kernel": 255, "expansion": 1, "channels": 65536}, "at most 268435456 weights"),
    ],
)
def test_a_network_of_impossible_sizes_is_refused(tmp_path: Path, layer: dict[str, object], message: str) -> None:
    network = {
        "input": {"channels": 3, "size": 32},
        "stem": [{"kind": "conv", "channels": 16, "kernel": 3}],
        "layers": [layer],
        "head": [{"kind": "classifier", "channels": 4, "activation": "none"}],
    }
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"name": "n", "network": network}))
    with pytest.raises(FbError, match=message):
        count_architecture(load_architecture(str(path)))
    small = {"kind": "ir", "kernel": 3, "expansion": 1, "channels": 16}
    path.write_text(json.dumps({"name": "n", "network": network | {"layers": [small] * 1001}}))
    with pytest.raises(FbError, match="at most 1000 items"):
        load_architecture(str(path))


@pytest.mark.parametrize(
    ("width", "size"), [(math.nan, None), (math.inf, None), (1e9, None), (-1.0, None), (1.0, 10**9), (1.0, -1)]
)
def test_a_network_cannot_be_scaled_by_what_is_no_scale(width: float, size: int | None) -> None:
    architecture = load_architecture("fbnet-a")
    space = architecture.load_space()
    with pytest.raises(SpaceError, match="cannot be scaled so: widths by more than 0 and at most 100 times"):
        scale(space, architecture.all_specs(space), width, size)


def test_keys_of_thousands_of_digits_are_none() -> None:
    with pytest.raises(SpecError, match="not an operator key"):
        OpSpec.from_key(f"conv_in{'9' * 5000}x32x32_out16_k3_s2_e1_g1_relu")
    assert OpSpec.from_key("conv_in1024x7x7_out1024_k7_s1_e1_g1_relu").kernel == 7


def test_the_line_of_a_mistake_in_a_long_file_is_found() -> None:
    lines = [f'[a{i}]\nb = {{ c = {i} }}\nd = """\n{i}\n"""' for i in range(500)]
    text = "\n".join(lines)
    assert line_of(text, ("a499", "b", "c")) == 499 * 5 + 2
    assert line_of(text, ("a7", "d")) == 7 * 5 + 5
    assert line_of(text, ("a7", "none")) == 7 * 5 + 1
