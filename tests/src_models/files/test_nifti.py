"""NIfTI: which form is the position, units, scale, extra axes, colours, and what a mask takes over."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from nibabel.nifti1 import Nifti1Extension

from src_models.errors import FileError, LsnetError
from src_models.files import ReadOptions, describe, read_segmentation, read_volume, write_segmentation, write_volume
from src_models.geometry import Grid, Segmentation, Volume, same_grid

AFFINE = np.array([[-0.75, 0.1, 0.2, 12.5], [0.05, 0.9, -0.4, -40.0], [0.1, 0.2, 2.9, 7.75], [0, 0, 0, 1.0]])
"""RAS, sheared a little, so that the qform cannot say the same as the sform."""
TURNED = np.diag([-0.75, 0.9, 3.0, 1.0])


def make(
    path: Path,
    array: np.ndarray | None = None,
    sform: tuple[np.ndarray | None, int] = (TURNED, 2),
    qform: tuple[np.ndarray | None, int] = (TURNED, 1),
    units: tuple[str, str] = ("mm", "sec"),
    kind: Any = nibabel.Nifti1Image,
    **fields: Any,
) -> Path:
    """A file as nibabel writes it, with header fields as given."""
    values = np.arange(60, dtype=np.int16).reshape(5, 4, 3) if array is None else array
    image = kind(values, TURNED)
    image.header.set_xyzt_units(*units)
    image.set_sform(*sform)
    image.set_qform(*qform)
    for key, value in fields.items():
        image.header[key] = value
    nibabel.save(image, path)
    return path


def patch(path: Path, key: str, value: Any) -> Path:
    """Overwrite one header field of an uncompressed file, past any check of the library."""
    raw = bytearray(path.read_bytes())
    header = np.frombuffer(raw[:348], nibabel.nifti1.header_dtype).copy()
    header[key][0] = value
    raw[:348] = header.tobytes()
    path.write_bytes(raw)
    return path


def header_of(path: Path) -> Any:
    return nibabel.load(path).header


def mask_on(volume: Volume) -> Segmentation:
    shape = volume.array.shape[-3:]
    return Segmentation(np.ones(shape, bool), volume.grid, stored_order=volume.stored_order, header=volume.header)


def test_the_sform_leads_where_its_code_is_set(tmp_path: Path) -> None:
    other = TURNED.copy()
    other[:3, 3] = 5, 0, 0
    volume = read_volume(make(tmp_path / "a.nii", sform=(other, 1), qform=(TURNED, 1)))
    grid, order = volume.grid, volume.stored_order
    stored = np.array(order.present_index((2, 0, 4), grid.shape))
    np.testing.assert_allclose(grid.to_patient(stored), (-(5 - 4 * 0.75), 0, 2 * 3), atol=1e-5)


def test_the_qform_leads_where_the_sform_has_no_code(tmp_path: Path) -> None:
    affine = nibabel.affines.from_matvec(nibabel.eulerangles.euler2mat(0.1, 0.2, 0.3) * (0.75, 0.9, 3.0), (1, 2, 3))
    path = make(tmp_path / "a.nii", sform=(None, 0), qform=(affine, 1))
    peer = nibabel.load(path)
    volume = read_volume(path)
    far = np.array(volume.grid.shape) - 1
    stored = np.array([volume.stored_order.present_index((2, 3, 4), volume.grid.shape)])
    np.testing.assert_allclose(
        volume.grid.to_patient(stored)[0], (peer.affine @ [4, 3, 2, 1])[:3] * (-1, -1, 1), atol=1e-4
    )
    assert volume.grid.orientation_known
    assert far.tolist() == [2, 3, 4]


def test_without_codes_no_side_is_named(tmp_path: Path) -> None:
    path = make(tmp_path / "a.nii", sform=(None, 0), qform=(TURNED, 0))
    volume = read_volume(path)
    assert not volume.grid.orientation_known
    assert volume.grid.spacing == pytest.approx((3.0, 0.9, 0.75))
    assert volume.stored_order.flips == (False, False, False)
    assert describe(path).orientation == ""
    write_segmentation(tmp_path / "m.nii", mask_on(volume))
    assert (int(header_of(tmp_path / "m.nii")["sform_code"]), int(header_of(tmp_path / "m.nii")["qform_code"])) == (
        0,
        0,
    )


@pytest.mark.parametrize("name", ["m.nii", "m.nii.gz"])
def test_a_mask_on_its_source_takes_both_forms_and_codes(tmp_path: Path, name: str) -> None:
    source = make(tmp_path / "a.nii", sform=(AFFINE, 4), qform=(TURNED, 3), pixdim=[1, 0.75, 0.9, 3.0, 0, 0, 0, 0])
    write_segmentation(tmp_path / name, mask_on(read_volume(source)))
    for key in ("srow_x", "srow_y", "srow_z", "sform_code", "qform_code", "quatern_b", "quatern_c", "quatern_d",
                "qoffset_x", "qoffset_y", "qoffset_z", "xyzt_units"):  # fmt: skip
        if key != "xyzt_units":
            np.testing.assert_array_equal(header_of(tmp_path / name)[key], header_of(source)[key])
    np.testing.assert_array_equal(header_of(tmp_path / name)["pixdim"][:4], header_of(source)["pixdim"][:4])
    assert header_of(tmp_path / name).get_xyzt_units()[0] == "mm"
    np.testing.assert_array_equal(nibabel.load(tmp_path / name).affine, nibabel.load(source).affine)


def test_disagreement_of_the_forms_is_told_in_degrees_and_mm(tmp_path: Path) -> None:
    turned = TURNED @ nibabel.affines.from_matvec(nibabel.eulerangles.euler2mat(np.radians(10)), (0, 0, 0))
    turned[:3, 3] = 0, 0, 4
    (note,) = read_volume(make(tmp_path / "a.nii", sform=(turned, 1), qform=(TURNED, 1))).notes
    assert "differ by 1" in note
    assert "mm; the sform is used" in note
    assert read_volume(make(tmp_path / "b.nii")).notes == ()


def test_one_rule_for_image_and_mask(tmp_path: Path) -> None:
    moved = TURNED.copy()
    moved[:3, 3] = 9, 9, 9
    path = make(tmp_path / "a.nii", sform=(moved, 1), qform=(TURNED, 1))
    assert same_grid(read_volume(path).grid, read_segmentation(path).grid)


def test_a_damaged_sform_is_refused_and_the_qform_offered_by_name(tmp_path: Path) -> None:
    path = patch(make(tmp_path / "a.nii"), "srow_x", [np.nan, 0, 0, 0])
    with pytest.raises(FileError, match=r"not finite numbers.*nifti_form='qform'"):
        read_volume(path)
    volume = read_volume(path, ReadOptions(nifti_form="qform"))
    assert volume.grid.letters == ("I", "P", "L")
    write_segmentation(tmp_path / "m.nii", mask_on(volume))
    assert np.isfinite(nibabel.load(tmp_path / "m.nii").affine).all(), "the damage is not handed on"
    singular = patch(make(tmp_path / "b.nii"), "srow_x", [0, 0, 0, 0])
    with pytest.raises(FileError, match="singular"):
        read_volume(singular)


def test_a_quaternion_that_is_no_rotation_is_refused(tmp_path: Path) -> None:
    path = patch(make(tmp_path / "a.nii", sform=(None, 0)), "quatern_b", 3.0)
    with pytest.raises(FileError, match="not finite"):
        read_volume(path)


@pytest.mark.parametrize(("unit", "factor"), [("meter", 1000.0), ("mm", 1.0), ("micron", 1e-3)])
def test_units_of_length(tmp_path: Path, unit: str, factor: float) -> None:
    affine = TURNED.copy()
    affine[:3] /= factor
    affine[:3, 3] = np.array([1.5, 2.5, 3.5]) / factor
    path = make(tmp_path / "a.nii", sform=(affine, 1), qform=(affine, 1), units=(unit, "sec"))
    volume = read_volume(path)
    assert volume.grid.spacing == pytest.approx((3.0, 0.9, 0.75), rel=1e-6)
    stored = volume.stored_order.present_index((0, 0, 0), volume.grid.shape)
    np.testing.assert_allclose(volume.grid.to_patient(np.array(stored)), (-1.5, -2.5, 3.5), rtol=1e-5)
    write_segmentation(tmp_path / "m.nii", mask_on(volume))
    assert header_of(tmp_path / "m.nii").get_xyzt_units()[0] == unit
    np.testing.assert_array_equal(nibabel.load(tmp_path / "m.nii").affine, nibabel.load(path).affine)


def test_an_unknown_unit_is_taken_as_mm_and_said(tmp_path: Path) -> None:
    volume = read_volume(make(tmp_path / "a.nii", units=("unknown", "unknown")))
    assert volume.grid.spacing == pytest.approx((3.0, 0.9, 0.75))
    assert "millimetres are assumed" in volume.notes[0]


@pytest.mark.parametrize(
    ("stored", "slope", "intercept", "dtype"),
    [
        (np.uint16, 1.0, -1024.0, np.int32),
        (np.int16, 0.5, 3.0, np.float32),
        (np.int32, 2.5, 0.0, np.float64),
        (np.float32, 2.0, 1.0, np.float32),
    ],
)
def test_scale_is_applied_to_images_never_to_labels(
    tmp_path: Path, stored: Any, slope: float, intercept: float, dtype: Any
) -> None:
    array = np.arange(60).astype(stored).reshape(5, 4, 3)
    path = patch(patch(make(tmp_path / "a.nii", array), "scl_slope", slope), "scl_inter", intercept)
    volume, labels = read_volume(path), read_segmentation(path)
    assert volume.array.dtype == dtype
    peer = nibabel.load(path).get_fdata()
    np.testing.assert_allclose(volume.stored_order.store(volume.array), peer.T, rtol=1e-6)
    np.testing.assert_array_equal(labels.stored_order.store(labels.labels), array.T)
    assert any("as they are stored" in note for note in labels.notes)


@pytest.mark.parametrize(("slope", "intercept"), [(0.0, 7.0), (np.nan, np.nan), (1.0, 0.0)])
def test_no_scale_leaves_the_values_alone(tmp_path: Path, slope: float, intercept: float) -> None:
    path = patch(patch(make(tmp_path / "a.nii"), "scl_slope", slope), "scl_inter", intercept)
    assert read_volume(path).array.dtype == np.int16
    assert read_volume(path).array.max() == 59


@pytest.mark.parametrize(("slope", "intercept"), [(np.inf, 0.0), (2.0, np.nan), (np.nan, 5.0)])
def test_a_scale_that_is_no_number_is_refused(tmp_path: Path, slope: float, intercept: float) -> None:
    path = patch(patch(make(tmp_path / "a.nii"), "scl_slope", slope), "scl_inter", intercept)
    with pytest.raises(FileError, match="not a finite number"):
        read_volume(path)


def test_trailing_axes_of_one_are_dropped_and_come_back(tmp_path: Path) -> None:
    path = make(tmp_path / "a.nii", np.arange(60, dtype=np.int16).reshape(5, 4, 3, 1, 1))
    volume = read_volume(path)
    assert volume.array.shape == (3, 4, 5)
    write_segmentation(tmp_path / "m.nii", mask_on(volume))
    assert nibabel.load(tmp_path / "m.nii").shape == (5, 4, 3, 1, 1)


@pytest.mark.parametrize(
    ("unit", "step", "seconds"), [("sec", 2.5, 2.5), ("msec", 400, 0.4), ("usec", 5e5, 0.5), ("hz", 2, None)]
)
def test_time_axis_with_its_step(tmp_path: Path, unit: str, step: float, seconds: float | None) -> None:
    array = np.arange(180, dtype=np.int16).reshape(5, 4, 3, 3)
    path = make(tmp_path / "a.nii", array, units=("mm", unit), pixdim=[1, 0.75, 0.9, 3.0, step, 0, 0, 0])
    volume = read_volume(path)
    assert (volume.leading_axis, volume.array.shape) == ("t", (3, 3, 4, 5))
    assert volume.time_step == (None if seconds is None else pytest.approx(seconds))
    np.testing.assert_array_equal(volume.stored_order.store(volume.array), array.T)


def test_a_fifth_axis_is_channels(tmp_path: Path) -> None:
    volume = read_volume(make(tmp_path / "a.nii", np.zeros((5, 4, 3, 1, 2), np.float32)))
    assert (volume.leading_axis, volume.array.shape) == ("c", (2, 3, 4, 5))
    with pytest.raises(FileError, match="5 axes"):
        read_volume(make(tmp_path / "b.nii", np.zeros((5, 4, 3, 2, 2), np.float32)))


def test_colours_and_transparency(tmp_path: Path) -> None:
    for name, letters in (("rgb", "RGB"), ("rgba", "RGBA")):
        colours = np.zeros((5, 4, 3), [(c, "u1") for c in letters])
        for n, c in enumerate(letters):
            colours[c] = n + np.arange(5)[:, None, None]
        volume = read_volume(make(tmp_path / f"{name}.nii", colours))
        assert (volume.leading_axis, volume.array.shape) == ("c", (3, 3, 4, 5))
        for n in range(3):
            np.testing.assert_array_equal(volume.stored_order.store(volume.array)[n], colours[letters[n]].T)
        assert any("transparency" in note for note in volume.notes) == (name == "rgba")
        with pytest.raises(FileError, match="colour image holds no label numbers"):
            read_segmentation(tmp_path / f"{name}.nii")


def test_big_endian_and_second_version(tmp_path: Path) -> None:
    array = np.arange(60, dtype=">i2").reshape(5, 4, 3)
    image = nibabel.Nifti1Image(array, TURNED, nibabel.Nifti1Header(endianness=">"))
    nibabel.save(image, tmp_path / "big.nii")
    assert (tmp_path / "big.nii").read_bytes()[:4] == b"\0\0\x01\x5c"
    volume = read_volume(tmp_path / "big.nii")
    assert volume.array.dtype.isnative
    np.testing.assert_array_equal(volume.stored_order.store(volume.array), array.T)
    second = make(tmp_path / "two.nii.gz", kind=nibabel.Nifti2Image)
    assert describe(second).format == "NIfTI-2"
    volume = read_volume(second)
    assert volume.array.max() == 59
    write_segmentation(tmp_path / "m.nii.gz", mask_on(volume))
    assert describe(tmp_path / "m.nii.gz").format == "NIfTI-2"


def test_pictures_in_nifti_stay_pictures(tmp_path: Path) -> None:
    path = make(tmp_path / "a.nii", np.arange(20, dtype=np.uint8).reshape(5, 4))
    volume = read_volume(path)
    assert volume.array.shape == (4, 5)
    assert volume.grid.spacing == pytest.approx((0.9, 0.75))
    write_segmentation(
        tmp_path / "m.nii",
        Segmentation(volume.array > 3, volume.grid, stored_order=volume.stored_order, header=volume.header),
    )
    assert nibabel.load(tmp_path / "m.nii").shape == (5, 4)
    np.testing.assert_allclose(nibabel.load(tmp_path / "m.nii").affine, nibabel.load(path).affine)


def test_free_text_and_extensions_do_not_reach_the_mask(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.zeros((5, 4, 3), np.int16), TURNED)
    image.header["descrip"], image.header["aux_file"] = b"DOE^JANE", b"DOE^JANE"
    image.header["db_name"], image.header["intent_name"] = b"DOE^JANE", b"DOE^JANE"
    image.header.extensions.append(Nifti1Extension("comment", b"DOE^JANE"))
    nibabel.save(image, tmp_path / "a.nii")
    volume = read_volume(tmp_path / "a.nii")
    assert sum("can name a patient" in note for note in volume.notes) == 1
    assert "DOE" not in repr((volume.header, volume.notes, describe(tmp_path / "a.nii")))
    write_segmentation(tmp_path / "m.nii", mask_on(volume))
    write_volume(tmp_path / "v.nii.gz", volume)
    assert b"DOE" not in (tmp_path / "m.nii").read_bytes()
    assert b"DOE" not in gzip.decompress((tmp_path / "v.nii.gz").read_bytes())


def test_masks_say_that_they_are_labels_and_repeat_byte_for_byte(tmp_path: Path) -> None:
    labels = mask_on(read_volume(make(tmp_path / "a.nii")))
    for name in ("1.nii.gz", "2.nii.gz"):
        write_segmentation(tmp_path / name, labels)
    assert describe(tmp_path / "1.nii.gz").labels
    assert not describe(tmp_path / "a.nii").labels
    assert (tmp_path / "1.nii.gz").read_bytes() == (tmp_path / "2.nii.gz").read_bytes()
    assert (tmp_path / "1.nii.gz").read_bytes()[3:8] == bytes(5), "neither a name nor a time inside gzip"


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("dim", [9, 5, 4, 3, 1, 1, 1, 1], "9 axes"),
        ("dim", [0, 5, 4, 3, 1, 1, 1, 1], "0 axes"),
        ("dim", [1, 60, 1, 1, 1, 1, 1, 1], "single row"),
        ("dim", [3, -5, 4, 3, 1, 1, 1, 1], "a size of -5"),
        ("dim", [3, 5, 0, 3, 1, 1, 1, 1], "a size of 0"),
        ("dim", [3, 32767, 32767, 32767, 1, 1, 1, 1], "more than the limit of 4 GB"),
        ("dim", [3, 500, 40, 3, 1, 1, 1, 1], "cut short"),
        ("dim", [3, 5, 4, 2, 1, 1, 1, 1], "more data than its header declares"),
        ("datatype", 1536, "code 1536"),
        ("datatype", 77, "code 77"),
        ("bitpix", 8, "contradict"),
        ("vox_offset", np.nan, "places the voxels at byte nan"),
        ("vox_offset", 100.0, "byte 100"),
        ("vox_offset", -352.0, "byte -352"),
        ("vox_offset", 1e30, "byte 1e\\+30"),
        ("magic", b"ni1", "another file"),
        ("srow_x", [1e-9, 0, 0, 0], "outside 1e-05 to 100 mm"),
        ("srow_x", [5e3, 0, 0, 0], "outside 1e-05 to 100 mm"),
    ],
)  # fmt: skip
def test_headers_that_lie_are_refused(tmp_path: Path, key: str, value: Any, words: str) -> None:
    path = patch(make(tmp_path / "a.nii"), key, value)
    for read in (read_volume, read_segmentation, describe):
        with pytest.raises(FileError, match=words) as caught:
            read(path)
        assert str(caught.value).startswith("a.nii cannot be read")


def test_signalling_nan_and_overflow_are_told_not_warned_of(tmp_path: Path) -> None:
    signalling = np.frombuffer(b"\x01\x00\xa0\x7f", "<f4")[0]
    path = patch(make(tmp_path / "a.nii"), "srow_y", np.full(4, signalling))
    with pytest.raises(FileError, match="not finite"):
        read_volume(path)
    values = np.full((5, 4, 3), 3e38, np.float32)
    values[0] = signalling
    scaled = patch(patch(make(tmp_path / "b.nii", values), "scl_slope", 10.0), "scl_inter", 0.0)
    array = read_volume(scaled).array
    assert np.isnan(array).sum() == 12
    assert np.isposinf(array).sum() == 48


@pytest.mark.parametrize("size", [0.0, -0.9, np.nan, np.inf])
def test_voxel_sizes_that_cannot_be_are_refused(tmp_path: Path, size: float) -> None:
    path = make(tmp_path / "a.nii", sform=(None, 0), qform=(TURNED, 0))
    with pytest.raises(FileError, match="voxel size of"):
        read_volume(patch(path, "pixdim", [1, 0.75, size, 3, 0, 0, 0, 0]))


def test_a_file_beyond_the_limit_is_told_before_it_is_read(tmp_path: Path) -> None:
    path = make(tmp_path / "a.nii")
    with pytest.raises(FileError, match="limit of 100 bytes"):
        read_volume(path, ReadOptions(max_bytes=100))
    assert read_volume(path, ReadOptions(max_bytes=120)).array.size == 60


def test_unknown_voxel_size_is_not_written(tmp_path: Path) -> None:
    unknown = Volume(np.zeros((4, 5), np.uint8), Grid((4, 5), (1.0, 1.0), spacing_known=False))
    with pytest.raises(LsnetError, match=r"Declare the voxel size, or save a picture as \.png"):
        write_volume(tmp_path / "a.nii", unknown)
    assert not list(tmp_path.iterdir())
