"""The emulated arm64 phone, recorded over adb, as a device of the fast tests.

tests/data/emulated-phone.journal.jsonl.xz is the journal of a real run on the peer of tests/peers/phone.py:

    fbprof measure --device emulated-phone.toml --space replay.toml --quick --rounds 12 --calibrate 4

Today a table is calibrated by eight networks or more: the other four are not in the recording.
"""

import json
import shutil
from pathlib import Path

import pytest

from fbbase.commandline import run
from fblut.reading import read_lut
from fbprof.cli import fbprof

DATA = Path(__file__).parents[1] / "data"
PLAN = ["--space", "replay.toml", "--quick", "--rounds", "12", "--calibrate", "8"]


@pytest.fixture
def phone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    shutil.copy(DATA / "replay.toml", tmp_path)
    shutil.copy(DATA / "emulated-phone.journal.jsonl.xz", tmp_path)
    profile = tmp_path / "phone.toml"
    profile.write_text('description = "x"\ntransport = "replay"\naddress.journal = "emulated-phone.journal.jsonl.xz"\n')
    return str(profile)


def sums(table: str) -> dict[str, tuple[float, float]]:
    """Return the sum of the outputs of every model, and the sum of their absolute values."""
    lines = map(json.loads, Path(table).with_suffix(".journal.jsonl").read_text().splitlines())
    loads = [line for line in lines if line["record"] == "loaded"]
    return {line["key"]: (line["loaded"]["output_sum"], line["loaded"]["output_abs_sum"]) for line in loads}


def test_the_recorded_phone_is_measured_without_one_and_the_table_says_so(phone: str) -> None:
    assert run(fbprof, ["measure", "--device", phone, *PLAN, "-o", "phone.csv"]) == 0
    lut = read_lut(Path("phone.csv"))
    assert len(lut.rows) == 10
    assert {row.status for row in lut.rows.values()} == {"ok"}
    assert lut.metadata.soc == "replay of aarch64"
    assert lut.metadata.agent.startswith("replay of native ")


def test_its_outputs_are_those_of_this_machine(phone: str) -> None:
    """Operators and whole networks, LiteRT on arm64 against LiteRT here; the recording has
    neither the reference workload nor all networks."""
    assert run(fbprof, ["measure", "--device", phone, *PLAN, "-o", "phone.csv"]) == 0
    assert run(fbprof, ["measure", "--device", "local", *PLAN, "-o", "here.csv"]) == 0
    there, here = sums("phone.csv"), sums("here.csv")
    assert there.keys() < here.keys()
    assert len(there) == 14
    for key in there:
        total, absolute = here[key]
        assert there[key] == pytest.approx((total, absolute), abs=1e-6 * absolute), key
