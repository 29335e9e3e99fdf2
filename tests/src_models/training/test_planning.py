"""Plans against those that nnunetv2 2.8.1 makes of the same fingerprints (`tests/peers/make_plans.py`)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from src_models.errors import InputError
from src_models.preprocessing.parameters import ChannelStatistics
from src_models.preprocessing.prepare import prepare
from src_models.training.fingerprint import Fingerprint
from src_models.training.planning import axis_order, configure, start_patch, target_spacing
from src_models.training.targets import TARGETS
from src_models.weights.card import Label

FIXTURES = sorted((Path(__file__).parents[2] / "data" / "plans").glob("*.json"))
KINDS = {
    "zscore": "ZScoreNormalization",
    "ct": "CTNormalization",
    "nonorm": "NoNormalization",
}


def known(path: Path) -> tuple[dict, Fingerprint, list[str], list[Label], str, int | None]:
    """A fixture, and the same data set in our words; a picture has no slice axis there."""
    content = json.loads(path.read_text())
    given = content["fingerprint"]
    repeat = given.get("count", 1)
    shapes, spacings = given["shapes"] * repeat, given["spacings"] * repeat
    flat = shapes[0][0] == 1
    names = list(given["channels"].values())
    found = fingerprint(
        [tuple(shape[flat:]) for shape in shapes],
        [tuple(spacing[flat:]) for spacing in spacings],
        channels=len(names),
        crop_ratio=given["crop"],
    )
    entries = {name: value for name, value in given["labels"].items() if name not in ("background", "ignore")}
    regions = any(isinstance(value, list) for value in entries.values())
    labels = [] if regions else [Label(name="background", value=0, channel=0)]
    for name, value in entries.items():
        members = tuple(value) if isinstance(value, list) else ()
        labels.append(Label(name=name, value=members[0] if members else value, channel=len(labels), members=members))
    return content["plans"], found, names, labels, "sigmoid" if regions else "softmax", given["labels"].get("ignore")


def fingerprint(shapes, spacings, channels=1, crop_ratio=1.0, unit="mm") -> Fingerprint:
    numbers = ChannelStatistics(mean=0, median=0, std=1, minimum=-1, maximum=1, percentile_00_5=-1, percentile_99_5=1)
    return Fingerprint(
        cases=tuple(f"c{k}" for k in range(len(shapes))),
        shapes=tuple(shapes),
        spacings=tuple(spacings),
        crop_ratio=crop_ratio,
        channels=(numbers,) * channels,
        unit=unit,
    )


def test_there_are_fixtures():
    assert len(FIXTURES) >= 17


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_plans_are_those_of_nnunetv2(path):
    plans, found, channels, labels, head, ignore = known(path)
    for wanted, theirs in plans.items():
        target, _, gb = wanted.partition("@")
        ours = {
            one.name: one for one in configure(found, channels, labels, head, ignore, target, float(gb) if gb else None)
        }
        assert set(ours) == set(theirs["configurations"]), wanted
        for name, one in theirs["configurations"].items():
            if name == "3d_cascade_fullres":
                assert ours[name].previous == "3d_lowres"
                one = theirs["configurations"]["3d_fullres"]
            assert_equal(ours[name], one, theirs["transpose_forward"])


def assert_equal(ours, theirs, order):
    options = ours.network["options"]
    assert list(ours.patch) == theirs["patch_size"]
    assert ours.batch == theirs["batch_size"]
    assert ours.batch_dice == theirs["batch_dice"]
    assert list(ours.median_shape) == [max(1, round(n)) for n in theirs["median_image_size_in_voxels"]]
    for key in ("n_stages", "features_per_stage", "kernel_sizes", "strides", "n_conv_per_stage_decoder"):
        assert options[key] == theirs[key], key
    for key in ("n_conv_per_stage", "n_blocks_per_stage"):
        assert options.get(key) == theirs.get(key)
    preprocessing = ours.preprocessing
    turned = preprocessing.spacing
    if len(turned) == 3:
        assert list(preprocessing.axis_order) == order
        turned = [turned[axis] for axis in order]
    np.testing.assert_allclose(turned, theirs["spacing"], rtol=1e-12)
    assert [KINDS[channel.normalisation] for channel in preprocessing.channels] == theirs["normalization_schemes"]
    assert preprocessing.use_mask_for_norm == any(theirs["use_mask_for_norm"])


def test_the_hippocampus_of_the_decathlon_is_as_published():
    (full, flat) = configure(
        fingerprint([(35, 50, 35)] * 260, [(1.0, 1.0, 1.0)] * 260),
        ["MRI"],
        [Label(name=str(k), value=k, channel=k) for k in range(3)],
    )
    assert full.patch == (40, 56, 40)
    assert full.batch == 9
    assert full.network["options"]["features_per_stage"] == [32, 64, 128, 256]
    assert (flat.name, full.batch_dice, flat.batch_dice) == ("2d", False, True)


def test_the_planned_network_has_the_parameters_of_nnunets():
    from src_models.networks.network import count_parameters
    from src_models.networks.zoo import from_config

    pytest.importorskip("src_models.networks.nnunet")
    (full, _) = configure(
        fingerprint([(35, 50, 35)] * 200, [(1.0, 1.0, 1.0)] * 200),
        ["MRI"],
        [Label(name=str(k), value=k, channel=k) for k in range(3)],
    )
    assert full.batch == 7
    assert count_parameters(from_config(full.network)) == 5_603_177


@pytest.mark.parametrize(("thick", "axis_is_coarse"), [(3.0, False), (3.0000001, True)])
def test_three_times_exactly_is_not_anisotropic(thick, axis_is_coarse):
    spacings = np.array([[thick, 1.0, 1.0]] * 9 + [[1.5, 1.0, 1.0]] * 2)
    shapes = np.array([[20.0, 200.0, 200.0]] * 11)
    target = target_spacing(spacings, shapes)
    assert target[0] == (1.5 if axis_is_coarse else thick)


def test_a_coarse_axis_does_not_become_finer_than_the_others():
    spacings = np.array([[5.0, 1.0, 1.0]] * 8 + [[0.5, 1.0, 1.0]] * 2)
    np.testing.assert_allclose(target_spacing(spacings, np.array([[20.0, 200.0, 200.0]] * 10)), [1 + 1e-5, 1, 1])


def test_few_thick_slices_are_needed_for_it():
    spacings = np.array([[5.0, 1.0, 1.0]] * 8 + [[2.0, 1.0, 1.0]] * 2)
    assert target_spacing(spacings, np.array([[20.0, 60.0, 200.0]] * 10))[0] == 5.0
    assert target_spacing(spacings, np.array([[20.0, 61.0, 200.0]] * 10))[0] == 2.0


def test_the_coarsest_axis_comes_first():
    assert axis_order((1.0, 2.0, 3.0)) == [2, 0, 1]
    assert axis_order((2.0, 2.0, 1.0)) == [0, 1, 2]


def test_the_start_is_a_cube_in_mm_within_the_median_image():
    assert start_patch((1.0, 1.0, 1.0), (600, 600, 600)) == [256, 256, 256]
    assert start_patch((8.0, 1.0, 1.0), (600, 600, 600)) == [64, 512, 512]
    assert start_patch((1.0, 1.0), (300.5, 5000)) == [300.5, 2048]


def test_transposed_images_give_transposed_plans():
    labels = [Label(name=str(k), value=k, channel=k) for k in range(2)]
    first, second = (
        configure(fingerprint([shape] * 20, [spacing] * 20), ["MRI"], labels)[0]
        for shape, spacing in (((30, 200, 180), (4.0, 0.9, 0.8)), ((200, 180, 30), (0.9, 0.8, 4.0)))
    )
    assert first.patch == second.patch
    assert first.network == second.network
    assert second.preprocessing.axis_order == (2, 0, 1)
    assert second.preprocessing.spacing == (0.9, 0.8, 4.0)


def test_pictures_without_a_size_are_not_resampled():
    (flat,) = configure(
        fingerprint([(256, 256)] * 456, [(1.0, 1.0)] * 456, unit="px"),
        ["CT"],
        [Label(name=str(k), value=k, channel=k) for k in range(2)],
    )
    assert (flat.name, flat.patch, flat.batch, flat.network["options"]["n_stages"]) == ("2d", (256, 256), 23, 7)
    assert flat.preprocessing.spacing is None
    assert flat.preprocessing.unit == "px"


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_volumes_of_one_slice_are_planned_as_pictures(axis):
    shape, spacing = [192, 160], [0.8, 0.9]
    shape.insert(axis, 1)
    spacing.insert(axis, 0.5)
    labels = [Label(name=str(k), value=k, channel=k) for k in range(2)]
    (flat,) = configure(fingerprint([tuple(shape)] * 20, [tuple(spacing)] * 20), ["MRI"], labels)
    assert (flat.name, flat.patch) == ("2d", (192, 160))
    assert flat.preprocessing.axis_order[0] == axis
    ready = prepare(np.ones((1, *shape)), spacing, flat.preprocessing)
    assert ready.array.shape == (1, 1, 192, 160)


def test_the_network_after_a_low_resolution_sees_its_labels():
    labels = [Label(name=str(k), value=k, channel=k) for k in range(4)]
    made = configure(fingerprint([(482, 512, 512)] * 131, [(1.0, 0.77, 0.77)] * 131), ["CT"], labels)
    inputs = {one.name: one.network["in_channels"] for one in made}
    assert inputs == {"3d_fullres": 1, "3d_lowres": 1, "3d_cascade_fullres": 4, "2d": 1}


def test_more_memory_gives_more():
    labels = [Label(name=str(k), value=k, channel=k) for k in range(2)]
    found = fingerprint([(300, 300, 300)] * 50, [(1.0, 1.0, 1.0)] * 50)
    sizes = [np.prod(configure(found, ["MRI"], labels, gpu_gb=gb)[0].patch) for gb in (2, 8, 24, 80)]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1]
    with pytest.raises(InputError, match="No network fits"):
        configure(found, ["MRI"], labels, gpu_gb=1e-8)
    with pytest.raises(InputError, match=r"Choose one of nnunet"):
        configure(found, ["MRI"], labels, target="huge")
    assert set(TARGETS) == {"nnunet", "residual", "residual-m", "residual-l", "residual-xl"}
