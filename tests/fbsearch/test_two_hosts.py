"""A search of two hosts: two network namespaces that share nothing but a cable."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from fbbase.commandline import run
from fbsearch.cli import fbsearch
from peers.processes import Python
from peers.unavailable import unavailable

IP = shutil.which("ip", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
ADDRESSES = ("10.91.0.1", "10.91.0.2")


def ip(*arguments: str) -> None:
    assert IP is not None
    done = subprocess.run([IP, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        unavailable(f"a network namespace cannot be made here: ip {' '.join(arguments)}: {done.stderr.strip()}")


@pytest.fixture
def hosts() -> Iterator[list[str]]:
    """Two namespaces, each with a loopback and one end of a cable; nothing else is reached from them."""
    if IP is None or sys.platform != "linux" or os.getuid() != 0:
        unavailable("needs root on Linux and iproute2, for network namespaces")
    names = [f"fbnet-{os.getpid()}-{end}" for end in "ab"]
    try:
        for name in names:
            ip("netns", "add", name)
        ip("link", "add", "cable", "netns", names[0], "type", "veth", "peer", "name", "cable", "netns", names[1])
        for name, address in zip(names, ADDRESSES, strict=True):
            ip("-n", name, "address", "add", f"{address}/24", "dev", "cable")
            for link in ("lo", "cable"):
                ip("-n", name, "link", "set", link, "up")
        yield names
    finally:
        for name in names:
            subprocess.run([IP, "netns", "delete", name], capture_output=True, check=False)


TORCHRUN = ["-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]


@pytest.mark.parametrize("by_torchrun", [False, pytest.param(True, marks=pytest.mark.full)])
def test_two_hosts_find_what_one_process_finds(
    hosts: list[str], micro_file: Path, micro_lut_file: Path, digits_npz: Path, tmp_path: Path, by_torchrun: bool
) -> None:
    """Without torchrun each process is told what torchrun tells it; that saves starting Python four times."""
    options = ["-m", "fbsearch", "run", "--lut", str(micro_lut_file), "--space", str(micro_file)]
    options += ["--data", str(digits_npz), "--threads", "1", "--samples", "2"]
    options += ["--epochs", "2", "--warmup", "1", "--batch", "41", "--limit", "120"]
    meeting = {"MASTER_ADDR": ADDRESSES[0], "MASTER_PORT": "29400", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}
    processes = []
    try:
        for number, name in enumerate(hosts):
            folder = tmp_path / name
            folder.mkdir()
            command = [*options, "-o", str(folder / "run")]
            environment = os.environ | {"GLOO_SOCKET_IFNAME": "cable"}
            if by_torchrun:
                place = ["--node-rank", str(number), "--master-addr", ADDRESSES[0], "--master-port", "29400"]
                command = [*TORCHRUN, *place, *command]
            else:
                environment |= meeting | {"RANK": str(number)}
            with (folder / "output").open("wb") as output:
                processes.append(Python(command, stdout=output, stderr=output, env=environment, network=name))
        assert run(fbsearch, [*options[2:], "-o", str(tmp_path / "alone")]) == 0
        codes = [process.wait(timeout=240) for process in processes]
    finally:
        for process in processes:
            process.terminate()
            process.wait(timeout=40)
    outputs = [(tmp_path / name / "output").read_text() for name in hosts]
    assert codes == [0, 0], "\n".join(outputs)
    assert ["network for micro" in output for output in outputs] == [True, False]
    assert not (tmp_path / hosts[1] / "run").exists()
    found, expected = (
        torch.load(each / "search.ckpt", weights_only=True)["state"]
        for each in (tmp_path / hosts[0] / "run", tmp_path / "alone")
    )
    for name, value in expected["net"].items():
        torch.testing.assert_close(found["net"][name], value, rtol=0, atol=1e-4)
    torch.testing.assert_close(
        found["objectives"]["micro"]["theta"], expected["objectives"]["micro"]["theta"], rtol=0, atol=1e-4
    )
    assert any(bool(theta_l.any()) for theta_l in expected["objectives"]["micro"]["theta"])
