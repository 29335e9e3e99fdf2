"""What a run of several labels is given: starts and parameters by label number, and how a record keeps them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_models.errors import DeviceError, InputError
from src_models.levelset.initial import Seeds, check_labels
from src_models.levelset.parameters import LevelSetParameters
from src_models.record import StoredArray

Starts = Mapping[int, NDArray[Any] | Seeds]

SHARED = ("dtype", "device", "band", "engine")
"""Parameters that all labels of a run have in common, from its start to its end."""


def starts_by_number(initials: Starts | NDArray[Any], shape: tuple[int, ...]) -> Starts:
    """The start of each label in the order of the numbers."""
    if isinstance(initials, np.ndarray):
        check_labels(initials, shape)
        if initials.dtype.kind not in "ui":
            raise InputError("seeds-labels", "The starts name no labels", "", "Give one whole number per voxel.")
        initials = _Drawn(initials)
    if not initials:
        raise InputError("seeds-none", "There is no label to grow", "", "Draw a start for at least one label.")
    for number in initials:
        if not 1 <= number <= 65535:
            raise InputError("label-number", f"{number} is no label number", "1 to 65535 are", "Choose another number.")
    return initials if isinstance(initials, _Drawn) else dict(sorted(initials.items()))


class _Drawn(Mapping[int, NDArray[Any] | Seeds]):
    """The labels of one array, each made a mask only while it is looked at."""

    def __init__(self, labels: NDArray[Any]) -> None:
        self._labels = labels
        self._numbers = [int(k) for k in np.unique(labels) if k != 0]

    def __getitem__(self, number: int) -> NDArray[Any]:
        return np.asarray(self._labels == number)

    def __iter__(self) -> Iterator[int]:
        return iter(self._numbers)

    def __len__(self) -> int:
        return len(self._numbers)


def parameters_by_number(
    given: LevelSetParameters | Mapping[int, LevelSetParameters], numbers: Sequence[int]
) -> dict[int, LevelSetParameters]:
    """The parameters of each label."""
    every = dict.fromkeys(numbers, given) if isinstance(given, LevelSetParameters) else dict(given)
    missing = [k for k in numbers if k not in every]
    if missing:
        raise InputError(
            "label-parameters", f"Label {missing[0]} has no parameters", "", "Give parameters for every label."
        )
    chosen = {k: every[k] for k in numbers}
    first = chosen[numbers[0]]
    for p in chosen.values():
        if any(getattr(p, name) != getattr(first, name) for name in SHARED) or (p.redistance_every == 0) != (
            first.redistance_every == 0
        ):
            raise InputError(
                "label-parameters-differ",
                "The labels of one run share precision, band, device and whether there is redistancing",
                "theirs differ",
                "Give all labels the same dtype, band, device, engine and redistance_every.",
            )
    if first.device not in ("auto", "cpu") or first.engine == "reference":
        raise DeviceError(
            "labels-engine",
            "Several labels at once run on the processor, with the compiled engine",
            f"device is {first.device}, engine is {first.engine}",
            "Choose auto for both.",
        )
    return chosen


def stored_inputs(
    starts: Starts, protected: NDArray[Any] | None, walls: NDArray[Any] | None, pins: NDArray[Any] | None
) -> dict[str, Any]:
    """The drawn inputs as a record keeps them: all masks in one array of labels."""
    others: dict[str, Any] = {}
    labels: NDArray[Any] | None = None
    for number, start in starts.items():
        if isinstance(start, Seeds):
            others[str(number)] = {"seeds": start.model_dump(mode="json")}
            continue
        array = np.asarray(start)
        if array.dtype.kind == "f":
            others[str(number)] = {"array": StoredArray.of(array).model_dump(mode="json")}
            continue
        if labels is None:
            labels = np.zeros(array.shape, np.min_scalar_type(max(starts)))
        if array.shape == labels.shape:
            labels[array != 0] = number
    stored: dict[str, Any] = {"initials": {"others": others}}
    if labels is not None:
        stored["initials"]["labels"] = StoredArray.of(labels).model_dump(mode="json")
    for name, mask in (("protected", protected), ("walls", walls)):
        if mask is not None:
            stored[name] = StoredArray.of(np.asarray(mask) != 0).model_dump(mode="json")
    if pins is not None:
        stored["pins"] = StoredArray.of(pins).model_dump(mode="json")
    return stored
