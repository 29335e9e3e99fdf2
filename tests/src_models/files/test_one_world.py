"""One volume in every format lies at one place, and other programs find it there too."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import nrrd
import numpy as np
import pytest
import SimpleITK

from src_models.files import describe, read_segmentation, read_volume, write_segmentation, write_volume
from src_models.geometry import Grid, Segmentation, StoredOrder, Volume, same_grid, store_grid

MEDICAL = (".nii", ".nii.gz", ".nrrd", ".mha")
FAR_CORNER_MM = {".nii": 1e-3, ".nii.gz": 1e-3, ".nrrd": 1e-6, ".mha": 1e-6}


def corners(grid: Grid) -> np.ndarray:
    return grid.to_patient(np.array(list(itertools.product(*[(0, n - 1) for n in grid.shape]))))


@pytest.mark.parametrize("suffix", MEDICAL)
def test_voxels_and_corners_return(ct: Volume, mask: Segmentation, tmp_path: Path, suffix: str) -> None:
    path, labels = tmp_path / f"ct{suffix}", tmp_path / f"mask{suffix}"
    write_volume(path, ct)
    write_segmentation(labels, mask)
    back, back_mask = read_volume(path), read_segmentation(labels)
    assert back.array.dtype == np.int16
    assert back_mask.labels.dtype == np.uint32
    np.testing.assert_array_equal(back.array, ct.array)
    np.testing.assert_array_equal(back_mask.labels, mask.labels)
    assert [segment.value for segment in back_mask.segments] == [1, 2, 70_000]
    for grid in (back.grid, back_mask.grid):
        assert np.abs(corners(grid) - corners(ct.grid)).max() < FAR_CORNER_MM[suffix]
    assert back.stored_order == ct.stored_order


@pytest.mark.parametrize("suffix", MEDICAL)
def test_simpleitk_finds_the_same_values_at_the_same_places(ct: Volume, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"ct{suffix}"
    write_volume(path, ct)
    peer = SimpleITK.ReadImage(str(path))
    for index in itertools.product(*[(0, n - 1, n // 2) for n in ct.grid.shape]):
        place = ct.grid.to_patient(np.array(index))
        there = peer.TransformPhysicalPointToContinuousIndex(place.tolist())
        np.testing.assert_allclose(there, np.rint(there), atol=1e-3)
        assert peer[tuple(int(i) for i in np.rint(there))] == ct.array[index]


@pytest.mark.parametrize("suffix", MEDICAL)
@pytest.mark.parametrize("pixel", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "float32", "float64"])
def test_files_of_simpleitk_are_read_at_their_place(ct: Volume, tmp_path: Path, suffix: str, pixel: str) -> None:
    stored = np.arange(4 * 6 * 9).reshape(4, 6, 9).astype(pixel)
    grid = store_grid(ct.grid, ct.stored_order)
    image = SimpleITK.GetImageFromArray(stored)
    steps = grid.index_to_patient[:3, :3] / np.array(grid.spacing)
    image.SetSpacing(grid.spacing[::-1])
    image.SetDirection(steps[:, ::-1].ravel().tolist())
    image.SetOrigin(grid.index_to_patient[:3, 3].tolist())
    path = tmp_path / f"peer{suffix}"
    SimpleITK.WriteImage(image, str(path), useCompression=suffix != ".nii")
    volume = read_volume(path)
    assert same_grid(volume.grid, ct.grid)
    np.testing.assert_array_equal(volume.stored_order.store(volume.array), stored)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nibabel_agrees_through_the_affine(ct: Volume, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"ct{suffix}"
    write_volume(path, ct)
    peer = nibabel.load(path)
    values = np.asanyarray(peer.dataobj)
    for index in itertools.product(*[(0, n - 1) for n in ct.grid.shape]):
        ras = ct.grid.to_patient(np.array(index)) * (-1, -1, 1)
        i, j, k = np.rint(np.linalg.solve(peer.affine, [*ras, 1])[:3]).astype(int)
        assert values[i, j, k] == ct.array[index]
    np.testing.assert_allclose(peer.header.get_qform(), peer.header.get_sform(), atol=1e-4)


@pytest.mark.parametrize(
    ("space", "signs"), [("RAS", (-1, -1, 1)), ("left-anterior-superior", (1, -1, 1)), ("lps", (1, 1, 1))]
)
@pytest.mark.parametrize("encoding", ["raw", "gzip", "bzip2"])
def test_nrrd_of_pynrrd_in_every_space_lies_in_one_world(
    ct: Volume, tmp_path: Path, space: str, signs: tuple[int, int, int], encoding: str
) -> None:
    grid = store_grid(ct.grid, ct.stored_order)
    stored = np.ascontiguousarray(ct.stored_order.store(ct.array))
    header = {
        "space": space,
        "space directions": (grid.index_to_patient[:3, [2, 1, 0]].T * signs),
        "space origin": grid.index_to_patient[:3, 3] * signs,
        "kinds": ["domain"] * 3,
        "encoding": encoding,
    }
    nrrd.write(str(tmp_path / "peer.nrrd"), stored, header, index_order="C")
    volume = read_volume(tmp_path / "peer.nrrd")
    np.testing.assert_array_equal(volume.array, ct.array)
    assert np.abs(corners(volume.grid) - corners(ct.grid)).max() < 1e-6


def test_pynrrd_reads_ours(ct: Volume, tmp_path: Path) -> None:
    write_volume(tmp_path / "ours.nrrd", ct)
    array, header = nrrd.read(str(tmp_path / "ours.nrrd"), index_order="C")
    np.testing.assert_array_equal(array, ct.stored_order.store(ct.array))
    np.testing.assert_allclose(header["space origin"], store_grid(ct.grid, ct.stored_order).index_to_patient[:3, 3])


@pytest.mark.parametrize("suffix", [".nrrd", ".nii.gz", ".mha"])
def test_every_stored_order_is_kept_in_the_file(tmp_path: Path, suffix: str) -> None:
    """All 48 orders: the file is read in presented order, and a mask goes back in the order of the file."""
    shape, spacing = (2, 3, 4), (3.0, 0.9, 0.75)
    matrix = np.eye(4)
    matrix[:3, :3] = np.array([[0, 0, 1.0], [0, 1, 0], [-1, 0, 0]]) * spacing
    presented = Grid(shape, spacing, matrix, orientation_known=True)
    values = np.arange(24, dtype=np.uint8).reshape(shape)
    for axes in itertools.permutations(range(3)):
        for flips in itertools.product((False, True), repeat=3):
            order = StoredOrder(axes, flips)
            write_volume(tmp_path / f"v{suffix}", Volume(values, presented, stored_order=order), overwrite=True)
            back = read_volume(tmp_path / f"v{suffix}")
            assert back.stored_order == order
            np.testing.assert_array_equal(back.array, values)
            labels = Segmentation(back.array > 11, back.grid, stored_order=back.stored_order, header=back.header)
            write_segmentation(tmp_path / f"m{suffix}", labels, overwrite=True)
            assert describe(tmp_path / f"m{suffix}").orientation == describe(tmp_path / f"v{suffix}").orientation
            np.testing.assert_array_equal(read_segmentation(tmp_path / f"m{suffix}").labels, values > 11)


@pytest.mark.parametrize("suffix", MEDICAL)
def test_a_crop_lies_inside_its_source(ct: Volume, tmp_path: Path, suffix: str) -> None:
    write_volume(tmp_path / f"ct{suffix}", ct)
    source = read_volume(tmp_path / f"ct{suffix}")
    box = (slice(1, 3), slice(2, 6), slice(3, 8))
    part = replace(source, array=source.array[box], grid=source.grid.crop(box))
    write_volume(tmp_path / f"part{suffix}", part)
    back = read_volume(tmp_path / f"part{suffix}")
    np.testing.assert_array_equal(back.array, ct.array[box])
    np.testing.assert_allclose(back.grid.to_patient(np.zeros(3)), ct.grid.to_patient(np.array([1, 2, 3])), atol=1e-3)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd"])
def test_a_shear_is_kept(sheared: Volume, tmp_path: Path, suffix: str) -> None:
    write_volume(tmp_path / f"tilted{suffix}", sheared)
    back = read_volume(tmp_path / f"tilted{suffix}")
    assert back.grid.sheared
    assert same_grid(back.grid, sheared.grid)
    assert "sheared" in describe(tmp_path / f"tilted{suffix}").passport
    if suffix == ".nii.gz":
        header = nibabel.load(tmp_path / "tilted.nii.gz").header
        assert (int(header["sform_code"]), int(header["qform_code"])) == (1, 0), "a quaternion cannot say it"


@pytest.mark.parametrize("suffix", MEDICAL)
@pytest.mark.parametrize("count", [3, 4])
def test_time_points_stay_time_points(ct: Volume, tmp_path: Path, suffix: str, count: int) -> None:
    """Three or four time points: the lengths that are mistaken for colours."""
    series = np.stack([ct.array + n for n in range(count)])
    write_volume(tmp_path / f"t{suffix}", replace(ct, array=series, leading_axis="t", time_step=2.5))
    back = read_volume(tmp_path / f"t{suffix}")
    assert back.leading_axis == "t"
    np.testing.assert_array_equal(back.array, series)
    assert same_grid(back.grid, ct.grid)
    if suffix.startswith(".nii"):
        assert back.time_step == 2.5
    peer = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(tmp_path / f"t{suffix}")))
    if suffix == ".nrrd":  # that reader turns every axis outside space into components, side by side
        peer = np.moveaxis(peer, -1, 0)
    np.testing.assert_array_equal(peer, ct.stored_order.store(series))


@pytest.mark.parametrize("suffix", MEDICAL)
def test_colours_stay_colours(ct: Volume, tmp_path: Path, suffix: str) -> None:
    colours = np.random.default_rng(1).integers(0, 255, (3, *ct.grid.shape), dtype=np.uint8)
    write_volume(tmp_path / f"c{suffix}", replace(ct, array=colours, leading_axis="c"))
    back = read_volume(tmp_path / f"c{suffix}")
    assert back.leading_axis == "c"
    np.testing.assert_array_equal(back.array, colours)
    peer = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(tmp_path / f"c{suffix}")))
    np.testing.assert_array_equal(np.moveaxis(peer, -1, 0), ct.stored_order.store(colours))


@pytest.mark.parametrize("suffix", [*MEDICAL, ".png", ".tif"])
@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float32])
def test_masks_of_every_type_come_back_as_numbers(tmp_path: Path, suffix: str, dtype: Any) -> None:
    labels = np.zeros((5, 7), dtype)
    labels[1:3, 2:6] = 1
    write_segmentation(tmp_path / f"m{suffix}", Segmentation(labels, Grid((5, 7), (0.5, 0.25))))
    back = read_segmentation(tmp_path / f"m{suffix}")
    assert back.labels.dtype == np.uint8
    np.testing.assert_array_equal(back.labels, labels)


@pytest.mark.parametrize("suffix", MEDICAL)
@pytest.mark.parametrize("shape", [(1, 6, 9), (4, 1, 9), (1, 1, 1)])
def test_thin_and_empty_masks(ct: Volume, tmp_path: Path, suffix: str, shape: tuple[int, int, int]) -> None:
    grid = Grid(shape, ct.grid.spacing, ct.grid.index_to_patient, orientation_known=True)
    write_segmentation(tmp_path / f"m{suffix}", Segmentation(np.zeros(shape, bool), grid))
    back = read_segmentation(tmp_path / f"m{suffix}")
    assert back.labels.shape == shape
    assert not back.labels.any()
    assert back.segments == ()
    assert np.abs(corners(back.grid) - corners(grid)).max() < 1e-3


@pytest.mark.parametrize("suffix", MEDICAL)
def test_read_change_and_save_keeps_the_place_to_the_last_bit(ct: Volume, tmp_path: Path, suffix: str) -> None:
    """Ten times through the file: no drift of the position."""
    path = tmp_path / f"ct{suffix}"
    write_volume(path, ct)
    first = read_volume(path)
    for _ in range(10):
        volume = read_volume(path)
        write_volume(path, volume, overwrite=True)
    assert np.array_equal(read_volume(path).grid.index_to_patient, first.grid.index_to_patient)
