"""Published networks against published counts; architecture files and weights, and what is wrong with bad ones."""

import json
from pathlib import Path

import pytest
import torch

from fbbase.errors import FbError, UnknownNameError
from fbspace.architecture import ZOO, Architecture, load_architecture
from fbspace.errors import ArchitectureError
from fbspace.network import build_network, count_architecture, count_spec
from fbspace.opspec import OpSpec
from fbspace.weights import load_network, load_weights, randomize, save_weights

TINY = Architecture(name="tiny", space="fbnet-tiny", choices=("k3_e1", "skip", "k5_e3", "k3_e1_g2") * 2)

# millions of multiply-accumulates; counted from the paper's layer tables, published values within 1 %
MACS = [
    ("fbnet-a", 1504, 249.9),
    ("fbnet-b", 1984, 296.6),
    ("fbnet-b", 1504, 287.9),
    ("fbnet-c", 1984, 385.0),
    ("fbnet-c", 1504, 376.2),
    ("fbnet-s8", 1504, 292.9),
    ("fbnet-iphonex", 1504, 321.8),
]


@pytest.mark.parametrize(("name", "head", "macs"), MACS)
def test_multiply_accumulates_of_published_networks(name: str, head: int, macs: float) -> None:
    architecture = load_architecture(name).model_copy(update={"head_channels": head})
    assert count_architecture(architecture).macs / 1e6 == pytest.approx(macs, rel=0.005)


@pytest.mark.parametrize(("name", "parameters"), [("fbnet-s8", 4.47), ("fbnet-iphonex", 4.51)])
def test_parameters_of_published_networks(name: str, parameters: float) -> None:
    assert count_architecture(load_architecture(name)).parameters / 1e6 == pytest.approx(parameters, rel=0.005)


def test_every_published_network_is_here_and_is_checked_above() -> None:
    assert set(ZOO.names()) == {name for name, _, _ in MACS}


def test_one_convolution_counted_by_hand() -> None:
    # 8x8 output pixels x 16 channels x 3x3 kernel x 3 inputs; BN has 2 parameters per channel
    count = count_spec(OpSpec("conv", 3, 16, 16, 16, kernel=3, stride=2))
    assert count.macs == 8 * 8 * 16 * 9 * 3
    assert count.parameters == 16 * 9 * 3 + 2 * 16
    # 1x1 expand (3x), depthwise 5x5, 1x1 project
    count = count_spec(OpSpec("ir", 8, 12, 4, 4, kernel=5, expansion=3))
    assert count.macs == 16 * (8 * 24 + 24 * 25 + 24 * 12)


def test_a_network_maps_images_to_classes() -> None:
    network = randomize(build_network(TINY, classes=7), seed=0)
    assert [name for name, _ in network.named_children()][:3] == ["stem_1", "layer_01", "layer_02"]
    y = network(torch.randn(2, 3, 32, 32))
    assert y.shape == (2, 7)
    assert torch.isfinite(y).all()


def test_an_architecture_survives_its_file(tmp_path: Path) -> None:
    TINY.save(tmp_path / "a.json")
    assert load_architecture(str(tmp_path / "a.json")) == TINY


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"name": "x",\n "space": }', r"a.json: line 2, column 11"),
        ("[]", r"a.json: file: .*valid dictionary"),
        ({"name": "x", "space": "fbnet-tiny"}, r"a.json: choices: Field required"),
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
