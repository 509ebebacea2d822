"""Files of measured networks: what is read, what is written, and every error with its line."""

import contextlib
import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fbbase.errors import FbError, StorageError
from fbbase.shown import cell
from fbprof.errors import NetworksError
from fbprof.plan.networks_file import MeasuredNetwork, parse_networks, read_networks, write_networks
from fbspace.space import Space, load_space

TOML = """
description = "three layers, two heads"
input = { channels = 3, size = 16 }
classes = 4
head_channels = [32, 48]
stem = [{ kind = "conv", channels = 8, kernel = 3 }]
stages = [{ channels = 8, repeats = 2, stride = 1 }, { channels = 16, repeats = 1, stride = 2 }]
[candidates]
small = { kind = "ir", kernel = 3, expansion = 1 }
large = { kind = "ir", kernel = 5, expansion = 6 }
skip = { kind = "skip" }
"""
HEADER = "op0,op1,op2,latency_ms\n"
ROW = "small,skip,large,1.5\n"


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Space:
    path = tmp_path_factory.mktemp("space") / "three.toml"
    path.write_text(TOML)
    return load_space(str(path))


def test_columns_in_any_order_in_milliseconds_or_microseconds(space: Space) -> None:
    (first,) = parse_networks("latency_ms,op2,op1,op0,arch_idx\n28,large,skip,small,7\n", "n.csv", space)
    assert first == MeasuredNetwork(("small", "skip", "large"), 32, 28000.0, "", "n.csv: line 2")
    text = "name,op0,op1,op2,head_channels,latency_us,predicted_us\nmine,large,large,skip,48,2.5e3,\n"
    (second,) = parse_networks(text, "n.csv", space)
    assert second == MeasuredNetwork(("large", "large", "skip"), 48, 2500.0, "mine", "n.csv: line 2")


def test_comments_above_the_columns_empty_lines_and_quotes_do_not_shift_the_lines(space: Space) -> None:
    text = (
        '\ufeff# anything, "even this\n#\n\nname,op0,op1,op2,latency_ms\n\n'
        '"two\nlines, one cell",small,skip,large,1\n\nlast,skip,skip,skip,"0.25"\n\n'
    )
    networks = parse_networks(text, "n.csv", space)
    assert [network.where for network in networks] == ["n.csv: line 6", "n.csv: line 9"]
    assert [network.latency_us for network in networks] == [1000.0, 250.0]
    with pytest.raises(NetworksError, match=r"^n.csv: line 9, column 5 \(latency_ms\): "):
        parse_networks(text.replace("0.25", "-0.25"), "n.csv", space)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "n.csv: the file holds neither column names nor networks"),
        ("# only\n# comments\n", "n.csv: the file holds neither column names nor networks"),
        (HEADER, "n.csv: the file holds column names, but no networks"),
        ("op0,op2,latency_ms\n" + ROW, "n.csv: line 1: no column op1: space three has 3 layers"),
        ("# c\n\nop0,op1,op2,op3,latency_ms\n" + ROW, "n.csv: line 3: a column op3: space three has 3 layers"),
        ("op0 op1 op2 latency_ms\n", "n.csv: line 1: no column op0, op1, op2: space three has 3 layers"),
        ("op0,op1,op1,op2,latency_ms\n", "n.csv: line 1: columns 2 and 3 are both called 'op1'"),
        ("op0,op1,op2,latency_us,latency_us\n", "n.csv: line 1: columns 4 and 5 are both called 'latency_us'"),
        ("op0,op1,op2\n", "n.csv: line 1: neither latency_us nor latency_ms"),
        ("op0,op1,op2,latency_s\n", "n.csv: line 1: neither latency_us nor latency_ms"),
        ("op0,op1,op2,latency_us,latency_ms\n", "n.csv: line 1: both latency_us and latency_ms"),
        (HEADER + ROW + "small,skip,k9,2\n", "n.csv: line 3, column 3 (op2): unknown operator 'k9'; space three has"),
        (HEADER + ROW + "small,,large,2\n", "n.csv: line 3, column 2 (op1): no operator; space three has small, large"),
        (HEADER + ROW + "small,skip,2\n", "n.csv: line 3: 3 cells, but 4 columns: the line lacks layers"),
        (HEADER + ROW + "small,skip,large,skip,2\n", "n.csv: line 3: 5 cells, but 4 columns: the line lacks layers"),
        (HEADER + ROW + ",,,\n", "n.csv: line 3, column 1 (op0): no operator"),
        (HEADER + ROW + "small,skip,large,\n", "n.csv: line 3, column 4 (latency_ms): no latency"),
        (HEADER + ROW + "small,skip,large,0\n", "n.csv: line 3, column 4 (latency_ms): a network cannot take 0 ms"),
        (HEADER + ROW + "small,skip,large,-1\n", "n.csv: line 3, column 4 (latency_ms): a network cannot take -1 ms"),
        (HEADER + "small,skip,large,1e999\n", "n.csv: line 2, column 4 (latency_ms): '1e999' is not a number"),
        (HEADER + "small,skip,large,nan\n", "n.csv: line 2, column 4 (latency_ms): 'nan' is not a number"),
        (HEADER + "small,skip,large,-inf\n", "n.csv: line 2, column 4 (latency_ms): '-inf' is not a number"),
        (HEADER + 'small,skip,large,"1,5"\n', "n.csv: line 2, column 4 (latency_ms): '1,5' is not a number"),
        (HEADER + "small,skip,large,1_0\n", "n.csv: line 2, column 4 (latency_ms): '1_0' is not a number"),
        (HEADER + "small,skip,large,٣\n", "n.csv: line 2, column 4 (latency_ms): '٣' is not a number"),
        (HEADER + ROW + 'small,"skip,large,1\n', "n.csv: line 3: unexpected end of data; correct the quotes"),
        (HEADER + ROW + 'small,"skip"s,large,1\n', "n.csv: line 3: ',' expected after '\"'; correct the quotes"),
        (
            "op0,op1,op2,latency_us,head_channels\nskip,skip,skip,5,32\nskip,skip,skip,5,33\n",
            "n.csv: line 3, column 5 (head_channels): expected a head of space three (32, 48), found '33'",
        ),
        (
            "op0,op1,op2,latency_us,head_channels\nskip,skip,skip,5,\n",
            "n.csv: line 2, column 5 (head_channels): expected a head of space three (32, 48), found ''",
        ),
    ],
)
def test_every_error_says_where_and_what_to_do(space: Space, text: str, message: str) -> None:
    with pytest.raises(NetworksError) as raised:
        parse_networks(text, "n.csv", space)
    assert str(raised.value).startswith(message)
    assert raised.value.exit_code == 2
    remedies = ("correct", "remove", "keep one", "name one column so", "expected the columns")
    assert any(remedy in str(raised.value) for remedy in remedies)


def test_a_file_that_is_not_there_or_no_text(space: Space, tmp_path: Path) -> None:
    with pytest.raises(FbError, match="networks file not found"):
        read_networks(tmp_path / "none.csv", space)
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FbError, match="not a text file"):
        read_networks(tmp_path / "binary.csv", space)
    (tmp_path / "windows.csv").write_bytes((HEADER + ROW).replace("\n", "\r\n").encode())
    assert len(read_networks(tmp_path / "windows.csv", space)) == 1


NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
NETWORKS = st.lists(
    st.builds(
        MeasuredNetwork,
        choices=st.tuples(*[st.sampled_from(["small", "large", "skip"])] * 3),
        head_channels=st.sampled_from([32, 48]),
        latency_us=st.integers(1, 10**12).map(lambda nanoseconds: nanoseconds / 1000),
        name=NAMES,
    ),
    min_size=1,
    max_size=5,
)


@given(networks=NETWORKS)
def test_what_is_written_is_read_again(
    networks: list[MeasuredNetwork], space: Space, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("networks") / "n.csv"
    predicted = [network.latency_us * 2 for network in networks]
    write_networks(path, "three", networks, {"predicted_us": predicted}, {"device": "a\nb"})
    written = path.read_bytes()
    assert written.startswith(b'# fbnet-lab networks 1\n# space: "three"\n# device: "a\\nb"\nname,op0,op1,op2,head_')
    read = read_networks(path, space)
    assert [(n.choices, n.head_channels) for n in read] == [(n.choices, n.head_channels) for n in networks]
    assert [n.latency_us for n in read] == pytest.approx([n.latency_us for n in networks], rel=1e-12)
    assert [n.name for n in read] == [cell(n.name) for n in networks]
    assert [n.where for n in read] == [f"{path}: line {5 + i}" for i in range(len(networks))]
    columns = list(csv.DictReader(path.read_text().splitlines()[3:]))
    assert [float(row["predicted_us"]) for row in columns] == pytest.approx(predicted, abs=1e-3)
    write_networks(path, "three", networks, {"predicted_us": predicted}, {"device": "a\nb"})
    assert path.read_bytes() == written


def test_a_column_too_short_for_the_networks_is_not_written(tmp_path: Path) -> None:
    network = MeasuredNetwork(("small", "skip", "large"), 32, 1.0)
    with pytest.raises(ValueError, match="shorter"):
        write_networks(tmp_path / "n.csv", "three", [network], {"predicted_us": []})
    (tmp_path / "file").touch()
    with pytest.raises(StorageError):
        write_networks(tmp_path / "file" / "n.csv", "three", [network])


CELLS = st.sampled_from(["small", "large", "skip", "1.5", "0", "", "#", '"', " 7", "op0", "nan", "1e9", "\x00", "\r"])


@given(
    text=st.one_of(
        st.text(),
        st.lists(st.lists(CELLS, max_size=6), max_size=4).map(lambda rows: HEADER + "\n".join(map(",".join, rows))),
    )
)
def test_any_text_is_networks_or_an_error(text: str, space: Space) -> None:
    with contextlib.suppress(NetworksError):
        networks = parse_networks(text, "n.csv", space)
        assert networks
        assert all(network.latency_us > 0 and len(network.choices) == 3 for network in networks)
