"""Weights of others: of another network, with code in them, damaged, or older than the checksums."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fbbase.errors import FbError
from fbspace.architecture import Architecture
from fbspace.network import build_network
from fbspace.weights import load_network, load_weights, save_weights

TINY = Architecture(name="tiny", space="fbnet-tiny", choices=("k3_e1", "skip", "k5_e3", "k3_e1_g2") * 2)


def test_weights_of_another_network_are_counted_and_the_first_three_named(tmp_path: Path) -> None:
    other = TINY.model_copy(update={"choices": ("k3_e6",) * 8})
    save_weights(build_network(other), tmp_path / "other.pt")
    with pytest.raises(FbError, match=r"does not fit network 'tiny', which has [0-9]+ tensors: ") as raised:
        load_network(TINY, tmp_path / "other.pt")
    wanted, given = (build_network(each).state_dict() for each in (TINY, other))
    shapes = [name for name in wanted if name in given and wanted[name].shape != given[name].shape]
    assert f"{len(shapes)} are of another shape ({shapes[0]}, " in str(raised.value)
    assert shapes[2] in str(raised.value)
    assert shapes[3] not in str(raised.value)
    assert len(str(raised.value)) < 600
    torch.save({"a": torch.zeros(2)}, tmp_path / "few.pt")
    with pytest.raises(FbError, match=rf"{len(wanted)} are missing \(stem.*, …\); 1 are unknown \(a\)$"):
        load_network(TINY, tmp_path / "few.pt")


class Code:
    """What runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("touch ran",)


@pytest.mark.parametrize("as_archive", [True, False])
def test_weights_that_hold_code_are_refused_without_advice_to_load_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_archive: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"a": Code()}, tmp_path / "code.pt", _use_new_zipfile_serialization=as_archive)
    with pytest.raises(FbError, match="it holds more than tensors and plain values") as raised:
        load_weights(tmp_path / "code.pt")
    assert "weights_only" not in str(raised.value)
    assert not (tmp_path / "ran").exists()


def test_another_archive_is_called_what_it_is(tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", x_train=np.zeros(3), y_train=np.zeros(3))
    with pytest.raises(FbError, match=r"an archive of other files \(x_train.npy, y_train.npy\); give one"):
        load_weights(tmp_path / "w.npz")


@given(place=st.integers(0, 10**6), value=st.integers(1, 255))
def test_a_flipped_byte_in_weights_is_noticed_or_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, place: int, value: int
) -> None:
    path = tmp_path_factory.mktemp("flipped") / "w.pt"
    layer = torch.nn.Linear(30, 30)
    save_weights(layer, path)
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= value
    path.write_bytes(content)
    try:
        found = load_weights(path)
    except FbError:
        return
    assert all(torch.equal(found[name], tensor) for name, tensor in layer.state_dict().items())


def test_an_old_file_without_checksums_goes_on_being_read(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert load_weights(tmp_path / "old.pt")["a"].tolist() == [1, 1]
