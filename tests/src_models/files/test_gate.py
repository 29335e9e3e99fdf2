"""What comes to the gate: missing, empty, cut, lying and hostile files, each told in one quick line."""

from __future__ import annotations

import bz2
import gzip
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from src_models.errors import FileError
from src_models.files import (
    READABLE_SUFFIXES,
    ReadOptions,
    describe,
    read_segmentation,
    read_volume,
    write_segmentation,
    write_volume,
)
from src_models.geometry import Grid, Segmentation, Volume

ROOT = Path(__file__).parents[3]


def samples(folder: Path, ct: Volume) -> dict[str, Path]:
    """The same small volume, or a picture, under every suffix that is written."""
    made = {}
    flat = Volume(np.arange(63, dtype=np.uint8).reshape(7, 9), Grid((7, 9), (0.5, 0.25)))
    for suffix in (".nii", ".nii.gz", ".nrrd", ".mha", ".png", ".tif"):
        made[suffix] = folder / f"image{suffix}"
        write_volume(made[suffix], flat if suffix in (".png", ".tif") else ct)
    return made


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"^gone\.nii was not found\. Check the name and the folder\.$"):
        read_volume(tmp_path / "gone.nii")
    (tmp_path / "folder.nii").mkdir()
    with pytest.raises(FileError, match=r"^folder\.nii is not a file"):
        read_volume(tmp_path / "folder.nii")
    with pytest.raises(FileError, match=r"cannot be opened|was not found"):
        read_volume("a\0b.nii")


@pytest.mark.parametrize("suffix", READABLE_SUFFIXES)
def test_empty_files(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.touch()
    with pytest.raises(FileError, match=rf"^a{suffix} is empty: it has 0 bytes\."):
        read_volume(path)


FORBIDDEN = """
import os, sys
from src_models.errors import FileError
from src_models.files import read_volume
os.chdir(sys.argv[1])
if os.geteuid() == 0:
    os.setuid(65534)  # access rights do not bind root
try:
    read_volume("a.nii")
except FileError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="access rights of Unix")
def test_files_without_access_rights(tmp_path: Path) -> None:
    (tmp_path / "a.nii").write_bytes(b"x")
    (tmp_path / "a.nii").chmod(0)
    tmp_path.chmod(0o755)
    command = [sys.executable, "-c", FORBIDDEN, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "a.nii cannot be opened: permission denied. Check its access rights.\n"


@pytest.mark.parametrize("name", ["a.dcm", "a.gz", "a", "a.npy", "a.zip", ".nii.txt"])
def test_other_suffixes_name_those_that_are_read(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"something")
    with pytest.raises(FileError, match=r"Choose one of \.nii, \.nii\.gz, \.nrrd"):
        read_volume(tmp_path / name)


@pytest.mark.parametrize("content", [".nii", ".nii.gz", ".nrrd", ".mha", ".png", ".tif"])
@pytest.mark.parametrize("suffix", [".nii", ".nrrd", ".mha", ".png", ".tif"])
def test_another_format_under_a_suffix_is_named(ct: Volume, tmp_path: Path, content: str, suffix: str) -> None:
    source = samples(tmp_path, ct)[content]
    if content.startswith(suffix):
        assert read_volume(source).array.size
        return
    wrong = source.rename(tmp_path / f"wrong{suffix}")
    with pytest.raises(FileError, match=rf"wrong{suffix} is no \w+ file: its content is \w+\. Rename it to end in \."):
        read_volume(wrong)


def test_suffixes_in_capitals_dots_blanks_and_other_scripts(ct: Volume, tmp_path: Path) -> None:
    folder = tmp_path / "Åse 山"
    folder.mkdir()
    for name in ("A.NII.GZ", "a.b.c.Nrrd", "ä ö.MHA", "山 é.nii"):
        write_volume(folder / name, ct)
        np.testing.assert_array_equal(read_volume(folder / name).array, ct.array)
        assert describe(folder / name).name == name


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha", ".png", ".tif"])
def test_a_file_cut_anywhere_is_refused(ct: Volume, tmp_path: Path, suffix: str) -> None:
    path = samples(tmp_path, ct)[suffix]
    whole = path.read_bytes()
    for length in sorted({1, 7, 40, 100, 300, 347, 351, len(whole) // 2, len(whole) - 9, len(whole) - 1}):
        path.write_bytes(whole[:length])
        if length >= len(whole) or (suffix == ".tif" and length >= len(whole) - 9):
            continue  # what a TIFF has at its very end need not be pixels
        with pytest.raises(FileError):
            read_volume(path)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_more_data_than_declared_is_refused(ct: Volume, tmp_path: Path, suffix: str) -> None:
    path = samples(tmp_path, ct)[suffix]
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(FileError, match=r"more data than|damaged"):
        read_volume(path)
    if suffix == ".nii":
        with pytest.raises(FileError, match="more data than"):
            describe(path)


def test_a_second_gzip_member_counts_too(ct: Volume, tmp_path: Path) -> None:
    """Programs that compress in parallel write several members; together they must hold what is declared."""
    path = samples(tmp_path, ct)[".nii.gz"]
    plain = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(plain[:500]) + gzip.compress(plain[500:]))
    np.testing.assert_array_equal(read_volume(path).array, ct.array)
    path.write_bytes(gzip.compress(plain) + gzip.compress(b"more"))
    with pytest.raises(FileError, match="more data than"):
        read_volume(path)


def test_a_wrong_checksum_is_seen(ct: Volume, tmp_path: Path) -> None:
    paths = samples(tmp_path, ct)
    for suffix in (".nii.gz", ".nrrd", ".mha"):
        path = paths[suffix]
        raw = bytearray(path.read_bytes())
        raw[-3 if suffix == ".mha" else -6] ^= 0xFF
        path.write_bytes(raw)
        with pytest.raises(FileError, match="cut short or damaged"):
            read_volume(path)


# --- files that grow -------------------------------------------------------------------------------------------------


def nifti_header(shape: tuple[int, int, int]) -> bytes:
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.uint8)
    header.set_data_shape(shape)
    header.set_sform(np.eye(4), code=1)
    header["vox_offset"], header["magic"] = 352, b"n+1"
    return header.binaryblock + bytes(4)


def bomb_nifti(path: Path, size: int, declared: tuple[int, int, int]) -> None:
    with gzip.open(path, "wb", 9) as file:
        file.write(nifti_header(declared))
        for _ in range(size // 2**20):
            file.write(bytes(2**20))


def bomb_nrrd(path: Path, size: int, declared: tuple[int, int, int]) -> None:
    engine = bz2.BZ2Compressor(9)
    packed = b"".join([*(engine.compress(bytes(2**20)) for _ in range(size // 2**20)), engine.flush()])
    header = f"NRRD0004\ntype: uint8\ndimension: 3\nsizes: {' '.join(map(str, declared))}\nencoding: bzip2\n\n"
    path.write_bytes(header.encode() + packed)


def bomb_mha(path: Path, size: int, declared: tuple[int, int, int]) -> None:
    engine = zlib.compressobj(9)
    packed = b"".join([*(engine.compress(bytes(2**20)) for _ in range(size // 2**20)), engine.flush()])
    header = f"ObjectType = Image\nNDims = 3\nCompressedData = True\nDimSize = {' '.join(map(str, declared))}\n"
    path.write_bytes((header + "ElementType = MET_UCHAR\nElementDataFile = LOCAL\n").encode() + packed)


@pytest.mark.parametrize(("name", "make"), [("a.nii.gz", bomb_nifti), ("a.nrrd", bomb_nrrd), ("a.mha", bomb_mha)])
def test_bombs_are_refused_and_never_grow_beyond_what_is_declared(
    tmp_path: Path, name: str, make: Callable[[Path, int, tuple[int, int, int]], None]
) -> None:
    path = tmp_path / name
    make(path, 64 * 2**20, (8, 8, 8))
    with pytest.raises(FileError, match="more data than its header declares"):
        read_volume(path, ReadOptions(allow_expansion=True))
    make(path, 64 * 2**20, (1024, 256, 256))
    with pytest.raises(FileError, match=r"grows from .* to 64 MB when decompressed\. Allow expansion"):
        read_volume(path)
    assert not read_volume(path, ReadOptions(allow_expansion=True)).array.any()


def test_an_empty_mask_on_its_image_is_no_bomb(tmp_path: Path) -> None:
    grid = Grid((64, 1024, 1024), (1.0, 1.0, 1.0), None, orientation_known=False)  # type: ignore[arg-type]
    empty = Segmentation(np.broadcast_to(np.uint8(0), grid.shape), grid)
    write_segmentation(tmp_path / "m.nrrd", empty)
    with pytest.raises(FileError, match="grows from"):
        read_segmentation(tmp_path / "m.nrrd")
    other = Grid((64, 1024, 1024), (2.0, 1.0, 1.0))
    with pytest.raises(FileError, match="grows from"):
        read_segmentation(tmp_path / "m.nrrd", like=other)
    assert not read_segmentation(tmp_path / "m.nrrd", like=grid).labels.any()


LIMITED = """
import resource, sys, time
from src_models.errors import FileError
from src_models.files import ReadOptions, read_volume
import nibabel.nifti1, nibabel.nifti2, psutil
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start = time.perf_counter()
try:
    read_volume(sys.argv[1], ReadOptions(max_bytes=2**60, allow_expansion=True))
except FileError as error:
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(error.code, round(time.perf_counter() - start, 2), grown // 1024)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the resource module is for Unix")
@pytest.mark.parametrize("shape", [(3000, 1000, 1000), (32767, 32767, 32767)])
def test_a_lie_about_the_size_costs_neither_time_nor_memory(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    with gzip.open(tmp_path / "a.nii.gz", "wb") as file:
        file.write(nifti_header(shape) + np.random.default_rng(0).bytes(4_000_000))
    if max(shape) > 10_000:  # more than gzip can ever make of a file of this length
        with pytest.raises(FileError, match="cut short"):
            describe(tmp_path / "a.nii.gz", ReadOptions(max_bytes=2**60, allow_expansion=True))
    command = [sys.executable, "-c", LIMITED, str(tmp_path / "a.nii.gz")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    code, seconds, megabytes = done.stdout.split()
    assert code in ("cut-short", "damaged", "size-memory")
    assert float(seconds) < 2
    assert float(megabytes) < 500


def test_every_sentence_is_short_and_names_no_folder(ct: Volume, tmp_path: Path) -> None:
    folder = tmp_path / "DOE_JANE_1960"
    folder.mkdir()
    long = folder / f"{'n' * 180}\u202e\n.nii"
    long.write_bytes(b"nothing")
    with pytest.raises(FileError) as caught:
        read_volume(long)
    message = str(caught.value)
    assert "DOE" not in message
    assert "\n" not in message
    assert "\u202e" not in message
    assert len(message) <= 200


def test_names_with_markup_stay_plain_data(tmp_path: Path) -> None:
    path = tmp_path / "=cmd'<b>x<b>.nii"
    path.write_bytes(b"nothing")
    with pytest.raises(FileError, match="=cmd'<b>x<b>"):
        read_volume(path)


def test_importing_files_loads_no_reader_library() -> None:
    heavy = ("nibabel", "tifffile", "PIL", "SimpleITK", "torch", "scipy")
    code = f"import sys, src_models.files; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_reading_is_quick(ct: Volume, tmp_path: Path) -> None:
    path = samples(tmp_path, ct)[".nii.gz"]
    describe(path)
    start = time.perf_counter()
    for _ in range(10):
        read_volume(path)
    assert (time.perf_counter() - start) / 10 < 0.2
