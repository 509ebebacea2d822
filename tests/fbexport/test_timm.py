"""Networks of timm, randomly initialised, through our tracer; benchmarks/coverage.py has a network of every family."""

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

pytestmark = pytest.mark.skipif(
    find_spec("timm") is None, reason="timm is not installed: pip install --no-deps timm safetensors"
)


@pytest.mark.filterwarnings("ignore")  # of others' code
@pytest.mark.parametrize("format_name", [name for name in ("onnx", "tflite", "pte") if name in FORMATS_HERE])
@pytest.mark.parametrize("name", ["lcnet_050", "ghostnet_100", "convnext_atto", "mobilenetv4_conv_small"])
def test_a_network_of_others_equals_torch(name, format_name, monkeypatch):
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    importlib.import_module("_torchvision").stand_in()
    import timm

    torch.manual_seed(0)
    network = timm.create_model(name, pretrained=False).eval()
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = network(x).numpy()
    (result,) = load_model(load_format(format_name).write(network, (1, 3, 64, 64)), runtime_of(format_name))(x.numpy())
    assert np.abs(result - expected).max() <= 1e-3 * np.abs(expected).max()
