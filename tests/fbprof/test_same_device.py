"""A journal is continued on its own device: also one that was begun before agents told which phone it is."""

import json
from pathlib import Path
from typing import Any

import pytest

from fbagents.agent.protocol import Hello
from fbbase.locks import open_locked
from fbprof.errors import JournalError
from fbprof.journal.journal import JournalContent, JournalWriter, Session, Start, check_same_device, read_journal

S21: dict[str, Any] = {
    "event": "hello", "protocol": 2, "agent": "a", "runtimes": {"litert": "2.3.0"}, "threads": 1, "cores": [0],
    "clocks": ["wall"], "soc": "QTI SM8350", "system": "Android 14, Linux 5.4 aarch64",
    "device_model": "samsung SM-G998B",
    "clusters": [{"max_khz": 1804800, "cores": [0, 1, 2, 3]}, {"max_khz": 2841600, "cores": [7]}],
}  # fmt: skip
BEFORE = {"device_model": None, "system": "Linux 5.4 aarch64"}
START = Start(identity={"runtime": "litert"}, timing="t", started_at="now", tool_version="0")


def check(tmp_path: Path, first: dict[str, Any], now: dict[str, Any]) -> None:
    content = JournalContent(START)
    content.add(Session(hello=Hello.model_validate(S21 | first)))
    with JournalWriter(tmp_path / "j.jsonl", open_locked(tmp_path / "j.jsonl"), content) as writer:
        check_same_device(writer, Hello.model_validate(S21 | now))


@pytest.mark.parametrize(
    ("first", "now"),
    [
        ({}, {}),
        (BEFORE | {"soc": "aarch64"}, {}),
        (BEFORE | {"soc": "aarch64", "clusters": None}, {}),
        (BEFORE | {"soc": "Qualcomm Technologies, Inc LAHAINA"}, {}),
        (BEFORE | {"soc": "AMD EPYC"}, BEFORE | {"soc": "AMD EPYC"}),
    ],
)
def test_the_same_device_is_known_again(first: dict[str, Any], now: dict[str, Any], tmp_path: Path) -> None:
    check(tmp_path, first, now)


@pytest.mark.parametrize(
    ("first", "now", "message"),
    [
        ({"device_model": "Google Pixel 3"}, {}, 'device "Google Pixel 3" there, "samsung SM-G998B" on this device'),
        ({"soc": "Exynos 2100"}, {}, 'processor "Exynos 2100" there, "QTI SM8350" on this device'),
        (BEFORE | {"soc": "Exynos", "clusters": None}, {}, 'processor "Exynos" there'),
        (BEFORE | {"soc": "Exynos", "clusters": None}, {"clusters": None}, 'processor "Exynos" there'),
        (BEFORE | {"soc": "aarch64"}, BEFORE, 'processor "aarch64" there'),
        ({"runtimes": {"litert": "1.0"}}, {}, 'runtime version "1.0" there'),
    ],
)
def test_another_device_is_refused(first: dict[str, Any], now: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(JournalError) as caught:
        check(tmp_path, first, now)
    assert message in str(caught.value)


def test_a_journal_that_holds_outputs_of_nan_can_be_read_and_the_operator_has_failed(tmp_path: Path) -> None:
    """Earlier versions wrote such a journal, and could not read it themselves."""
    path = tmp_path / "j.jsonl"
    loaded = {"event": "loaded", "model": "m", "load_ns": 1, "outputs": 1, "output_sum": None, "output_abs_sum": None}
    lines = [START.model_dump_json(), json.dumps({"record": "loaded", "key": "m", "loaded": loaded})]
    path.write_text("".join(f"{line}\n" for line in lines))
    content = read_journal(path)
    assert content is not None
    assert "NaN or infinity" in content.failed["m"]
