"""The native agent as a program: its sources, how it is built and kept, and what is said where it cannot be."""

import hashlib
import importlib
import shutil
import subprocess
from pathlib import Path

import pytest

from fbagents.agent.protocol import Hello, parse_reply
from fbagents.errors import DeviceError
from fbagents.native import build as native
from fbbase.commandline import run
from fbprof.cli import fbprof
from peers.compiler import needs_compiler


def test_no_files_call_each_other_and_headers_declare_what_their_file_defines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    check = importlib.import_module("_c_files")
    assert check.includes()["litert"] == {"failure", "runtimes"}
    assert (check.c_circles(), check.strays()) == ([], [])
    for path in native.source_files():
        shutil.copy(path, tmp_path)
    for name, line in (("runtimes.c", '#include "requests.h"'), ("json.h", "bool fail_again(const char *format);")):
        path = tmp_path / name
        path.write_text(f"{path.read_text()}{line}\n")
    assert check.c_circles(tmp_path) == [["requests", "runtimes"]]
    assert check.strays(tmp_path) == ["json.h declares fail_again, which json.c does not define"]


@needs_compiler
def test_a_build_without_a_warning_is_kept_and_named_by_its_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "FLAGS", (*native.FLAGS, "-Wshadow", "-Wmissing-prototypes", "-Werror"))
    program = native.build(native.host_target(), tmp_path)
    made = program.stat().st_mtime_ns
    assert native.build(native.host_target(), tmp_path).stat().st_mtime_ns == made
    assert [path.name for path in tmp_path.iterdir()] == [program.name]
    assert program.read_bytes()[:4] in (b"\x7fELF", b"\xcf\xfa\xed\xfe")


def test_a_target_that_nothing_here_builds_for_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(native.importlib.util, "find_spec", lambda name: None)  # type: ignore[attr-defined]
    with pytest.raises(DeviceError, match=r"pip install 'fbnet-lab\[native\]', or put aarch64-linux-gnu-gcc"):
        native.compiler("aarch64-linux")
    with pytest.raises(DeviceError, match=r"apt install g\+\+-aarch64-linux-gnu; or bring the bundle"):
        native.cxx_compiler("aarch64-linux")
    with pytest.raises(DeviceError, match="no target 'sparc-linux'; known: x86_64-linux, aarch64-linux, aarch64-macos"):
        native.build("sparc-linux")


@needs_compiler
def test_the_command_builds_a_program_that_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(fbprof, ["agent", "build", native.host_target(), "-o", str(tmp_path / "agent")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'agent'}\n"
    done = subprocess.run([tmp_path / "agent"], stdin=subprocess.DEVNULL, capture_output=True, timeout=30)
    hello = parse_reply(done.stdout.splitlines()[0])
    assert isinstance(hello, Hello)
    assert hello.agent.endswith(hashlib.sha256((tmp_path / "agent").read_bytes()).hexdigest()[:12])
