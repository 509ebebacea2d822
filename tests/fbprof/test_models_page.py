"""fbprof report of results of fbprof profile: the answer first, all its figures, nothing of others as markup."""

import re
from pathlib import Path
from typing import Any

import pytest

from fbbase.commandline import run
from fbprof.cli import fbprof
from fbprof.models.result import Layer, Profiled, Result, write_result
from peers.browser import looked_at

PHONE = "--window-size=390,800"
HOSTILE = "</style><script>problems.push('ran')</script><b title='\x1b[31m'>"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def profiled(name: str, latency_us: float = 8000.0, layers: int = 12, **more: Any) -> Profiled:
    """Return a model whose layer n takes n shares of it; the interval is ±2 %."""
    shares = layers * (layers + 1) / 2
    parts = tuple(
        Layer(name=f"{name}/{n}", kind="Conv", nodes=2, output_shape=(1, 8, n, n), macs=n * 10**6,
              latency_us=latency_us * n / shares, ci_low_us=latency_us * n / shares * 0.9,
              ci_high_us=latency_us * n / shares * 1.1, alone_us=latency_us * n / shares + 5)
        for n in range(1, layers + 1)
    )  # fmt: skip
    told: dict[str, Any] = {"runtime": "onnxruntime", "runtime_version": "1.2.3", "threads": 2, "samples": 321}
    times = {"latency_us": latency_us, "ci_low_us": latency_us * 0.98, "ci_high_us": latency_us * 1.02}
    spread = {"p50_us": 7900.0, "p90_us": 8300.0, "p99_us": 9100.0, "worst_us": 12345.0, "first_us": 40000.0}
    return Profiled(name=name, **told | times | spread | {"layers": parts, "layers_note": "sums to 99 %"} | more)


def written(path: str, *models: Profiled, **more: Any) -> str:
    """Write a result, and return its path."""
    told: dict[str, Any] = {"device": "board", "soc": "RK3588", "verdict": "good", "conditions": "1.8 GHz"}
    write_result(Result(**told | more, models=models), Path(path))
    return path


def page_of(*arguments: str) -> str:
    """Return the page that the command writes."""
    assert run(fbprof, ["report", *arguments, "-o", "page.html"]) == 0
    return Path("page.html").read_text(encoding="utf-8")


def test_the_first_screen_of_a_phone_is_the_answer(here: Path) -> None:
    page_of(written("r.json", profiled("det.onnx"), warnings=("it was warm: let it cool",), verdict="usable"))
    found = looked_at(here / "page.html", PHONE)
    assert found["problems"] == []
    assert not found["wide"]
    assert all(0 < bottom < 800 for bottom in found["bottoms"].values())
    first = found["text"].split("All figures")[0]
    words = ("8.000 ms", "±2.0 %", "7.840 to 8.160 ms", "onnxruntime 1.2.3, 2 threads", "board (RK3588)", "usable",
             "it was warm: let it cool", "fbprof ab det.onnx NEW --device board")  # fmt: skip
    assert [word for word in words if word not in " ".join(first.split())] == []


def test_the_ten_dearest_layers_are_bars_as_long_as_their_time(here: Path) -> None:
    text = page_of(written("r.json", profiled("det.onnx")))
    found = looked_at(here / "page.html")
    assert [name for name, _ in found["bars"]] == [f"det.onnx/{n}" for n in range(12, 2, -1)]
    widths = [width for _, width in found["bars"]]
    assert [width / widths[0] for width in widths] == pytest.approx([n / 12 for n in range(12, 2, -1)], rel=0.01)
    assert f"{100 * 12 / 78:.1f} %" in found["text"]
    assert text.count("det.onnx/1<") == 1  # every part stands in the list of all
    assert not re.search(r"(src|href|url)\s*[=(]", text)
    assert "<script" not in text
    assert len(text.encode()) < 60_000


def test_every_figure_of_every_setting_is_there(here: Path) -> None:
    one = profiled("det.onnx, 1 thread", 16000.0, file_bytes=2_500_000, parameters=1234567, macs=456_700_000,
                   preempted=17, loads=6, load_us=150_000.0, peak_bytes=51_200_000, kernels="XNNPACK 9 of 10",
                   sha256="ab" * 32, inputs=("images 1x3x8x8 uint8",))  # fmt: skip
    two = profiled("det.onnx, 2 threads", preempted=9, by_cpu_time=True)
    bad = Profiled(name="bad.onnx", runtime="onnxruntime", failed="operator Nonsense is unknown")
    page_of(written("r.json", one, two, bad))
    text = " ".join(looked_at(here / "page.html")["text"].split())
    figures = ("16.000 ms", "12.345 ms", "9.100 ms", "8.300 ms", "40.000 ms", "150.0 ms", "321", "17, left out",
               "9, by the CPU time of their thread", "51.2 MB", "2.50 MB", "1.235 M", "456.7 M", "images 1x3x8x8 uint8",
               "XNNPACK 9 of 10", "operator Nonsense is unknown", "abababab", "2.00x", "1.8 GHz")  # fmt: skip
    assert [figure for figure in figures if figure not in text] == []
    assert "mend why bad.onnx failed" in text.split("All figures")[0]


def test_results_are_held_against_the_first(here: Path) -> None:
    old = written("old.json", profiled("det.onnx", 8000.0))
    new = written("new.json", profiled("det.onnx", 8800.0))
    other = written("other.json", profiled("a.onnx"), profiled("b.onnx"))
    page_of(old, new, other)
    text = " ".join(looked_at(here / "page.html")["text"].split())
    half = (2 * 0.02**2) ** 0.5
    assert f"1.100 {1.1 * 2.71828**-half:.3f} {1.1 * 2.71828**half:.3f}" in text
    assert "no measured model in common" in text
    assert "fbprof compare old.json new.json --fail-above 3%" in text.split("All figures")[0]


def test_nothing_of_others_is_markup(here: Path) -> None:
    model = profiled(HOSTILE, layers_note=HOSTILE, kernels=HOSTILE, inputs=(HOSTILE,), runtime=HOSTILE)
    layer = Layer(name=HOSTILE * 30, kind=HOSTILE * 30, nodes=1, latency_us=99999.0, note=HOSTILE)
    model = model.model_copy(update={"layers": (*model.layers, layer)})
    told = dict.fromkeys(("device", "soc", "system", "agent", "conditions", "timing", "measured_at"), HOSTILE)
    result = written(
        "r.json", model, Profiled(name="{{STYLE}}", runtime="x", failed=HOSTILE), warnings=(HOSTILE,), **told
    )
    text = page_of(result, written("<i>.json", model, profiled("{{TITLE}}")))
    assert "\x1b" not in text
    assert "{{STYLE}}" in text
    found = looked_at(here / "page.html", PHONE)
    assert found["problems"] == []
    assert not found["wide"]
    assert [tag for tag in ("<script", "<b title", "</style><") if tag in text] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["r.json", "pixel-3"], "not of both"),
        (["pixel-3", "r.json"], "not of both"),
        (["r.json", "--run", "."], "are for tables"),
        (["none.json"], "not found"),
        (["bad.json"], "bad.json is no result of fbprof profile: models"),
    ],
)
def test_bad_input_is_one_clear_message(
    arguments: list[str], message: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written("r.json", profiled("det.onnx"))
    (here / "bad.json").write_text('{"device": "x", "verdict": "good"}')
    assert run(fbprof, ["report", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not list(here.glob("*.html"))
