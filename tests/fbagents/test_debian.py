"""Debian packages of another architecture, from the real mirror; and a mirror that is not there or not Debian's."""

import gzip
import shutil
from pathlib import Path

import pytest

from fbagents.errors import DeviceError
from fbagents.native import debian
from fbagents.native.elf import read_elf
from peers.unavailable import unavailable


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], Path]:
    """The names of the packages that libgcc-s1 needs, and where they were unpacked; it takes a mirror."""
    folder = tmp_path_factory.mktemp("debian") / "root"
    try:
        return debian.unpack(["libgcc-s1"], "bookworm", "arm64", folder, closure=True), folder
    except DeviceError as error:
        unavailable(f"no Debian packages here: {error}")


@pytest.mark.full  # a bundle for the emulated phone is put together so where there is none yet
def test_packages_of_another_architecture_are_unpacked_with_all_they_need(unpacked: tuple[list[str], Path]) -> None:
    names, folder = unpacked
    assert [name.partition("_")[0] for name in names] == ["gcc-12-base", "libc6", "libgcc-s1"]
    assert all(name.endswith(("_arm64", "_all")) for name in names)
    for library in ("libgcc_s.so.1", "libc.so.6"):
        assert read_elf(folder / "lib/aarch64-linux-gnu" / library).machine == "aarch64"


@pytest.mark.full  # it reads the mirror's index again
@pytest.mark.usefixtures("unpacked")
def test_a_package_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="no-such-package"):
        debian.unpack(["no-such-package"], "bookworm", "arm64", tmp_path / "other")


@pytest.fixture
def tools() -> None:
    """Apt and Debian's keys are here; no network is needed."""
    if shutil.which("apt-get") is None or not any(Path(path).exists() for path in debian.KEYRINGS):
        unavailable("needs apt-get and debian-archive-keyring")


@pytest.mark.usefixtures("tools")
def test_a_mirror_that_debian_did_not_sign_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = tmp_path / "mirror/dists/bookworm/main/binary-arm64"
    index.mkdir(parents=True)
    (index / "Packages.gz").write_bytes(gzip.compress(b""))
    (tmp_path / "mirror/dists/bookworm/Release").write_text("Origin: Debian\nCodename: bookworm\n")
    tmp_path.chmod(0o755)
    monkeypatch.setenv("DEBIAN_MIRROR", f"file:{tmp_path}/mirror")
    with pytest.raises(DeviceError, match="not signed"):
        debian.unpack(["libgcc-s1"], "bookworm", "arm64", tmp_path / "root")
    assert not (tmp_path / "root").exists()


@pytest.mark.usefixtures("tools")
def test_a_mirror_that_does_not_answer_is_told_of_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEBIAN_MIRROR", "http://127.0.0.1:9/debian")
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(DeviceError, match=r"(?s)cannot be fetched: .*127\.0\.0\.1.*DEBIAN_MIRROR names another"):
        debian.unpack(["libgcc-s1"], "bookworm", "arm64", tmp_path / "root")


def test_what_is_missing_on_this_machine_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debian, "KEYRINGS", (str(tmp_path / "keyring.gpg"),))
    if shutil.which("apt-get") and shutil.which("dpkg"):
        with pytest.raises(DeviceError, match="apt install debian-archive-keyring"):
            debian.unpack(["libc6"], "bookworm", "arm64", tmp_path / "root")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DeviceError, match="apt-get is missing; use a Debian or Ubuntu machine"):
        debian.unpack(["libc6"], "bookworm", "arm64", tmp_path / "root")
