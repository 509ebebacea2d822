"""fbsearch spaces check: which formats take a space, against what each format writes of its operators."""

import json
from pathlib import Path

import pytest

from fbbase.commandline import run
from fbexport import taking
from fbexport.errors import ExportError
from fbexport.export import export_spec
from fbsearch.cli import fbsearch
from fbspace.space import load_space
from peers.installed import FORMATS_HERE

SPACE = """
description = "one layer"
input = { channels = 3, size = 8 }
classes = 10
head_channels = [8]
stem = [{ kind = "conv", channels = 8, kernel = 3 }]
stages = [{ channels = 8, repeats = 2, stride = 1 }]
[candidates]
next = { kind = "convnext", kernel = 3, expansion = 2, activation = "gelu" }
k3 = { kind = "ir", kernel = 3 }
skip = { kind = "skip" }
"""


def test_formats_that_take_a_space_are_told_and_why_others_do_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "next.toml").write_text(SPACE)
    takes = dict.fromkeys(FORMATS_HERE, True)
    for spec in load_space(str(tmp_path / "next.toml")).operators():
        for name in FORMATS_HERE:
            try:
                export_spec(spec, name)
            except ExportError:
                takes[name] = False
    assert run(fbsearch, ["spaces", "check", str(tmp_path / "next.toml"), "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert told["formats"] == [name for name in sorted(takes) if takes[name]]
    assert sorted(told["refused"]) == [name for name in sorted(takes) if not takes[name]]
    assert {"onnx", "tflite"} <= set(told["formats"])
    assert run(fbsearch, ["spaces", "check", str(tmp_path / "next.toml")]) == 0
    output = capsys.readouterr().out
    assert f"formats that take it: {', '.join(told['formats'])}\n" in output
    for reasons in told["refused"].values():
        assert len(reasons) == 1  # the plain convolution and the inverted residual are taken by all
        assert "convnext_in8x8x8_out8_k3_s1_e2_g1_gelu: format " in reasons[0]
        assert reasons[0] in output


def test_a_space_that_no_format_takes_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> bytes:
        raise ExportError("operator Norm of module 'norm': no format can")

    monkeypatch.setattr(taking, "export_spec", refuse)
    (tmp_path / "next.toml").write_text(SPACE)
    assert run(fbsearch, ["spaces", "check", str(tmp_path / "next.toml")]) == 2
    output = capsys.readouterr()
    assert "formats that take it: none\n  operator Norm of module 'norm': no format can\n" in output.out
    assert "no format takes all operators of next: leave out those that are refused above" in output.err


def test_one_operator_of_every_sort_is_tried() -> None:
    tried: list[object] = []
    space = load_space("fbnetv2-tiny")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(taking, "export_spec", lambda spec, name: tried.append((spec, name)))
        assert set(taking.refusals(space.operators())) == set(FORMATS_HERE)
    assert len(tried) == len(set(tried)) < len(FORMATS_HERE) * 60 < len(space.operators())
    sorts = {(spec.kind, spec.activation, spec.squeeze_excite, spec.stride) for spec in space.operators()}
    assert {(spec.kind, spec.activation, spec.squeeze_excite, spec.stride) for spec, _ in tried} == sorts
