"""The zoo's modern networks against timm's of the same weights, and against what was published."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from fbspace.architecture import load_architecture
from fbspace.network import build_network, count_architecture
from fbspace.weights import randomize
from peers.published import LIKE_TIMM, copy_weights, of_timm

OTHERWISE_COUNTED = {"efficientnet-lite0": 385.2, "mobilenetv4-conv-small": 186.0}
"""Millions of multiply-accumulates where other ones are published; docs/searching/zoo.md says why."""


OFTEN = ("mobilenetv4-conv-small", "ghostnet-100")
by_weights = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in OFTEN else pytest.mark.full) for name in LIKE_TIMM]
)


def network_of_timm(name: str) -> nn.Module:
    """Return timm's network, randomly initialised, as it is run on a device."""
    network = randomize(of_timm().create_model(LIKE_TIMM[name], pretrained=False), seed=1).eval()
    if name == "fbnetv3-b":  # mobile-vision pads two strided convolutions by less, which timm does not
        network.blocks[3][0].conv_dw.padding, network.blocks[5][0].conv_dw.padding = (1, 1), (0, 0)
    folded: nn.Module = of_timm("utils.model").reparameterize_model(network)
    return folded


@by_weights
@pytest.mark.filterwarnings("ignore")  # of others' code
def test_it_computes_what_timms_does(name: str) -> None:
    theirs, ours = network_of_timm(name), build_network(load_architecture(name)).eval()
    copy_weights(theirs, ours)
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected, found = theirs(x), ours(x)
    assert (found - expected).norm() <= 1e-5 * expected.norm()


@by_weights
@pytest.mark.filterwarnings("ignore")  # of others' code
def test_it_is_counted_as_timms_module_is(name: str) -> None:
    architecture, counted = load_architecture(name), []

    def add(weights: Callable[[nn.Module], torch.Tensor]) -> Callable[..., None]:
        return lambda layer, _, y: counted.append(y[0].numel() * weights(layer).numel())

    network = network_of_timm(name).to("meta")
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(add(lambda layer: layer.weight[0]))
    network(torch.zeros(architecture.load_space().input_shape, device="meta"))
    found = count_architecture(architecture)
    assert (found.macs, found.parameters) == (sum(counted), sum(p.numel() for p in network.parameters()))


@pytest.mark.parametrize("name", LIKE_TIMM)
def test_counts_are_those_published(name: str) -> None:
    architecture = load_architecture(name)
    found, published = count_architecture(architecture), architecture.provenance["published"]
    assert found.parameters / 1e6 == pytest.approx(published["parameters_million"], rel=0.006)
    if name in OTHERWISE_COUNTED:
        assert found.macs / 1e6 == pytest.approx(OTHERWISE_COUNTED[name], abs=0.05)
    else:
        assert found.macs / 1e6 == pytest.approx(published["macs_million"], rel=0.006)
