"""Data sets of every layout, and the inputs that stop a run with one sentence."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest

from src_models.errors import FileError, GeometryError, InputError
from src_models.files import write_segmentation, write_volume
from src_models.geometry import Grid, Segmentation, StoredOrder, Volume, present_grid, presenting_order
from src_models.training.cases import case_from_arrays, data_set_from_arrays, open_data_set

SHAPE, SPACING = (4, 6, 9), (3.0, 0.9, 0.75)


def volume(seed: int = 0, shape=SHAPE, spacing=SPACING, offset=0.0) -> Volume:
    """A scan stored feet first, different along each axis."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.array([[0, 0, 1.0], [0, 1, 0], [1, 0, 0]]) * np.array(spacing)
    matrix[:3, 3] = -101.5 + offset, 47.25, -880.125
    grid = Grid(shape, spacing, matrix, orientation_known=True)
    order = presenting_order(matrix)
    stored = np.random.default_rng(seed).integers(-1000, 1000, shape).astype(np.int16)
    return Volume(order.present(stored), present_grid(grid, order), stored_order=order)


def labels_of(image: Volume, values=(1, 2)) -> Segmentation:
    labels = np.zeros(image.grid.shape, np.uint8)
    labels[1:3, 2:4, 3:6] = values[0]
    labels[1:3, 2:4, 6:8] = values[-1]
    return Segmentation(labels, image.grid, stored_order=image.stored_order)


def picture(path, array) -> None:
    write_volume(path, Volume(array, Grid(array.shape, (1.0, 1.0), spacing_known=False)))


@pytest.fixture
def pairs(tmp_path):
    """Three cases of two kinds of files in images/ and labels/."""
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    for k, suffix in enumerate((".nii.gz", ".nrrd", ".mha")):
        image = volume(k)
        write_volume(tmp_path / "images" / f"case{k}{suffix}", image)
        write_segmentation(tmp_path / "labels" / f"case{k}.nii.gz", labels_of(image))
    return tmp_path


def test_pairs_are_found_and_read_with_channels_in_front(pairs):
    data = open_data_set(pairs)
    assert [case.id for case in data.cases] == ["case0", "case1", "case2"]
    assert [(label.name, label.value, label.channel) for label in data.labels] == [
        ("background", 0, 0),
        ("label 1", 1, 1),
        ("label 2", 2, 2),
    ]
    for k, case in enumerate(data.cases):
        image, labels = case.read()
        np.testing.assert_array_equal(image.array[0], volume(k).array)
        np.testing.assert_array_equal(labels.labels, labels_of(volume(k)).labels)
        np.testing.assert_allclose(image.grid.spacing, SPACING, rtol=1e-6)


def test_a_case_can_be_sent_to_another_process(pairs):
    case = pickle.loads(pickle.dumps(open_data_set(pairs).cases[0]))
    np.testing.assert_array_equal(case.volume().array[0], volume(0).array)


def test_one_case_stored_in_two_orientations_is_one_array_and_one_label_in_the_patient(tmp_path):
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    image = volume()
    for name, order in (("a", image.stored_order), ("b", StoredOrder((2, 0, 1), (True, False, True)))):
        write_volume(tmp_path / "images" / f"{name}.nii.gz", Volume(image.array, image.grid, stored_order=order))
        found = labels_of(image)
        write_segmentation(
            tmp_path / "labels" / f"{name}.nii.gz", Segmentation(found.labels, image.grid, stored_order=order)
        )
    first, second = (case.read() for case in open_data_set(tmp_path).cases)
    np.testing.assert_array_equal(first[0].array, second[0].array)
    places = [grid_labels.grid.to_patient(np.argwhere(grid_labels.labels == 2)) for _, grid_labels in (first, second)]
    np.testing.assert_allclose(places[0], places[1], atol=1e-3)
    assert first[0].stored_order != second[0].stored_order


def test_float_labels_are_taken_where_they_are_whole_and_refused_where_they_are_not(pairs):
    image = volume(0)
    whole = labels_of(image).labels.astype(np.float32)
    write_volume(
        pairs / "labels" / "case0.nii.gz", Volume(whole, image.grid, stored_order=image.stored_order), overwrite=True
    )
    np.testing.assert_array_equal(open_data_set(pairs).case("case0").segmentation().labels, whole)
    write_volume(
        pairs / "labels" / "case0.nii.gz",
        Volume(whole * 0.5, image.grid, stored_order=image.stored_order),
        overwrite=True,
    )
    with pytest.raises(FileError, match=r"case0.*fractions"):
        open_data_set(pairs)


def test_labels_255_are_offered_a_map(tmp_path):
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    mask = np.zeros((8, 8), np.uint8)
    mask[2:5, 3:6] = 255
    picture(tmp_path / "images" / "a.png", np.arange(64, dtype=np.uint8).reshape(8, 8))
    picture(tmp_path / "labels" / "a.png", mask)
    with pytest.raises(InputError, match="--map 255:1"):
        open_data_set(tmp_path)
    data = open_data_set(tmp_path, label_map={255: 1})
    np.testing.assert_array_equal(data.cases[0].segmentation().labels, mask // 255)
    assert data.cases[0].volume().grid.spacing_known is False


def test_labels_that_look_black_are_read_and_colours_are_refused(tmp_path):
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    mask = np.zeros((8, 8), np.uint8)
    mask[2:5, 3:6] = 1
    picture(tmp_path / "images" / "a.png", np.arange(64, dtype=np.uint8).reshape(8, 8))
    picture(tmp_path / "labels" / "a.png", mask)
    assert [label.value for label in open_data_set(tmp_path).labels] == [0, 1]
    colours = Volume(np.stack([mask * 255] * 3), Grid((8, 8), (1.0, 1.0), spacing_known=False), leading_axis="c")
    write_volume(tmp_path / "labels" / "a.png", colours, overwrite=True)
    with pytest.raises(FileError, match=r"a.png.*colour"):
        open_data_set(tmp_path)


def test_a_map_may_swap_values(pairs):
    case = open_data_set(pairs, label_map={1: 2, 2: 1}).cases[0]
    before = labels_of(volume()).labels
    np.testing.assert_array_equal(case.segmentation().labels, np.array([0, 2, 1])[before])


def test_unlabelled_images_are_listed_and_left_out(pairs):
    write_volume(pairs / "images" / "alone.nii.gz", volume(5))
    write_segmentation(pairs / "labels" / "orphan.nii.gz", labels_of(volume(6)))
    (pairs / "images" / "._case0.nii.gz").write_bytes(b"not an image")
    data = open_data_set(pairs)
    assert [case.id for case in data.cases] == ["case0", "case1", "case2"]
    assert any("alone" in note for note in data.notes)
    assert any("orphan" in note for note in data.notes)
    assert not any("._" in note for note in data.notes)


def test_slice_names_without_patients_stop_the_run(tmp_path):
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    mask = np.zeros((8, 8), np.uint8)
    mask[2:4] = 1
    for name in ("p001_s081", "p001_s095", "p002_s010"):
        picture(tmp_path / "images" / f"{name}.png", np.arange(64, dtype=np.uint8).reshape(8, 8))
        picture(tmp_path / "labels" / f"{name}.png", mask)
    with pytest.raises(InputError, match="--groups"):
        open_data_set(tmp_path)
    data = open_data_set(tmp_path, groups="^p[0-9]+")
    assert data.groups == {"p001_s081": "p001", "p001_s095": "p001", "p002_s010": "p002"}
    (tmp_path / "groups.csv").write_text("case,group\np001_s081,x\np001_s095,x\np002_s010,y\n")
    assert open_data_set(tmp_path, groups=str(tmp_path / "groups.csv")).groups["p001_s095"] == "x"
    # written down for every case, one patient is no slip
    (tmp_path / "one.csv").write_text("case,group\np001_s081,x\np001_s095,x\np002_s010,x\n")
    assert set(open_data_set(tmp_path, groups=str(tmp_path / "one.csv")).groups.values()) == {"x"}
    for rule, said in (("^p", "into one"), ("^p002", "have no group"), ("p(", "no regular expression")):
        with pytest.raises(InputError, match=said):
            open_data_set(tmp_path, groups=rule)


@pytest.mark.parametrize("name", ["scan_12", "scan-0012", "scan_s12", "scan_slice012", "c02_s275_r2"])
def test_names_that_look_like_slices(name):
    from src_models.training.groups import check_slice_names

    other = name.replace("2", "3", 1) if not name.startswith("c02") else "c02_s279_r1"
    with pytest.raises(InputError, match="slices of one patient"):
        check_slice_names([name, other])
    check_slice_names([name, "other_7"])


def test_grids_that_differ_are_refused_and_brought_together_on_request(pairs):
    moved = volume(1, offset=2 * SPACING[2])
    write_segmentation(pairs / "labels" / "case1.nii.gz", labels_of(moved), overwrite=True)
    with pytest.raises(GeometryError, match=r"case1.*--fix-geometry"):
        open_data_set(pairs).case("case1").read()
    image, fixed = open_data_set(pairs, fix_geometry=True).case("case1").read()
    np.testing.assert_array_equal(fixed.labels[:, :, 2:], labels_of(moved).labels[:, :, :-2])
    assert fixed.labels.shape == image.grid.shape


def test_labels_of_another_shape_are_refused(pairs):
    write_segmentation(pairs / "labels" / "case1.nii.gz", labels_of(volume(1, shape=(4, 6, 10))), overwrite=True)
    with pytest.raises(GeometryError, match="4 x 6 x 10 voxels against 4 x 6 x 9"):
        open_data_set(pairs).case("case1").read()


def test_msd_with_stray_files(tmp_path):
    for name in ("imagesTr", "labelsTr"):
        (tmp_path / name).mkdir()
    training = []
    for k in range(2):
        image = volume(k)
        write_volume(tmp_path / "imagesTr" / f"organ_{k}.nii.gz", image)
        write_segmentation(tmp_path / "labelsTr" / f"organ_{k}.nii.gz", labels_of(image))
        (tmp_path / "imagesTr" / f"._organ_{k}.nii.gz").write_bytes(b"\0")
        training.append({"image": f"./imagesTr/organ_{k}.nii.gz", "label": f"./labelsTr/organ_{k}.nii.gz"})
    training.append({"image": "./imagesTr/._organ_0.nii.gz", "label": "./labelsTr/._organ_0.nii.gz"})
    training.append({"image": "./imagesTr/organ_9.nii.gz", "label": "./labelsTr/organ_9.nii.gz"})
    content = {
        "name": "Organ",
        "licence": "CC-BY-SA 4.0",
        "modality": {"0": "CT"},
        "labels": {"0": "background", "1": "front", "2": "back"},
        "training": training,
    }
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    data = open_data_set(tmp_path)
    assert [case.id for case in data.cases] == ["organ_0", "organ_1"]
    assert data.channels == ("CT",)
    assert [label.name for label in data.labels] == ["background", "front", "back"]
    assert data.about.licence == "CC-BY-SA 4.0"
    assert len(data.notes) == 1
    assert "organ_9" in data.notes[0]
    content["training"] = [{"image": "../elsewhere.nii.gz", "label": "labelsTr/organ_0.nii.gz"}]
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    with pytest.raises(FileError, match="outside its folder"):
        open_data_set(tmp_path)


def test_nnunet_raw_with_channels_regions_and_ignore(tmp_path):
    for name in ("imagesTr", "labelsTr"):
        (tmp_path / name).mkdir()
    for k in range(2):
        for c in range(2):
            write_volume(tmp_path / "imagesTr" / f"b{k}_{c:04d}.nii.gz", volume(10 * k + c))
        write_segmentation(tmp_path / "labelsTr" / f"b{k}.nii.gz", labels_of(volume()))
    write_volume(tmp_path / "imagesTr" / "b7_0000.nii.gz", volume(7))
    content = {
        "channel_names": {"0": "T1", "1": "CT"},
        "labels": {"background": 0, "whole": [1, 2], "core": [2], "ignore": 3},
        "regions_class_order": [1, 2],
        "file_ending": ".nii.gz",
        "numTraining": 2,
        "groups": {"b0": "anna", "b1": "bert"},
    }
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    data = open_data_set(tmp_path)
    assert data.head == "sigmoid"
    assert data.ignore_label == 3
    assert [(label.name, label.value, label.members) for label in data.labels] == [
        ("whole", 1, (1, 2)),
        ("core", 2, (2,)),
    ]
    assert data.declared_values == (0, 1, 2, 3)
    assert data.groups == {"b0": "anna", "b1": "bert"}
    assert data.grouped
    assert "b7" in data.notes[0]
    image = data.cases[1].volume().array
    np.testing.assert_array_equal(image, np.stack([volume(10).array, volume(11).array]))


def test_a_nifti_with_a_time_axis_of_one_frame_is_one_channel(pairs):
    nibabel = pytest.importorskip("nibabel")
    path = pairs / "images" / "case0.nii.gz"
    plain = nibabel.load(path)
    nibabel.save(nibabel.Nifti1Image(np.asarray(plain.dataobj)[..., None], plain.affine), path)
    np.testing.assert_array_equal(open_data_set(pairs).cases[0].volume().array[0], volume(0).array)


def test_arrays_make_a_data_set():
    rng = np.random.default_rng(1)
    labels = np.zeros((5, 6, 7), int)
    labels[1:3] = 1
    cases = [
        case_from_arrays(f"c{k}", rng.normal(size=(2, 5, 6, 7)), labels, (2.0, 1.0, 1.0), group=f"g{k // 2}")
        for k in range(4)
    ]
    data = data_set_from_arrays("arrays", cases)
    assert data.channels == ("channel 0", "channel 1")
    assert data.grouped
    assert data.cases[0].volume().grid.spacing == (2.0, 1.0, 1.0)
    with pytest.raises(InputError, match="differ in shape"):
        case_from_arrays("x", rng.normal(size=(5, 6, 8)), labels)
    with pytest.raises(InputError, match="not whole numbers"):
        case_from_arrays("x", rng.normal(size=(5, 6, 7)), labels + 0.5)


@pytest.mark.parametrize(
    "change",
    [
        {"labels": []},
        {"labels": {"background": 0, "x": "one"}},
        {"labels": {"background": 0, "x": [1, 2]}},
        {"labels": 3},
        {"channel_names": {"first": "CT"}},
        {"channel_names": None},
        {"dataset": {"a": {"image": "x"}}},
        {"dataset": {"a": 3}},
        {"dataset": {"a": {"images": ["../../x.nii.gz"], "label": "y.nii.gz"}}},
        {"training": [3]},
        {"training": [{"image": 3, "label": None}]},
        {"file_ending": 7},
    ],
)
def test_whatever_a_dataset_json_holds_is_told_in_one_sentence(tmp_path, change):
    for name in ("imagesTr", "labelsTr"):
        (tmp_path / name).mkdir()
    write_volume(tmp_path / "imagesTr" / "a_0000.nii.gz", volume())
    write_segmentation(tmp_path / "labelsTr" / "a.nii.gz", labels_of(volume()))
    content = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "x": 1, "y": 2}, "file_ending": ".nii.gz"}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    assert len(open_data_set(tmp_path).cases) == 1
    (tmp_path / "dataset.json").write_text(json.dumps(content | change))
    with pytest.raises(FileError) as told:
        open_data_set(tmp_path)
    assert "\n" not in str(told.value)


def test_a_dataset_json_that_is_none_is_told(tmp_path):
    for text in ("", "[]", "{", "{}", '"x"', "[" * 100_000):
        (tmp_path / "dataset.json").write_text(text)
        with pytest.raises(FileError, match=r"dataset\.json"):
            open_data_set(tmp_path)


def test_only_empty_labels_are_refused(pairs):
    for k in range(3):
        write_segmentation(pairs / "labels" / f"case{k}.nii.gz", labels_of(volume(), (0, 0)), overwrite=True)
    with pytest.raises(InputError, match="has a marked voxel"):
        open_data_set(pairs)


def test_an_unknown_layout_is_told(tmp_path):
    with pytest.raises(FileError, match="images/"):
        open_data_set(tmp_path)
