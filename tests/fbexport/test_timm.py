"""Networks of timm, randomly initialised, through our tracer: those of benchmarks/coverage.py, one of every family.

`make test` takes some, each in one format in turn; `make test-full` takes all in all.
"""

import ast
import importlib
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from fbexport.formats import load_format
from fbexport.runtimes import load_model, runtime_of
from peers.installed import FORMATS_HERE

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
OFTEN = ("convnext_atto", "ghostnet_100", "lcnet_050", "mobilenetv4_conv_small")
pytestmark = pytest.mark.skipif(
    find_spec("timm") is None, reason="timm is not installed: pip install --no-deps timm safetensors"
)


def families():
    """Return the benchmark's networks with the size of the image where they need another than 128."""
    text = (BENCHMARKS / "coverage.py").read_text()
    (told,) = (
        each.value
        for each in ast.parse(text).body
        if isinstance(each, ast.Assign) and ast.unparse(each.targets[0]) == "FAMILIES"
    )
    return ast.literal_eval(told)


def cases():
    for name, options in families().items():
        for place, format_name in enumerate(name for name in FORMATS_HERE if name != "torchscript"):
            chosen = name in OFTEN and place == OFTEN.index(name)
            yield pytest.param(name, options.get("size", 128), format_name, marks=() if chosen else pytest.mark.full)


@pytest.mark.filterwarnings("ignore")  # of others' code
@pytest.mark.parametrize(("name", "size", "format_name"), list(cases()))
def test_a_network_of_others_equals_torch(name, size, format_name, monkeypatch):
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    monkeypatch.syspath_prepend(BENCHMARKS)
    importlib.import_module("_torchvision").stand_in()
    import timm

    torch.manual_seed(0)
    network = timm.create_model(name, pretrained=False).eval()
    x = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = network(x).numpy()
    content = load_format(format_name).write(network, (1, 3, size, size))
    (result,) = load_model(content, runtime_of(format_name))(x.numpy())
    assert np.abs(result - expected).max() <= 1e-3 * np.abs(expected).max()
