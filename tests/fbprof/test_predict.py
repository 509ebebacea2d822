"""fbprof predict: networks of which a table lacks operators, against tables whose truth is a closed form."""

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fbbase.commandline import run
from fblut.table import Lut, Metadata, Row
from fblut.writing import write_lut
from fbprof.cli import fbprof
from fbprof.predict.estimator import Estimator
from fbprof.predict.features import FEATURES, layer_of
from fbprof.predict.unmeasured import predict_operators
from fbspace.architecture import Architecture, load_architecture
from fbspace.blocks import is_identity
from fbspace.draw import draw_networks
from fbspace.network import count_spec
from fbspace.opspec import OpSpec
from fbspace.space import load_space

SPACE = load_space("fbnet-tiny")
OPERATORS = list(dict.fromkeys(SPACE.operators()))
CHOICES = ("k3_e6", "k5_e3", "skip", "k3_e1_g2", "k5_e1", "k3_e3", "skip", "k5_e6")
NETWORK = Architecture(name="net", space="fbnet-tiny", choices=CHOICES)
CONVOLUTIONS = {"ir": 3, "mbconv": 3, "conv": 1, "skip": 1, "classifier": 1}


def truth_us(spec: OpSpec) -> float:
    """7 µs for every convolution, and 2 MACs in a nanosecond."""
    return 0.0 if is_identity(spec) else 7 * CONVOLUTIONS[spec.kind] + count_spec(spec).macs / 2000


def table(latency_us: Callable[[OpSpec], float] = truth_us, without: tuple[OpSpec, ...] = (), **fields: object) -> Lut:
    """A table of all operators but some; intervals are 1 % to either side."""
    rows = {}
    for spec in OPERATORS:
        if spec not in without:
            us = latency_us(spec)
            rows[spec.key()] = Row(spec, us, 0.99 * us, 1.01 * us, samples=60)
    known = {"space": "fbnet-tiny", "device": "x", "runtime": "litert", "runtime_version": "2", "precision": "float32"}
    return Lut(Metadata.model_validate(known | {"threads": 1, "network_us": 20.0} | fields), rows)


@pytest.fixture
def predicted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., dict]:  # type: ignore[type-arg]
    """Return a function that runs the command on a table and returns its JSON."""

    def call(lut: Lut, *words: str) -> dict:  # type: ignore[type-arg]
        write_lut(lut, tmp_path / "t.csv")
        NETWORK.save(tmp_path / "net.json")
        named = [str(tmp_path / word) if word.partition(":")[0].endswith((".py", ".json")) else word for word in words]
        assert run(fbprof, ["predict", *named, "--lut", str(tmp_path / "t.csv"), "--json"]) == 0
        answer: dict = json.loads(capsys.readouterr().out)  # type: ignore[type-arg]
        return answer

    return call


def refused(lut: Lut, tmp_path: Path, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Return what the command says of what it refuses."""
    write_lut(lut, tmp_path / "t.csv")
    assert run(fbprof, ["predict", *words, "--lut", str(tmp_path / "t.csv")]) == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("spec", OPERATORS[:40:3], ids=OpSpec.key)
def test_features_count_what_running_the_module_counts(spec: OpSpec) -> None:
    counted = dict(zip(FEATURES, layer_of(spec).features, strict=True))
    macs = counted["dense MACs"] + counted["grouped MACs"] + counted["depthwise MACs"]
    assert macs == count_spec(spec).macs
    assert counted["convolutions"] == CONVOLUTIONS[spec.kind]
    # parameters of convolutions, without the two of BN for every channel of a convolution, or a classifier's biases
    middle = round(spec.in_channels * spec.expansion)
    norms = {"ir": 2 * (2 * middle + spec.out_channels), "classifier": spec.out_channels}
    assert counted["weights"] == count_spec(spec).parameters - norms.get(spec.kind, 2 * spec.out_channels)


def test_a_network_that_the_table_has_is_the_sum_of_its_rows(predicted: Callable[..., dict]) -> None:  # type: ignore[type-arg]
    answer = predicted(table(), "net.json")
    specs = NETWORK.specs()
    assert answer["latency_us"] == pytest.approx(20 + sum(map(truth_us, specs)), abs=0.01)
    assert answer["operators"] == {"measured": len(specs), "interpolated": 0, "fixed": 0, "estimated": 0}
    low, high = answer["ci_us"]
    squares = sum((0.01 * specs.count(spec) * truth_us(spec)) ** 2 for spec in set(specs))
    assert (high - low) / 2 == pytest.approx(squares**0.5, rel=1e-3)
    costs = [part["count"] * part["latency_us"] for part in answer["parts"]]
    assert costs == sorted(costs, reverse=True)
    shares = sum(part["share_percent"] for part in answer["parts"])
    assert shares + 100 * 20 / answer["latency_us"] == pytest.approx(100)


def test_what_is_additive_is_estimated_exactly() -> None:
    drawn = random.Random(1)
    for _ in range(3):
        gone = tuple(drawn.sample(OPERATORS, len(OPERATORS) // 10))
        lut = table(without=gone)
        estimator = Estimator(lut)
        for choices in draw_networks(SPACE, 20, "additive"):
            specs = SPACE.specs(choices)
            result = predict_operators("x", specs, lut, estimator)
            assert result.total.latency_us == pytest.approx(20 + sum(map(truth_us, specs)), rel=0.01)
            assert result.operators("estimated") == sum(spec in gone for spec in specs)


def test_the_interval_holds_the_truth_where_rows_differ_from_what_is_additive() -> None:
    """Every operator is 8 % (standard deviation) off the sum, and a tenth of the rows is missing."""
    rng = np.random.default_rng(0)
    inside = []
    for seed in range(4):
        true = {spec: truth_us(spec) * float(np.exp(rng.normal(0, 0.08))) for spec in OPERATORS}
        gone = tuple(random.Random(seed).sample(OPERATORS, len(OPERATORS) // 10))
        lut = table(true.__getitem__, gone)
        lut = Lut(
            lut.metadata,
            {key: replace(row, ci_low_us=row.latency_us, ci_high_us=row.latency_us) for key, row in lut.rows.items()},
        )
        estimator = Estimator(lut)
        assert 5 < estimator.error_percent["ir"] < 13
        for choices in draw_networks(SPACE, 30, f"coverage/{seed}"):
            specs = SPACE.specs(choices)
            if any(spec in gone for spec in specs):
                low, high = predict_operators("x", specs, lut, estimator).total.interval or (0, 0)
                inside.append(low <= 20 + sum(true[spec] for spec in specs) <= high)
    assert len(inside) > 50
    assert np.mean(inside) >= 0.9


def test_estimates_are_marked_and_their_error_is_in_the_interval(
    predicted: Callable[..., dict],  # type: ignore[type-arg]
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    gone = (NETWORK.specs()[1], NETWORK.specs()[-1])
    lut = table(without=gone)
    answer = predicted(lut, "net.json")
    estimated = {part["operator"]: part for part in answer["parts"] if part["origin"] == "estimated"}
    assert set(estimated) == {spec.key() for spec in gone}
    halves = [part["ci_us"][1] - part["latency_us"] for part in estimated.values()]
    assert answer["estimated_ci_us"][1] - answer["estimated_us"] == pytest.approx(sum(halves))
    rows = sum((0.01 * truth_us(spec)) ** 2 for spec in NETWORK.specs() if spec not in gone)
    assert answer["ci_us"][1] - answer["latency_us"] == pytest.approx((rows + sum(halves) ** 2) ** 0.5, rel=0.02)
    assert run(fbprof, ["predict", str(tmp_path / "net.json"), "--lut", str(tmp_path / "t.csv")]) == 0
    out = capsys.readouterr().out
    assert "operators: 7 measured, 2 estimated (~)" in out
    assert all(any("~" in line and spec.key() in line for line in out.splitlines()) for spec in gone)
    assert "x (unknown), litert 2, float32, 1 thread, cores any" in out


def test_a_failed_row_is_estimated_too(predicted: Callable[..., dict]) -> None:  # type: ignore[type-arg]
    lut, spec = table(), NETWORK.specs()[1]
    failed = Row(spec, None, status="failed", notes="no memory")
    answer = predicted(Lut(lut.metadata, lut.rows | {spec.key(): failed}), "net.json")
    assert answer["operators"]["estimated"] == 1
    assert answer["latency_us"] == pytest.approx(20 + sum(map(truth_us, NETWORK.specs())), rel=0.02)


def test_blocks_of_another_kind_that_are_built_alike_are_estimated_as_those() -> None:
    """The mbconv blocks of MobileNetV2 are ir blocks, but for ReLU6 and where the first convolution is left away."""
    space = load_space("fbnet")
    known = {spec: truth_us(spec) for spec in space.operators()}
    lut = table()
    lut = Lut(lut.metadata, {spec.key(): Row(spec, us, us, us) for spec, us in known.items()})
    architecture = load_architecture("mobilenetv2")
    result = predict_operators("mobilenetv2", architecture.specs(), lut)
    true_us = 20 + sum(
        truth_us(spec) - 7 * (spec.kind == "mbconv" and spec.expansion == 1) for spec in architecture.specs()
    )
    assert result.total.latency_us == pytest.approx(true_us, rel=0.03)
    assert result.operators("estimated") == len(architecture.specs())


def test_a_kernel_that_no_row_has_is_as_uncertain_as_another_kind() -> None:
    """Of a table in which every kind has a cost of its own."""
    factor = {"ir": 1.0, "conv": 3.0, "skip": 0.5, "classifier": 5.0}
    estimator = Estimator(table(lambda spec: truth_us(spec) * factor[spec.kind]))
    known = next(spec for spec in OPERATORS if spec.kind == "ir")
    larger = replace(known, kernel=7)
    error, larger_error = (estimator.estimate(layer_of(spec), spec).error_percent for spec in (known, larger))
    assert larger_error > 3 * error
    assert larger_error > 50


def test_strict_refuses_what_the_table_lacks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    NETWORK.save(tmp_path / "net.json")
    told = refused(table(without=(NETWORK.specs()[1],)), tmp_path, capsys, str(tmp_path / "net.json"), "--strict")
    assert f"lacks 1 operator of network net:\n  {NETWORK.specs()[1].key()}\nRemedy: measure again" in told
    (tmp_path / "net.py").write_text("from torch import nn\ndef f(): return nn.Conv2d(3, 8, 3), (1, 3, 32, 32)\n")
    told = refused(table(), tmp_path, capsys, f"{tmp_path}/net.py:f", "--strict")
    assert "lacks operators of" in told
    assert "the network: 3x3 convolution, 3x32x32 to 8x30x30" in told


def test_too_few_rows_and_rows_of_one_kind_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    NETWORK.save(tmp_path / "net.json")
    few = table(without=tuple(OPERATORS[7:]))
    assert "the table has 7 rows to estimate from, and 8 are needed" in refused(
        few, tmp_path, capsys, str(tmp_path / "net.json")
    )
    one = replace(OPERATORS[0], height=20)
    specs = [
        replace(one, kernel=kernel, activation=act) for kernel in (1, 3, 5, 7) for act in ("none", "relu", "hswish")
    ]
    alike = Lut(few.metadata, {spec.key(): Row(spec, us := truth_us(spec), us, us) for spec in specs})
    assert "nearly all of one shape" in refused(alike, tmp_path, capsys, str(tmp_path / "net.json"))
    blocks = table(without=tuple(spec for spec in OPERATORS if spec.kind != "ir"))
    told = refused(blocks, tmp_path, capsys, str(tmp_path / "net.json"))
    assert "cannot tell what conv_in3" in told
    assert "nearly all of its rows are of kind ir" in told


def test_a_table_whose_fixed_cost_is_of_its_own_networks_tells_nothing_of_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(fbprof, ["predict", "fbnet-c", "--lut", "pixel-3"]) == 2
    assert "its fixed cost of a network holds operators of kind classifier, conv" in capsys.readouterr().err
    (tmp_path / "net.py").write_text("from torch import nn\ndef f(): return nn.Conv2d(3, 8, 3), (1, 3, 32, 32)\n")
    assert run(fbprof, ["predict", f"{tmp_path}/net.py:f", "--lut", "pixel-3"]) == 2
    assert "so it tells nothing of a module" in capsys.readouterr().err


def test_a_table_not_to_be_used_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    NETWORK.save(tmp_path / "net.json")
    write_lut(table(verdict="do not use", warnings=("it was noisy",)), tmp_path / "t.csv")
    assert run(fbprof, ["predict", str(tmp_path / "net.json"), "--lut", str(tmp_path / "t.csv")]) == 0
    told = capsys.readouterr()
    assert "warning: table" in told.err
    assert "do not use (it was noisy)" in told.err
    assert "verdict: do not use" in told.out


def test_rows_without_intervals_give_none(predicted: Callable[..., dict]) -> None:  # type: ignore[type-arg]
    lut = table()
    rows = {key: replace(row, ci_low_us=None, ci_high_us=None) for key, row in lut.rows.items()}
    assert predicted(Lut(lut.metadata, rows), "net.json")["ci_us"] is None


NET = """
from torch import nn
from fbspace.architecture import load_architecture
from fbspace.network import build_network

def same():
    architecture = load_architecture("NET")
    return build_network(architecture), architecture.load_space().input_shape

def other():
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU6(),
        nn.Conv2d(16, 16, 3, 1, 1, groups=16), nn.BatchNorm2d(16), nn.Hardswish(),
        nn.Conv2d(16, 24, 1), nn.AdaptiveAvgPool2d(1), nn.Conv2d(24, 10, 1), nn.Identity(),
    )

class Attends(nn.Module):
    def forward(self, x):
        print("what a module prints")
        x = x.flatten(2)
        return x @ x.transpose(1, 2)

def attends():
    return nn.Sequential(nn.Conv2d(3, 4, 1), Attends()), (1, 3, 32, 32)

def nothing_to_estimate():
    return nn.ReLU(), (1, 3, 32, 32)
"""


@pytest.fixture
def net(tmp_path: Path) -> Path:
    (tmp_path / "net.py").write_text(NET.replace("NET", str(tmp_path / "net.json")))
    NETWORK.save(tmp_path / "net.json")
    return tmp_path / "net.py"


def test_a_module_of_the_tables_operators_is_their_sum(net: Path, predicted: Callable[..., dict]) -> None:  # type: ignore[type-arg]
    module, architecture = predicted(table(), "net.py:same"), predicted(table(), "net.json")
    assert module | {"network": None} == architecture | {"network": None}
    lacking = table(without=(NETWORK.specs()[1], NETWORK.specs()[-1]))
    module, architecture = predicted(lacking, "net.py:same"), predicted(lacking, "net.json")
    assert module["operators"] == architecture["operators"]
    assert module["latency_us"] == pytest.approx(architecture["latency_us"])
    assert module["ci_us"] == pytest.approx(architecture["ci_us"])


def test_a_module_of_other_layers_is_estimated_layer_by_layer(net: Path, predicted: Callable[..., dict]) -> None:  # type: ignore[type-arg]
    answer = predicted(table(), "net.py:other", "--shape", "1x3x48x64")
    macs = [24 * 32 * 16 * 27, 24 * 32 * 16 * 9, 24 * 32 * 16 * 24, 24 * 10]
    assert [part["operator"] for part in sorted(answer["parts"], key=lambda part: part["operator"])] == [
        "0: 3x3 convolution, 3x48x64 to 16x24x32",
        "3: 3x3 depthwise convolution, 16x24x32 to 16x24x32",
        "6: 1x1 convolution, 16x24x32 to 24x1x1",
        "8: 1x1 convolution, 24x1x1 to 10x1x1",
    ]
    assert answer["operators"] == {"measured": 0, "interpolated": 0, "fixed": 0, "estimated": 4}
    assert answer["latency_us"] == pytest.approx(20 + 4 * 7 + sum(macs) / 2000, rel=0.1)
    assert answer["ci_us"][0] < 20 + 4 * 7 + sum(macs) / 2000 < answer["ci_us"][1]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["net.py:other"], "does not say the shape of its input: add --shape"),
        (["net.py:other", "--shape", "3x224x224"], "is not the shape of an input"),
        (["net.py:other", "--shape", "2x3x32x32"], "one image, not of 2"),
        (["net.py:other", "--shape", "1x4x32x32"], "module '0' does not run on an input of 1x4x32x32: RuntimeError"),
        (["net.py:attends"], "module '1' computes bmm, of which the rows of a table tell nothing"),
        (["net.py:nothing_to_estimate"], "no convolution and no fully connected layer"),
        (["net.py:nothing"], "unknown function"),
        (["net.py"], "name the function"),
        (["net.json", "--shape", "1x3x32x32"], "--shape is of a file.py:function"),
        (["fbnet-q"], "unknown published network 'fbnet-q'"),
    ],
)
def test_what_cannot_be_predicted_is_told(
    net: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    named = [str(tmp_path / words[0]) if words[0].startswith("net") else words[0], *words[1:]]
    assert told in refused(table(), tmp_path, capsys, *named)


@pytest.mark.full
def test_a_large_table_is_estimated_from_as_a_small_one() -> None:
    """Of 400 rows 300 are taken, and the sum is the same."""
    specs = [replace(OPERATORS[0], out_channels=8 * n, height=2 * m) for n in range(1, 21) for m in range(20, 40)]
    lut = table()
    lut = Lut(lut.metadata, {spec.key(): Row(spec, us := truth_us(spec), us, us) for spec in specs})
    spec = replace(OPERATORS[0], out_channels=100, height=51)
    assert Estimator(lut).estimate(layer_of(spec), spec).latency_us == pytest.approx(truth_us(spec), rel=1e-3)
