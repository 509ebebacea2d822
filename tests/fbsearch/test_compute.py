"""The choice of device and precision, and the precision that a forward pass then has."""

import pytest
import torch
from torch import nn

from fbsearch.errors import SearchError
from fbsearch.machine.compute import Compute
from fbsearch.machine.descent import LossScale


@pytest.mark.parametrize(
    ("device", "amp", "message"),
    [
        ("gpu", "none", "--device is auto, cpu, cuda"),
        ("cpu", "int8", "--amp is one of none, bf16, fp16"),
        ("cpu", "fp16", "--amp fp16 needs a GPU"),
    ],
)
def test_what_cannot_be_is_refused(device: str, amp: str, message: str) -> None:
    with pytest.raises(SearchError, match=message):
        Compute.choose(device, amp)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_that_is_not_there_is_refused_and_auto_takes_the_cpu() -> None:
    with pytest.raises(SearchError, match=r"--device cuda: .* Use --device cpu or auto"):
        Compute.choose("cuda")
    assert Compute.choose("auto").device.type == "cpu"


def test_compiling_without_a_compiler_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SearchError, match=r"--compile needs a C\+\+ compiler"):
        Compute.choose("cpu", compile=True)


@pytest.mark.parametrize(("amp", "dtype"), [("none", torch.float32), ("bf16", torch.bfloat16)])
def test_products_have_the_precision_asked_for_and_weights_stay_float32(amp: str, dtype: torch.dtype) -> None:
    compute = Compute.choose("cpu", amp)
    conv = compute.place(nn.Conv2d(3, 4, 3))
    with compute.autocast():
        y = conv(compute.batch(torch.randn(2, 3, 8, 8)))
    assert y.dtype == dtype
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert conv.weight.dtype == torch.float32
    assert not LossScale.of(amp).adapts
