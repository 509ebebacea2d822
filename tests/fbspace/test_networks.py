"""Published networks against published counts; architecture files and weights, and what is wrong with bad ones."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from fbbase.errors import FbError, UnknownNameError
from fbspace.architecture import ZOO, Architecture, load_architecture
from fbspace.errors import ArchitectureError
from fbspace.listing import scale
from fbspace.network import build_network, count, count_architecture, count_spec
from fbspace.opspec import OpSpec
from fbspace.space import Space
from fbspace.weights import load_network, load_weights, randomize, save_weights
from peers.published import LIKE_TIMM

LISTED = {
    "input": {"channels": 3, "size": 32},
    "stem": [{"kind": "conv", "channels": 8}],
    "layers": [{"kind": "skip", "channels": 8}],
    "head": [{"kind": "classifier", "channels": 10}],
}
EVEN = {"kind": "mbconv", "channels": 8, "kernel": 2}
TINY = Architecture(name="tiny", space="fbnet-tiny", choices=("k3_e1", "skip", "k5_e3", "k3_e1_g2") * 2)

# millions of multiply-accumulates; counted from the paper's layer tables, published values within 1 %
FBNET_MACS = [
    ("fbnet-a", 1504, 249.9),
    ("fbnet-b", 1984, 296.6),
    ("fbnet-b", 1504, 287.9),
    ("fbnet-c", 1984, 385.0),
    ("fbnet-c", 1504, 376.2),
    ("fbnet-s8", 1504, 292.9),
    ("fbnet-iphonex", 1504, 321.8),
    ("fbnet-a-mobile-vision", 1504, 244.5),
    ("fbnet-b-mobile-vision", 1984, 291.1),
    ("fbnet-c-mobile-vision", 1984, 378.2),
]
FULLY_CONNECTED = 1280 * 1000
# millions of multiply-accumulates and of parameters, as published (facebookresearch/mobile-vision; FBNetV2, CVPR'20)
FBNETV2 = [
    ("fbnetv2-f0", 65.2, 1.53, FULLY_CONNECTED),  # published without the last layer
    ("fbnetv2-f1", 56.4, 6.00, 0),
    ("fbnetv2-f2", 85.4, 6.00, 0),
    ("fbnetv2-f3", 121.8, 6.90, 0),
    ("fbnetv2-f4", 238.4, 6.99, 0),
    ("fbnetv2-l2", 423.9, 8.50, 0),
]
# millions of multiply-accumulates as published, and the parameters of torchvision's networks of the same papers
MOBILENETS = [
    ("mobilenetv2", 300, 3_504_872),
    ("mobilenetv3-large", 219, 5_483_032),
    ("mobilenetv3-small", 56, 2_542_856),
]


@pytest.mark.parametrize(("name", "head", "macs"), FBNET_MACS)
def test_multiply_accumulates_of_fbnet(name: str, head: int, macs: float) -> None:
    architecture = load_architecture(name).model_copy(update={"head_channels": head})
    assert count_architecture(architecture).macs / 1e6 == pytest.approx(macs, rel=0.005)


@pytest.mark.parametrize(("name", "parameters"), [("fbnet-s8", 4.47), ("fbnet-iphonex", 4.51)])
def test_parameters_of_fbnet(name: str, parameters: float) -> None:
    assert count_architecture(load_architecture(name)).parameters / 1e6 == pytest.approx(parameters, rel=0.005)


@pytest.mark.parametrize(("name", "macs", "parameters", "without"), FBNETV2)
def test_published_counts_of_fbnetv2(name: str, macs: float, parameters: float, without: int) -> None:
    count = count_architecture(load_architecture(name))
    assert (count.macs - without) / 1e6 == pytest.approx(macs, rel=0.006)
    with torch.device("meta"):
        layers = list(build_network(load_architecture(name)).modules())
    norms = sum(p.numel() for layer in layers if isinstance(layer, torch.nn.BatchNorm2d) for p in layer.parameters())
    biases = 1000 if without else 0
    assert (count.parameters - without - biases) / 1e6 == pytest.approx(parameters, rel=0.01)
    # what was published leaves out batch normalisation
    assert (count.parameters - without - biases - norms) / 1e6 == pytest.approx(parameters, rel=0.003)


def test_fbnetv2_l1_is_l2_on_smaller_images() -> None:
    small, large = map(load_architecture, ("fbnetv2-l1", "fbnetv2-l2"))
    assert small.choices == large.choices
    assert count_architecture(small).parameters == count_architecture(large).parameters
    assert count_architecture(small).macs / 1e6 == pytest.approx(325.0, rel=0.001)


def test_fbnet_96_has_widths_of_its_own() -> None:
    count = count_architecture(load_architecture("fbnet-96-0.35-1"))
    assert count.macs / 1e6 == pytest.approx(12.9, abs=0.05)
    assert count.parameters / 1e6 == pytest.approx(1.8, abs=0.05)


@pytest.mark.parametrize(("name", "macs", "parameters"), MOBILENETS)
def test_counts_of_mobilenets(name: str, macs: float, parameters: int) -> None:
    count = count_architecture(load_architecture(name))
    assert count.parameters == parameters
    assert count.macs / 1e6 == pytest.approx(macs, rel=0.012)  # the paper of V3-Large says 1.1 % more than there is


def test_mobilenetv2_is_scaled_as_its_authors_do() -> None:
    wide, base = map(load_architecture, ("mobilenetv2-1.3", "mobilenetv2"))
    assert count_architecture(wide).macs / 1e6 == pytest.approx(509, rel=0.006)  # FBNet's table 3
    space = base.load_space()
    assert scale(space, base.all_specs(space), width=1.3) == wide.network


def test_scaling_changes_widths_and_size_and_nothing_else() -> None:
    architecture = load_architecture("fbnet-c")
    space = architecture.load_space()
    same = scale(space, architecture.all_specs(space)).space("same")
    assert same.all_specs(architecture_of(same)) == architecture.all_specs(space)
    half = scale(space, architecture.all_specs(space), width=0.5, size=112).space("half")
    pairs = list(zip(half.all_specs(architecture_of(half)), architecture.all_specs(space), strict=True))
    assert all(narrow.height == -(-wide.height // 2) for narrow, wide in pairs[:-1])
    assert [narrow.out_channels for narrow, _ in pairs[:3]] == [8, 8, 16]  # 24 / 2 = 12 rounds up
    assert pairs[-1][0].out_channels == 1000
    assert all(narrow.kernel == wide.kernel and narrow.expansion == wide.expansion for narrow, wide in pairs)


def architecture_of(space: Space) -> tuple[str, ...]:
    """Return the choices of the only network of a space."""
    return tuple(next(iter(layer.candidates)) for layer in space.layers)


def test_every_published_network_is_here_and_is_checked() -> None:
    checked = {name for name, *_ in [*FBNET_MACS, *FBNETV2, *MOBILENETS]} | set(LIKE_TIMM)
    assert set(ZOO.names()) == checked | {"fbnetv2-l1", "fbnet-96-0.35-1", "mobilenetv2-1.3"}


def test_one_convolution_counted_by_hand() -> None:
    # 8x8 output pixels x 16 channels x 3x3 kernel x 3 inputs; BN has 2 parameters per channel
    count = count_spec(OpSpec("conv", 3, 16, 16, 16, kernel=3, stride=2))
    assert count.macs == 8 * 8 * 16 * 9 * 3
    assert count.parameters == 16 * 9 * 3 + 2 * 16
    # 1x1 expand (3x), depthwise 5x5, 1x1 project
    count = count_spec(OpSpec("ir", 8, 12, 4, 4, kernel=5, expansion=3))
    assert count.macs == 16 * (8 * 24 + 24 * 25 + 24 * 12)


class Reshaped(nn.Module):
    """Reshapes to -1, which torch refuses where there is no image."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.linear = nn.Conv2d(2, 4, 3), nn.Linear(4 * 3 * 3, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(self.conv(x).view(x.shape[0], -1))


def test_a_module_that_cannot_reshape_no_images_is_counted_too() -> None:
    with pytest.raises(RuntimeError, match="reshape"):
        Reshaped()(torch.empty(0, 2, 5, 5))
    assert count(Reshaped(), (1, 2, 5, 5)).macs == 9 * 4 * 9 * 2 + 36 * 5


def test_a_network_maps_images_to_classes() -> None:
    network = randomize(build_network(TINY, classes=7), seed=0)
    assert [name for name, _ in network.named_children()][:3] == ["stem_1", "layer_01", "layer_02"]
    y = network(torch.randn(2, 3, 32, 32))
    assert y.shape == (2, 7)
    assert torch.isfinite(y).all()


@pytest.mark.parametrize("architecture", [TINY, load_architecture("mobilenetv3-small")])
def test_an_architecture_survives_its_file(architecture: Architecture, tmp_path: Path) -> None:
    architecture.save(tmp_path / "a.json")
    assert load_architecture(str(tmp_path / "a.json")) == architecture


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"name": "x",\n "space": }', r"a.json: line 2, column 11"),
        ("[]", r"a.json: file: .*valid dictionary"),
        ({"name": "x", "space": "fbnet-tiny"}, r"a.json: space fbnet-tiny has 8 layers, but 0 are chosen"),
        ({"name": "x"}, r"a.json: file: .*names no space"),
        ({"name": "x", "space": "fbnet", "network": LISTED}, r"a.json: file: .*space and network exclude"),
        ({"name": "x", "network": LISTED | {"head": LISTED["stem"]}}, r"a.json: network x ends in 'conv'"),
        ({"name": "x", "network": LISTED | {"layers": [{"kind": "skip"}]}}, r"network.layers.0.channels: Field req"),
        ({"name": "x", "network": LISTED | {"layers": [EVEN]}}, r"a.json: kernel must be odd, not 2"),
        ({**TINY.model_dump(), "colour": "red"}, r"a.json: colour: Extra inputs"),
        ({**TINY.model_dump(), "format": "other"}, r"a.json: format: .*fbnet-lab architecture 1"),
        ({**TINY.model_dump(), "choices": ["skip"]}, r"a.json: space fbnet-tiny has 8 layers, but 1 are chosen"),
    ],
)
def test_a_bad_architecture_file_says_where(content: object, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(ArchitectureError, match=message):
        load_architecture(str(path))


def test_an_unknown_network_suggests_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'fbnet-s8'"):
        load_architecture("fbnet-s9")


def test_weights_survive_their_file_and_bring_their_classes(tmp_path: Path) -> None:
    network = randomize(build_network(TINY, classes=7), seed=3)
    save_weights(network, tmp_path / "w.pt")
    loaded = load_network(TINY, tmp_path / "w.pt")
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(loaded(x), network(x))
    assert not loaded.training


def test_random_weights_follow_from_the_seed() -> None:
    first, again, other = (load_network(TINY, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["stem_1.0.weight"], other["stem_1.0.weight"])


def test_bad_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FbError, match="weights not found"):
        load_weights(tmp_path / "no.pt")
    save_weights(build_network(TINY), tmp_path / "good.pt")
    good = (tmp_path / "good.pt").read_bytes()
    for content in (b"", b"h", b"hello", b"hello again", bytes(100), good[:100], good[: len(good) // 2], good[1:]):
        (tmp_path / "bad.pt").write_bytes(content)
        with pytest.raises(FbError, match="is not a weights file"):
            load_weights(tmp_path / "bad.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(FbError, match="expected a state dict"):
        load_weights(tmp_path / "list.pt")
    other = TINY.model_copy(update={"choices": ("k3_e6",) * 8})
    save_weights(build_network(other), tmp_path / "other.pt")
    with pytest.raises(FbError, match="does not fit network 'tiny'"):
        load_network(TINY, tmp_path / "other.pt")
