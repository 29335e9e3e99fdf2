"""Files through napari: what is dropped lies in mm at its place, what is saved lies where its source did."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import napari
import nibabel
import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Labels, Layer

from napari_lsnet import readers, samples, settings, writers
from src_models.errors import FileError, GeometryError, SaveError
from src_models.files import describe, read_segmentation, read_volume, write_segmentation, write_volume
from src_models.geometry import Grid, Segmentation, Volume, same_grid

SHAPE = (4, 6, 5)


def oblique_affine(shift: float = 0.0) -> np.ndarray:
    """RAS affine with three different voxel sizes, turned by 12 degrees, stored from left to right."""
    c, s = np.cos(np.radians(12)), np.sin(np.radians(12))
    affine = np.eye(4)
    affine[:3, :3] = np.array([[-c, s, 0], [s, c, 0], [0, 0, 1]]) * (0.75, 0.9, 3.0)
    affine[:3, 3] = 11.0 + shift, -42.0, 130.5
    return affine


def save_nifti(path: Path, shift: float = 0.0) -> np.ndarray:
    array = np.arange(5 * 6 * 4, dtype=np.int16).reshape(5, 6, 4)
    image = nibabel.Nifti1Image(array, oblique_affine(shift))
    image.header["sform_code"], image.header["qform_code"] = 2, 1
    image.header.set_xyzt_units("mm", "sec")
    nibabel.save(image, path)
    return array


def to_layer(data: tuple[Any, dict[str, Any], str]) -> Layer:
    return Layer.create(*data)


def save(writer: Callable[..., list[str]], path: Path, layer: Layer) -> None:
    data, attributes, _ = layer.as_layer_data_tuple()
    assert writer(str(path), data, attributes) == [str(path)]


@pytest.mark.parametrize("name", ["a.nii", "a.NII.GZ", "a.b.nrrd", "a.nhdr", "a.mha", "a.Mhd"])
def test_medical_images_are_ours(name: str) -> None:
    assert readers.get_reader(name) is not None
    assert readers.get_reader([name, name]) is not None


@pytest.mark.parametrize("name", ["a.tif", "a.png", "folder", "nii", ["a.nii", "b.png"], []])
def test_everything_else_is_left_to_others(name: Any) -> None:
    assert readers.get_reader(name) is None


def test_a_broken_file_is_told_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "broken.nii"
    path.write_bytes(b"nothing")
    reader = readers.get_reader(str(path))
    assert reader is not None
    with pytest.raises(FileError, match=r"broken\.nii is no NIfTI file"):
        reader(str(path))


def test_the_file_size_limit_of_the_settings_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_nifti(tmp_path / "scan.nii.gz")
    monkeypatch.setattr(settings, "current", lambda: settings.Settings(file_size_limit_gb=1e-7))
    with pytest.raises(FileError, match="more than the limit of 107 bytes"):
        readers.read_layers(str(tmp_path / "scan.nii.gz"))


def test_an_image_opens_in_mm_with_its_place(tmp_path: Path) -> None:
    save_nifti(tmp_path / "scan.v1.nii.gz")
    (data,) = readers.read_layers(str(tmp_path / "scan.v1.nii.gz"))
    layer = to_layer(data)
    assert isinstance(layer, Image)
    assert layer.name == "scan.v1"
    assert not layer.rgb
    assert [str(unit) for unit in layer.units] == ["millimeter"] * 3
    np.testing.assert_allclose(layer.scale, (3.0, 0.9, 0.75), rtol=1e-6)
    np.testing.assert_allclose(layer.rotate, np.eye(3))
    assert layer.metadata["lsnet"]["passport"] == "Axial image, 0.75 x 0.9 x 3.0 mm, tilted 12 degrees"


def test_a_mask_that_says_so_opens_as_labels_and_overlays(tmp_path: Path) -> None:
    save_nifti(tmp_path / "scan.nii.gz")
    volume = read_volume(tmp_path / "scan.nii.gz")
    mask = Segmentation(volume.array > 60, volume.grid, stored_order=volume.stored_order, header=volume.header)
    for name in ("mask.nii.gz", "mask.nrrd"):
        write_segmentation(tmp_path / name, mask)
        image, labels = (
            to_layer(d) for d in readers.read_layers([str(tmp_path / "scan.nii.gz"), str(tmp_path / name)])
        )
        assert isinstance(labels, Labels)
        np.testing.assert_allclose(labels.extent.world, image.extent.world, atol=1e-3)
        np.testing.assert_array_equal(labels.data > 0, image.data > 60)


def test_time_points_are_not_taken_for_colours(tmp_path: Path) -> None:
    """Three time points of a volume: the length that is so easily mistaken for red, green and blue."""
    image = nibabel.Nifti1Image(np.zeros((5, 6, 4, 3), np.uint8), oblique_affine())
    image.header.set_xyzt_units("mm", "sec")
    image.header["pixdim"][4] = 2.5
    nibabel.save(image, tmp_path / "time.nii")
    layer = to_layer(readers.read_layers(str(tmp_path / "time.nii"))[0])
    assert layer.data.shape == (3, *SHAPE)
    assert not layer.rgb
    assert layer.scale[0] == 2.5
    assert str(layer.units[0]) == "second"


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_saved_layers_lie_where_their_source_lies(tmp_path: Path, suffix: str) -> None:
    save_nifti(tmp_path / "scan.nii.gz")
    source = read_volume(tmp_path / "scan.nii.gz")
    (data,) = readers.read_layers(str(tmp_path / "scan.nii.gz"))
    layer = to_layer(data)
    save(writers.write_image, tmp_path / f"image{suffix}", layer)
    back = read_volume(tmp_path / f"image{suffix}")
    np.testing.assert_array_equal(back.array, source.array)
    assert same_grid(back.grid, source.grid)
    assert back.stored_order == source.stored_order, "the axis order of the file"
    labels = Labels(
        (layer.data > 30).astype(np.int64), **{k: data[1][k] for k in ("scale", "translate", "units", "metadata")}
    )
    save(writers.write_labels, tmp_path / f"labels{suffix}", labels)
    mask = read_segmentation(tmp_path / f"labels{suffix}")
    np.testing.assert_array_equal(mask.labels, source.array > 30)
    assert same_grid(mask.grid, source.grid)


def test_a_mask_saved_as_nifti_keeps_both_forms_of_the_source(tmp_path: Path) -> None:
    save_nifti(tmp_path / "scan.nii.gz")
    (data,) = readers.read_layers(str(tmp_path / "scan.nii.gz"))
    arguments = {k: data[1][k] for k in ("scale", "translate", "units", "metadata")}
    save(writers.write_labels, tmp_path / "mask.nii.gz", Labels(np.ones(SHAPE, np.uint8), **arguments))
    source, mask = nibabel.load(tmp_path / "scan.nii.gz").header, nibabel.load(tmp_path / "mask.nii.gz").header
    for key in (
        "sform_code",
        "qform_code",
        "srow_x",
        "srow_y",
        "srow_z",
        "quatern_b",
        "quatern_c",
        "quatern_d",
        "qoffset_x",
    ):
        np.testing.assert_array_equal(mask[key], source[key])
    np.testing.assert_array_equal(mask["pixdim"][:4], source["pixdim"][:4])


@pytest.fixture
def viewer(monkeypatch: pytest.MonkeyPatch) -> ViewerModel:
    """The layers of a viewer without its window."""
    model = ViewerModel()
    monkeypatch.setattr(napari, "current_viewer", lambda: model)
    return model


def new_labels(layer: Layer) -> Labels:
    """What napari's button New labels makes: the transform of the image, none of its metadata."""
    return Labels(np.ones(layer.data.shape, np.uint8), scale=layer.scale, translate=layer.translate, units=layer.units)


def test_new_labels_are_saved_at_the_place_of_their_image(tmp_path: Path, viewer: ViewerModel) -> None:
    save_nifti(tmp_path / "scan.nii.gz")
    image = to_layer(readers.read_layers(str(tmp_path / "scan.nii.gz"))[0])
    viewer.add_layer(image)
    save(writers.write_labels, tmp_path / "mask.nii.gz", new_labels(image))
    source, mask = nibabel.load(tmp_path / "scan.nii.gz"), nibabel.load(tmp_path / "mask.nii.gz")
    np.testing.assert_array_equal(mask.affine, source.affine)
    moved = new_labels(image)
    moved.translate = np.array(moved.translate) + 3
    save(writers.write_labels, tmp_path / "moved.nii.gz", moved)
    assert describe(tmp_path / "moved.nii.gz").orientation == "", "a layer elsewhere has no place in the patient"


def test_two_images_that_could_be_meant_are_asked_about(tmp_path: Path, viewer: ViewerModel) -> None:
    """Two images on the same voxels in the viewer, of which one was placed in the patient by another file."""
    save_nifti(tmp_path / "one.nii.gz")
    save_nifti(tmp_path / "two.nii.gz", shift=40.0)
    layers = [to_layer(readers.read_layers(str(tmp_path / name))[0]) for name in ("one.nii.gz", "two.nii.gz")]
    first, second = layers
    geometry = second.metadata["lsnet"]["geometry"]
    geometry["placed"] = first.metadata["lsnet"]["geometry"]["placed"]
    second.translate = first.translate
    for layer in layers:
        viewer.add_layer(layer)
    with pytest.raises(GeometryError, match="lie differently in the patient"):
        save(writers.write_labels, tmp_path / "mask.nii.gz", new_labels(first))
    assert not (tmp_path / "mask.nii.gz").exists()


def test_a_layer_moved_by_hand_is_refused(tmp_path: Path) -> None:
    save_nifti(tmp_path / "scan.nii.gz")
    layer = to_layer(readers.read_layers(str(tmp_path / "scan.nii.gz"))[0])
    layer.translate = np.array(layer.translate) + np.array([1, 0, 0])
    with pytest.raises(GeometryError, match="moved"):
        save(writers.write_image, tmp_path / "moved.nii.gz", layer)
    assert not (tmp_path / "moved.nii.gz").exists()


def test_layers_without_a_voxel_size_are_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(GeometryError, match="Declare the voxel size"):
        save(writers.write_labels, tmp_path / "mask.nrrd", Labels(np.ones(SHAPE, np.uint8)))


def test_colour_layers_are_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(SaveError, match="Choose one channel"):
        save(writers.write_image, tmp_path / "colour.nrrd", Image(np.zeros((6, 5, 3), np.uint8), rgb=True))


def test_the_finest_level_is_saved(tmp_path: Path) -> None:
    levels = [np.arange(64, dtype=np.uint8).reshape(4, 4, 4), np.zeros((2, 2, 2), np.uint8)]
    layer = Image(levels, multiscale=True, units=["mm"] * 3)
    save(writers.write_image, tmp_path / "levels.nrrd", layer)
    np.testing.assert_array_equal(read_volume(tmp_path / "levels.nrrd").array, levels[0])


def test_samples_open_with_labels_that_overlay() -> None:
    for sample in (samples.liver_ct, samples.liver_slices, samples.hippocampus_mr):
        image, labels = (to_layer(data) for data in sample())
        assert isinstance(image, Image)
        assert isinstance(labels, Labels)
        assert image.data.shape == labels.data.shape
        np.testing.assert_allclose(image.extent.world, labels.extent.world)
        assert labels.data.any()


def test_the_liver_of_the_ct_lies_on_the_right_of_the_patient_and_is_as_large_as_stated() -> None:
    image, labels = (to_layer(data) for data in samples.liver_ct())
    liver = labels.data > 0
    assert liver.sum() * np.prod(labels.scale) / 1000 == pytest.approx(1123, abs=1)
    # The last axis grows towards the patient's left.
    assert np.argwhere(liver)[:, 2].mean() < image.data.shape[2] / 2
    assert np.median(np.asarray(image.data)[liver]) == pytest.approx(45, abs=5), "HU of a liver"
    assert [str(unit) for unit in image.units] == ["millimeter"] * 3


def test_each_sample_folder_states_source_licence_and_changes() -> None:
    folders = [path for path in samples.sample_folder().iterdir() if path.is_dir()]
    assert len(folders) == 3
    for folder in folders:
        text = (folder / "README.md").read_text(encoding="utf-8")
        for word in ("Source:", "Licence", "cite", "Changes:"):
            assert word in text, f"{folder.name}: {word}"


def test_writing_a_plain_volume_needs_no_viewer(tmp_path: Path) -> None:
    write_volume(tmp_path / "a.nrrd", Volume(np.zeros(SHAPE, np.float32), Grid(SHAPE, (3.0, 1.0, 1.0))))
    assert describe(tmp_path / "a.nrrd").passport == "Image, 1.0 x 1.0 x 3.0 mm, patient position unknown"
