"""MetaImage: directions, detached data, compression, and headers that lie."""

from __future__ import annotations

import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from src_models.errors import FileError, SaveError
from src_models.files import describe, read_segmentation, read_volume, write_segmentation, write_volume
from src_models.geometry import Grid, Segmentation, Volume

VALUES = np.arange(24, dtype=np.uint8)
FIELDS = {
    "ObjectType": "Image",
    "NDims": "3",
    "BinaryData": "True",
    "BinaryDataByteOrderMSB": "False",
    "TransformMatrix": "0 1 0 0 0 1 1 0 0",
    "Offset": "1 2 3",
    "ElementSpacing": "0.75 0.9 3",
    "DimSize": "4 3 2",
    "ElementType": "MET_UCHAR",
    "ElementDataFile": "LOCAL",
}


def make(path: Path, data: bytes = VALUES.tobytes(), **changes: str | None) -> Path:
    fields = {**FIELDS, **changes}
    last = fields.pop("ElementDataFile")
    lines = [f"{name} = {text}" for name, text in fields.items() if text is not None]
    path.write_bytes("\n".join([*lines, f"ElementDataFile = {last}" if last else "", ""]).encode() + data)
    return path


def test_the_matrix_lists_one_direction_after_the_other(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mha")
    volume, peer = read_volume(path), SimpleITK.ReadImage(str(path))
    for index in [(0, 0, 0), (3, 0, 0), (0, 2, 0), (3, 2, 1)]:
        shown = np.array(volume.stored_order.present_index(index[::-1], volume.grid.shape))
        np.testing.assert_allclose(volume.grid.to_patient(shown), peer.TransformIndexToPhysicalPoint(index))


@pytest.mark.parametrize("size", ["CompressedDataSize", None])
def test_compressed_voxels(tmp_path: Path, size: str | None) -> None:
    packed = zlib.compress(VALUES.tobytes())
    extra = {"CompressedData": "True"} | ({size: str(len(packed))} if size else {})
    assert read_volume(make(tmp_path / "a.mha", packed, **extra)).array.max() == 23
    for damaged in (packed[:-1], packed[:-5], packed[:-1] + b"x", packed + b"x", packed[:9]):
        with pytest.raises(FileError, match="cut short or damaged"):
            read_volume(make(tmp_path / "a.mha", damaged, **extra))


def test_detached_data(tmp_path: Path) -> None:
    (tmp_path / "a.raw").write_bytes(b"\xff" * 5 + VALUES.tobytes())
    for skip in ("5", "-1"):
        volume = read_volume(make(tmp_path / "a.mhd", b"", ElementDataFile="a.raw", HeaderSize=skip))
        np.testing.assert_array_equal(volume.stored_order.store(volume.array).ravel(), VALUES)
    with pytest.raises(FileError, match="more data"):
        read_volume(make(tmp_path / "a.mhd", b"", ElementDataFile="a.raw"))


@pytest.mark.parametrize("name", ["../a.raw", "/etc/passwd", "LIST", "im%02d.raw 1 3 1", "gone.raw"])
def test_data_outside_the_folder_is_not_read(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.raw").write_bytes(VALUES.tobytes())
    (tmp_path / "here").mkdir()
    with pytest.raises(FileError, match="data file"):
        read_volume(make(tmp_path / "here" / "a.mhd", b"", ElementDataFile=name))


def test_byte_order_and_units(tmp_path: Path) -> None:
    values = np.arange(-12, 12, dtype=">i2")
    path = make(
        tmp_path / "a.mha", values.tobytes(), ElementType="MET_SHORT", BinaryDataByteOrderMSB="True", DistanceUnits="um"
    )
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.stored_order.store(volume.array).ravel(), values)
    assert sorted(volume.grid.spacing) == pytest.approx([0.00075, 0.0009, 0.003])


def test_a_mask_keeps_the_numbers_of_its_source(tmp_path: Path) -> None:
    volume = read_volume(make(tmp_path / "a.mha", Comment="DOE^JANE"))
    labels = Segmentation(volume.array > 3, volume.grid, stored_order=volume.stored_order, header=volume.header)
    write_segmentation(tmp_path / "m.mha", labels)
    text = (tmp_path / "m.mha").read_bytes()
    for line in (
        b"TransformMatrix = 0.0 1.0 0.0 0.0 0.0 1.0 1.0 0.0 0.0",
        b"Offset = 1.0 2.0 3.0",
        b"ElementSpacing = 0.75 0.9 3.0",
    ):
        assert line in text
    assert b"DOE" not in text


def test_two_dimensions(tmp_path: Path) -> None:
    image = SimpleITK.GetImageFromArray(VALUES.reshape(4, 6))
    image.SetSpacing((0.5, 0.25))
    image.SetOrigin((3, 4))
    image.SetDirection((0, -1, 1, 0))
    SimpleITK.WriteImage(image, str(tmp_path / "a.mha"))
    volume = read_volume(tmp_path / "a.mha")
    assert volume.grid.spacing == (0.25, 0.5)
    assert not volume.grid.orientation_known
    labels = Segmentation(volume.array > 3, volume.grid, stored_order=volume.stored_order, header=volume.header)
    write_segmentation(tmp_path / "m.mha", labels)
    back = SimpleITK.ReadImage(str(tmp_path / "m.mha"))
    assert (back.GetSpacing(), back.GetOrigin(), back.GetDirection()) == ((0.5, 0.25), (3, 4), (0, -1, 1, 0))


def test_what_the_format_cannot_say_is_refused_with_the_way_out(ct: Volume, sheared: Volume, tmp_path: Path) -> None:
    with pytest.raises(SaveError, match=r"sheared grid\. Save it as \.nii\.gz or \.nrrd"):
        write_volume(tmp_path / "a.mha", sheared)
    unknown = replace(ct, grid=Grid(ct.grid.shape, ct.grid.spacing))
    with pytest.raises(SaveError, match=r"not known\. Save it as \.nii\.gz"):
        write_volume(tmp_path / "a.mha", unknown)
    slice_in_space = Volume(
        ct.array[0], Grid(ct.grid.shape[1:], ct.grid.spacing[1:], ct.grid.index_to_patient, orientation_known=True)
    )
    with pytest.raises(SaveError, match="cannot lie in the patient"):
        write_volume(tmp_path / "a.mha", slice_in_space)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"NDims": "2"}, "contradict"),
        ({"NDims": "8", "DimSize": "1 1 1 1 1 1 1 24"}, "8 axes"),
        ({"NDims": "three"}, "holds 'three'"),
        ({"DimSize": None}, "no field 'dimsize'"),
        ({"DimSize": "4 3 -2"}, "a size of -2"),
        ({"DimSize": "4 3 9000000000000000000"}, "more than the limit"),
        ({"DimSize": "4 3 3"}, "cut short"),
        ({"DimSize": "4 3 1"}, "more data"),
        ({"ElementType": "MET_OTHER"}, "type 'MET_OTHER'"),
        ({"ElementNumberOfChannels": "-1"}, "-1 channels"),
        ({"ElementNumberOfChannels": "3"}, "cut short"),
        ({"BinaryData": "False"}, "as text"),
        ({"ElementSpacing": "0.75 0 3"}, "voxel size of 0"),
        ({"ElementSpacing": "0.75 -1 3"}, "voxel size of -1"),
        ({"ElementSpacing": "0.75 1"}, "'elementspacing' holds"),
        ({"ElementSpacing": "0.75 x 3"}, "'elementspacing' holds"),
        ({"TransformMatrix": "1 0 0 1 0 0 0 0 1"}, "singular"),
        ({"TransformMatrix": "nan 0 0 0 1 0 0 0 1"}, "not finite"),
        ({"TransformMatrix": "2 0 0 0 1 0 0 0 1"}, "no unit length"),
        ({"Offset": "inf 0 0"}, "not finite"),
        ({"Offset": "1e300 0 0"}, "kilometres away"),
        ({"TransformMatrix": "1e200 0 0 0 1 0 0 0 1"}, "kilometres away"),
        ({"Offset": "0 0"}, "'offset' holds"),
        ({"CompressedData": "True"}, "damaged"),
        ({"ElementDataFile": None}, "no field 'elementdatafile'|the line"),
    ],
)
def test_headers_that_lie_are_refused(tmp_path: Path, changes: dict[str, str | None], words: str) -> None:
    path = make(tmp_path / "a.mha", **changes)
    for read in (read_volume, read_segmentation, describe) if words != "damaged" else (read_volume,):
        with pytest.raises(FileError, match=words) as caught:
            read(path)
        assert len(str(caught.value)) <= 160
