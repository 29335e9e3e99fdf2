"""PNG and TIFF: grey, colour and label pictures, pixel sizes that are stated, and files that lie."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from src_models.errors import FileError, SaveError
from src_models.files import ReadOptions, describe, read_segmentation, read_volume, write_segmentation, write_volume
from src_models.geometry import Grid, Segmentation, Volume

GREY = (np.arange(35) * 7).astype(np.uint8).reshape(5, 7)


@pytest.mark.parametrize(
    "array",
    [GREY > 99, GREY, GREY.astype(np.uint16) * 257],
    ids=["1 bit", "8 bit", "16 bit"],
)
def test_png_grey(tmp_path: Path, array: np.ndarray) -> None:
    Image.fromarray(array).save(tmp_path / "a.png")
    volume = read_volume(tmp_path / "a.PNG".replace("PNG", "png"))
    assert volume.array.dtype == array.dtype
    np.testing.assert_array_equal(volume.array, array)
    assert not volume.grid.spacing_known
    np.testing.assert_array_equal(read_segmentation(tmp_path / "a.png").labels, array)


@pytest.mark.parametrize(
    "array",
    [GREY > 99, GREY, GREY.astype(np.int16) - 300, GREY.astype(np.uint16) * 257, GREY.astype(np.int32) * 70_000,
     GREY.astype(np.float32) / 3, GREY.astype(np.float64) / 3],
    ids=lambda array: str(array.dtype),
)  # fmt: skip
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_tiff_grey(tmp_path: Path, array: np.ndarray, compression: str | None, byteorder: Any) -> None:
    tifffile.imwrite(tmp_path / "a.tif", array, compression=compression, byteorder=byteorder)
    volume = read_volume(tmp_path / "a.tif")
    assert volume.array.dtype == array.dtype
    assert volume.array.dtype.isnative
    np.testing.assert_array_equal(volume.array, array)


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits", "tiff_adobe_deflate"])
def test_tiff_as_common_programs_save_it(tmp_path: Path, mode: str, compression: str) -> None:
    """Among them LZW, for which tifffile alone has no decoder."""
    picture = Image.fromarray(GREY).convert(mode)
    picture.save(tmp_path / "a.tiff", compression=compression)
    array = read_volume(tmp_path / "a.tiff").array
    np.testing.assert_array_equal(np.moveaxis(array, 0, -1) if mode == "RGB" else array, np.asarray(picture))


def test_tiled_and_predicted_tiff(tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 60_000, (50, 70), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", array, tile=(32, 16), compression="zlib", predictor=True, bigtiff=True)
    np.testing.assert_array_equal(read_volume(tmp_path / "a.tif").array, array)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_colour_is_channels_in_front_and_transparency_is_left_out(tmp_path: Path, suffix: str) -> None:
    colours = np.random.default_rng(2).integers(0, 255, (5, 7, 4), dtype=np.uint8)
    for mode, count in (("RGB", 3), ("RGBA", 4)):
        Image.fromarray(colours[..., :count], mode=None).save(tmp_path / f"a{suffix}")
        volume = read_volume(tmp_path / f"a{suffix}")
        assert (volume.leading_axis, volume.array.shape) == ("c", (3, 5, 7))
        np.testing.assert_array_equal(np.moveaxis(volume.array, 0, -1), colours[..., :3])
        assert any("transparency" in note for note in volume.notes) == (mode == "RGBA")
        with pytest.raises(FileError, match="holds no label numbers"):
            read_segmentation(tmp_path / f"a{suffix}")


def test_grey_with_transparency(tmp_path: Path) -> None:
    Image.fromarray(GREY).convert("LA").save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_volume(tmp_path / "a.png").array, GREY)
    tifffile.imwrite(
        tmp_path / "a.tif", np.stack([GREY, GREY], -1), photometric="minisblack", extrasamples=["unassalpha"]
    )
    volume = read_volume(tmp_path / "a.tif")
    assert volume.leading_axis == ""
    np.testing.assert_array_equal(volume.array, GREY)


def test_colours_side_by_side_in_planes(tmp_path: Path) -> None:
    planes = np.stack([GREY, GREY + 1, GREY + 2])
    tifffile.imwrite(tmp_path / "a.tif", planes, photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(read_volume(tmp_path / "a.tif").array, planes)


def test_a_palette_png_holds_numbers(tmp_path: Path) -> None:
    picture = Image.fromarray((GREY % 3).astype(np.uint8), mode=None).convert("P")
    picture.putdata(list((GREY % 3).ravel().tolist()))
    picture.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    picture.save(tmp_path / "a.png")
    labels = read_segmentation(tmp_path / "a.png")
    np.testing.assert_array_equal(labels.labels, GREY % 3)
    assert "palette" in labels.notes[-1]


def test_pixel_size_from_metadata_that_state_a_length(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, GREY, resolution=(20, 40), resolutionunit="CENTIMETER")
    assert read_volume(path).grid.spacing == pytest.approx((0.25, 0.5))
    tifffile.imwrite(path, GREY, imagej=True, resolution=(2, 4), metadata={"unit": "um"})
    assert read_volume(path).grid.spacing == pytest.approx((0.25e-3, 0.5e-3))
    ome = {"axes": "YX", "PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "mm", "PhysicalSizeY": 250.0}
    tifffile.imwrite(path, GREY, ome=True, metadata=ome)
    assert read_volume(path).grid.spacing == pytest.approx((0.25, 0.5))
    assert describe(path).unit == "mm"


def test_dots_per_inch_are_no_pixel_size(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", GREY, resolution=(96, 96), resolutionunit="INCH")
    Image.fromarray(GREY).save(tmp_path / "a.png", dpi=(96, 96))
    for name in ("a.tif", "a.png"):
        volume = read_volume(tmp_path / name)
        assert not volume.grid.spacing_known
        assert volume.notes == ("The picture gives no pixel size.",)


def test_label_tiff_keeps_its_pixel_size(tmp_path: Path) -> None:
    labels = np.zeros((5, 7), np.int64)
    labels[2, 3] = 70_000
    write_segmentation(tmp_path / "a.tif", Segmentation(labels, Grid((5, 7), (0.3, 0.7))))
    back = read_segmentation(tmp_path / "a.tif")
    np.testing.assert_array_equal(back.labels, labels)
    assert back.grid.spacing == pytest.approx((0.3, 0.7), rel=1e-6)
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        assert "DateTime" not in tiff.pages.first.tags


def test_volumes_and_large_numbers_do_not_fit_into_a_png(ct: Volume, tmp_path: Path) -> None:
    flat = Grid((2, 2), (1.0, 1.0))
    with pytest.raises(SaveError, match=r"one slice\. Save the volume as \.nii\.gz"):
        write_volume(tmp_path / "a.png", ct)
    with pytest.raises(SaveError, match="does not hold these values of type int32"):
        write_segmentation(tmp_path / "a.png", Segmentation(np.full((2, 2), 70_000, np.int32), flat))
    with pytest.raises(SaveError, match="does not hold these values of type float64"):
        write_volume(tmp_path / "a.png", Volume(np.zeros((2, 2)), flat))
    with pytest.raises(SaveError, match=r"from 0 to 255\. Save it as \.tif"):
        write_volume(tmp_path / "a.png", Volume(np.zeros((3, 2, 2), np.uint16), flat, leading_axis="c"))
    assert not list(tmp_path.iterdir())


def test_more_than_one_page_is_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.stack([GREY, GREY]))
    with pytest.raises(FileError, match="more than one page"):
        read_volume(tmp_path / "a.tif")
    tifffile.imwrite(tmp_path / "b.tif", np.stack([GREY, GREY]), imagej=True)
    with pytest.raises(FileError, match="more than one page"):
        read_volume(tmp_path / "b.tif")


def test_complex_and_jpeg_tiff_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", GREY.astype(np.complex64))
    with pytest.raises(FileError, match="kind of pixels"):
        read_volume(tmp_path / "a.tif")
    Image.fromarray(GREY).save(tmp_path / "b.tif", compression="jpeg")
    with pytest.raises(FileError, match="compression is not read"):
        read_volume(tmp_path / "b.tif")


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, pixels: bytes, bits: int = 8, colour: int = 0) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (png(0, 5, b""), "a size of 0"),
        (png(100_000, 100_000, bytes(9)), "more than the limit of 4 GB"),
        (png(8_000, 8_000, bytes(9)), "grows from"),
        (png(7, 5, bytes(9)), "cut short or damaged"),
        (png(7, 5, bytes(40), bits=3), "does not have"),
        (png(7, 5, bytes(40), colour=5), "does not have"),
        (png(7, 5, bytes(215), bits=16, colour=2), "colours of 16 bit"),
        (png(7, 5, bytes(40))[:30], "cut short"),
        (png(7, 5, bytes(40))[:50], "cut short or damaged"),
        (png(7, 5, bytes(40)).replace(b"IHDR", b"IHDX"), "damaged"),
    ],
)
def test_png_that_lies_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(FileError, match=words):
        read_volume(tmp_path / "a.png")


def patch_tag(path: Path, tag: int, value: int) -> Path:
    """Overwrite the value of a tag of a little-endian TIFF as one 32-bit number."""
    raw = bytearray(path.read_bytes())
    (start,) = struct.unpack_from("<I", raw, 4)
    (count,) = struct.unpack_from("<H", raw, start)
    for entry in range(start + 2, start + 2 + 12 * count, 12):
        if struct.unpack_from("<H", raw, entry)[0] == tag:
            struct.pack_into("<HII", raw, entry + 2, 4, 1, value)
    path.write_bytes(raw)
    return path


@pytest.mark.parametrize(
    ("tag", "value", "words"),
    [
        (256, 0, "damaged|size of 0"),
        (256, 10**6, "cut short|grows"),
        (257, 2**31, "more than the limit|grows"),
        (273, 10**6, "cut short"),
        (273, 2, "cut short"),
        (278, 1, "cut short"),
        (279, 0, "cut short"),
        (279, 3, "cut short"),
        (279, 10**7, "cut short"),
        (258, 12, "kind of pixels|damaged"),
        (262, 5, "kind of pixels"),
        (259, 7, "compression is not read"),
        (259, 8, "damaged"),
    ],
)
def test_tiff_that_lies_is_refused(tmp_path: Path, tag: int, value: int, words: str) -> None:
    tifffile.imwrite(tmp_path / "a.tif", GREY, metadata=None)
    with pytest.raises(FileError, match=words):
        read_volume(patch_tag(tmp_path / "a.tif", tag, value))


def test_a_chain_of_pages_without_an_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, GREY, metadata=None)
    raw = bytearray(path.read_bytes())
    (start,) = struct.unpack_from("<I", raw, 4)
    (count,) = struct.unpack_from("<H", raw, start)
    struct.pack_into("<I", raw, start + 2 + 12 * count, start)
    path.write_bytes(raw)
    with pytest.raises(FileError, match="more than one page"):
        read_volume(path)


def test_a_compressed_segment_that_grows_beyond_the_picture_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((64, 64), np.uint8), compression="zlib", metadata=None)
    bomb = zlib.compress(bytes(50_000_000), 9)
    raw = path.read_bytes()
    path.write_bytes(raw + bomb)
    patch_tag(patch_tag(path, 273, len(raw)), 279, len(bomb))
    with pytest.raises(FileError, match="do not fit the declared size"):
        read_volume(path, ReadOptions(allow_expansion=True))
