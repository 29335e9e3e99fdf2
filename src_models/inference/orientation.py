"""How an image is turned before a network sees it: a network knows anatomy only the way round it was trained on.

Models of this program are trained on images as `src_models.files` presents them, whatever the order in their files. An
nnU-Net was trained on what its reader gave it: with most readers the array as it lies in the file, with others one
whose axes grow towards the right, the front and the head. The card says which (`ModelCard.orientation`).

A turn is a `StoredOrder` whose stored array is what the network sees; turning copies nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from src_models.errors import InputError
from src_models.geometry import StoredOrder

Number = TypeVar("Number", int, float)
_WAYS = {"stored": "as they lie in their files", "RAS": "whose axes grow towards the right, the front and the head"}


def turn_for(orientation: str, stored_order: StoredOrder | None, spatial: int) -> tuple[StoredOrder, list[str]]:
    """How an array is turned for a model.

    Parameters
    ----------
    orientation : str
        Of the model's card.
    stored_order : StoredOrder, optional
        How the array, presented with known sides of the patient, relates to the one in its file; None where that is
        not known.
    spatial : int
        Axes in space.

    Returns
    -------
    (StoredOrder, list of str)
        The turn, and what has to be said about it.

    Raises
    ------
    InputError
        Where the order is that of an array with another number of axes.
    """
    if stored_order is not None and len(stored_order.axes) != spatial:
        raise InputError(
            "stored-order",
            f"The order in the file has {len(stored_order.axes)} axes, the image has {spatial}",
            "",
            "Give the order of the axes in space.",
        )
    still = StoredOrder.identity(spatial)
    if orientation == "presented":
        return still, []
    if stored_order is not None:
        return (stored_order if orientation == "stored" else StoredOrder(still.axes, (True,) * spatial)), []
    if spatial == 2:
        return still, []
    note = (
        f"The model takes images {_WAYS[orientation]}; how this one lies is not known, so it was taken as it is: "
        "left and right may be exchanged."
    )
    return still, [note]


def with_plane(turn: StoredOrder) -> StoredOrder:
    """The turn of a picture that was given a plane axis in front of its own two; that of a volume as it is."""
    if len(turn.axes) == 3:
        return turn
    return StoredOrder((0, *(axis + 1 for axis in turn.axes)), (False, *turn.flips))


def turned(turn: StoredOrder, numbers: Sequence[Number]) -> tuple[Number, ...]:
    """Lengths or spacings of the presented axes, in the order of the axes that the network sees."""
    return tuple(numbers[turn.axes.index(axis)] for axis in range(len(numbers)))


def turned_back(turn: StoredOrder, axis: int, slab: tuple[int, int], length: int) -> tuple[int, tuple[int, int]]:
    """The presented axis behind one that the network sees, and its planes [first, last + 1) counted along it."""
    presented = turn.axes.index(axis)
    return presented, (length - slab[1], length - slab[0]) if turn.flips[presented] else slab
