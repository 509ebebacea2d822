"""fbprof fit of public measurements: a board's blocks are found again, a recorded phone is predicted."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from fblut.reading import read_lut
from fblut.statistics import spearman
from fblut.table import Lut
from fbprof.plan.networks_file import MeasuredNetwork, write_networks
from fbspace.draw import draw_networks
from fbspace.opspec import OpSpec
from fbspace.space import Space, load_space
from peers import processes


def blocks(path: Path, space: Space) -> tuple[float, dict[OpSpec, float]]:
    """Return the constant and what each operator takes beyond skip, in µs, of a public block table."""
    with path.open(newline="") as file:
        constant, *rows = csv.DictReader(file)
    found = {}
    for row in rows:
        shape = tuple(int(row[name]) for name in ("h", "cin", "cout", "stride"))
        for layer in space.layers:
            spec = layer.candidates[row["op"]]
            if (spec.height, spec.in_channels, spec.out_channels, spec.stride) == shape:
                found[spec] = 1000 * float(row["delta_ms_vs_skip"])
    return 1000 * float(constant["delta_ms_vs_skip"]), found


def fit_here(tmp_path: Path, networks: Path) -> tuple[Lut, dict[str, float]]:
    """Run the command in a process of its own, as a person does."""
    command = ["-m", "fbprof", "fit", str(networks), "--space", "fbnet-cifar", "-o", "t.csv", "--json"]
    done = processes.run(command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    return read_lut(tmp_path / "t.csv"), json.loads(done.stdout)


def test_a_public_block_table_is_found_again_from_networks_made_of_it(shared: Path, tmp_path: Path) -> None:
    """Raspberry Pi 4, all 96 operators of 22 layers, on a device that throttles, 0.5 % noise."""
    space = load_space("fbnet-cifar")
    constant_us, operators = blocks(shared / "data" / "devices" / "raspi4_blocks.csv", space)
    rng = np.random.default_rng(0)
    drift = 0.15 * ((np.linspace(0, 1, 2000) * 6) % 1)
    speed = np.exp(drift - drift.mean() + rng.normal(0, 0.005, 2000))
    networks = [
        MeasuredNetwork(
            choices, 1504, (constant_us + sum(operators.get(s, 0.0) for s in space.specs(choices))) * factor
        )
        for choices, factor in zip(draw_networks(space, 2000, "test"), speed, strict=True)
    ]
    write_networks(tmp_path / "n.csv", "fbnet-cifar", networks)
    lut, _ = fit_here(tmp_path, tmp_path / "n.csv")
    rows = [row for row in lut.rows.values() if row.status == "ok"]
    assert {row.spec for row in rows} == set(operators)
    within = [row.ci_low_us <= operators[row.spec] <= row.ci_high_us for row in rows]  # type: ignore[operator]
    assert sum(within) >= 0.9 * 96
    assert np.median([abs(row.latency_us / operators[row.spec] - 1) for row in rows]) < 0.01  # type: ignore[operator]
    assert lut.metadata.network_us == pytest.approx(constant_us, rel=0.02)


@pytest.mark.full  # test_drift.py predicts it, too
def test_a_recorded_phone_is_predicted_and_its_table_resembles_another_phones(shared: Path, tmp_path: Path) -> None:
    """Samsung A50, 5,000 networks; benchmarks/drift.py reports all devices. The other phone is a Pixel 3."""
    devices = shared / "data" / "devices"
    lut, result = fit_here(tmp_path, devices / "samsung_a50_networks.csv")
    assert result["mape_percent_drift"] < 1.8
    assert result["mape_percent_static"] > 2.5
    assert result["spearman_drift"] > 0.95 > result["spearman_static"]
    assert (lut.metadata.device, lut.metadata.calibration_networks) == ("samsung_a50", 5000)
    _, pixel3 = blocks(devices / "pixel3_blocks.csv", load_space("fbnet-cifar"))
    rows = {row.spec: row.latency_us for row in lut.rows.values() if row.latency_us is not None}
    assert set(rows) == set(pixel3)
    correlation = spearman([rows[spec] for spec in pixel3], list(pixel3.values()))
    assert correlation is not None
    assert correlation > 0.85
