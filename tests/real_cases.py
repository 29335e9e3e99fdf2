"""Five real structures to find from a few clicks: shared by the benchmark and its test.

Places are typed as on the command line: in the order in which the file stores its axes, mm for points and lengths
(pixels where the pixel size is unknown), voxels for boxes. Every program gets the same ones.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_models.cli import inputs
from src_models.files import ReadOptions, read_segmentation
from src_models.levelset import LevelSetParameters
from src_models.levelset.initial import Seeds

REPOSITORY = Path(__file__).resolve().parents[1]
DATA_VARIABLE = "LSNET_REAL_DATA"


def data_folder() -> Path:
    """Where the data sets lie that are not shipped: an environment variable, or beside the checkout."""
    return Path(os.environ.get(DATA_VARIABLE, REPOSITORY.parent / "shared" / "data"))


@dataclass(frozen=True)
class RealCase:
    """A structure in a real image, and the clicks that every program gets.

    Attributes
    ----------
    name : str
        For files: the picture is ``case_NAME.png``.
    title : str
        For tables.
    image, label : str
        Below ``sample_data`` where `shipped`, else below the folder of the data sets.
    shipped : bool
        Whether it comes with the repository.
    values : tuple of int
        The labels that are the structure.
    box : str
        As ``--crop`` takes it: two clicks.
    points : tuple of str
        As ``--point`` takes them: one click for each.
    lower, upper : float or None
        Thresholds, from one click each, halfway between the structure and what it borders on.
    edge : float
        Gradient per mm at one click on the border, after a blur of 1 mm.
    first : dict
        What a person would set first, beside the thresholds.
    source, reference : str
        Where the image is from, with its licence; who drew the reference.
    shown : int or None
        Slice of the box to draw (None for a picture).
    filled : bool
        The structure is the part under the first click, with its holes.
    may_be_shown : bool
        Whether the licence allows a picture on the page.
    """

    name: str
    title: str
    image: str
    label: str
    shipped: bool
    values: tuple[int, ...]
    box: str
    points: tuple[str, ...]
    lower: float | None
    upper: float | None
    edge: float
    first: dict[str, Any]
    source: str
    reference: str
    shown: int | None = None
    filled: bool = False
    may_be_shown: bool = True

    def clicks(self, parameters: LevelSetParameters) -> int:
        """Points, two corners of the box, and one for each threshold and for the edge, where the setting reads them."""
        region = parameters.speed == "region"
        limits = sum(x is not None for x in (self.lower, self.upper)) if region else 0
        return len(self.points) + 2 + limits + (not region or parameters.convection_weight > 0)

    @property
    def folder(self) -> Path:
        """Where its files lie."""
        return REPOSITORY / "sample_data" if self.shipped else data_folder()

    @property
    def is_there(self) -> bool:
        """Whether its files are."""
        return (self.folder / self.image).is_file() and (self.folder / self.label).is_file()

    @cached_property
    def frame(self) -> inputs.Frame:
        """The image inside the box, as the command line reads it."""
        return inputs.read_frame(self.folder / self.image, ReadOptions(), crop=self.box)

    @property
    def array(self) -> NDArray[Any]:
        """Grey values inside the box."""
        return self.frame.array

    @property
    def spacing(self) -> tuple[float, ...]:
        """mm per array axis; 1 where it is unknown."""
        return self.frame.spacing

    @cached_property
    def seeds(self) -> Seeds:
        """The clicked points, as `evolve` takes them."""
        return inputs.read_points(self.points, self.frame)

    @cached_property
    def reference_mask(self) -> NDArray[np.bool_]:
        """The structure inside the box."""
        from scipy.ndimage import binary_fill_holes
        from scipy.ndimage import label as parts

        labels = read_segmentation(self.folder / self.label, like=self.frame.volume.grid).labels[self.frame.box]
        mask = np.isin(labels, self.values)
        if not self.filled:
            return mask
        numbers, _ = parts(mask)
        place = tuple(round(x / h) for x, h in zip(self.seeds.spheres[0].centre, self.spacing, strict=True))
        return np.asarray(binary_fill_holes(numbers == numbers[place]), dtype=bool)

    @property
    def contrast(self) -> float:
        """The clicked edge as the parameter counts it: a share of the range of grey values inside the box."""
        return round(self.edge / float(np.ptp(self.array.astype(np.float64))), 5)

    def parameters(self, **changes: Any) -> LevelSetParameters:
        """The first setting, or another one, with what was clicked."""
        chosen = self.first | changes
        if chosen.get("speed") == "region":
            return LevelSetParameters(**({"lower": self.lower, "upper": self.upper} | chosen))
        return LevelSetParameters(**({"contrast": self.contrast} | chosen))

    def command(self, parameters: LevelSetParameters) -> str:
        """The command line that makes the same mask."""
        folder = "sample_data" if self.shipped else "DATA"
        flags = [f"--crop {self.box}", *(f"--point {point}" for point in self.points), f"--out {self.name}.nii.gz"]
        if self.image.endswith(".png"):
            flags[-1] = f"--out {self.name}.png"
        for field, value in parameters.model_dump(exclude_defaults=True, exclude_none=True).items():
            flags.append(f"--{field.replace('_', '-')} {value if isinstance(value, str) else format(value, 'g')}")
        return f"lsnet evolve {folder}/{self.image} " + " ".join(flags)


CASES = (
    RealCase(
        name="liver",
        title="liver, CT",
        image="liver_ct/liver_ct.nii.gz",
        label="liver_ct/liver_ct_liver.nii.gz",
        shipped=True,
        values=(1,),
        box="66:112,19:93,30:112",
        points=("303,144,258:12",),
        lower=25.0,
        upper=80.0,
        edge=15.0,
        first={"speed": "region"},
        source="TotalSegmentator sample, Apache-2.0",
        reference="made by a network",
        shown=12,
    ),
    RealCase(
        name="kidney",
        title="right kidney, CT without contrast agent, thick slices",
        image="amos_ct_slabs/amos_0001_ct.nii.gz",
        label="amos_ct_slabs/amos_0001_organs.nii.gz",
        shipped=False,
        values=(2,),
        box=":,258:393,238:358",
        points=("25,169.4,162.5:6",),
        lower=-35.0,
        upper=39.0,
        edge=15.0,
        first={"speed": "region"},
        source="AMOS 2022, licence told as CC BY 4.0 and as non-commercial: no picture here",
        reference="drawn by people; the slab cuts it",
        shown=5,
        may_be_shown=False,
    ),
    RealCase(
        name="hippocampus",
        title="hippocampus, MR T1",
        image="hippocampus_mr/hippocampus_001.nii.gz",
        label="hippocampus_mr/hippocampus_001_label.nii.gz",
        shipped=True,
        values=(1, 2),
        box="3:32,6:47,6:31",
        points=("26,10,16:3", "20,16,14:3", "15,26,15:3", "11,33,17:3", "8,38,18:3"),
        lower=35.0,
        upper=62.0,
        edge=8.0,
        first={"speed": "region"},
        source="Medical Segmentation Decathlon, CC-BY-SA 4.0",
        reference="drawn by people",
        shown=14,
    ),
    RealCase(
        name="ventricle",
        title="left ventricle, cardiac MR",
        image="sunnybrook_lv/images/SC-N-03_0001-0220.png",
        label="sunnybrook_lv/labels/SC-N-03_0001-0220.png",
        shipped=False,
        values=(1,),
        box="95:165,105:175",
        points=("128,137:6",),
        lower=19.0,
        upper=None,
        edge=3.0,
        first={"speed": "region"},
        source="Sunnybrook Cardiac Data, CC0",
        reference="drawn by people, papillary muscles inside",
    ),
    RealCase(
        name="cell",
        title="a cell among cells, electron microscopy",
        image="isbi2012_em/images/slice01.png",
        label="isbi2012_em/labels/slice01.png",
        shipped=False,
        values=(0,),
        box="125:300,80:240",
        points=("205,150:15",),
        lower=100.0,
        upper=None,
        edge=10.0,
        first={"speed": "region"},
        source="ISBI 2012, for non-commercial use: no picture here",
        reference="drawn by people, organelles inside",
        filled=True,
        may_be_shown=False,
    ),
)
