"""What a run asks of an engine. Every engine holds u and makes the same step; they differ in how fast they are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from src_models.levelset.fields import SpeedImages
from src_models.levelset.parameters import LevelSetParameters


@dataclass(frozen=True)
class Look:
    """The level set as it stands, and what the equation would do to it now.

    Attributes
    ----------
    size : float
        mm^n inside.
    area : float
        mm^(n-1) of front.
    free_area : float
        The part of it where |balloon| S is above the threshold asked for.
    speed_on_front : float
        Mean of S on the front.
    fastest : float
        Largest |S| in the band, read as the equation reads it.
    largest_rate : float
        1/dt of the stability bound at CFL number 1; 0 where nothing can move.
    is_empty, is_full : bool
        Nothing inside; nothing outside.
    """

    size: float
    area: float
    free_area: float
    speed_on_front: float
    fastest: float
    largest_rate: float
    is_empty: bool
    is_full: bool


class Engine(ABC):
    """u of a run.

    Attributes
    ----------
    shape : tuple of int
        Of the array.
    spacing : tuple of float
        mm per array axis.
    width : float or None
        w in mm; None for no band: then every voxel is visited and nothing is clipped.
    name : str
        For the record.
    """

    name: str
    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    width: float | None

    @abstractmethod
    def set_problem(self, images: SpeedImages, parameters: LevelSetParameters) -> None:
        """Take speed images and parameters; at the start, and whenever one of them changes."""

    @abstractmethod
    def set_walls_and_pins(self, walls: NDArray[Any] | None, pins: NDArray[Any] | None) -> None:
        """Take walls and pins (bool, of the shape of u) and enforce them everywhere; `set_problem` always follows."""

    @abstractmethod
    def look(self, free_threshold: float) -> Look:
        """Measure u; see `Look`."""

    @abstractmethod
    def step(self, dt: float, redistancing: bool) -> None:
        """u + dt times its rate of change on the band, walls and pins, redistancing, walls and pins again."""

    @abstractmethod
    def level_set(self) -> NDArray[Any]:
        """u now, not a copy where that can be had without one."""

    @abstractmethod
    def changed_box(self) -> tuple[slice, ...] | None:
        """Smallest box around what the last step may have changed; None where there was nothing."""

    @abstractmethod
    def largest_free_patch(self, free_threshold: float) -> tuple[float, ...] | None:
        """Centre, in voxels, of the largest connected part of the front with |balloon| S above the threshold."""

    @abstractmethod
    def save(self) -> None:
        """Remember u, to come back to with `roll_back`."""

    @abstractmethod
    def roll_back(self) -> None:
        """Go back to the remembered u."""

    def contributions(self) -> Sequence[NDArray[Any]] | None:
        """What balloon, curvature, convection and the rest have added to u, where the engine sums it."""
        return None

    def finish(self) -> None:  # noqa: B027
        """No step will follow: give back what only steps need."""
