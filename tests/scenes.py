"""Bodies with a known answer, and pictures of them: shared by the laws, the peers and the benchmarks.

Lengths are mm, arrays are (z, y, x) or (y, x), every level set is positive inside.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

INSIDE, OUTSIDE = 160.0, 60.0
"""Grey values of every picture; region speed is tanh((I - 110) / 10)."""


def grid(shape: Sequence[int], spacing: Sequence[float], origin: Sequence[float] | None = None) -> list[Array]:
    """Position in mm of every voxel along each axis, broadcastable, measured from `origin` (default: the middle)."""
    if origin is None:
        origin = [(n - 1) / 2 * h for n, h in zip(shape, spacing, strict=True)]
    axes = [np.arange(n) * h - x for n, h, x in zip(shape, spacing, origin, strict=True)]
    return list(np.meshgrid(*axes, indexing="ij", sparse=True))


def ball(shape: Sequence[int], spacing: Sequence[float], radius: float, origin: Sequence[float] | None = None) -> Array:
    """Exact signed distance to a ball: radius - |x|."""
    return np.asarray(radius - np.sqrt(sum(x * x for x in grid(shape, spacing, origin))))


def band_of(u: Array, spacing: Sequence[float], band: float = 4.0) -> Array:
    """A start as every run has it: clipped to +-w."""
    w = band * max(h for h, n in zip(spacing, u.shape, strict=True) if n > 1)
    return np.clip(u, -w, w)


def radii(u: Array, spacing: Sequence[float], origin: Sequence[float] | None = None) -> Array:
    """Distances from `origin` of all linear zero crossings on grid edges."""
    position = [np.broadcast_to(x, u.shape) for x in grid(u.shape, spacing, origin)]
    found = []
    for axis, n in enumerate(u.shape):
        if n < 2:
            continue
        low, high = np.take(u, range(n - 1), axis), np.take(u, range(1, n), axis)
        crossing = (low > 0) != (high > 0)
        share = low[crossing] / (low[crossing] - high[crossing])
        square = 0
        for other, x in enumerate(position):
            at = np.take(x, range(n - 1), axis)[crossing]
            square = square + (at + (share * spacing[axis] if other == axis else 0)) ** 2
        found.append(np.sqrt(square))
    return np.concatenate(found)


def front_position(u: Array, spacing: Sequence[float], axis: int) -> Array:
    """Where each line along `axis` crosses from positive to not, in mm from the first voxel (one crossing a line)."""
    lines = np.moveaxis(u, axis, -1)
    low, high = lines[..., :-1], lines[..., 1:]
    crossing = (low > 0) != (high > 0)
    share = low[crossing] / (low[crossing] - high[crossing])
    return np.asarray((np.nonzero(crossing)[-1] + share) * spacing[axis])


def dice(a: Array, b: Array) -> float:
    """2 |A and B| / (|A| + |B|)."""
    return float(2 * np.logical_and(a, b).sum() / (a.sum() + b.sum()))


def surface_distance(a: Array, b: Array, spacing: Sequence[float]) -> float:
    """Mean distance in mm between the border voxels of two masks, both ways."""
    from scipy.ndimage import binary_erosion, distance_transform_edt

    borders = [mask & ~binary_erosion(mask, border_value=1) for mask in (a, b)]
    there, back = (distance_transform_edt(~borders[1 - k], sampling=spacing)[borders[k]] for k in (0, 1))
    return float((there.sum() + back.sum()) / (there.size + back.size))


@dataclass(frozen=True, eq=False)
class Scene:
    """A picture, where to start, and what is right.

    Attributes
    ----------
    name : str
        For tables.
    spacing : tuple of float
        mm per array axis.
    image : ndarray
        float32 grey values.
    truth : ndarray of bool
        What a perfect run finds from this start.
    start : ndarray of bool
        Where it begins.
    reach : float
        mm from the start to the farthest border: no front needs longer at speed 1 than a few times this.
    """

    name: str
    spacing: tuple[float, ...]
    image: Array
    truth: Array
    start: Array
    reach: float

    @property
    def region_speed(self) -> Array:
        """s in [-1, 1], float32."""
        return np.tanh((self.image - (INSIDE + OUTSIDE) / 2) / 10).astype(np.float32)


def picture(body: Array, spacing: Sequence[float], noise: float, seed: int, blur_voxels: float = 0.9) -> Array:
    """A blurred two-valued picture of a body (a level set), with Gaussian noise of standard deviation `noise`."""
    from scipy.ndimage import gaussian_filter

    share = np.clip(0.5 + body / np.mean(spacing), 0, 1)
    grey = OUTSIDE + (INSIDE - OUTSIDE) * gaussian_filter(share, blur_voxels, mode="nearest")
    return np.asarray(grey + np.random.default_rng(seed).normal(0, noise, body.shape), dtype=np.float32)


def _scene(
    name: str,
    spacing: tuple[float, ...],
    body: Array,
    seeded: Array,
    start: Array,
    noise: float,
    seed: int,
    reach: float,
) -> Scene:
    image = picture(body, spacing, noise, seed)
    return Scene(name, spacing, image, seeded > 0, start > 0, reach)


def ball_scene(noise: float = 10.0) -> Scene:
    """A ball in isotropic voxels."""
    shape, h = (44, 44, 44), (1.0, 1.0, 1.0)
    body = ball(shape, h, 14.3)
    return _scene("ball", h, body, body, ball(shape, h, 5.0, (20.0, 22.0, 23.0)), noise, 1, 13)


def thick_slices_scene(noise: float = 10.0) -> Scene:
    """A ball in 3:1 voxels."""
    shape, h = (22, 56, 56), (3.0, 1.0, 1.0)
    body = ball(shape, h, 20.3)
    return _scene("ball 3:1", h, body, body, ball(shape, h, 7.0), noise, 2, 14)


def two_balls_scene(noise: float = 10.0, gap: float = 0.0) -> Scene:
    """Two balls `gap` mm apart, touching by default, seeded in one: only that one is right."""
    shape, h = (46, 46, 80), (1.0, 1.0, 1.0)
    first, second = (ball(shape, h, 17.3, (22.5, 22.5, x)) for x in (22.5, 57.1 + gap))
    start = ball(shape, h, 8.0, (22.5, 22.5, 22.5))
    return _scene("two balls", h, np.maximum(first, second), first, start, noise, 3, 10)


def dumbbell_scene(noise: float = 10.0) -> Scene:
    """Two balls joined by a neck of radius 4 mm, seeded in one; a front with r_min below that fills both."""
    shape, h = (36, 36, 72), (1.0, 1.0, 1.0)
    first, second = (ball(shape, h, 11.3, (17.5, 17.5, x)) for x in (17.5, 53.5))
    z, y, x = grid(shape, h, (17.5, 17.5, 35.5))
    neck = np.minimum(4.0 - np.sqrt(z * z + y * y), 14.0 - abs(x))
    body = np.maximum(np.maximum(first, second), neck)
    return _scene("dumbbell", h, body, body, ball(shape, h, 5.0, (17.5, 17.5, 17.5)), noise, 4, 50)


def star_scene(noise: float = 10.0, size: int = 128) -> Scene:
    """A 2D star with five arms."""
    shape, h = (size, size), (1.0, 1.0)
    y, x = grid(shape, h)
    unit = size / 128
    body = unit * (34 + 9 * np.cos(5 * np.arctan2(y, x))) - np.sqrt(x * x + y * y)
    return _scene("star", h, body, body, ball(shape, h, 10.0 * unit), noise, 5, 33 * unit)


def all_scenes(noise: float = 10.0) -> list[Scene]:
    """The five drawn scenes."""
    return [make(noise) for make in (ball_scene, thick_slices_scene, two_balls_scene, dumbbell_scene, star_scene)]


def race_scene(shape: Sequence[int], noise: float = 4.0) -> Scene:
    """The task of the speed table: a bright ball of radius 0.3 N from a seed of radius 4 in its middle."""
    h = (1.0,) * len(shape)
    body = ball(shape, h, 0.3 * min(shape))
    return _scene("x".join(map(str, shape)), h, body, body, ball(shape, h, 4.0), noise, 6, 0.3 * min(shape) - 4)


def sphere_content(radius: float, ndim: int) -> float:
    """Area (2D) or volume (3D) of a ball."""
    return math.pi * radius**2 if ndim == 2 else 4 / 3 * math.pi * radius**3


REPOSITORY = Path(__file__).resolve().parents[1]


LIVER_SLICES = ("p004_s130", "p005_s134", "p027_s121", "p035_s103", "p085_s136", "p109_s116")


def liver_slice_scene(name: str) -> Scene:
    """One liver CT slice of `sample_data`, its liver drawn by people; pixels of unknown size count as 1.

    The grey value is how close the smoothed picture comes to the liver's median, so that the region speed of the drawn
    scenes fits.
    """
    from PIL import Image
    from scipy.ndimage import distance_transform_edt, gaussian_filter

    folder = REPOSITORY / "sample_data" / "liver_slices"
    grey, label = (np.asarray(Image.open(folder / kind / f"{name}.png")) for kind in ("images", "labels"))
    truth = label > 0
    smooth = gaussian_filter(grey.astype(np.float32), 2.0)
    width = 2 * max(float(smooth[truth].std()), 6.0)
    image = (INSIDE + OUTSIDE) / 2 + 10 * (width - np.abs(smooth - np.median(smooth[truth]))) / 8
    depth = distance_transform_edt(truth)
    centre = tuple(float(i) for i in np.unravel_index(depth.argmax(), depth.shape))
    start = ball(grey.shape, (1.0, 1.0), 0.6 * float(depth.max()), centre) > 0
    return Scene(f"liver {name}", (1.0, 1.0), image.astype(np.float32), truth, start, 75.0)


def liver_volume_scene() -> Scene:
    """The liver of the 3 mm CT in `sample_data`, cut out; its label was made by a network."""
    from scipy.ndimage import gaussian_filter

    from src_models.files import read_segmentation, read_volume

    folder = REPOSITORY / "sample_data" / "liver_ct"
    volume = read_volume(folder / "liver_ct.nii.gz")
    label = read_segmentation(folder / "liver_ct_liver.nii.gz").labels > 0
    cut = (slice(0, 50), slice(6, 84), slice(8, 94))
    h = volume.grid.spacing
    smooth = gaussian_filter(volume.array[cut].astype(np.float32), 1.0)
    # 20 to 80 HU, mapped so that the grey values of the drawn scenes mean the same here.
    image = (INSIDE + OUTSIDE) / 2 + (30 - np.abs(smooth - 50))
    start = ball(image.shape, h, 20.0, tuple(i * s for i, s in zip((8, 46, 27), h, strict=True))) > 0
    return Scene("liver in 3D", h, image.astype(np.float32), label[cut], start, 100.0)
