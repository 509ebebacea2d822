"""fbprof report, opened in a real browser: no error, charts drawn, the table sorts and filters, within its size."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fbbase.commandline import run
from fblut.reading import read_lut
from fblut.table import Lut
from fblut.writing import write_lut
from fbprof.cli import fbprof
from fbspace.architecture import load_architecture
from fbspace.space import load_space
from peers.browser import looked_at, opened

MOST_MB = 6.0


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_published_table_beside_another(here: Path) -> None:
    assert run(fbprof, ["report", "pixel-3", "raspberry-pi-4"]) == 0
    page = here / "pixel-3.html"
    assert page.stat().st_size <= MOST_MB * 1e6
    found = opened(page)
    lut = read_lut(Path("pixel-3"))
    assert found["problems"] == []
    assert found["keys"] == list(lut.rows)
    assert found["titles"][-1] == "ratio of raspberry-pi-4"
    assert set(found["charts"]) == {"by-layer", "by-macs", "comparison-1"}
    assert all(marks > 0 for marks in found["charts"].values())
    measured = sorted(row.latency_us for row in lut.rows.values() if row.latency_us is not None)
    missing = len(lut.rows) - len(measured)
    assert found["ascending"] == [*(f"{us:.2f}" for us in measured), *["–"] * missing]
    assert found["descending"] == [*(f"{us:.2f}" for us in reversed(measured)), *["–"] * missing]
    wanted = {key for key, row in lut.rows.items() if row.spec.kernel == 5 and row.spec.expansion == 6}
    assert set(found["filtered"]) == wanted
    assert found["count"] == f"{len(wanted)} of {len(lut.rows)} operators"
    assert found["nothing"] == []
    assert found["all"] == len(lut.rows)


def test_the_first_screen_is_a_network_and_its_dearest_layers(here: Path) -> None:
    """The network has of every layer the candidate of median latency; its total is the sum of its rows."""
    assert run(fbprof, ["report", "amd-epyc-litert", "-o", "p.html"]) == 0
    lut, space = read_lut(Path("amd-epyc-litert")), load_space("fbnet")
    parts = [lut.latency_us(spec) for spec in (*space.stem, *next(iter(space.heads.values())))]
    layers = [
        sorted(0.0 if spec.kind == "skip" and spec.key() not in lut.rows else lut.latency_us(spec)
               for spec in layer.candidates.values())
        for layer in space.layers
    ]  # fmt: skip
    middle = [*parts, *(ordered[len(ordered) // 2] for ordered in layers)]
    fixed_us = sum(parts) + lut.metadata.network_us
    found = looked_at(here / "p.html", "--window-size=390,800")
    text = " ".join(found["text"].split())
    assert f"{(sum(middle) + lut.metadata.network_us) / 1e3:.3f} ms" in text
    fastest, slowest = ((fixed_us + sum(ordered[end] for ordered in layers)) / 1e3 for end in (0, -1))
    assert f"take {fastest:.3f} to {slowest:.3f} ms" in text
    widths = [width for _, width in found["bars"]]
    dearest = sorted(middle, reverse=True)[:10]
    assert [width / widths[0] for width in widths] == pytest.approx([us / dearest[0] for us in dearest], rel=0.01)
    assert {"head", "stem"} <= {name for name, _ in found["bars"]}
    assert "fbsearch run --lut amd-epyc-litert" in text
    assert not found["wide"]
    assert found["bottoms"]["next"] < 800


def test_it_fits_a_phone_loads_nothing_and_what_a_table_says_cannot_end_the_script(
    here: Path, make_table: Callable[..., Path]
) -> None:
    table = make_table(warnings=("</script><script>problems.push('ran')</script>",), device="<b>bold\x1b[31m</b>")
    assert run(fbprof, ["report", str(table), "-o", "p.html"]) == 0
    text = Path("p.html").read_text(encoding="utf-8")
    assert "\x1b" not in text
    assert "bold\\x1b[31m&lt;/b&gt;" in text
    assert not re.search(r'(src|href)="', text.split("<script>")[0])
    found = opened(here / "p.html", "--window-size=390,800")
    assert found["problems"] == []
    assert not found["wide"]


@pytest.fixture
def make_table(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a published table with other metadata."""

    def make(**metadata: object) -> Path:
        lut = read_lut(Path("pixel-3"))
        described = type(lut.metadata).model_validate(lut.metadata.model_dump() | metadata)
        write_lut(Lut(described, lut.rows), tmp_path / "table.csv")
        return tmp_path / "table.csv"

    return make


def test_networks_that_were_validated_and_a_search(here: Path, make_table: Callable[..., Path]) -> None:
    table = make_table()
    (here / "networks.csv").write_text(
        "# fbnet-lab networks 1\nname,latency_us,predicted_us\na,1000,1100\nb,2000,1900\n"
    )
    run_folder = here / "run"
    run_folder.mkdir()
    theta = np.array([0.0, 1.0, 2.0])
    lines = [
        {
            "stage": "search",
            "epoch": epoch,
            "objectives": {"t": {"theta": {"layer_01": dict(zip("abc", epoch * theta, strict=True))}}},
        }
        for epoch in range(3)
    ]
    (run_folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    ranked = [{"choices": ["k3_e1"], "cost": 3.0, "accuracy_percent": 50.0, "loss": 1.0}]
    architecture = {
        "name": "found",
        "space": "fbnet-cifar",
        "choices": ["k5_e6"] * 22,
        "provenance": {"candidates": ranked, "target": [4.0, "µs"]},
    }
    (run_folder / "arch.json").write_text(json.dumps(architecture))
    float32, int8 = ({"runtime": "litert", "precision": precision} for precision in ("float32", "int8"))
    slow = read_lut(make_table(**float32))
    write_lut(slow, here / "float32.csv")
    table = make_table()  # whose runtime is not known, and so not whose accuracy this is
    halved = {key: replace(row, latency_us=row.latency_us / 2) for key, row in slow.rows.items() if row.latency_us}
    rows = slow.rows | halved
    write_lut(Lut(slow.metadata.model_copy(update={"precision": "int8", "network_us": 0.0}), rows), here / "int8.csv")
    accuracies = [float32 | {"top1_percent": 61.5}, int8 | {"top1_percent": 61.25}, int8 | {"top1_percent": 60.75}]
    (run_folder / "accuracy.jsonl").write_text("".join(json.dumps(one) + "\n" for one in accuracies))
    arguments = ["report", str(table), "--run", str(run_folder), "--validation", "networks.csv", "-o", "p.html"]
    assert run(fbprof, [*arguments, "float32.csv", "int8.csv"]) == 0
    found = opened(here / "p.html")
    assert found["charts"]["precision"] == 2
    specs = load_architecture(str(run_folder / "arch.json")).specs()
    whole_ms = slow.predict_us(specs) / 1e3
    half_ms = (slow.predict_us(specs) - slow.metadata.network_us) / 2e3
    page = (here / "p.html").read_text(encoding="utf-8")
    assert f"float32, pixel-3, litert: 61.50 %, {whole_ms:.3f} ms" in page
    assert f"int8, pixel-3, litert: 60.75 %, {half_ms:.3f} ms" in page  # evaluated twice: the latter counts
    assert found["problems"] == []
    assert {"validation", "theta-t", "front-arch", "network-arch"} <= set(found["charts"])
    assert found["charts"]["validation"] >= 2
    assert found["charts"]["network-arch"] == 22 + 3  # 22 layers, stem, last 1x1 convolution, classifier
    text = (here / "p.html").read_text(encoding="utf-8")
    answer = text.split('class="tiles"')[0]
    assert "the network that was found" in answer
    assert f"{read_lut(table).predict_us(specs) / 1e3:.3f} ms" in answer
    assert "2 networks; the prediction is off by 7.50 % in the mean." in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.csv"], "latency table not found"),
        (["pixel-3", "--run", "."], "record of a search not found"),
        (["pixel-3", "--validation", "bad.csv"], "has no predictions"),
        (["pixel-3", "--validation", "zero.csv"], "zero.csv: network 'a' lacks a prediction or a latency"),
        (["pixel-3", "fbnet.csv"], "different spaces"),
    ],
)
def test_bad_input_is_one_clear_message(
    arguments: list[str], message: str, here: Path, make_table: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    make_table(space="fbnet").rename(here / "fbnet.csv")
    (here / "bad.csv").write_text("name,latency_us\na,1\n")
    (here / "zero.csv").write_text("name,latency_us,predicted_us\na,0,1\n")
    assert run(fbprof, ["report", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not list(here.glob("*.html"))
