"""One scan stored in several ways round, for models that see images as they lie in their files.

Also imported by the script that lets nnunetv2 predict these files (`tests/data/nnunet/make_turned.py`), in a Python
that has nothing of ours: numpy and nibabel are all that is needed.
"""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

SCAN = Path(__file__).parents[1] / "sample_data" / "hippocampus_mr" / "hippocampus_006.nii.gz"
ORIENTATIONS = ("RAS", "LPS", "PSR", "IAL")
"""As it is, both sides of a plane exchanged, and two orders of the axes with some of them flipped."""
SPACING = (0.9, 1.2, 1.1)
"""mm that the voxels are said to be long: all unlike, and unlike those of the training, so that a wrong order shows."""


def store(orientation: str, path: Path) -> Path:
    """Write the scan with its axes growing towards these sides, the fastest first; in the world it stays in place."""
    affine = np.diag([*SPACING, 1.0])
    affine[:3, 3] = -20.0, 7.0, 11.0
    image = nibabel.Nifti1Image(np.asarray(nibabel.load(SCAN).dataobj, np.float32), affine)
    turn = ornt_transform(io_orientation(affine), axcodes2ornt(orientation))
    nibabel.save(image.as_reoriented(turn), path)
    return path
