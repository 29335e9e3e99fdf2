"""What a data set looks like: sizes, voxel sizes and intensities inside the labels (nnU-Net's rule 1).

nnU-Net draws values with replacement from every case; we take the limit of that drawing: every case has the same weight
whatever its number of marked voxels, and there is no seed. Cases are read once; labels are checked on the way.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from src_models.errors import InputError
from src_models.files.gate import shown
from src_models.preprocessing.checks import NanRule, constant, finite
from src_models.preprocessing.cropping import bounding_box, nonzero
from src_models.preprocessing.parameters import ChannelStatistics
from src_models.progress import Progress, finish
from src_models.training.case import Case, DataSet
from src_models.training.checks import check_values

_KEPT_PER_CASE = 20_000
"""Different intensities kept per case and channel; more are thinned to this many quantiles."""


class Fingerprint(BaseModel):
    """Of a data set; goes into the plan.

    Attributes
    ----------
    cases : tuple of str
        In the order of the lists.
    shapes : tuple of tuple of int
        After the crop to the nonzero part; (y, x) or (z, y, x).
    spacings : tuple of tuple of float
        In mm, or 1 where `unit` is ``"px"``.
    crop_ratio : float
        Median of cropped to original volume.
    channels : tuple of ChannelStatistics
        Intensities inside the labels.
    unit : str
        ``"px"`` where no case has a voxel size.
    empty : tuple of str
        Cases without a marked voxel.
    data_hash : str
        SHA-256 over the hashes of all images and labels.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cases: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    spacings: tuple[tuple[float, ...], ...]
    crop_ratio: float
    channels: tuple[ChannelStatistics, ...]
    unit: str = "mm"
    empty: tuple[str, ...] = ()
    data_hash: str = ""


@dataclass
class _Seen:
    """What is gathered case by case."""

    shapes: list[tuple[int, ...]] = field(default_factory=list)
    spacings: list[tuple[float, ...]] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)
    values: list[list[tuple[NDArray[Any], NDArray[Any]]]] = field(default_factory=list)
    known: list[bool] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    hashes: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def fingerprint(
    data: DataSet, cases: Iterable[str] | None = None, *, nan: NanRule = "error"
) -> Generator[Progress, None, Fingerprint]:
    """Look at every case of a data set.

    Parameters
    ----------
    data : DataSet
        Whose cases are read one by one.
    cases : iterable of str, optional
        Only these, such as the training part of a fold; all by default, as nnU-Net.
    nan : str
        See `preprocessing.checks.finite`.

    Yields
    ------
    Progress
        After each case; warnings as notes.

    Raises
    ------
    InputError, FileError, GeometryError
        The first case that cannot be trained on: values that are not declared, a constant image, other channels.
    """
    chosen = [data.case(name) for name in cases] if cases is not None else list(data.cases)
    seen = _Seen()
    for k, case in enumerate(chosen):
        before = len(seen.notes)
        _look(case, data, nan, seen)
        yield Progress(
            phase="fingerprint",
            fraction=(k + 1) / len(chosen),
            message=f"Looked at {k + 1} of {len(chosen)} cases",
            notes=tuple(seen.notes[before:]),
        )
    return _summed(chosen, data, seen)


def fingerprint_now(data: DataSet, cases: Iterable[str] | None = None, *, nan: NanRule = "error") -> Fingerprint:
    """`fingerprint` run to its end."""
    return finish(fingerprint(data, cases, nan=nan))


def intensity_statistics(values: Sequence[tuple[NDArray[Any], NDArray[Any]]]) -> ChannelStatistics:
    """Statistics over cases of equal weight.

    Parameters
    ----------
    values : sequence of (ndarray, ndarray)
        Per case: its different intensities, and the share of its marked voxels that has each.
    """
    points = np.concatenate([v for v, _ in values]).astype(np.float64)
    weights = np.concatenate([w for _, w in values]) / len(values)
    mean = float(points @ weights)
    low, median, high = weighted_percentiles(points, weights, (0.5, 50.0, 99.5))
    return ChannelStatistics(
        mean=mean,
        median=median,
        std=float(np.sqrt(((points - mean) ** 2) @ weights)),
        minimum=float(points.min()),
        maximum=float(points.max()),
        percentile_00_5=low,
        percentile_99_5=high,
    )


def weighted_percentiles(
    points: NDArray[np.float64], weights: NDArray[np.float64], percents: Sequence[float]
) -> tuple[float, ...]:
    """The smallest value below which, itself included, lies the wanted share of the weight."""
    order = np.argsort(points, kind="stable")
    share = np.cumsum(weights[order])
    # The last bit of a sum must not decide between two values.
    at = np.searchsorted(share, np.asarray(percents) / 100 * share[-1] * (1 - 1e-12), side="left")
    return tuple(float(points[order[min(int(k), len(order) - 1)]]) for k in at)


def _look(case: Case, data: DataSet, nan: NanRule, seen: _Seen) -> None:
    volume, segmentation = case.read()
    if volume.array.shape[0] != len(data.channels):
        raise InputError(
            "case-channels",
            f"Case {shown(case.id)} has {volume.array.shape[0]} channels",
            f"the data set has {len(data.channels)}: {', '.join(data.channels)}",
            "Give every case the same channels.",
        )
    rule = case.nan if nan == "error" else nan
    image, notes = finite(volume.array, rule, f"The image of case {shown(case.id)}")
    if constant(image):
        raise InputError(
            "case-constant",
            f"The image of case {shown(case.id)} is constant",
            f"every voxel is {float(image.flat[0]):g}",
            "Leave this case out, or export it again.",
        )
    labels = segmentation.labels
    check_values(case, labels, data)
    box = bounding_box(nonzero(image))
    inside = labels[box] > 0
    if data.ignore_label is not None:
        inside &= labels[box] != data.ignore_label
    if not inside.any():
        seen.empty.append(case.id)
    else:
        seen.values.append([_counted(channel[box][inside]) for channel in image])
    seen.shapes.append(tuple(part.stop - part.start for part in box))
    seen.spacings.append(volume.grid.spacing)
    seen.ratios.append(float(np.prod(seen.shapes[-1]) / np.prod(labels.shape)))
    seen.known.append(volume.grid.spacing_known)
    seen.hashes.append(volume.source_hash + segmentation.source_hash)
    seen.notes += [f"Case {shown(case.id)}: {note}" for note in notes]


def _counted(values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Different values and their shares, thinned where there are very many."""
    points, counts = np.unique(values, return_counts=True)
    if points.size > _KEPT_PER_CASE:
        # Ends are kept, so that minimum and maximum are exact; between them, blocks of equal count.
        ordered = np.sort(values)
        at = (np.arange(_KEPT_PER_CASE) + 0.5) * (ordered.size / _KEPT_PER_CASE)
        points = ordered[at.astype(np.intp)]
        points[0], points[-1] = ordered[0], ordered[-1]
        counts = np.ones(points.size, np.intp)
    return points, counts / counts.sum()


def _summed(chosen: Sequence[Case], data: DataSet, seen: _Seen) -> Fingerprint:
    if not seen.values:
        raise InputError(
            "labels-all-empty",
            f"None of the {len(chosen)} label files has a marked voxel",
            "",
            "Give at least one case with labels above 0.",
        )
    if len({len(shape) for shape in seen.shapes}) > 1:
        raise InputError("cases-axes", "The data set mixes pictures and volumes", "", "Train on one kind at a time.")
    known = all(seen.known)
    digest = hashlib.sha256("".join(seen.hashes).encode()).hexdigest() if all(seen.hashes) else ""
    return Fingerprint(
        cases=tuple(case.id for case in chosen),
        shapes=tuple(seen.shapes),
        spacings=tuple(seen.spacings if known else [(1.0,) * len(shape) for shape in seen.shapes]),
        crop_ratio=float(np.median(seen.ratios)),
        channels=tuple(intensity_statistics([case[c] for case in seen.values]) for c in range(len(data.channels))),
        unit="mm" if known else "px",
        empty=tuple(seen.empty),
        data_hash=digest,
    )
