"""docs/extend/block.md, followed literally: as one file in a copy of the sources, and in an installed package."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from fbbase.options import options_of
from fbspace.blocks import BLOCKS
from peers.extending import ROOT, copy_sources, examples, install, page, python, touched

PAGE = page("block")

FOLLOW = """
import io, json, sys
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import torch

import fbspace
from fbbase.commandline import run
from fblut.reading import read_lut
from fbexport.export import export_network
from fbprof.cli import fbprof
from fbsearch.cli import fbsearch
from fbspace.architecture import load_architecture
from fbspace.weights import load_network

TOOLS = {"fbprof": fbprof, "fbsearch": fbsearch}
SHORTER = {
    "fbprof measure": ["--rounds", "2", "--calibrate", "8"],
    "fbsearch run": ["--epochs", "2", "--batch", "16", "--limit", "200", "--train-epochs", "0", "--threads", "1"],
    "fbsearch train": ["--epochs", "1", "--limit", "200", "--threads", "1"],
}
codes = {}
for line in json.loads(sys.argv[1]):
    tool, *words = line.split()
    codes[line] = run(TOOLS[tool], [*words, *SHORTER.get(f"{tool} {words[0]}", [])])
Path("other.csv").write_text(Path("phantom.csv").read_text().replace("cores", "board"))
compared = io.StringIO()
with redirect_stdout(compared):
    codes["compare"] = run(fbprof, ["compare", "phantom.csv", "other.csv", "--json"])

import onnxruntime
from ai_edge_litert.interpreter import Interpreter

arch = load_architecture("runs/phantom/arch.json")
arch = arch.model_copy(update={"choices": ("large", "small", "large")})
network = load_network(arch, seed=1)
x = np.random.default_rng(0).normal(size=(1, 3, 32, 32)).astype(np.float32)
wanted = network(torch.from_numpy(x)).detach().numpy()
onnx = onnxruntime.InferenceSession(export_network(arch, "onnx", seed=1)).run(None, {"input": x})[0]
litert = Interpreter(model_content=export_network(arch, "tflite", seed=1))
litert.allocate_tensors()
litert.set_tensor(litert.get_input_details()[0]["index"], x.transpose(0, 2, 3, 1))
litert.invoke()
both = onnx, litert.get_tensor(litert.get_output_details()[0]["index"])
groups = json.loads(compared.getvalue())["comparisons"][0]["groups"]
errors = [np.abs(y - wanted).max() / np.abs(wanted).max() for y in both]
lut = read_lut(Path("phantom.csv"))
print(json.dumps({
    "home": fbspace.__file__,
    "codes": codes,
    "rows": {key: row.latency_us for key, row in lut.rows.items()},
    "calibrated_by": lut.metadata.calibration_networks,
    "groups": [[g["what"], g["value"], g["operators"]] for g in groups],
    "errors": [float(error) for error in errors],
}))
"""


def test_the_page_shows_a_block_that_is_there() -> None:
    shown = re.search(r"This is `(core/fbspace/blocks/\w+\.py)`", PAGE)
    assert shown is not None
    assert examples(PAGE, "python") == [(ROOT / shown[1]).read_text(encoding="utf-8")]


def test_the_page_lists_all_blocks_with_their_parameters() -> None:
    table = PAGE.partition("## Blocks that are there")[2].partition("\n\n## ")[0]
    of_ir = {option.name for option in options_of(BLOCKS.find("ir"))}
    listed = set()
    for _, kinds, _, told, _ in (line.split("|") for line in table.splitlines() if line.startswith("| `")):
        own: set[str] = set()
        for kind in re.findall(r"`(\w+)`", kinds):
            listed.add(kind)
            own |= {option.name for option in options_of(BLOCKS.find(kind))}
        if "those of `ir`" in told:
            assert own >= of_ir
            own -= of_ir
        assert own == set(re.findall(r"`(\w+)` \S", told)) - {"ir"}
    assert listed == set(BLOCKS.names())


@pytest.mark.parametrize("way", ["file", pytest.param("package", marks=pytest.mark.full)])
def test_a_block_with_a_parameter_of_its_own_is_one_file(way: str, tmp_path: Path) -> None:
    (code,), tomls = examples(PAGE, "python"), examples(PAGE, "toml")
    sources, work, site = copy_sources(tmp_path / "checkout"), tmp_path / "work", tmp_path / "site"
    work.mkdir()
    if way == "file":
        place = re.search(r"save it under a name of your own,\n`(core/fbspace/blocks/\w+\.py)`", PAGE)
        assert place is not None
        (sources / place[1]).write_text(code, encoding="utf-8")
    else:
        install(site, tomllib.loads(tomls[1]), {"phantom.py": code})
    (work / "phantom.toml").write_text(tomls[0], encoding="utf-8")
    commands = examples(PAGE, "sh")[0].splitlines()
    result = python(["-c", FOLLOW, json.dumps(commands)], work, sources, site)
    assert result.returncode == 0, result.stderr
    told = json.loads(result.stdout.splitlines()[-1])
    assert told["home"].startswith(str(sources))
    assert told["codes"] == dict.fromkeys([*commands, "compare"], 0), result.stderr
    # where the shape is kept and where it changes, each with both kernels; the skip that changes the shape
    assert {key: us is not None for key, us in told["rows"].items()} == dict.fromkeys(
        [
            "conv_in3x32x32_out8_k3_s2_e1_g1_relu",
            "phantom_in8x16x16_out8_k3_s1_e2_g1_relu",
            "phantom_in8x16x16_out8_k3_s1_e2_g1_relu_cheap_kernel=5",
            "phantom_in8x16x16_out16_k3_s2_e2_g1_relu",
            "phantom_in8x16x16_out16_k3_s2_e2_g1_relu_cheap_kernel=5",
            "skip_in8x16x16_out16_k1_s2_e1_g1_relu",
            "phantom_in16x8x8_out16_k3_s1_e2_g1_relu",
            "phantom_in16x8x8_out16_k3_s1_e2_g1_relu_cheap_kernel=5",
            "conv_in16x8x8_out64_k1_s1_e1_g1_relu",
            "classifier_in64x8x8_out10_k1_s1_e1_g1_none",
        ],
        True,
    )
    assert told["calibrated_by"] == 8
    assert [group for group in told["groups"] if group[0] == "cheap_kernel"] == [
        ["cheap_kernel", "3", 3],
        ["cheap_kernel", "5", 3],
    ]
    assert max(told["errors"]) < 1e-4
    assert "candidates of kind" in result.stderr  # it does not say how it starts, and is left at random
    assert touched(sources) == ({"core/fbspace/blocks/phantom.py"} if way == "file" else set())
