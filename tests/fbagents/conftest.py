"""A model file per runtime, a transport to this machine, and how to start either agent here."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fbagents.native import build as native
from fbagents.profile import load_profile
from fbagents.transports import Transport, connect
from fbagents.transports.local import agent_script
from fbexport.export import export_spec
from fbexport.formats import format_of, load_format
from fbexport.runtimes import RUNTIMES

sys.path.insert(0, str(Path(__file__).parent / "peers"))  # the peers and what their tests share
from common import SPEC
from qdq import qdq_conv


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """SPEC as a model file for each runtime."""
    folder = tmp_path_factory.mktemp("models")
    paths = {}
    for runtime in RUNTIMES.names():
        name = format_of(runtime)
        paths[runtime] = folder / f"{runtime}{load_format(name).suffix}"
        paths[runtime].write_bytes(export_spec(SPEC, name))
    return paths


@pytest.fixture(scope="session")
def int8_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model from int8 to int8 for each runtime that has one: SPEC for LiteRT, a 1×1 convolution for ONNX Runtime."""
    folder = tmp_path_factory.mktemp("int8_models")
    paths = {"litert": folder / "int8.tflite", "onnxruntime": folder / "int8.onnx"}
    paths["litert"].write_bytes(export_spec(SPEC, "tflite", "int8"))
    paths["onnxruntime"].write_bytes(qdq_conv())
    return paths


@pytest.fixture
def local() -> Iterator[Transport]:
    transport = connect(load_profile("local"))
    yield transport
    transport.close()


@pytest.fixture(params=["python", "native"])
def agent_argv(request: pytest.FixtureRequest) -> list[str]:
    """How to start either agent on this machine."""
    if request.param == "python":
        return [sys.executable, str(agent_script())]
    if shutil.which("cc") is None:
        pytest.skip("no C compiler cc is on the PATH")
    return [str(native.build(native.host_target())), *native.runtime_options()]
