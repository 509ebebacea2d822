"""Searches of two real processes: the single process's result, one writer, one end whatever ends them."""

import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from fbbase.commandline import run
from fbsearch.cli import fbsearch
from peers.processes import Python

# 140 images train w and 40 θ: batches of 35, of which one rank has one image more than the other, and of 40
OPTIONS = ["--threads", "1", "--epochs", "3", "--warmup", "1", "--batch", "41", "--limit", "200", "--samples", "2"]
LONGER = ["--epochs", "3", "--batch", "20", "--strategy", "single-path", "--targets", "0.040,0.042"]
FBSEARCH = ["-m", "fbsearch", "run"]
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


class Started:
    """Processes of a test, their outputs, and an end to them whatever happens."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: list[Python] = []
        self.outputs: list[Path] = []

    def start(self, arguments: list[str], **environment: str) -> Python:
        output = self.folder / f"output-{len(self.outputs)}"
        with output.open("wb") as out, output.with_suffix(".err").open("wb") as err:
            process = Python(arguments, stdout=out, stderr=err, env=os.environ | environment)
        self.processes.append(process)
        self.outputs.append(output)
        return process

    def torchrun(self, arguments: list[str]) -> Python:
        return self.start([*TORCHRUN, *FBSEARCH, *arguments])

    def ranks(self, *arguments: list[str]) -> list[Python]:
        """Start a process for each list of arguments, without torchrun but with what it tells them."""
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = str(probe.getsockname()[1])
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(len(arguments))}
        return [
            self.start([*FBSEARCH, *each], RANK=str(rank), LOCAL_RANK=str(rank), **meeting)
            for rank, each in enumerate(arguments)
        ]

    def text(self, process: Python, stream: str = "err") -> str:
        output = self.outputs[self.processes.index(process)]
        return (output.with_suffix(".err") if stream == "err" else output).read_text()

    def wait(self, *processes: Python, timeout: float = 240) -> list[int]:
        deadline = time.monotonic() + timeout
        return [process.wait(deadline - time.monotonic()) for process in processes]


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Started]:
    started = Started(tmp_path)
    yield started
    for process in started.processes:
        if process.poll() is None:
            process.terminate()  # a launcher ends its workers
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture(scope="module")
def options(digits_npz: Path) -> list[str]:
    return ["--data", str(digits_npz), *OPTIONS]


@pytest.fixture(scope="module")
def inputs(micro_file: Path, micro_lut_file: Path, options: list[str]) -> list[str]:
    return ["--lut", str(micro_lut_file), "--space", str(micro_file), *options]


@pytest.fixture(scope="module")
def alone(inputs: list[str], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Run one process with the same options."""

    def search(*extra: str) -> Path:
        folder = tmp_path_factory.mktemp("alone")
        assert run(fbsearch, ["run", *inputs, *extra, "-o", str(folder)]) == 0
        return folder

    return search


def state(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(folder / "search.ckpt", weights_only=True)["state"]
    return content


def lines(folder: Path) -> list[dict[str, Any]]:
    metrics = folder / "metrics.jsonl"
    return [json.loads(line) for line in metrics.read_text().splitlines()] if metrics.exists() else []


def await_epochs(folder: Path, count: int, *processes: Python) -> None:
    deadline = time.monotonic() + 180
    while len(lines(folder)) < count:
        assert time.monotonic() < deadline
        assert all(process.poll() is None for process in processes)
        time.sleep(0.01)


def require_same(folder: Path, other: Path, tolerance: float) -> None:
    """Compare w, θ and metrics of two searches, and the networks found."""
    mine, others = state(folder), state(other)
    for name, value in others["net"].items():
        torch.testing.assert_close(mine["net"][name], value, rtol=0, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}")
    for name, objective in others["objectives"].items():
        torch.testing.assert_close(mine["objectives"][name]["theta"], objective["theta"], rtol=0, atol=tolerance)
    for line, expected in zip(lines(folder), lines(other), strict=True):
        assert line["w_loss"] == pytest.approx(expected["w_loss"], abs=1e-9 + tolerance)
        assert line["w_accuracy_percent"] == pytest.approx(expected["w_accuracy_percent"], abs=0.5)
        for name, objective in expected["objectives"].items():
            found = line["objectives"][name]
            assert found["expected_cost"] == pytest.approx(objective["expected_cost"], rel=1e-9 + tolerance)
            assert found.get("theta_loss") == pytest.approx(objective.get("theta_loss"), abs=1e-9 + tolerance)
    assert sorted(path.name for path in folder.glob("arch*.json")) == sorted(p.name for p in other.glob("arch*.json"))
    for path in other.glob("arch*.json"):
        found, expected = (json.loads((each / path.name).read_text()) for each in (folder, other))
        assert found.get("choices") == expected.get("choices")
        assert found.get("network") == expected.get("network")


class Launched(NamedTuple):
    """A search of two ranks: its folder and what both printed."""

    folder: Path
    out: str
    err: str


@pytest.fixture(scope="module")
def launched(inputs: list[str], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Launched]:
    """Search in two ranks, once with the same options."""

    @functools.cache
    def search(*extra: str, by_torchrun: bool = False) -> Launched:
        started = Started(tmp_path_factory.mktemp("two"))
        arguments = [*inputs, *extra, "-o", str(started.folder / "run")]
        processes = [started.torchrun(arguments)] if by_torchrun else started.ranks(arguments, arguments)
        assert set(started.wait(*processes)) == {0}, started.text(processes[0])
        out, err = ("".join(started.text(each, stream) for each in processes) for stream in ("out", "err"))
        return Launched(started.folder / "run", out, err)

    return search


# test_two_hosts.py has it of two launchers, and the next test of a single path
@pytest.mark.parametrize(
    ("extra", "steps", "by_torchrun"),
    [
        pytest.param(["--strategy", "mixture"], 3 * 4 + 2, True, marks=pytest.mark.full),
        pytest.param(LONGER, 3 * 7 + 2 * 2 * 2, True, marks=pytest.mark.full),
        pytest.param(LONGER, 3 * 7 + 2 * 2 * 2, False, marks=pytest.mark.full),
    ],
)
def test_two_ranks_find_what_one_process_finds_and_one_of_them_writes_and_prints(
    extra: list[str], steps: int, by_torchrun: bool, launched: Callable[..., Launched], alone: Callable[..., Path]
) -> None:
    two, expected = launched(*extra, by_torchrun=by_torchrun), alone(*extra)
    require_same(two.folder, expected, 1e-4)
    assert two.out.count("network for") == len(list(expected.glob("arch*.json")))
    progress = [line.split(",")[0] for line in two.err.splitlines() if "left" in line]
    assert progress[-1] == f"search: {steps}/{steps}"
    assert len(progress) == len(set(progress))


@pytest.mark.parametrize("strategy", [pytest.param("mixture", marks=pytest.mark.full), "single-path"])
def test_two_ranks_search_widths_and_sizes_as_one_process_does(
    strategy: str, masked_table: Path, options: list[str], started: Started, tmp_path: Path
) -> None:
    """One path runs over the modules of the masks where batch normalisation is shared, over slices where it is not."""
    space = str(masked_table.with_name("masked.toml"))
    inputs = ["--lut", str(masked_table), "--space", space, *options, "--strategy", strategy, "--target-ms", "0.06"]
    ranks = started.ranks(*[[*inputs, "-o", str(tmp_path / "two")]] * 2)
    folder = tmp_path / "one"
    assert run(fbsearch, ["run", *inputs, "-o", str(folder)]) == 0
    assert started.wait(*ranks) == [0, 0], started.text(ranks[0])
    require_same(tmp_path / "two", folder, 1e-4)


def test_ranks_end_together_and_go_on_to_the_same_bits(
    inputs: list[str], launched: Callable[..., Launched], started: Started, tmp_path: Path
) -> None:
    def both() -> list[Python]:
        # each host has a folder of its own, and only that of the first one is used
        return started.ranks(*([*inputs, *LONGER, "-o", str(tmp_path / f"stopped-{rank}")] for rank in range(2)))

    ranks = both()
    await_epochs(tmp_path / "stopped-0", 1, *ranks)
    ranks[1].send_signal(signal.SIGTERM)
    assert started.wait(*ranks) == [4, 4]
    assert "stopped by SIGTERM; the same command continues" in started.text(ranks[0])
    assert "SIGTERM" not in started.text(ranks[1])
    epoch, phase, step = state(tmp_path / "stopped-0")["position"]
    assert epoch >= 1
    assert phase or step
    shutil.copytree(tmp_path / "stopped-0", tmp_path / "one")

    resumed = both()
    assert started.wait(*resumed) == [0, 0], started.text(resumed[0])
    require_same(tmp_path / "stopped-0", launched(*LONGER).folder, 0)
    assert not (tmp_path / "stopped-1").exists()
    assert run(fbsearch, ["run", *inputs, *LONGER, "-o", str(tmp_path / "one")]) == 0  # one process goes on, too
    assert [line["epoch"] for line in lines(tmp_path / "one")] == [0, 1, 2]


def test_a_rank_that_is_killed_ends_the_other_at_once(inputs: list[str], started: Started, tmp_path: Path) -> None:
    ranks = started.ranks(*[[*inputs, *LONGER, "--epochs", "500", "-o", str(tmp_path / "run")]] * 2)
    await_epochs(tmp_path / "run", 1, *ranks)
    ranks[1].kill()
    assert started.wait(*ranks, timeout=60) == [4, -9]
    assert "another process of this search has ended" in started.text(ranks[0])
    assert state(tmp_path / "run")["position"][0] >= 1


@pytest.mark.full  # test_two_hosts.py has launchers
def test_a_launcher_that_is_stopped_leaves_a_checkpoint_from_which_one_process_goes_on(
    inputs: list[str], started: Started, tmp_path: Path
) -> None:
    options = [*inputs, *LONGER, "-o", str(tmp_path / "run")]
    launcher = started.torchrun(options)
    await_epochs(tmp_path / "run", 1, launcher)
    launcher.terminate()
    assert started.wait(launcher) != [0]
    assert "stopped by SIGTERM; the same command continues" in started.text(launcher)
    epoch, phase, step = state(tmp_path / "run")["position"]
    assert epoch >= 1
    assert phase or step
    assert run(fbsearch, ["run", *options]) == 0
    assert [line["epoch"] for line in lines(tmp_path / "run")] == [0, 1, 2]


def test_a_rank_with_another_command_is_refused_and_said_once(
    inputs: list[str], started: Started, tmp_path: Path
) -> None:
    options = [*inputs, "-o", str(tmp_path / "run")]
    ranks = started.ranks(options, [*options, "--seed", "1"])
    assert started.wait(*ranks) == [2, 2]
    assert started.text(ranks[0]) == ""
    assert "has another seed, another images than rank 0" in started.text(ranks[1])
    assert not (tmp_path / "run").exists()


def test_ranks_that_diverge_say_so_once(inputs: list[str], started: Started, tmp_path: Path) -> None:
    ranks = started.ranks(*[[*inputs, "--lr", "1e30", "-o", str(tmp_path / "run")]] * 2)
    assert started.wait(*ranks) == [1, 1]
    assert "in epoch 1, phase w, step 2 of 4 at learning rate 1e+30" in started.text(ranks[0])
    assert "nothing was saved yet" in started.text(ranks[0])
    assert started.text(ranks[1]) == ""
