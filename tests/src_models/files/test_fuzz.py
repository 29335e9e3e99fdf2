"""Damaged files, by the hundred and always the same: nothing but the project's own error may come out, and soon."""

from __future__ import annotations

import time
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from src_models.errors import LsnetError
from src_models.files import ReadOptions, describe, read_segmentation, read_volume, write_segmentation, write_volume
from src_models.geometry import Grid, Segmentation, Volume

ROUNDS = 250
# Files that ask for more than this are refused, so that a lucky flip does not fill the memory of the test machine.
OPTIONS = ReadOptions(max_bytes=50 * 2**20)


def fixtures(folder: Path, ct: Volume) -> dict[str, bytes]:
    small = replace(ct, grid=ct.grid.crop((slice(0, 2), slice(0, 3), slice(0, 4))), array=ct.array[:2, :3, :4])
    for suffix in (".nii", ".nii.gz", ".nrrd", ".mha"):
        write_volume(folder / f"a{suffix}", small)
    picture = Segmentation(np.arange(35, dtype=np.uint8).reshape(5, 7), Grid((5, 7), (0.5, 0.25)))
    for suffix in (".png", ".tif"):
        write_segmentation(folder / f"a{suffix}", picture)
    made = {path.name: path.read_bytes() for path in folder.iterdir()}
    text = (
        "NRRD0004\ntype: short\ndimension: 3\nspace: left-posterior-superior\nsizes: 4 3 2\n"
        "space directions: (0.75,0,0) (0,0.9,0) (0,0,3)\nkinds: domain domain domain\nendian: little\n"
        'encoding: raw\nspace origin: (1,2,3)\nspace units: "mm" "mm" "mm"\n\n'
    )
    made["raw.nrrd"] = text.encode() + bytes(48)
    text = (
        "ObjectType = Image\nNDims = 3\nBinaryDataByteOrderMSB = False\nTransformMatrix = 1 0 0 0 1 0 0 0 1\n"
        "Offset = 1 2 3\nElementSpacing = 0.75 0.9 3\nDimSize = 4 3 2\nElementType = MET_SHORT\n"
        "ElementDataFile = LOCAL\n"
    )
    made["raw.mha"] = text.encode() + bytes(48)
    return made


def damaged(whole: bytes, random: np.random.Generator) -> bytes:
    """A few bits or bytes changed, a piece cut out, doubled or cut off; mostly near the start, where headers are."""
    raw = bytearray(whole)
    for _ in range(int(random.integers(1, 4))):
        near = min(len(raw), 360) if random.random() < 0.7 else len(raw)
        place = int(random.integers(0, max(near, 1)))
        kind = random.integers(0, 6)
        if kind == 0 and len(raw) > 1:
            del raw[place:]
        elif kind == 1:
            del raw[place : place + int(random.integers(1, 20))]
        elif kind == 2:
            raw[place:place] = raw[place : place + int(random.integers(1, 20))]
        elif kind == 3 and place < len(raw):
            raw[place] ^= 1 << int(random.integers(0, 8))
        elif place < len(raw):
            values = b'\0\xff\x7f\x80-.9 \n("=:e' + bytes([int(random.integers(0, 256))])
            raw[place : place + 1] = bytes([values[int(random.integers(0, len(values)))]]) * int(random.integers(1, 4))
    return bytes(raw)


NAMES = ["a.nii", "a.nii.gz", "a.nrrd", "a.mha", "a.png", "a.tif", "raw.nrrd", "raw.mha"]


@pytest.mark.parametrize("name", NAMES)
def test_only_our_own_errors_come_out(ct: Volume, tmp_path: Path, name: str) -> None:
    whole = fixtures(tmp_path, ct)[name]
    random = np.random.default_rng(zlib.crc32(name.encode()))
    path = tmp_path / f"fuzz-{name}"
    refused = 0
    for _ in range(ROUNDS):
        path.write_bytes(damaged(whole, random))
        for read in (describe, read_volume, read_segmentation):
            start = time.perf_counter()
            sentence = ""
            try:
                read(path, OPTIONS)
            except LsnetError as error:
                sentence = str(error)
            refused += bool(sentence)
            assert len(sentence) <= 200
            assert "\n" not in sentence
            assert str(tmp_path) not in sentence
            assert time.perf_counter() - start < 2
    assert refused > ROUNDS // 4, "the damage is not reaching the reader"
