"""What `lsnet demo` opens: the result, and everything set to make it again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_lsnet.demo import show
from src_models.cli import main
from src_models.errors import FileError
from src_models.progress import finish
from src_models.sample_data import sample_file


@pytest.fixture
def viewer(make_napari_viewer):
    return make_napari_viewer()


def test_the_viewer_shows_the_result_and_is_set_to_make_it_again(viewer, tmp_path: Path):
    image = sample_file("liver_ct/liver_ct.nii.gz")
    out = tmp_path / "liver.nii.gz"
    settings = ["--speed", "region", "--lower", "25", "--upper", "80", "--curvature", "3", "--steps", "4"]
    assert main(["evolve", str(image), "--point", "303,144,258:12", "--out", str(out), *settings]) == 0
    panel = show(viewer, tmp_path)
    parameters = panel.form.value()
    assert (parameters.lower, parameters.curvature, parameters.steps) == (25, 3, 4)
    shown = viewer.layers["Liver (level set)"]
    assert shown.contour == 1
    assert int(viewer.dims.current_step[0]) == 10
    again = finish(panel.inputs.request(parameters).make())
    np.testing.assert_array_equal(again.mask, np.asarray(shown.data) == 1)


def test_a_folder_without_a_demo_is_refused_in_a_sentence(viewer, tmp_path: Path):
    with pytest.raises(FileError, match=r"liver\.lsnet\.json was not found"):
        show(viewer, tmp_path)
