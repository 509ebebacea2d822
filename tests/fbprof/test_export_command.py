"""`fbprof export` as a person and a program use it."""

import json
import subprocess
import sys

import pytest

from fbbase.commandline import run
from fbexport.export import export_network
from fbprof.cli import fbprof
from fbspace.architecture import load_architecture
from fbspace.network import build_network
from fbspace.weights import randomize, save_weights


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_writes_name_and_suffix_here_and_prints_the_cost(here, capsys):
    assert run(fbprof, ["export", "fbnet-c", "--format", "tflite"]) == 0
    assert [path.name for path in here.iterdir()] == ["fbnet-c.tflite"]
    assert (here / "fbnet-c.tflite").read_bytes() == export_network(load_architecture("fbnet-c"), "tflite")
    out = capsys.readouterr().out
    assert out == "fbnet-c.tflite  22.2 MB  (385.0 M multiply-accumulates, 5.57 M parameters)\n"


def test_weights_of_another_number_of_classes_from_an_architecture_file(here, capsys):
    architecture = load_architecture("fbnet-a")
    architecture.save(here / "arch.json")
    network = randomize(build_network(architecture, classes=10), 4)
    save_weights(network, here / "weights.pt")
    arguments = ["export", "arch.json", "--format", "onnx", "--weights", "weights.pt", "-o", "sub/net.onnx", "--json"]
    assert run(fbprof, arguments) == 0
    result = json.loads(capsys.readouterr().out)
    content = (here / "sub" / "net.onnx").read_bytes()
    assert content == export_network(architecture, "onnx", weights=here / "weights.pt")
    assert result == {
        "file": "sub/net.onnx",
        "size_bytes": len(content),
        "format": "onnx",
        "precision": "float32",
        "macs": result["macs"],
        "parameters": sum(p.numel() for p in network.parameters()),
    }


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fbnet-c", "--format", "onxn"], ["unknown format 'onxn'", "Did you mean 'onnx'?", "torchscript"]),
        (["fbnet-x", "--format", "onnx"], ["unknown published network 'fbnet-x'", "Did you mean 'fbnet-c'?"]),
        (["fbnet-a", "--format", "torchscript", "--precision", "int8"], ["'fbnet-a'", "precision 'int8'", "float32"]),
        (["fbnet-a", "--format", "onnx", "--weights", "no.pt"], ["weights not found: no.pt"]),
        (["fbnet-a"], ["Missing option '--format'"]),
    ],
)
def test_mistakes_are_one_message_and_leave_no_file(here, capsys, arguments, words):
    assert run(fbprof, ["export", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    for word in words:
        assert word in captured.err
    assert list(here.iterdir()) == []


def test_help_has_an_example_and_imports_nothing_heavy():
    code = (
        "import sys; from fbbase.commandline import run; from fbprof.cli import fbprof\n"
        "run(fbprof, ['export', '--help'])\n"
        "assert not {'torch', 'onnx', 'numpy', 'ai_edge_litert'} & set(sys.modules), 'heavy import'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "  Example:\n    fbprof export fbnet-c --format tflite\n" in done.stdout
