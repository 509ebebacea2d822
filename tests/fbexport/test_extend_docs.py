"""docs/extend of formats and runtimes, followed literally: files are added to a copy of the sources, and they work."""

import re
import tomllib
from importlib.metadata import version

import pytest

from fblut.reading import read_lut
from fbspace.space import load_space
from peers.extending import copy_sources, examples, give, install, page, python, touched
from peers.given import SPACE

RUN_HERE = """
import numpy, torch
from fbexport.export import export_spec
from fbexport.runtimes import fallbacks, load_model
from fbspace.blocks import build_block
from fbspace.opspec import OpSpec
from fbspace.weights import randomize
spec = OpSpec("ir", 16, 24, 8, 8, kernel=3, stride=2, expansion=3)
model, x = export_spec(spec, "onnx"), torch.randn(spec.input_shape)
assert fallbacks(model, "reference", "float32") == []
(y,) = load_model(model, "reference")(x.numpy())
numpy.testing.assert_allclose(y, randomize(build_block(spec), 0)(x).detach().numpy(), rtol=1e-4, atol=1e-4)
"""


def shown(name):
    """Return the words of a page's own command."""
    (words,) = re.findall(r"^    (fbprof .*)$", page(name), re.MULTILINE)
    return words.split()


@pytest.fixture
def checkout(tmp_path):
    return copy_sources(tmp_path)


def check_table(path):
    lut = read_lut(path)
    assert (lut.metadata.runtime, lut.metadata.runtime_version) == ("reference", version("onnx"))
    assert lut.metadata.agent.startswith("python ")
    assert lut.rows.keys() == {spec.key() for spec in load_space("fbnet-tiny").operators()}
    measured = [row.latency_us for row in lut.rows.values() if row.latency_us is not None]
    assert len(measured) > len(lut.rows) / 2  # while other tests run some operators' samples are all preempted
    assert min(measured) > 50  # numpy, an operator at a time
    return lut.metadata.agent


def test_a_format(checkout):
    (code,) = examples(page("format"), "python")
    (checkout / "core/fbexport/formats/summary.py").write_text(code)
    assert shown("format")[:5] == ["fbprof", "export", "mobilenetv3-small", "--format", "summary"]
    commands = [
        shown("format"),
        [*shown("format"), "--precision", "int8"],
        ["fbprof", "export", "fbnet-a", "--format", "summary"],
    ]
    done, no_int8, no_shuffle = give(commands, checkout, checkout)
    assert [each.code for each in (done, no_int8, no_shuffle)] == [0, 2, 2], done.err
    lines = (checkout / "summary.txt").read_text().splitlines()
    assert lines[0] == "Conv (16, 3, 3, 3) -> (1, 16, 112, 112)"
    assert lines[-1] == "Linear (1000, 1024) -> (1, 1000)"
    assert "summary has no precision 'int8'; it can be written in float32" in no_int8.err
    assert "format 'summary' cannot write operator Shuffle of module" in no_shuffle.err
    assert touched(checkout) == {"core/fbexport/formats/summary.py"}


def test_a_runtime(checkout):
    host, on_device, _ = examples(page("runtime"), "python")
    (checkout / "core/fbexport/runtimes/reference.py").write_text(host)
    agent = checkout / "device_agents/on-device/agent.py"
    before, class_torch, rest = agent.read_text().partition("class Torch(Runtime):")
    body, end, after = rest.partition("\n\n\n")
    agent.write_text(f"{before}{class_torch}{body}\n\n\n{on_device}{end}{after}")
    assert touched(checkout) == {"core/fbexport/runtimes/reference.py", "device_agents/on-device/agent.py"}
    here = python(["-c", RUN_HERE], checkout, checkout)
    assert here.returncode == 0, here.stderr
    commands = [
        [*shown("runtime"), "--rounds", "2", "--calibrate", "0"],
        ["fbprof", "measure", "--help"],
        [*shown("runtime"), "--precision", "int8"],
    ]
    done, told, refused = give(commands, checkout, checkout)
    assert [each.code for each in (done, told, refused)] == [0, 0, 2], done.err
    check_table(checkout / "reference.csv")
    assert "reference or torch." in " ".join(told.out.split())
    assert "reference (format onnx) has no precision 'int8'; it can be written in float32" in refused.err


@pytest.mark.full  # tests/test_outside_package.py measures by it
def test_a_runtime_of_a_package_outside(tmp_path):
    host, on_device, added = examples(page("runtime"), "python")
    after = '    precisions = ("float32",)\n'
    assert after in host
    host = host.replace(after, after + added).replace("from fbexport", "from pathlib import Path\n\nfrom fbexport", 1)
    on_device = f"from __main__ import Runtime\n\n\n{on_device}"
    (project,) = examples(page("runtime"), "toml")
    site = tmp_path / "site"
    install(site, tomllib.loads(project), {"reference.py": host, "on_device.py": on_device})
    here = python(["-c", RUN_HERE], tmp_path, site=site)
    assert here.returncode == 0, here.stderr
    own = [*shown("runtime"), "--rounds", "2", "--calibrate", "0"]
    (done,) = give([own], tmp_path, site=site)
    assert done.code == 0, done.err
    agent = check_table(tmp_path / "reference.csv")
    (tmp_path / "one.toml").write_text(SPACE)
    (plain,) = give([["fbprof", "measure", "--space", "one.toml", "--rounds", "1", "-o", "t.csv"]], tmp_path)
    assert plain.code == 0, plain.err
    assert agent != read_lut(tmp_path / "t.csv").metadata.agent  # the hash is of what was sent along, too
