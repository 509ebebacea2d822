"""int8 in the search's tools: accuracy in the runtime, fine-tuning to its rounding, and what is refused."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fbbase.commandline import run
from fbexport.formats import format_of, load_format
from fbexport.quantization.calibration import calibrate
from fbexport.quantization.fake import FakeQuantized, fold_into, rounded, rounded_weight
from fbexport.quantization.quantized import quantize
from fbexport.quantization.scheme import Quantization, of_weights
from fbexport.trace import trace
from fbsearch.cli import fbsearch
from fbsearch.training.quantized import RuntimeNetwork
from fbspace.architecture import Architecture
from fbspace.blocks import build_block
from fbspace.opspec import OpSpec
from fbspace.weights import load_weights, randomize
from peers.installed import RUNTIMES_HERE

SHAPE = (5, 8, 10, 10)
RUNTIMES = {name: format_of(name) for name in RUNTIMES_HERE if name != "torch"}


def network() -> nn.Sequential:
    """Every kind of operator: grouped and shuffled, squeeze-excite, hard-swish, residual, mean, fully connected."""
    specs = [
        OpSpec("ir", 8, 8, 10, 10, 3, 1, 2, 2),
        OpSpec("mbconv", 8, 12, 10, 10, 5, 2, 3, 1, "hswish", True, (("squeeze_activation", "hswish"),)),
        OpSpec("classifier", 12, 4, 5, 5, activation="none"),
    ]
    return nn.Sequential(*(randomize(build_block(spec), i) for i, spec in enumerate(specs))).eval()


def images() -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(3))


def fake(net: nn.Module) -> FakeQuantized:
    graph = trace(net, SHAPE)
    ranges = calibrate(graph, [images()])
    return FakeQuantized(quantize(graph, ranges), ranges)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_runtime_gives_what_torch_gives_for_any_part_of_a_batch(runtime: str) -> None:
    net, x = network(), images()
    content = load_format(RUNTIMES[runtime]).write(net, SHAPE, "float32")
    model = RuntimeNetwork(content, runtime, SHAPE[0])
    for count in (5, 2, 1):
        with torch.no_grad():
            torch.testing.assert_close(model(x[:count]), net(x[:count]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("runtime", [name for name in RUNTIMES if name != "ncnn"])  # it has a scheme of its own
def test_a_fake_quantised_network_computes_as_the_runtime_does(runtime: str) -> None:
    net, x = network(), images()
    tuned = fake(net)
    step = tuned.quantized.of(tuned.quantized.graph.output).scale
    content = load_format(RUNTIMES[runtime]).write(net, SHAPE, "int8", tuned.ranges)
    with torch.no_grad():
        real, ours, exact = RuntimeNetwork(content, runtime, SHAPE[0])(x), tuned(x), net(x)
    assert (real - ours).abs().max() <= 2.01 * step  # runtimes round on the way, too
    assert (real - exact).abs().max() > 0.1 * step
    assert (ours - exact).abs().mean() < 0.05 * exact.abs().max()


def test_rounding_is_that_of_the_scheme_and_gradients_pass_where_nothing_is_clipped() -> None:
    scheme = Quantization(0.5, 3)
    x = torch.tensor([-100.0, -65.5, 0.0, 0.3, 61.9, 62.3], requires_grad=True)
    y = rounded(x, scheme)
    np.testing.assert_array_equal(y.detach().numpy(), scheme.dequantize(scheme.quantize(x.detach().numpy())))
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0, 1, 1, 1, 1, 0]

    weight = torch.randn(6, 3, 3, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    q, scale = of_weights(weight.detach().numpy(), np.zeros(6, np.float32), 1.0)
    expected = q * scale.reshape(-1, 1, 1, 1)
    np.testing.assert_allclose(rounded_weight(weight).detach().numpy(), expected, rtol=1e-5)
    rounded_weight(weight).sum().backward()
    assert weight.grad is not None
    assert weight.grad.unique().tolist() == [1]


def test_folded_weights_compute_the_same_in_the_ordinary_network() -> None:
    net, x = network(), images()
    with torch.no_grad():
        expected = net(x)
        tuned = fake(net)
        for weight in tuned.parameters():
            weight.mul_(1.5)
        fold_into(net, tuned.trained())
        changed = net(x)
        assert (changed - expected).abs().max() > 0.1
        fold_into(net, fake(network()).trained())
        torch.testing.assert_close(net(x), expected, rtol=1e-4, atol=1e-4)


def test_a_layer_without_bias_and_normalisation_is_fine_tuned_without_one() -> None:
    """FBNetV2's pool; its weights are trained and fit the network again."""
    own = (("bias", False),)
    specs = [OpSpec("pool", 8, 6, 10, 10, activation="hswish", parameters=own), OpSpec("classifier", 6, 4, 1, 1)]
    net = nn.Sequential(*(randomize(build_block(spec), i) for i, spec in enumerate(specs))).eval()
    tuned, x = fake(net), images()
    assert [bias.requires_grad for bias in tuned.biases] == [False, True]
    optimizer = torch.optim.SGD(tuned.parameters(), 0.1)
    tuned(x).square().sum().backward()
    optimizer.step()
    fold_into(net, tuned.trained())
    with torch.no_grad():
        assert (net(x) - tuned(x)).abs().mean() < 0.05 * net(x).abs().max()


def test_fine_tuning_brings_int8_closer_to_the_labels() -> None:
    """Ranges are far too wide; the loss of the int8 model in LiteRT falls all the same, to what training ended with."""
    head = build_block(OpSpec("classifier", 4, 2, 4, 4, activation="none"))
    net = nn.Sequential(nn.Conv2d(2, 4, 1), nn.ReLU(), head)
    randomize(net, 0)
    x = torch.randn(64, 2, 4, 4, generator=torch.Generator().manual_seed(1))
    y = (x.mean((1, 2, 3)) > 0).long()
    graph = trace(net, (1, 2, 4, 4))
    ranges = {name: (10 * low, 10 * high) for name, (low, high) in calibrate(graph, [x]).items()}

    def loss_of_int8() -> float:
        content = load_format("tflite").write(net, (64, 2, 4, 4), "int8", ranges)
        return nn.functional.cross_entropy(RuntimeNetwork(content, "litert", 64)(x), y).item()

    before = loss_of_int8()
    tuned = FakeQuantized(quantize(graph, ranges), ranges)
    optimizer = torch.optim.SGD(tuned.parameters(), 0.3, momentum=0.9)
    for _ in range(200):
        loss = nn.functional.cross_entropy(tuned(x), y)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    fold_into(net, tuned.trained())
    assert loss_of_int8() == pytest.approx(loss.item(), abs=0.05)
    assert loss_of_int8() < 0.5 * before


@pytest.fixture
def trained(micro_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A network trained for two epochs on a few digits."""
    Architecture(name="small", space=str(micro_file), choices=("k3_e1", "k5_e3")).save(tmp_path / "arch.json")
    few = ["--threads", "1", "--batch", "40", "--limit", "400", "--epochs", "2"]
    assert run(fbsearch, ["train", str(tmp_path / "arch.json"), "-o", str(tmp_path / "t"), *few]) == 0
    capsys.readouterr()
    return tmp_path / "t"


def evaluate(capsys: pytest.CaptureFixture[str], folder: Path, *extra: str) -> dict[str, object]:
    arguments = ["eval", str(folder / "arch.json"), "--checkpoint", str(folder / "weights.pt"), "--json", *extra]
    assert run(fbsearch, arguments) == 0
    result: dict[str, object] = json.loads(capsys.readouterr().out)
    return result


def test_the_commands_from_float_to_fine_tuned_int8(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    in_float = evaluate(capsys, trained)
    assert in_float["computed_by"] == "torch"
    for runtime in RUNTIMES:
        same = evaluate(capsys, trained, "--runtime", runtime)
        assert same["top1_percent"] == pytest.approx(in_float["top1_percent"], abs=0.6)  # of 359 images, two
        assert same["cross_entropy"] == pytest.approx(in_float["cross_entropy"], rel=1e-3)

    ranges = tmp_path / "ranges.json"
    int8 = ["--runtime", "litert", "--precision", "int8", "--ranges", str(ranges), "--calibration-images", "100"]
    first = evaluate(capsys, trained, *int8)
    number = r"\d+\.\d dB"
    words = rf"litert, int8, calibrated by \d+ images, (\S+): signal to noise {number} \(\S+ {number}, \S+ {number}\)"
    found = re.fullmatch(words, str(first["computed_by"]))
    assert found is not None
    assert json.loads(ranges.read_text())["method"] == found[1]
    assert first["cross_entropy"] != in_float["cross_entropy"]
    assert first["cross_entropy"] == pytest.approx(in_float["cross_entropy"], rel=0.2)
    again = evaluate(capsys, trained, *int8)
    assert again["computed_by"] == f"litert, int8, ranges of {ranges}"
    assert again["cross_entropy"] == first["cross_entropy"]

    arguments = ["train", str(trained / "arch.json"), "--precision", "int8", "--preset", "int8", "--limit", "400"]
    arguments += ["--init", str(trained / "weights.pt"), "-o", str(tmp_path / "q"), "--threads", "1", "--epochs", "1"]
    assert run(fbsearch, arguments) == 0
    before, after = (load_weights(folder / "weights.pt") for folder in (trained, tmp_path / "q"))
    assert before.keys() == after.keys()
    assert "--data digits --precision int8 --runtime litert\n" in capsys.readouterr().out
    tuned = evaluate(capsys, tmp_path / "q", "--runtime", "litert", "--precision", "int8")
    assert tuned["computed_by"] == f"litert, int8, ranges of {tmp_path / 'q' / 'ranges.json'}"
    assert tuned["cross_entropy"] == pytest.approx(in_float["cross_entropy"], rel=0.2)
    # the same command again only reads what is there
    content = (tmp_path / "q" / "weights.pt").read_bytes()
    assert run(fbsearch, arguments) == 0
    assert (tmp_path / "q" / "weights.pt").read_bytes() == content


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["eval", "--precision", "int8"], "--precision int8 is a runtime's: name one with --runtime"),
        (["eval", "--runtime", "tflite"], "unknown runtime 'tflite'"),
        (
            ["eval", "--runtime", "torch", "--precision", "int8"],
            r"torch \(format torchscript\) has no precision 'int8'",
        ),
        (["eval", "--runtime", "litert", "--amp", "bf16"], "--amp is torch's own mixed precision"),
        (
            ["eval", "--runtime", "litert", "--precision", "int8", "--calibrate-by", "mean"],
            "unknown calibration method 'mean'",
        ),
        (["eval", "--runtime", "litert", "--precision", "int8", "--ranges", "other.json"], "made for other weights"),
        (["eval", "--runtime", "litert", "--precision", "int8", "--ranges", "bad.json"], "bad.json is not a file of"),
        (["train", "--precision", "int8"], "fine-tunes a trained network: name its weights with --init"),
    ],
)
def test_what_cannot_be_done_is_one_clear_message(
    arguments: list[str],
    message: str,
    trained: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    other = {"method": "mse", "images": 1, "weights_sha256": "0", "ranges": {}}
    Path("other.json").write_text(json.dumps(other))
    Path("bad.json").write_text(json.dumps(other | {"ranges": {"input": [0, "NaN"]}}))
    tool, *rest = arguments
    rest += ["--weights", str(trained / "weights.pt")] if tool == "eval" else ["-o", "out"]
    assert run(fbsearch, [tool, str(trained / "arch.json"), *rest]) == 2
    err = capsys.readouterr().err
    assert re.search(message, err)
    assert "Traceback" not in err
