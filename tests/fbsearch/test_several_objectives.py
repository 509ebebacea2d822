"""Several devices and targets from one training, as a person asks for them; and networks sampled afterwards."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from fbbase.commandline import run
from fblut.reading import read_lut
from fblut.table import Lut
from fblut.writing import write_lut
from fbsearch.cli import fbsearch
from fbsearch.errors import SearchError
from fbsearch.jobs.search_job import check_tables
from fbspace.architecture import load_architecture
from fbspace.space import Space

QUICK = ["--threads", "1", "--epochs", "3", "--batch", "40", "--limit", "200", "--theta-lr", "0.4"]


@pytest.fixture
def tables(micro_lut: Lut, tmp_path: Path) -> list[str]:
    """The micro table, and that of a device three times as slow with cheap large kernels."""
    rows = {
        key: replace(row, latency_us=(row.latency_us or 0) * (0.5 if row.spec.kernel == 5 else 3))
        for key, row in micro_lut.rows.items()
    }
    write_lut(micro_lut, tmp_path / "s8.csv")
    write_lut(Lut(micro_lut.metadata.model_copy(update={"device": "other"}), rows), tmp_path / "iphonex.csv")
    return [str(tmp_path / "s8.csv"), str(tmp_path / "iphonex.csv")]


def target_ms(lut: Lut, space: Space, *choices: str) -> float:
    return lut.predict_us(space.specs(choices)) / 1000 * 1.005


def test_two_devices_have_a_network_each_and_a_cross_table_of_predictions(
    tables: list[str], micro_file: Path, micro: Space, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    luts = {Path(table).stem: read_lut(Path(table)) for table in tables}
    first = target_ms(luts["s8"], micro, "k3_e1", "k5_e3")
    second = target_ms(luts["iphonex"], micro, "k5_e3", "k3_e1")
    arguments = ["run", "--lut", tables[0], "--lut", tables[1], "--space", str(micro_file)]
    arguments += ["--target-ms", f"{first}", "--target-ms", f"{second}", "-o", str(tmp_path / "both"), *QUICK]
    assert run(fbsearch, [*arguments, "--train-epochs", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    networks = {each["provenance"]["objective"]: each for each in found["architectures"]}
    assert list(networks) == ["s8", "iphonex"]
    for name, target in (("s8", first), ("iphonex", second)):
        architecture = load_architecture(str(tmp_path / "both" / f"arch-{name}.json"))
        assert list(architecture.choices) == networks[name]["choices"]
        assert (tmp_path / "both" / name / "weights.pt").exists()
        assert networks[name]["provenance"]["settings"]["target_ms"] == target
        for device, lut in luts.items():
            latency_us = found["cross_table_us"][name][device]
            assert latency_us == pytest.approx(lut.predict_us(architecture.specs(micro)))
        assert 0.97 * target <= found["cross_table_us"][name][name] / 1000 <= target
    assert run(fbsearch, [*arguments, "--train-epochs", "1"]) == 0
    output = capsys.readouterr().out
    assert "network for s8" in output
    assert f"{found['cross_table_us']['s8']['iphonex'] / 1000:.4f}" in output


def test_a_front_of_targets_comes_of_one_training(
    tables: list[str], micro_file: Path, micro: Space, micro_lut: Lut, tmp_path: Path
) -> None:
    targets = [target_ms(micro_lut, micro, *choices) for choices in (("skip", "k3_e1"), ("k5_e3", "k3_e1"))]
    arguments = ["run", "--lut", tables[0], "--space", str(micro_file), "-o", str(tmp_path / "front"), *QUICK]
    assert run(fbsearch, [*arguments, "--targets", ",".join(map(str, targets))]) == 0
    for target in targets:
        architecture = load_architecture(str(tmp_path / "front" / f"arch-s8-{target:g}ms.json"))
        assert architecture.predicted is not None
        assert 0.97 * target <= architecture.predicted.latency_us / 1000 <= target
    searched = [json.loads(line)["stage"] for line in (tmp_path / "front" / "metrics.jsonl").read_text().splitlines()]
    assert searched == ["search"] * 3


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--target-ms", "1", "--targets", "1,2"], "give --target-ms or --targets, not both"),
        (["--target-ms", "1", "--target-ms", "2", "--target-ms", "3"], "given 3 times for 2 tables"),
        (["--targets", "1,1"], "names a target twice"),
        (["--targets", "1,x"], "is not a list of numbers"),
    ],
)
def test_targets_that_do_not_go_together_are_refused(
    extra: list[str], message: str, tables: list[str], micro_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["run", "--lut", tables[0], "--lut", tables[1], "--space", str(micro_file)]
    assert run(fbsearch, [*arguments, *extra]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(("what", "value"), [("precision", "int8"), ("space", "fbnet-tiny")])
def test_tables_that_do_not_go_together_are_refused(
    what: str, value: str, tables: list[str], micro_lut: Lut, micro_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_lut(Lut(micro_lut.metadata.model_copy(update={what: value}), micro_lut.rows), Path(tables[1]))
    assert run(fbsearch, ["run", "--lut", tables[0], "--lut", tables[1], "--space", str(micro_file)]) == 2
    assert f"the tables s8 and iphonex have another {what}" in capsys.readouterr().err


def test_tables_of_two_precisions_go_together_where_that_is_meant(micro_lut: Lut, micro: Space) -> None:
    int8 = Lut(micro_lut.metadata.model_copy(update={"precision": "int8"}), micro_lut.rows)
    with pytest.raises(SearchError, match="or give --combine-precisions"):
        check_tables({"float": micro_lut, "int8": int8}, micro)
    check_tables({"float": micro_lut, "int8": int8}, micro, combine_precisions=True)


def test_two_tables_of_one_name_are_refused(
    tables: list[str], micro_lut: Lut, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "more").mkdir()
    write_lut(micro_lut, tmp_path / "more" / "s8.csv")
    assert run(fbsearch, ["run", "--lut", tables[0], "--lut", str(tmp_path / "more" / "s8.csv")]) == 2
    assert "two tables have the same file name" in capsys.readouterr().err


def test_samples_are_distinct_ranked_near_the_target_and_follow_from_the_seed(
    tables: list[str],
    micro_file: Path,
    micro: Space,
    micro_lut: Lut,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_folder = tmp_path / "run"
    arguments = ["run", "--lut", tables[0], "--space", str(micro_file), "-o", str(run_folder), *QUICK]
    assert run(fbsearch, ["sample", str(run_folder)]) == 2
    assert "is not the folder of a search" in capsys.readouterr().err
    assert run(fbsearch, arguments) == 0
    capsys.readouterr()
    assert run(fbsearch, ["sample", str(run_folder), "-n", "4", "--json"]) == 0
    sampled, lut = json.loads(capsys.readouterr().out), read_lut(Path(tables[0]))
    assert len({tuple(each["choices"]) for each in sampled}) == 4
    assert [each["loss"] for each in sampled] == sorted(each["loss"] for each in sampled)
    for rank, each in enumerate(sampled, start=1):
        file = run_folder / "samples" / f"s8-{rank}.json"
        assert each["path"] == str(file)
        architecture = load_architecture(str(file))
        assert list(architecture.choices) == each["choices"]
        assert architecture.predicted is not None
        assert architecture.predicted.latency_us == pytest.approx(lut.predict_us(architecture.specs(micro)))
    assert run(fbsearch, ["sample", str(run_folder), "-n", "4", "--json", "-o", str(tmp_path / "again")]) == 0
    again = json.loads(capsys.readouterr().out)
    assert [each["choices"] for each in again] == [each["choices"] for each in sampled]
    assert run(fbsearch, ["sample", str(run_folder), "--objective", "nine"]) == 2
    assert "has no network 'nine'; it has s8" in capsys.readouterr().err
    assert run(fbsearch, ["sample", str(run_folder)]) == 0
    assert "next: fbsearch train" in capsys.readouterr().out
