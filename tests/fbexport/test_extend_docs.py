"""docs/extend of formats and runtimes, followed literally: files are added to a copy of the sources, and they work."""

import filecmp
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from fblut.reading import read_lut
from fbspace.space import load_space

ROOT = Path(__file__).parents[2]
FOLDERS = ("core", "search", "profiler", "device_agents", "luts")
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


def page(name):
    return (ROOT / "docs" / "extend" / f"{name}.md").read_text(encoding="utf-8")


def shown(name):
    """Return the words of a page's own command."""
    (words,) = re.findall(r"^    fbprof (.*)$", page(name), re.MULTILINE)
    return words.split()


def examples(name):
    """Return the Python that a page shows, in order."""
    return re.findall(r"```python\n(.*?)```", page(name), re.DOTALL)


def python(folder, sources, *words, status=0):
    """Run Python with these sources, and return what it prints on stdout and stderr."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, sources))}
    command = [sys.executable, *words]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == status, done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def checkout(tmp_path):
    for name in FOLDERS:
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def touched(folder):
    """Return which files of a copy of the sources are not as they were."""
    files = {path.relative_to(folder) for name in FOLDERS for path in (folder / name).rglob("*") if path.is_file()}
    return {
        str(path)
        for path in files
        if "__pycache__" not in path.parts
        and not ((ROOT / path).exists() and filecmp.cmp(ROOT / path, folder / path, shallow=False))
    }


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
    (code,) = examples("format")
    (checkout / "core/fbexport/formats/summary.py").write_text(code)
    sources = [checkout / name for name in FOLDERS]
    assert shown("format")[:4] == ["export", "mobilenetv3-small", "--format", "summary"]
    python(checkout, sources, "-m", "fbprof", *shown("format"))
    lines = (checkout / "summary.txt").read_text().splitlines()
    assert lines[0] == "Conv (16, 3, 3, 3) -> (1, 16, 112, 112)"
    assert lines[-1] == "Linear (1000, 1024) -> (1, 1000)"
    refused = python(checkout, sources, "-m", "fbprof", *shown("format"), "--precision", "int8", status=2)
    assert "summary has no precision 'int8'; it is written in float32" in refused
    refused = python(checkout, sources, "-m", "fbprof", "export", "fbnet-a", "--format", "summary", status=2)
    assert "format 'summary' cannot write operator Shuffle of module" in refused
    assert touched(checkout) == {"core/fbexport/formats/summary.py"}


def test_a_runtime(checkout):
    host, on_device, _ = examples("runtime")
    (checkout / "core/fbexport/runtimes/reference.py").write_text(host)
    agent = checkout / "device_agents/on-device/agent.py"
    before, class_torch, rest = agent.read_text().partition("class Torch(Runtime):")
    body, end, after = rest.partition("\n\n\n")
    agent.write_text(f"{before}{class_torch}{body}\n\n\n{on_device}{end}{after}")
    assert touched(checkout) == {"core/fbexport/runtimes/reference.py", "device_agents/on-device/agent.py"}
    sources = [checkout / name for name in FOLDERS]
    python(checkout, sources, "-c", RUN_HERE)
    python(checkout, sources, "-m", "fbprof", *shown("runtime"), "--rounds", "2")
    check_table(checkout / "reference.csv")
    assert "litert, onnxruntime, reference or torch." in python(checkout, sources, "-m", "fbprof", "measure", "--help")
    refused = python(checkout, sources, "-m", "fbprof", *shown("runtime"), "--precision", "int8", status=2)
    assert "reference (format onnx) has no precision 'int8'; it is written in float32" in refused


def test_a_runtime_of_a_package_outside(tmp_path):
    host, on_device, added = examples("runtime")
    package, info = tmp_path / "my_package", tmp_path / "my_package-1.dist-info"
    package.mkdir()
    info.mkdir()
    (package / "__init__.py").touch()
    after = '    precisions = ("float32",)\n'
    assert after in host
    host = host.replace(after, after + added).replace("from fbexport", "from pathlib import Path\n\nfrom fbexport", 1)
    (package / "reference.py").write_text(host)
    (package / "on_device.py").write_text(f"from __main__ import Runtime, test_input\n\n\n{on_device}")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my_package\nVersion: 1\n")
    group, line = re.search(r'```toml\n\[project.entry-points."(.*?)"\]\n(.*?)```', page("runtime"), re.DOTALL).groups()
    (info / "entry_points.txt").write_text(f"[{group}]\n{line}".replace('"', ""))
    sources = [tmp_path, *(ROOT / name for name in FOLDERS)]
    python(tmp_path, sources, "-c", RUN_HERE)
    python(tmp_path, sources, "-m", "fbprof", *shown("runtime"), "--rounds", "2")
    agent = check_table(tmp_path / "reference.csv")
    (tmp_path / "elsewhere").mkdir()
    plain = ["-m", "fbprof", "measure", "--space", "fbnet-tiny", "--quick", "--rounds", "1", "-o", "t.csv"]
    python(tmp_path / "elsewhere", sources[1:], *plain)
    assert agent != read_lut(tmp_path / "elsewhere/t.csv").metadata.agent  # the hash is of what was sent along, too
