"""The convolutions of the search against torch's own, and what it leaves alone."""

import copy
import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from fbsearch.machine.compute import Compute
from fbsearch.machine.convolutions import DepthwiseConv2d, use_own_convolutions


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 7])
def test_output_and_gradients_are_those_of_torch(kernel: int, stride: int, size: int) -> None:
    torch.manual_seed(0)
    ours = nn.Conv2d(6, 6, kernel, stride, kernel // 2, groups=6, bias=False).double()
    theirs = copy.deepcopy(ours)
    use_own_convolutions(ours)
    x = torch.randn(4, 6, size, size + 1, dtype=torch.float64)
    results = []
    for conv in (ours, theirs):
        image = x.clone().requires_grad_()
        y = conv(image)
        (y * torch.linspace(-1, 2, y.numel(), dtype=torch.float64).view_as(y)).sum().backward()
        results.append((y, image.grad, conv.weight.grad))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)


def test_without_a_gradient_of_the_weights_that_of_the_input_is_the_same() -> None:
    conv = nn.Conv2d(6, 6, 5, padding=2, groups=6, bias=False)
    use_own_convolutions(conv)
    x = torch.randn(4, 6, 2, 2, generator=torch.Generator().manual_seed(0))
    gradients = []
    for learns in (True, False):
        conv.weight.requires_grad_(learns)
        image = x.clone().requires_grad_()
        conv(image).square().sum().backward()
        gradients.append(image.grad)
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("stride", [2, 3])
@pytest.mark.parametrize("channels", [4, 8])
def test_a_strided_1x1_convolution_is_that_of_torch(channels: int, stride: int) -> None:
    torch.manual_seed(0)
    ours = nn.Conv2d(channels, 12, 1, stride, bias=False).double()  # in double precision torch's own is sound
    theirs = copy.deepcopy(ours)
    use_own_convolutions(ours)
    results = []
    for conv in (ours, theirs):
        image = torch.randn(4, channels, 7, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        y = conv(image.requires_grad_())
        (y * torch.linspace(-1, 2, y.numel(), dtype=torch.float64).view_as(y)).sum().backward()
        results.append((y, image.grad, conv.weight.grad))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.full
def test_a_strided_1x1_convolution_of_few_channels_keeps_to_its_memory() -> None:
    """Where it does not, the process dies: torch 2.13 with AVX-512, channels last, under 8 channels in."""
    code = """
import torch
from torch import nn
from fbsearch.machine.convolutions import use_own_convolutions
for channels in (4, 6):
    conv = nn.Conv2d(channels, 16, 1, 2, bias=False).to(memory_format=torch.channels_last)
    use_own_convolutions(conv)
    x = torch.randn(16, channels, 8, 8).contiguous(memory_format=torch.channels_last).requires_grad_()
    for _ in range(20):
        conv(x).square().sum().backward()
"""
    environment = os.environ | {"MALLOC_CHECK_": "3", "MALLOC_PERTURB_": "7"}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0


def test_other_convolutions_stay_as_they_are() -> None:
    others = [nn.Conv2d(6, 6, 1), nn.Conv2d(6, 12, 3, groups=6), nn.Conv2d(6, 6, 3, groups=2), nn.Conv2d(1, 1, 3)]
    others += [nn.Conv2d(6, 6, 3, groups=6), nn.Conv2d(6, 6, 3, groups=6, bias=False, dilation=2)]
    net = nn.Sequential(*others, nn.Conv2d(6, 6, 3, groups=6, bias=False))
    names = list(net.state_dict())
    Compute().place(net)
    assert [type(conv) for conv in net] == [nn.Conv2d] * len(others) + [DepthwiseConv2d]
    assert list(net.state_dict()) == names
