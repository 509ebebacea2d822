"""fbsearch plot: what the pictures show, against the files of a real search, the operators' shapes and brute force."""

import io
import json
import math
import random
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from fbbase.commandline import run
from fblut.reading import read_lut
from fblut.table import Lut
from fbsearch.cli import fbsearch
from fbsearch.plots.epochs import plot_curves, plot_theta
from fbsearch.plots.network import latency_shares, plot_networks
from fbsearch.plots.run import read_run
from fbsearch.plots.tradeoff import pareto_front, plot_tradeoff
from fbspace.architecture import load_architecture
from fbspace.blocks import is_identity
from fbspace.network import build_network
from fbspace.space import Space


def records_of(folder: Path, stage: str = "search") -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line["stage"] == stage]


def write_records(folder: Path, records: list[dict[str, Any]]) -> None:
    lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    (folder / "metrics.jsonl").write_text("".join(lines), encoding="utf-8")


@pytest.fixture(scope="module")
def target_us(micro: Space, micro_lut: Lut) -> float:
    return 1.01 * micro_lut.predict_us(micro.specs(["k5_e3", "k3_e1"]))


@pytest.fixture(scope="module")
def searched(
    micro_file: Path, micro_lut_file: Path, target_us: float, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder of a real search of 5 epochs, 2 of them warm-up, to a target."""
    folder = tmp_path_factory.mktemp("runs") / "s8"
    options = ["--epochs", "5", "--warmup", "2", "--train-epochs", "3", "--batch", "40", "--limit", "200"]
    options += ["--target-ms", str(target_us / 1000), "--space", str(micro_file), "-o", str(folder)]
    assert run(fbsearch, ["run", "--lut", str(micro_lut_file), "--threads", "1", *options]) == 0
    return folder


@pytest.fixture(scope="module")
def name(searched: Path) -> str:
    return next(iter(records_of(searched)[0]["objectives"]))


@pytest.fixture(scope="module")
def several(searched: Path, name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same search as if it had had three objectives: the second with θ reversed, the third without a network."""
    folder = tmp_path_factory.mktemp("several")
    records = records_of(searched)
    for record in records:
        first = record["objectives"][name]
        theta = {layer: {c: -x for c, x in theta_l.items()} for layer, theta_l in first["theta"].items()}
        second = {**first, "theta": theta, "target": None, "cost_unit": "MACs"}
        record["objectives"] = {"s8": first, "x": second, "none": first}
    write_records(folder, records)
    architecture = load_architecture(str(searched / "arch.json"))
    for objective, choices in (("s8", architecture.choices), ("x", ("skip", "k5_e3"))):
        provenance = {**architecture.provenance, "objective": objective}
        architecture.model_copy(update={"choices": choices, "provenance": provenance}).save(
            folder / f"arch-{objective}.json"
        )
    return folder


def panels(figure: Figure) -> list[Axes]:
    return [axes for axes in figure.get_axes() if axes.axison]


def texts(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def boxes(axes: Axes) -> list[Rectangle]:
    return [patch for patch in axes.patches if isinstance(patch, Rectangle)]


def line(axes: Axes, label: str) -> tuple[list[float], list[float]]:
    found = next(line for line in axes.lines if line.get_label() == label)
    return list(np.asarray(found.get_xdata(), float)), list(np.asarray(found.get_ydata(), float))


def test_the_heat_map_is_softmax_of_theta_in_the_file(searched: Path, name: str) -> None:
    records = [record["objectives"][name] for record in records_of(searched)]
    figure = plot_theta(read_run(searched), name)
    maps = [axes for axes in figure.get_axes() if axes.images]
    layers = list(records[0]["theta"])
    assert len(maps) == len(layers) == 2
    for axes, layer in zip(maps, layers, strict=True):
        theta = torch.tensor([list(record["theta"][layer].values()) for record in records], dtype=torch.float64)
        shown = axes.images[0].get_array()
        assert shown is not None
        assert shown.shape == (3, 5)
        np.testing.assert_allclose(shown, torch.softmax(theta, dim=1).T, rtol=1e-12)
    assert [label.get_text() for label in maps[0].get_yticklabels()] == ["k3_e1", "k5_e3", "skip"]


def test_the_chosen_candidate_is_marked_beside_its_row(searched: Path, name: str) -> None:
    choices = load_architecture(str(searched / "arch.json")).choices
    for axes, choice in zip(plot_theta(read_run(searched), name).get_axes(), choices, strict=False):
        (_, height) = axes.transData.inverted().transform(axes.transAxes.transform((1, axes.lines[0].get_ydata()[0])))
        assert ["k3_e1", "k5_e3", "skip"][round(height)] == choice


def test_the_strip_shows_temperature_entropy_and_expected_cost_against_the_target(
    searched: Path, name: str, target_us: float
) -> None:
    records = records_of(searched)
    strip = plot_theta(read_run(searched), name).get_axes()[-3:]
    temperature, entropy, cost = (list(axes.lines[0].get_ydata()) for axes in strip)
    assert temperature == [record["temperature"] for record in records]
    assert entropy == [record["objectives"][name]["entropy"] for record in records]
    assert entropy[0] == pytest.approx(math.log(3), rel=1e-6)
    assert cost == pytest.approx([record["objectives"][name]["expected_cost"] / 1000 for record in records])
    assert strip[2].lines[1].get_ydata()[0] == pytest.approx(target_us / 1000)
    assert strip[2].get_ylabel() == "expected latency (ms)"
    assert read_run(searched).warmup == 2


def test_learning_curves_are_the_numbers_of_the_file(searched: Path, name: str) -> None:
    records, trained = records_of(searched), records_of(searched, "train")
    shown = panels(plot_curves(read_run(searched)))
    assert len(shown) == 5
    for axes, key in zip(shown, ("cross_entropy", "accuracy_percent"), strict=False):
        assert line(axes, "w") == ([1, 2, 3, 4, 5], [record[f"w_{key}"] for record in records])
        held, theta = line(axes, f"θ, {name}")[1][:2], line(axes, f"θ, {name}")[1][2:]
        assert np.isnan(held).all()
        assert theta == [record["objectives"][name][f"theta_{key}"] for record in records[2:]]
    assert line(shown[4], "train") == ([1, 2, 3], [record["accuracy_percent"] for record in trained])


def test_pareto_front_against_brute_force() -> None:
    generator = random.Random(0)
    for count in (1, 2, 5, 40):
        for _ in range(50):
            points = [(float(generator.randint(0, 9)), float(generator.randint(0, 9))) for _ in range(count)]
            undominated = {
                (cost, accuracy)
                for cost, accuracy in points
                if not any(c <= cost and a >= accuracy and (c, a) != (cost, accuracy) for c, a in points)
            }
            assert pareto_front(points) == sorted(undominated)


def test_the_tradeoff_marks_the_network_found_and_the_target(searched: Path, target_us: float) -> None:
    architecture = load_architecture(str(searched / "arch.json"))
    candidates = architecture.provenance["candidates"]
    (axes,) = panels(plot_tradeoff(read_run(searched)))
    every, star = (collection.get_offsets() for collection in axes.collections)
    expected = [(each["cost"] / 1000, each["accuracy_percent"]) for each in candidates]
    np.testing.assert_allclose(every, expected)
    assert architecture.predicted is not None
    np.testing.assert_allclose(
        star,
        [(architecture.predicted.latency_us / 1000, candidates[0]["accuracy_percent"])],
    )
    assert next(line for line in axes.lines if "target" in str(line.get_label())).get_xdata()[0] == pytest.approx(
        target_us / 1000
    )


@pytest.mark.parametrize("published", ["fbnet-a", "fbnet-c"])
def test_boxes_are_as_wide_as_the_kernel_and_as_high_as_the_expansion(published: str) -> None:
    architecture = load_architecture(published)
    (axes,) = plot_networks({published: architecture}).get_axes()
    drawn = boxes(axes)
    assert [box.get_label() for box in drawn] == ["stem", *architecture.choices, "conv", "classifier"]
    for box in drawn[1:-2]:
        if box.get_label() == "skip":
            assert box.get_height() == 0.3
            continue
        m = re.fullmatch(r"k(\d)_e(\d)(_g2)?", str(box.get_label()))
        assert m is not None
        assert box.get_width() == pytest.approx(0.8 * int(m[1]) / 5)
        assert box.get_height() == int(m[2])
        assert bool(box.get_hatch()) == bool(m[3])
    lefts = [box.get_x() for box in drawn]
    assert lefts == sorted(lefts)
    assert len({box.get_facecolor() for box in drawn if "k5" in str(box.get_label())}) == 1
    assert [text for text in texts(axes) if "stage" in text] == [f"stage {i}" for i in range(2, 7)]


def test_channels_and_resolution_are_those_of_the_running_network() -> None:
    architecture = load_architecture("fbnet-c")
    network, shapes = build_network(architecture).eval().to("meta"), []
    for child in network.children():
        child.register_forward_hook(lambda _, __, output: shapes.append(tuple(output.shape)))
    network(torch.empty(1, 3, 224, 224, device="meta"))
    (axes,) = plot_networks({"c": architecture}).get_axes()
    numbers = [text for text in texts(axes) if re.fullmatch(r"\d+²?", text)]
    assert numbers[: 2 * len(shapes) : 2] == [str(shape[1]) for shape in shapes]
    assert numbers[1 : 2 * len(shapes) : 2] == [f"{shape[2] if len(shape) == 4 else 1}²" for shape in shapes]


def test_latency_shares_are_those_of_the_table_the_file_names(
    searched: Path, micro_lut_file: Path, tmp_path: Path
) -> None:
    architecture, lut = load_architecture(str(searched / "arch.json")), read_lut(micro_lut_file)
    specs = architecture.all_specs()
    shares = latency_shares(architecture, specs, searched)
    assert shares is not None
    assert sum(shares) == pytest.approx(100)
    expected = [0 if is_identity(s) else 100 * lut.rows[s.key()].latency_us / lut.predict_us(specs) for s in specs]
    assert shares == pytest.approx(expected)
    (axes,) = plot_networks({"s8": architecture}, {"s8": searched}).get_axes()
    assert [text for text in texts(axes) if "." in text] == [f"{share:.1f}" for share in shares]
    assert architecture.predicted is not None
    gone = architecture.model_copy(update={"predicted": architecture.predicted.model_copy(update={"lut": "gone"})})
    assert latency_shares(gone, specs, None) is None
    assert latency_shares(load_architecture("fbnet-c"), specs, None) is None
    (tmp_path / "tables").mkdir()  # as a run keeps it
    (tmp_path / "tables" / "gone.csv").write_bytes(micro_lut_file.read_bytes())
    assert latency_shares(gone, specs, tmp_path) == shares


def test_svg_files_hold_the_words_and_are_the_same_every_time(
    searched: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(fbsearch, ["plot", str(searched), "--format", "svg", "-o", str(tmp_path)]) == 0
    written = capsys.readouterr().out.splitlines()
    assert written == [str(tmp_path / f"{p}.svg") for p in ("theta", "curves", "tradeoff", "network")]
    theta = (tmp_path / "theta.svg").read_text(encoding="utf-8")
    for word in ("k3_e1", "k5_e3", "skip", "layer 2", "temperature τ"):
        assert f">{word}</text>" in theta
    network = (tmp_path / "network.svg").read_text(encoding="utf-8")
    assert all(f">{choice}</text>" in network for choice in load_architecture(str(searched / "arch.json")).choices)
    for folder in ("a", "b"):
        assert (
            run(fbsearch, ["plot", str(searched / "arch.json"), "--format", "svg", "-o", str(tmp_path / folder)]) == 0
        )
    assert (tmp_path / "a" / "arch.svg").read_bytes() == (tmp_path / "b" / "arch.svg").read_bytes()


@pytest.mark.full  # drawing six pictures takes seconds; the numbers of one search stay
def test_several_objectives_have_a_heat_map_each_and_a_row_or_a_panel_in_the_others(
    several: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """PNG files have the size asked for and need no screen."""
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # an import of it fails
    assert run(fbsearch, ["plot", str(several), "--json"]) == 0
    files = json.loads(capsys.readouterr().out)
    assert list(files) == ["theta-s8", "theta-x", "theta-none", "curves", "tradeoff", "network"]
    assert all(Path(file).parent == several / "plots" and Path(file).exists() for file in files.values())
    record = read_run(several)
    width, height = plot_theta(record, "s8").get_size_inches()
    with Image.open(io.BytesIO(Path(files["theta-s8"]).read_bytes())) as image:
        image.load()
        assert image.format == "PNG"
        assert image.size == pytest.approx((150 * width, 150 * height), abs=1)
        colours = image.convert("RGB").getcolors(1 << 24)
        assert colours is not None
        assert len(colours) > 20
    layer = next(iter(record.objectives["x"].theta))
    p, reverse = record.probabilities("s8", layer), record.probabilities("x", layer)
    np.testing.assert_allclose(1 / p / (1 / p).sum(0), reverse)
    rows = plot_networks(record.networks).get_axes()
    assert [row.get_title(loc="left").split(":")[0] for row in rows] == ["s8", "x"]
    assert [box.get_label() for box in boxes(rows[1])][1:3] == ["skip", "k5_e3"]
    assert [axes.get_title() for axes in panels(plot_tradeoff(record))] == ["s8", "x"]
    assert [axes.get_xlabel() for axes in panels(plot_tradeoff(record))] == ["latency (ms)", "cost (MACs)"]
    curves = panels(plot_curves(record))
    assert [axes.get_title() for axes in curves] == ["search", "search", "s8", "x", "none"]
    theta = line(curves[0], "θ, x")[1][2:]
    assert theta == [r["objectives"]["x"]["theta_cross_entropy"] for r in records_of(several)[2:]]


def test_a_running_search_is_drawn_without_the_half_line_at_its_end(
    searched: Path, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = (searched / "metrics.jsonl").read_bytes().splitlines(keepends=True)[0]
    half = first[: first.index("µ".encode()) + 1]  # the kill came between the two bytes of a letter
    (tmp_path / "metrics.jsonl").write_bytes(first + half)
    assert run(fbsearch, ["plot", str(tmp_path), "--json"]) == 0
    output = capsys.readouterr()
    assert list(json.loads(output.out)) == ["theta", "curves"]
    assert "once the search has ended" in output.err
    record = read_run(tmp_path)
    assert record.numbers == [1]
    np.testing.assert_allclose(record.probabilities(name, "layer_01"), np.full((3, 1), 1 / 3), rtol=1e-3)


def test_published_networks_and_a_file_are_drawn_alone(
    searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(fbsearch, ["plot", "fbnet-c", "--format", "svg"]) == 0
    assert capsys.readouterr().out == f"{Path('plots', 'fbnet-c.svg')}\n"
    k5_e6 = load_architecture("fbnet-c").choices.count("k5_e6")
    assert Path("plots", "fbnet-c.svg").read_text(encoding="utf-8").count(">k5_e6</text>") == k5_e6
    assert run(fbsearch, ["plot", "fbnet-s8", "fbnet-iphonex", "--json", "--format", "svg"]) == 0
    assert json.loads(capsys.readouterr().out) == {"networks": str(Path("plots", "networks.svg"))}
    words = Path("plots", "networks.svg").read_text(encoding="utf-8")
    assert ">fbnet-s8</text>" in words
    assert ">fbnet-iphonex</text>" in words
    assert run(fbsearch, ["plot", str(searched / "arch.json")]) == 0
    assert capsys.readouterr().out == f"{searched / 'plots' / 'arch.png'}\n"


def test_mistakes_are_one_message_and_exit_code_2(
    searched: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*arguments: str) -> str:
        assert run(fbsearch, ["plot", *arguments]) == 2
        return capsys.readouterr().err

    folder = tmp_path / "run"
    assert "nowhere is no folder, no architecture file and no published" in refused("nowhere")
    assert "is a folder, which is drawn alone; to compare" in refused(str(searched), "fbnet-a")
    assert "only networks of one space can be compared" in refused("fbnet-a", str(searched / "arch.json"))
    assert "architecture file not found" in refused("nowhere.json")
    folder.mkdir()
    assert "is not the folder of a search: no metrics.jsonl" in refused(str(folder))
    (folder / "metrics.jsonl").write_text('{"stage": "search", "epo')
    assert f"no epoch of the search in {folder} has ended yet" in refused(str(folder))
    (folder / "metrics.jsonl").write_text('{"stage": "search", "epoch": 0}\n')
    message = refused(str(folder))
    assert "metrics.jsonl: line 1 is not what this version of fbsearch writes" in message
    (folder / "metrics.jsonl").write_text('half\n{"stage": "search"}\n')
    assert "line 1 is not what this version" in refused(str(folder))
    assert "'pdf' is not one of 'png', 'svg'" in refused(str(searched), "--format", "pdf")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert "drawing needs matplotlib, which does not load" in refused(str(searched))
