"""What is trained on: a folder, or pairs of open layers that are saved as one; and the words that name it."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_lsnet.layers import describe_layer, patient_grid, read_region
from napari_lsnet.regions import whole_region
from napari_lsnet.seeds import labels_of_region
from napari_lsnet.train.slices import MarkedSlices
from src_models.errors import InputError, SaveError
from src_models.geometry import Grid, Segmentation, Volume
from src_models.progress import Progress

if TYPE_CHECKING:
    from src_models.training.case import DataSet

PATIENTS = "patients.csv"


@dataclass(frozen=True)
class Reading:
    """How a data set is read; each an option of ``lsnet train``.

    Attributes
    ----------
    groups : str
        Which cases are of one patient: a regular expression or a CSV file; "" for what the folder says.
    labels, channels, label_map : str
        Names of label values, names of channels, and values that are read as others; "" for none.
    """

    groups: str = ""
    labels: str = ""
    channels: str = ""
    label_map: str = ""

    def words(self) -> list[str]:
        """As flags."""
        pairs = (
            ("--groups", self.groups),
            ("--labels", self.labels),
            ("--channels", self.channels),
            ("--map", self.label_map),
        )
        return [word for flag, text in pairs if text for word in (flag, text)]

    def names(self) -> dict[int, str] | None:
        """Names of label values.

        Raises
        ------
        InputError
            Where they cannot be read.
        """
        if not self.labels:
            return None
        try:
            pairs = [part.split("=") for part in self.labels.split(",")]
            return {int(value): name.strip() for value, name in pairs}
        except ValueError:
            raise InputError("labels", f"Labels {self.labels} cannot be read", "", "Write 1=liver, 2=tumour.") from None


@dataclass(frozen=True, eq=False)
class Example:
    """An image with its labels, read from two layers.

    Attributes
    ----------
    name, patient : str
        Of the case.
    image, labels : ndarray of shape (z, y, x) or (y, x)
        Copies.
    grid : Grid
        Of both.
    """

    name: str
    patient: str
    image: NDArray[Any]
    labels: NDArray[Any]
    grid: Grid


@dataclass(frozen=True, eq=False)
class Source:
    """What is trained on.

    Attributes
    ----------
    name : str
        Of the data set.
    folder : Path or None
        Where it lies; None for open layers.
    examples : tuple of Example
        From open layers.
    reading : Reading
        How.
    """

    name: str
    folder: Path | None
    examples: tuple[Example, ...]
    reading: Reading

    def words(self, out: Path) -> list[str]:
        """What ``lsnet train`` is called with; layers lie in the folder of the run by then."""
        if self.folder is not None:
            return [str(self.folder), *self.reading.words()]
        data = out / "data"
        return [str(data), *replace(self.reading, groups=str(data / PATIENTS)).words()]

    def open(self) -> DataSet:
        """The cases; called in a worker.

        Raises
        ------
        FileError, InputError
            One sentence each.
        """
        from src_models.training.cases import case_from_arrays, data_set_from_arrays, open_data_set
        from src_models.training.checks import parse_map

        reading = self.reading
        label_map = parse_map(reading.label_map)
        channels = [name.strip() for name in reading.channels.split(",")] if reading.channels else None
        if self.folder is not None:
            return open_data_set(
                self.folder,
                groups=reading.groups or None,
                label_map=label_map,
                label_names=reading.names(),
                channels=channels,
            )
        cases = [
            replace(
                case_from_arrays(
                    one.name,
                    one.image,
                    one.labels,
                    one.grid.spacing if one.grid.spacing_known else None,
                    one.patient,
                ),
                label_map=label_map,
            )
            for one in self.examples
        ]
        return data_set_from_arrays(self.name, cases, reading.names(), channels)

    def look_through(self) -> Generator[Progress, Any, Any]:
        """Check every case; a job that gives a `Survey`."""
        yield Progress(phase="check", message="Looking for the cases...")
        data = self.open()
        from src_models.training.survey import survey

        return (yield from survey(data))

    def save_layers(self, out: Path) -> Generator[Progress, Any, None]:
        """Write the examples as NIfTI files into the folder of the run; a job.

        Raises
        ------
        SaveError
            Where they cannot be written.
        """
        from src_models.files import write_segmentation, write_volume
        from src_models.files.saving import save_whole

        data = out / "data"
        try:
            for part in ("images", "labels"):
                (data / part).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            why = (error.strerror or "the system refused it").lower()
            raise SaveError(
                "run-folder", f"The folder {out.name} cannot be used", why, "Choose another one."
            ) from error
        for number, one in enumerate(self.examples, 1):
            # pictures without a size stay pictures
            file = f"{one.name}{'.nii.gz' if one.grid.spacing_known else '.tif'}"
            write_volume(data / "images" / file, Volume(one.image, one.grid), overwrite=True)
            write_segmentation(data / "labels" / file, Segmentation(one.labels, one.grid), overwrite=True)
            yield Progress(
                phase="save",
                fraction=number / len(self.examples),
                message=f"Layer {number} of {len(self.examples)} is saved for the training",
            )
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(
            [("case", "group"), *((one.name, one.patient) for one in self.examples)]
        )
        content = text.getvalue().encode()
        save_whole(
            data / PATIENTS,
            lambda file: _write(file, content),
            lambda part: part.stat().st_size == len(content),
            overwrite=True,
        )


def examples_of(image: Any, labels: Any, *, frames_are_patients: bool, marked_slices: bool = False) -> list[Example]:
    """Read a pair of layers; every time point is a case.

    Parameters
    ----------
    image : Image
        The layer.
    labels : Labels
        On its voxels.
    frames_are_patients : bool
        Whether each time point is another patient; else all are one.
    marked_slices : bool
        Whether the slices of a volume that hold labels are the cases, as pictures, and the others are left out.

    Raises
    ------
    InputError, GeometryError
        Where they do not fit.
    """
    volume = describe_layer(image)
    if volume.rgb or "c" in volume.roles:
        raise InputError(
            "train-channels",
            f"{image.name!r} has colours or channels",
            "layers of one channel can be trained on",
            "Split the channels, or train from a folder.",
        )
    if not volume.spacing_known and len(volume.spatial_axes) == 3:
        raise InputError(
            "train-voxel-size",
            f"The voxel size of {image.name!r} is not known",
            "",
            "Choose the image in Segment, type its voxel size there, then add the pair.",
        )
    region = whole_region(volume)
    values = read_region(image, region)
    values = values.astype({"b": np.uint8, "f": np.float32}.get(values.dtype.kind, values.dtype), copy=False)
    marked = np.array(labels_of_region(labels, image, region))
    if marked.size and marked.min() >= 0:
        marked = marked.astype(np.min_scalar_type(int(marked.max())))
    name = file_name(str(image.name))
    grid = patient_grid(image) or Grid(
        tuple(volume.shape[axis] for axis in volume.spatial_axes), volume.spacing, spacing_known=volume.spacing_known
    )
    found = [Example(name, name, values, marked, grid)]
    if "t" in volume.roles:
        time = volume.roles.index("t")
        frames = zip(np.moveaxis(values, time, 0), np.moveaxis(marked, time, 0), strict=True)
        digits = len(str(volume.shape[time] - 1))
        titles = [f"{name}-t{number:0{digits}}" for number in range(volume.shape[time])]
        found = [
            Example(title, title if frames_are_patients else name, *frame, grid)
            for title, frame in zip(titles, frames, strict=True)
        ]
    if not marked_slices or len(volume.spatial_axes) == 2:
        return found
    slices = [one for example in found for one in slices_of(example)]
    if not slices:
        raise InputError(
            "train-slices", f"No slice of {labels.name!r} holds labels", "", "Paint or accept some slices first."
        )
    return slices


def slices_of(example: Example) -> list[Example]:
    """The slices of a volume that hold labels, as pictures of one patient."""
    marked = MarkedSlices.of(example.labels)
    kept = [axis for axis in range(3) if axis != marked.axis]
    spacing = tuple(example.grid.spacing[axis] for axis in kept)
    digits = len(str(marked.count - 1))
    grid = Grid(tuple(example.labels.shape[axis] for axis in kept), spacing, spacing_known=example.grid.spacing_known)
    return [
        Example(
            f"{example.name}-{'zyx'[marked.axis]}{place:0{digits}}",
            example.patient,
            np.ascontiguousarray(example.image.take(place, marked.axis)),
            np.ascontiguousarray(example.labels.take(place, marked.axis)),
            grid,
        )
        for place in marked.places
    ]


def file_name(text: str) -> str:
    """A name of a layer as part of a file name."""
    return re.sub(r"[^A-Za-z0-9.+-]+", "-", text).strip("-.")[:60] or "image"


def numbered(examples: Sequence[Example]) -> tuple[Example, ...]:
    """The same with every name once."""
    seen: dict[str, int] = {}
    found = []
    for one in examples:
        count = seen[one.name] = seen.get(one.name, 0) + 1
        found.append(one if count == 1 else replace(one, name=f"{one.name}-{count}"))
    return tuple(found)


def _write(file: IO[bytes], content: bytes) -> None:
    file.write(content)
