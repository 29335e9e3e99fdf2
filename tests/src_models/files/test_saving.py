"""A save is whole or it did not happen: full disks, folders that cannot be written to, links, names in use."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from src_models.errors import SaveError
from src_models.files import read_segmentation, read_volume, write_segmentation, write_volume
from src_models.geometry import Segmentation, Volume

ROOT = Path(__file__).parents[3]
ON_UNIX = pytest.mark.skipif(sys.platform == "win32", reason="limits and links of Unix")


def test_what_is_there_is_kept_unless_asked(ct: Volume, tmp_path: Path) -> None:
    path = tmp_path / "a.nrrd"
    write_volume(path, ct)
    before = path.read_bytes()
    with pytest.raises(SaveError, match=r"^a\.nrrd was not saved: a file of that name exists\."):
        write_volume(path, replace(ct, array=ct.array + 1))
    assert path.read_bytes() == before
    write_volume(path, replace(ct, array=ct.array + 1), overwrite=True)
    np.testing.assert_array_equal(read_volume(path).array, ct.array + 1)
    assert os.listdir(tmp_path) == ["a.nrrd"]


FULL_DISK = """
import resource, signal, sys
import numpy as np
from src_models.errors import SaveError
from src_models.files import write_volume
from src_models.geometry import Grid, Volume
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
noise = np.random.default_rng(0).integers(0, 255, (32, 64, 64), dtype=np.uint8)
matrix = np.eye(4)[[2, 1, 0, 3]]
grid = Grid(noise.shape, (1.0, 1.0, 1.0), matrix, orientation_known=True)
if len(sys.argv) > 2:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
try:
    write_volume(sys.argv[1], Volume(noise, grid), overwrite=True)
except SaveError as error:
    print(error)
"""


@ON_UNIX
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("limit", [0, 500, 50_000])
def test_a_disk_that_is_full_leaves_the_old_file_whole(ct: Volume, tmp_path: Path, suffix: str, limit: int) -> None:
    """The limit on the size of files ends a write in the middle, as a full disk does."""
    path = tmp_path / f"a{suffix}"
    write_volume(path, ct)
    before = path.read_bytes()
    command = [sys.executable, "-c", FULL_DISK, str(path), str(limit)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == (
        f"a{suffix} was not saved: the disk is full. Free some space; what was there before is untouched.\n"
    )
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.skipif(not sys.platform.startswith("linux") or os.geteuid() != 0, reason="mounting needs Linux and root")
def test_a_file_system_that_is_really_full(ct: Volume, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("this machine does not allow mounting")
    try:
        write_volume(disk / "a.mha", ct)
        before = (disk / "a.mha").read_bytes()
        command = [sys.executable, "-c", FULL_DISK, str(disk / "a.mha")]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        assert "the disk is full" in done.stdout
        assert (disk / "a.mha").read_bytes() == before
        assert os.listdir(disk) == ["a.mha"]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


READ_ONLY = """
import os, sys
from src_models.errors import SaveError
from src_models.files import read_volume, write_volume
import nibabel.nifti1, nibabel.nifti2
volume = read_volume(sys.argv[1])
if os.geteuid() == 0:
    os.setuid(65534)
try:
    write_volume(sys.argv[2], volume, overwrite=True)
except SaveError as error:
    print(error)
"""


@ON_UNIX
def test_a_folder_that_cannot_be_written_to(ct: Volume, tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir()
    write_volume(folder / "a.nii", ct)
    before = (folder / "a.nii").read_bytes()
    for part in (tmp_path, *tmp_path.parents):
        if part.stat().st_uid == os.geteuid() and part != Path("/"):
            part.chmod(part.stat().st_mode | 0o055)
    folder.chmod(0o555)
    try:
        command = [sys.executable, "-c", READ_ONLY, str(folder / "a.nii"), str(folder / "a.nii")]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    finally:
        folder.chmod(0o755)
    assert done.stdout == "a.nii was not saved: its folder cannot be written to. Choose another folder.\n"
    assert (folder / "a.nii").read_bytes() == before


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("gone/a.nii", "its folder does not exist"),
        ("folder.nii", "it is the name of a folder"),
        ("a.txt", r"files ending in '\.txt' are not written\. Choose one of \.nii"),
        ("a.nhdr", r"'\.nhdr' are not written"),
        ("a", "its name has no ending"),
        ("a\0.nii", "its name cannot be used"),
        (f"{'n' * 300}.nii", "file name too long|cannot be used"),
    ],
)
def test_names_that_cannot_be(ct: Volume, tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "folder.nii").mkdir()
    with pytest.raises(SaveError, match=words):
        write_volume(tmp_path / name, ct)
    assert os.listdir(tmp_path) == ["folder.nii"]


@ON_UNIX
def test_a_link_stays_a_link_and_rights_stay(ct: Volume, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    target, link = tmp_path / "real" / "a.nrrd", tmp_path / "link.nrrd"
    write_volume(target, ct)
    target.chmod(0o640)
    link.symlink_to(target)
    write_volume(link, replace(ct, array=ct.array + 1), overwrite=True)
    assert link.is_symlink()
    assert target.stat().st_mode & 0o777 == 0o640
    np.testing.assert_array_equal(read_volume(target).array, ct.array + 1)


@ON_UNIX
def test_the_old_content_is_never_written_over(ct: Volume, tmp_path: Path) -> None:
    """A second name of the old file still holds what it held: the new one was put in its place in one step."""
    path = tmp_path / "a.nrrd"
    write_volume(path, ct)
    os.link(path, tmp_path / "old.nrrd")
    write_volume(path, replace(ct, array=ct.array + 1), overwrite=True)
    np.testing.assert_array_equal(read_volume(tmp_path / "old.nrrd").array, ct.array)


@ON_UNIX
def test_new_files_have_the_usual_rights(ct: Volume, tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    write_volume(tmp_path / "a.nrrd", ct)
    assert (tmp_path / "a.nrrd").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_write_that_is_damaged_on_the_way_is_seen(
    ct: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that stores other bytes than it was given: what is read back decides."""
    write_volume(tmp_path / "a.nii", ct)
    before = (tmp_path / "a.nii").read_bytes()
    sync = os.fsync

    def damaging(handle: int) -> None:
        sync(handle)
        (part,) = tmp_path.glob(".lsnet-*.part")
        raw = bytearray(part.read_bytes())
        raw[400] ^= 1
        part.write_bytes(raw)

    monkeypatch.setattr(os, "fsync", damaging)
    with pytest.raises(SaveError, match="what was read back differs"):
        write_volume(tmp_path / "a.nii", ct, overwrite=True)
    assert (tmp_path / "a.nii").read_bytes() == before
    assert os.listdir(tmp_path) == ["a.nii"]


def test_fractions_are_no_labels(mask: Segmentation, tmp_path: Path) -> None:
    for value, words in ((0.5, "fractions"), (np.nan, "not finite")):
        with pytest.raises(SaveError, match=words):
            write_segmentation(tmp_path / "a.nii", replace(mask, labels=np.full(mask.grid.shape, value)))
    with pytest.raises(SaveError, match="type complex128"):
        write_segmentation(tmp_path / "a.nii", replace(mask, labels=np.ones(mask.grid.shape, complex)))
    assert not list(tmp_path.iterdir())


def test_labels_take_the_smallest_type_that_holds_them(mask: Segmentation, tmp_path: Path) -> None:
    for low, high, dtype in (
        (0, 255, "uint8"),
        (-3, 5, "int8"),
        (0, 65_535, "uint16"),
        (0, 70_000, "uint32"),
        (-1, 2**40, "int64"),
    ):
        labels = np.full(mask.grid.shape, low, np.int64)
        labels[0, 0, 0] = high
        write_segmentation(tmp_path / "a.nrrd", replace(mask, labels=labels), overwrite=True)
        back = read_segmentation(tmp_path / "a.nrrd").labels
        assert back.dtype == dtype
        np.testing.assert_array_equal(back, labels)


def test_a_parent_folder_that_vanishes(ct: Volume, tmp_path: Path) -> None:
    folder = tmp_path / "share"
    folder.mkdir()
    shutil.rmtree(folder)
    with pytest.raises(SaveError, match="its folder does not exist"):
        write_volume(folder / "a.nii", ct)
