"""Random changes of a training image, after nnU-Net's list and order; labels move with the image.

What happens to a sample is drawn first (`draw_changes` -> `Changes`) and done afterwards by functions without any
random state, so that a sample is the same whoever makes it and whenever. The operators are written out here on arrays,
for speed; the tests compare them with those of MONAI and torch.

Reference: Isensee et al., nnU-Net, Nature Methods 18, 2021, supplementary note 2. Where the original calls the
*variance* of the noise what it uses as its standard deviation, here it is called a standard deviation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from src_models.training.plan import Augmentation
from src_models.training.spatial import cut, moved, rotation_matrix
from src_models.training.stage_labels import StageLabels, change_stage, draw_stage_changes

Image = NDArray[np.float32]
Labels = NDArray[np.int16]
Operator = Callable[[Image, float], Image]

NOISE_STD = (0.0, 0.1)
BLUR_SIGMA = (0.5, 1.0)
BRIGHTNESS = (0.75, 1.25)
CONTRAST = (0.75, 1.25)
RESOLUTION = (0.5, 1.0)
GAMMA = (0.7, 1.5)
EACH_CHANNEL = 0.5
_EPSILON = 1e-7


@dataclass(frozen=True)
class Changes:
    """What is done to one sample; the defaults do nothing.

    Attributes
    ----------
    angles : tuple of float
        Radians: one in 2D; in 3D about the first, second and third array axis.
    scale : float
        Distances in the sample are this many times those in the result: 0.7 shows objects larger.
    in_plane : bool
        A 3D sample is scaled along its last two axes only.
    noise : float
        Standard deviation of what is added, in units of the normalised image.
    blur : tuple of float
        Per channel: standard deviation of a Gaussian in voxels, 0 for none.
    brightness, contrast, resolution, gamma_inverted, gamma : tuple of float
        Per channel: factor or exponent, 1 for none.
    flips : tuple of int
        Spatial axes that are mirrored.
    """

    angles: tuple[float, ...] = ()
    scale: float = 1.0
    in_plane: bool = False
    noise: float = 0.0
    blur: tuple[float, ...] = ()
    brightness: tuple[float, ...] = ()
    contrast: tuple[float, ...] = ()
    resolution: tuple[float, ...] = ()
    gamma_inverted: tuple[float, ...] = ()
    gamma: tuple[float, ...] = ()
    flips: tuple[int, ...] = ()

    @property
    def moves(self) -> bool:
        """Whether voxels are interpolated."""
        return self.scale != 1 or any(self.angles)


@dataclass(frozen=True)
class Augmenter:
    """The changes of a plan, ready for patches of a training.

    Attributes
    ----------
    plan : Augmentation
        Probabilities.
    mirror_axes : tuple of int
        Spatial axes that may be mirrored.
    masked : bool
        The norm left 0 outside the nonzero part of the image: it is 0 there again afterwards.
    """

    plan: Augmentation
    mirror_axes: tuple[int, ...] = ()
    masked: bool = False

    def __call__(
        self,
        image: NDArray[np.float32],
        labels: NDArray[np.integer],
        low: Sequence[int],
        patch: tuple[int, ...],
        rng: np.random.Generator,
        stage: StageLabels | None = None,
    ) -> tuple[Image, Labels]:
        """A changed patch.

        Parameters
        ----------
        image : ndarray of shape (C, *shape)
            The whole image, so that what is turned into the patch is there.
        labels : ndarray of shape (*shape)
            Its labels.
        low : sequence of int
            First voxel of the patch.
        patch : tuple of int
            Its size.
        rng : Generator
            Of this sample.
        stage : StageLabels, optional
            Of a cascade: moved as the labels are, then changed by itself; its channels follow those of the image.
        """
        changes = draw_changes(self.plan, rng, image.shape[0], patch, self.mirror_axes)
        x, y = place(image, labels, low, patch, changes)
        x = change_values(x, changes, rng)
        if changes.flips:
            x = np.ascontiguousarray(np.flip(x, tuple(axis + 1 for axis in changes.flips)))
            y = np.ascontiguousarray(np.flip(y, changes.flips))
        if self.masked:
            x[:, y < 0] = 0
        if stage is None:
            return x, y
        # last, so that a training without a first stage draws what it always drew
        _, earlier = place(image[:0], stage.labels, low, patch, changes)
        channels = stage.channels(np.flip(earlier, changes.flips) if changes.flips else earlier)
        channels = change_stage(channels, draw_stage_changes(self.plan, rng, len(channels)))
        return np.concatenate([x, channels]), y


def draw_changes(
    plan: Augmentation, rng: np.random.Generator, channels: int, patch: tuple[int, ...], mirror_axes: Sequence[int] = ()
) -> Changes:
    """Draw what happens to one sample."""
    degrees, in_plane = rotation_range(plan, patch)
    angles: tuple[float, ...] = ()
    if rng.random() < plan.rotation:
        angles = tuple(math.radians(float(rng.uniform(-limit, limit))) for limit in degrees)
    scale = float(rng.uniform(*plan.scaling_range)) if rng.random() < plan.scaling else 1.0

    def each(probability: float, limits: tuple[float, float], none: float, *, some: bool) -> tuple[float, ...]:
        if rng.random() >= probability:
            return ()
        values = []
        for _ in range(channels):
            wanted = not some or rng.random() < EACH_CHANNEL
            values.append(_between(rng, limits, halves=not some) if wanted else none)
        return tuple(values)

    return Changes(
        angles=angles,
        scale=scale,
        in_plane=in_plane,
        noise=float(rng.uniform(*NOISE_STD)) if rng.random() < plan.noise else 0.0,
        blur=each(plan.blur, BLUR_SIGMA, 0.0, some=True),
        brightness=each(plan.brightness, BRIGHTNESS, 1.0, some=False),
        contrast=each(plan.contrast, CONTRAST, 1.0, some=False),
        resolution=each(plan.low_resolution, RESOLUTION, 1.0, some=True),
        gamma_inverted=each(plan.gamma_inverted, GAMMA, 1.0, some=False),
        gamma=each(plan.gamma, GAMMA, 1.0, some=False),
        flips=tuple(axis for axis in mirror_axes if rng.random() < 0.5),
    )


def _between(rng: np.random.Generator, limits: tuple[float, float], *, halves: bool) -> float:
    """Uniform; with `halves` one half of the draws below 1 and one above, however far the limits are from it."""
    if not halves:
        return float(rng.uniform(*limits))
    return float(rng.uniform(limits[0], 1)) if rng.random() < 0.5 else float(rng.uniform(1, limits[1]))


def rotation_range(plan: Augmentation, patch: Sequence[int]) -> tuple[tuple[float, ...], bool]:
    """Largest angle about each axis in degrees, and whether a 3D patch is turned and scaled in its plane only."""
    in_plane = len(patch) == 3 and max(patch) / patch[0] > 3
    if plan.rotation_degrees is not None:
        given = plan.rotation_degrees
        wanted = 1 if len(patch) == 2 else 3
        return (given if len(given) == wanted else (given[0],) * wanted), in_plane
    if len(patch) == 2:
        return ((15.0,) if max(patch) / min(patch) > 1.5 else (180.0,)), False
    return ((180.0, 0.0, 0.0) if in_plane else (30.0, 30.0, 30.0)), in_plane


def place(
    image: NDArray[np.float32],
    labels: NDArray[np.integer],
    low: Sequence[int],
    patch: tuple[int, ...],
    changes: Changes,
) -> tuple[Image, Labels]:
    """The patch, turned and scaled about its middle; see `Augmenter`."""
    if not changes.moves:
        return cut(image, labels, low, patch)
    matrix = rotation_matrix(changes.angles or (0.0,) * (1 if len(patch) == 2 else 3)) * changes.scale
    if changes.in_plane:
        matrix[0, 0] /= changes.scale
    return moved(image, labels, low, patch, matrix)


def change_values(image: Image, changes: Changes, rng: np.random.Generator) -> Image:
    """Everything that happens to grey values; `rng` makes the noise alone."""
    x = image.copy()
    if changes.noise:
        x += np.float32(changes.noise) * rng.standard_normal(x.shape, np.float32)
    x = _each_channel(x, changes.blur, 0.0, blurred)
    for channel, factor in enumerate(changes.brightness):
        x[channel] *= np.float32(factor)
    x = _each_channel(x, changes.contrast, 1.0, with_contrast)
    x = _each_channel(x, changes.resolution, 1.0, coarsened)
    x = _each_channel(x, changes.gamma_inverted, 1.0, lambda part, power: -with_gamma(-part, power))
    return _each_channel(x, changes.gamma, 1.0, with_gamma)


def _each_channel(x: Image, values: Sequence[float], none: float, operator: Operator) -> Image:
    for channel, value in enumerate(values):
        if value != none:
            x[channel] = operator(x[channel], value)
    return x


def blurred(image: Image, sigma: float) -> Image:
    """A Gaussian of `sigma` voxels over an image (*shape); mirrored at the border."""
    from scipy.ndimage import gaussian_filter1d

    for axis in range(image.ndim):
        image = gaussian_filter1d(image, sigma, axis, truncate=3.0)
    return image


def with_contrast(image: Image, factor: float) -> Image:
    """Distances from the mean times `factor`, cut to the range that was there."""
    mean = image.mean(dtype=np.float64)
    changed = (image - np.float32(mean)) * np.float32(factor) + np.float32(mean)
    return np.clip(changed, image.min(), image.max(), out=changed)


def with_gamma(image: Image, power: float) -> Image:
    """The image on [0, 1] to a power, back on its range, then with the mean and standard deviation it had."""
    low, high = float(image.min()), float(image.max())
    span = high - low
    if span < _EPSILON:
        return image
    mean, std = float(image.mean(dtype=np.float64)), float(image.std(dtype=np.float64))
    x = (image - np.float32(low)) * np.float32(1 / span)
    np.clip(x, 0, 1, out=x)
    np.power(x, np.float32(power), out=x)
    new_mean, new_std = float(x.mean(dtype=np.float64)), float(x.std(dtype=np.float64))
    factor = std / max(new_std, _EPSILON)
    x *= np.float32(factor)
    x += np.float32(mean - new_mean * factor)
    return x


def coarsened(image: Image, factor: float) -> Image:
    """An image (*shape) sampled at `factor` of its resolution (nearest) and brought back (linear)."""
    small = image
    sizes = [max(1, round(n * factor)) for n in image.shape]
    for axis, (n, m) in enumerate(zip(image.shape, sizes, strict=True)):
        small = small.take(np.minimum(((np.arange(m) + 0.5) * (n / m)).astype(np.intp), n - 1), axis)
    for axis, (n, m) in enumerate(zip(image.shape, sizes, strict=True)):
        position = np.clip((np.arange(n) + 0.5) * (m / n) - 0.5, 0, m - 1)
        lower = np.floor(position).astype(np.intp)
        share = (position - lower).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(image.ndim)])
        below = small.take(lower, axis)
        small = below + share * (small.take(np.minimum(lower + 1, m - 1), axis) - below)
    return small
