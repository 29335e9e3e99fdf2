"""A look at every case before a training: grids, label values, empty masks, patients and folds, images seen twice.

Nothing stops it: what is wrong with a case is a sentence in its row.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace

import numpy as np

from src_models.errors import InputError, LsnetError
from src_models.progress import Progress
from src_models.record import content_hash
from src_models.training.case import Case, DataSet
from src_models.training.checks import check_values
from src_models.training.folds import make_folds


@dataclass(frozen=True)
class CaseRow:
    """What was found in one case.

    Attributes
    ----------
    case, patient : str
        Its id and its group.
    fold : int or None
        In which fold it is left out; None where there are no folds.
    shape : tuple of int
        Of the image, without channels; empty where it cannot be read.
    spacing : tuple of float or None
        mm; None where it is not known.
    values : tuple of int
        Label values that are there, without 0.
    problem : str
        Why it cannot be trained on; "" where it can.
    remark : str
        What should be looked at; "" where nothing is.
    """

    case: str
    patient: str
    fold: int | None = None
    shape: tuple[int, ...] = ()
    spacing: tuple[float, ...] | None = None
    values: tuple[int, ...] = ()
    problem: str = ""
    remark: str = ""


@dataclass(frozen=True)
class Survey:
    """A data set, looked through.

    Attributes
    ----------
    rows : tuple of CaseRow
        In the order of the cases.
    notes : tuple of str
        On the set as a whole.
    """

    rows: tuple[CaseRow, ...]
    notes: tuple[str, ...]

    @property
    def problems(self) -> int:
        """Cases that cannot be trained on."""
        return sum(bool(row.problem) for row in self.rows)

    @property
    def remarks(self) -> int:
        """Cases that should be looked at."""
        return sum(bool(row.remark) and not row.problem for row in self.rows)

    @property
    def patients(self) -> int:
        """Different groups."""
        return len({row.patient for row in self.rows})

    @property
    def sentence(self) -> str:
        """The outcome in one line."""
        count = len(self.rows)
        start = f"{count} case{'s' if count != 1 else ''} of {self.patients} patient{'s' if self.patients != 1 else ''}"
        if self.problems:
            return f"{start}: {self.problems} cannot be used, see the rows."
        if self.remarks:
            return f"{start}: all can be used; {self.remarks} should be looked at."
        return f"{start}: all can be used."


def survey(data: DataSet) -> Generator[Progress, None, Survey]:
    """Read every case once.

    Parameters
    ----------
    data : DataSet
        What is to be trained on.

    Yields
    ------
    Progress
        After each case.
    """
    folds, notes = _folds(data)
    rows: list[CaseRow] = []
    seen: dict[str, Case] = {}
    for number, case in enumerate(data.cases, 1):
        row = _looked_at(case, data, seen)
        rows.append(replace(row, fold=folds.get(case.id)))
        yield Progress(
            phase="check",
            fraction=number / len(data.cases),
            message=f"Case {number} of {len(data.cases)} is read",
        )
    if all("empty" in row.remark for row in rows):
        notes.append("No case has a marked voxel: there is nothing to learn.")
    return Survey(tuple(rows), (*data.notes, *notes))


def _folds(data: DataSet) -> tuple[dict[str, int], list[str]]:
    """In which fold each case is left out."""
    notes = [] if data.grouped else ["Patients were not given: each case counts as a patient of its own."]
    try:
        folds = make_folds(data.groups)
    except InputError:
        return {}, [*notes, "There are too few patients for five folds: all are trained on, and none is unseen."]
    return {case: number for number, fold in enumerate(folds) for case in fold.validation}, notes


def _looked_at(case: Case, data: DataSet, seen: dict[str, Case]) -> CaseRow:
    row = CaseRow(case.id, case.group)
    try:
        volume = case.volume()
        row = replace(
            row,
            shape=volume.grid.shape,
            spacing=volume.grid.spacing if volume.grid.spacing_known else None,
        )
        labels = case.segmentation(volume.grid).labels
        found = np.unique(labels)
        row = replace(row, values=tuple(int(value) for value in found if value))
        check_values(case, labels, data)
        _check_image(case, volume.array)
    except LsnetError as error:
        return replace(row, problem=str(error))
    remarks = []
    if not row.values:
        remarks.append("The mask is empty.")
    twin = seen.setdefault(content_hash(volume.array), case)
    if twin is not case:
        where = "of another patient" if twin.group != case.group else "of the same patient"
        remarks.append(f"The image is that of case {twin.id}, {where}.")
    return replace(row, remark=" ".join(remarks))


def _check_image(case: Case, array: np.ndarray) -> None:
    """Refuse images of one value, or with values that are no numbers."""
    if array.dtype.kind == "f":
        missing = int(array.size - np.isfinite(array).sum())
        if missing:
            raise InputError(
                "image-nan",
                f"{missing} voxels of case {case.id} hold no number",
                "",
                "Replace them in the image, or leave it out.",
            )
    if array.size and array.min() == array.max():
        raise InputError("image-constant", f"The image of case {case.id} has one value only", "", "Leave it out.")
