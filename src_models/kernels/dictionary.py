"""The known kernels, each of absolute sum 1, and which of them no spectrum can tell apart.

Differences are taken from `levelset.stencils` by asking them for their response to one voxel, so that a stencil is
written down in one place only. The first six, their order and their scale are those of the paper's code; what stands
for them in 3D is by analogy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, reduce
from itertools import combinations, permutations, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_models.errors import InputError
from src_models.kernels.parameters import Preset
from src_models.kernels.spectra import singular_values
from src_models.levelset import stencils

Kernel = NDArray[np.float64]
PRESETS: tuple[Preset, ...] = ("paper-6", "paper-11", "extended")
SAME = 1e-9
"""Largest difference of two spectra that are one; at even sizes members of a class may differ by 1/n."""
INDETERMINATE, DEAD = "indeterminate", "dead"
_SMOOTH, _FLAT, _SCHARR, _SLOPE = ([1, 2, 1], [1, 1, 1], [3, 10, 3], [-1, 0, 1])


@dataclass(frozen=True, eq=False)
class Feature:
    """A known kernel: its own name, the family it stands for, and its entries with absolute sum 1."""

    name: str
    family: str
    kernel: Kernel


@dataclass(frozen=True, eq=False)
class Dictionary:
    """Known kernels of one size, and the labels they give.

    Attributes
    ----------
    preset : str
        See `KernelAnalysisParameters`.
    features : tuple of Feature
        In order; it decides ties.
    labels : tuple of str
        One per class of equal spectra, named after the family of its first member.
    label_of : ndarray of shape (features,)
        Place of each feature's label in `labels`.
    """

    preset: str
    features: tuple[Feature, ...]
    labels: tuple[str, ...]
    label_of: NDArray[np.int16]

    @property
    def size(self) -> tuple[int, ...]:
        """Of its kernels."""
        return self.features[0].kernel.shape

    @property
    def flat(self) -> Kernel:
        """One row a feature, shape (features, entries)."""
        return np.stack([feature.kernel.ravel() for feature in self.features])

    def spectra(self, shape: Sequence[int]) -> tuple[Kernel, NDArray[np.int16]]:
        """The distinct spectra on a grid, falling from 1, and the label of each; several at even sizes."""
        curves: list[Kernel] = []
        owners: list[int] = []
        for feature, label in zip(self.features, self.label_of.tolist(), strict=True):
            curve = _normalised(feature.kernel, shape)
            known = (np.abs(curve - other).max() for other, owner in zip(curves, owners, strict=True) if owner == label)
            if all(gap > SAME for gap in known):
                curves.append(curve)
                owners.append(label)
        return np.stack(curves), np.array(owners, np.int16)


def dictionary(
    preset: Preset, size: Sequence[int], spacing: Sequence[float] | None = None, *, merge: bool = True
) -> Dictionary:
    """The known kernels, filled up with zeros to a size.

    Parameters
    ----------
    preset : str
        ``"paper-6"``, ``"paper-11"`` or ``"extended"``.
    size : sequence of int
        Of the kernels they are compared with: odd, 2 or 3 axes.
    spacing : sequence of float, optional
        mm per axis; adds the Laplacian, and the sharpening made from it, of voxels of that size.
    merge : bool
        One label for known kernels of equal spectra.

    Raises
    ------
    InputError
        Where there is no such preset, or the spacing has another number of axes.
    """
    if preset not in PRESETS:
        raise InputError("kernels-preset", f"There are no known kernels named {preset}", "", f"Choose of {PRESETS}.")
    if spacing is not None and len(spacing) != len(size):
        raise InputError(
            "kernels-spacing",
            f"The spacing has {len(spacing)} numbers, the kernels have {len(size)} axes",
            "",
            "Give one number per axis, or none.",
        )
    return _dictionary(preset, tuple(size), None if spacing is None else tuple(map(float, spacing)), merge)


@cache
def _dictionary(preset: str, size: tuple[int, ...], spacing: tuple[float, ...] | None, merge: bool) -> Dictionary:
    ndim = len(size)
    made = _paper_6(ndim)
    if preset != "paper-6":
        made += _paper_11(ndim)
    if preset == "extended":
        made += _extended(ndim)
    if spacing is not None:
        made += _physical(spacing)
    features = tuple(Feature(name, family, embedded(kernel, size)) for name, family, kernel in made)
    if not merge:
        return Dictionary(preset, features, tuple(f.name for f in features), np.arange(len(features), dtype=np.int16))
    # at odd sizes members of a class have the same values, at even ones not quite
    odd = (9,) * ndim if ndim == 3 else (17,) * ndim
    curves: list[Kernel] = []
    labels: list[str] = []
    owners: list[int] = []
    for feature in features:
        curve = _normalised(feature.kernel, tuple(max(n, k) for n, k in zip(odd, size, strict=True)))
        same = [k for k, other in enumerate(curves) if np.abs(other - curve).max() <= SAME]
        if not same:
            curves.append(curve)
            labels.append(feature.family if feature.family not in labels else feature.name)
        owners.append(same[0] if same else len(curves) - 1)
    return Dictionary(preset, features, tuple(labels), np.array(owners, np.int16))


def embedded(kernel: NDArray[Any], size: Sequence[int]) -> Kernel:
    """A kernel in the middle of a larger one, exactly, with absolute sum 1."""
    margin = [((n - k) // 2, (n - k) // 2) for n, k in zip(size, kernel.shape, strict=True)]
    wide = np.pad(np.asarray(kernel, np.float64), margin)
    found: Kernel = wide / np.abs(wide).sum()
    return found


def orientations(kernel: NDArray[Any], spacing: Sequence[float] | None = None) -> list[tuple[str, NDArray[Any]]]:
    """A kernel under every exchange and reflection of axes, each with its name; equal ones, also up to sign, once.

    Parameters
    ----------
    kernel : ndarray
        2 or 3 axes of one length.
    spacing : sequence of float, optional
        Only axes of equal spacing are exchanged.
    """
    letters = "zyx"[-kernel.ndim :]
    found: list[tuple[str, NDArray[Any]]] = []
    seen: set[bytes] = set()
    for order in permutations(range(kernel.ndim)):
        if spacing is not None and any(spacing[a] != spacing[b] for a, b in enumerate(order)):
            continue
        turned = kernel.transpose(order)
        for signs in product((1, -1), repeat=kernel.ndim):
            moved = np.ascontiguousarray(turned[tuple(slice(None, None, sign) for sign in signs)])
            # 0.0 and -0.0 have different bytes
            keys = [np.round(sign * moved, 12) + 0.0 for sign in (1, -1)]
            if any(key.tobytes() in seen for key in keys):
                continue
            seen.add(keys[0].tobytes())
            name = "".join(("-" if sign < 0 else "+") + letters[axis] for sign, axis in zip(signs, order, strict=True))
            found.append((name, moved))
    return found


def response(operator: Callable[[stencils.Neighbourhood], Any], ndim: int) -> Kernel:
    """The kernel of a linear difference operator with voxels of size 1: what it gives for one voxel at each offset."""
    import torch

    kernel = np.zeros((3,) * ndim)
    for place in product(range(3), repeat=ndim):
        impulse = torch.zeros((5,) * ndim, dtype=torch.float64)
        impulse[tuple(k + 1 for k in place)] = 1.0
        kernel[place] = float(operator(stencils.around(impulse, (1.0,) * ndim))[(2,) * ndim])
    return kernel


def _normalised(kernel: Kernel, shape: Sequence[int]) -> Kernel:
    values = singular_values(kernel, shape)
    found: Kernel = values / values[0]
    return found


def _outer(*profiles: Sequence[float]) -> Kernel:
    found: Kernel = reduce(np.multiply.outer, [np.asarray(profile, np.float64) for profile in profiles])
    return found


def _identity(ndim: int) -> Kernel:
    return _outer(*([0, 1, 0],) * ndim)


def _laplacian(ndim: int, spacing: Sequence[float] | None = None) -> Kernel:
    h = spacing or (1.0,) * ndim
    nearest = min(h)
    axes: list[Kernel] = [
        (nearest / h[d]) ** 2 * response(lambda n, d=d: stencils.second(n, d), ndim)  # type: ignore[misc]
        for d in range(ndim)
    ]
    found: Kernel = np.sum(axes, axis=0)
    return found


def _all_around(ndim: int, centre: float) -> Kernel:
    kernel = np.full((3,) * ndim, -1.0)
    kernel[(1,) * ndim] = centre
    return kernel


def _slope(profile: Sequence[float], ndim: int, axis: int, sign: int = 1) -> Kernel:
    return _outer(*([sign * k for k in _SLOPE] if d == axis else profile for d in range(ndim)))


def _paper_6(ndim: int) -> list[tuple[str, str, Kernel]]:
    return [
        ("mean", "mean", _outer(*(_FLAT,) * ndim)),
        ("laplacian", "laplacian", _laplacian(ndim)),
        ("gaussian", "gaussian", _outer(*(_SMOOTH,) * ndim)),
        ("edge", "edge", _slope(_SMOOTH, ndim, ndim - 1)),
        ("identity", "identity", _identity(ndim)),
        ("sharpen", "sharpen", _identity(ndim) - _laplacian(ndim)),
    ]


def _paper_11(ndim: int) -> list[tuple[str, str, Kernel]]:
    letters = "zyx"[-ndim:]
    around, corners = f"laplacian-{3**ndim}", "laplacian-diagonal" if ndim == 2 else "laplacian-corners"
    corner = _outer(*([1, 0, 1],) * ndim)
    made = [
        (around, around, -_all_around(ndim, 3.0**ndim - 1)),
        (corners, corners, corner - 2**ndim * _identity(ndim)),
    ]
    for axis, sign in product(range(ndim), (1, -1)):
        if (axis, sign) != (ndim - 1, 1):
            made.append((f"edge {'+' if sign > 0 else '-'}{letters[axis]}", "edge", _slope(_SMOOTH, ndim, axis, sign)))
    return made


def _extended(ndim: int) -> list[tuple[str, str, Kernel]]:
    letters = "zyx"[-ndim:]
    made: list[tuple[str, str, Kernel]] = []
    middle = (1,) * ndim
    for place in product(range(3), repeat=ndim):
        if place != middle:
            shift = np.zeros((3,) * ndim)
            shift[place] = 1.0
            made.append((f"shift {_offset(place, letters)}", "identity", shift))
    first: tuple[tuple[str, Any], ...] = (
        ("forward", stencils.forward),
        ("backward", stencils.backward),
        ("central", stencils.central),
    )
    for axis in range(ndim):
        for word, operator in first:
            kernel = response(lambda n, f=operator, a=axis: f(n, a), ndim)  # type: ignore[misc]
            made.append((f"{word} difference {letters[axis]}", "first difference", kernel))
    made += [(f"diagonal difference {name}", "first difference", a - b) for name, a, b in _diagonals(ndim)]
    for axis in range(ndim):
        kernel = response(lambda n, a=axis: stencils.second(n, a), ndim)  # type: ignore[misc]
        made.append((f"second difference {letters[axis]}", "second difference", kernel))
    for name, a, b in _diagonals(ndim):
        made.append((f"second difference {name}", "second difference", a + b - 2 * _identity(ndim)))
    for one, two in combinations(range(ndim), 2):
        kernel = response(lambda n, a=one, b=two: stencils.mixed(n, a, b), ndim)  # type: ignore[misc]
        made.append((f"mixed difference {letters[one]}{letters[two]}", "mixed difference", kernel))
    made.append(("compact laplacian", "compact laplacian", _isotropic(ndim)))
    for word, profile in (("prewitt", _FLAT), ("scharr", _SCHARR)):
        made += [(f"{word} {letters[axis]}", word, _slope(profile, ndim, axis)) for axis in reversed(range(ndim))]
    strong = f"sharpen-{3**ndim}"
    gaussian = _outer(*(_SMOOTH,) * ndim)
    made.append((strong, strong, _all_around(ndim, float(3**ndim))))
    made.append(("unsharp", "unsharp", 2 * _identity(ndim) - gaussian / gaussian.sum()))
    return made


def _diagonals(ndim: int) -> list[tuple[str, Kernel, Kernel]]:
    """Pairs of opposite neighbours that differ along more than one axis, as kernels of one entry each."""
    letters = "zyx"[-ndim:]
    found: list[tuple[str, Kernel, Kernel]] = []
    for place in product(range(3), repeat=ndim):
        opposite = tuple(2 - k for k in place)
        if place > opposite and sum(k != 1 for k in place) > 1:
            a, b = np.zeros((3,) * ndim), np.zeros((3,) * ndim)
            a[place], b[opposite] = 1.0, 1.0
            found.append((_offset(place, letters), a, b))
    return found


def _offset(place: Sequence[int], letters: str) -> str:
    return "".join(("+" if k > 1 else "-") + letters[axis] for axis, k in enumerate(place) if k != 1)


def _isotropic(ndim: int) -> Kernel:
    """The compact Laplacian whose error is the same in all directions: by distance, in steps, from the centre."""
    weights = (-20.0, 4.0, 1.0) if ndim == 2 else (-128.0, 14.0, 3.0, 1.0)
    steps = np.abs(np.indices((3,) * ndim) - 1).sum(axis=0)
    found: Kernel = np.asarray(weights)[steps]
    return found


def _physical(spacing: tuple[float, ...]) -> list[tuple[str, str, Kernel]]:
    ndim = len(spacing)
    if len(set(spacing)) == 1:
        return []
    laplacian = _laplacian(ndim, spacing)
    names = ("laplacian of the spacing", "sharpen of the spacing")
    return [(names[0], names[0], laplacian), (names[1], names[1], _identity(ndim) - laplacian)]
