"""Preparation, and the way back of logits, against nnunetv2 2.8.1 on small scans (`make_prepared.py`)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from src_models.preprocessing.parameters import Channel, ChannelStatistics, Preprocessing
from src_models.preprocessing.prepare import logits_back, prepare, prepare_labels
from src_models.preprocessing.resampling import resample
from tests.scans import PREPARED, Scan, scan

STATISTICS = ChannelStatistics(
    mean=40, median=40, std=25, minimum=-50, maximum=200, percentile_00_5=-20, percentile_99_5=110
)


@pytest.fixture(scope="module")
def theirs():
    with np.load(Path(__file__).parents[1] / "data" / "prepared.npz") as stored:
        return dict(stored)


def preprocessing_of(one: Scan) -> Preprocessing:
    return Preprocessing(
        channels=tuple(Channel(name=kind, normalisation=kind, statistics=STATISTICS) for kind in one.kinds),
        spacing=one.target,
        axis_order=one.axis_order,
        use_mask_for_norm=one.masked,
        keep_slice_distance=len(one.target) == 2,
    )


def tied(labels, ready, result):
    """Voxels of which two labels have the same, largest share."""
    way = ready.way
    signed = labels.transpose(way.axis_order)[way.box].astype(np.int8)
    signed[~ready.mask & (signed == 0)] = -1
    shares = [
        resample((signed == value) * 1.0, way.resampled, order=1, axis=way.axis_there) for value in np.unique(signed)
    ]
    ordered = np.sort(shares, axis=0)
    return ordered[-1] - ordered[-2] < 1e-12


@pytest.mark.parametrize("name", PREPARED)
def test_images_labels_and_logits_are_those_of_nnunetv2(theirs, name):
    one = PREPARED[name]
    image, labels = scan(one)
    ready = prepare(image, one.spacing, preprocessing_of(one))
    np.testing.assert_allclose(ready.array, theirs[f"{name}.image"], atol=5e-6)
    ours = prepare_labels(labels, ready, preprocessing_of(one))
    assert ours.shape == theirs[f"{name}.labels"].shape
    # Where labels have equal shares, the last bit of a sum may decide in nnU-Net.
    differing = ours != theirs[f"{name}.labels"]
    assert tied(labels, ready, ours)[differing].all()
    assert differing.mean() < 0.005
    np.testing.assert_allclose(logits_back(ready.array[:1], ready.way), theirs[f"{name}.back"], atol=1e-5)
