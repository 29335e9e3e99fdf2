"""Points, shapes and painted labels of the viewer as the start of a level set on an image.

Seeds may have any transform of their own: they are taken to the data axes of the image through the world.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_lsnet.layers import LayerVolume, check_region, dense, describe_layer
from napari_lsnet.transforms import Region, aligned_matrix, lattice_offset, level_of, shape_of
from src_models.errors import GeometryError, InputError

if TYPE_CHECKING:
    from napari.layers import Image, Labels, Points, Shapes

    from src_models.levelset.initial import Seeds


def points_to_seeds(points_layer: Points, source_layer: Image | Labels, region: Region, radius_mm: float) -> Seeds:
    """Points of a layer as spheres inside a region of the source.

    Parameters
    ----------
    points_layer : Points
        With any transform of its own.
    source_layer : Image or Labels
        The image that the level set runs on.
    region : tuple of slice or int
        Points on other slices or time points than the pinned ones are left out.
    radius_mm : float
        In mm (in px where the voxel size is not known).

    Raises
    ------
    InputError
        Where there are no points, or some lie outside the region.
    """
    from src_models.levelset.initial import Seeds, Sphere

    centres = points_in_region(points_layer, source_layer, region, "seed points")
    return Seeds(spheres=tuple(Sphere(centre=tuple(centre), radius=radius_mm) for centre in centres), strokes=())


def points_in_region(
    points_layer: Points, source_layer: Image | Labels, region: Region, what: str
) -> list[list[float]]:
    """Points of a layer in mm along the axes of a region of the source, from the centre of its first voxel.

    Parameters
    ----------
    points_layer, source_layer, region
        As for `points_to_seeds`.
    what : str
        What the points are, in the plural.

    Raises
    ------
    InputError
        Where there are no points, or some lie outside the region.
    """
    coordinates = np.atleast_2d(np.asarray(points_layer.data, dtype=np.float64))
    if coordinates.size == 0:
        raise InputError("seeds-none", f"There are no {what}", "", "Click into the structure to add one.")
    volume = describe_layer(source_layer)
    taken = check_region(region, volume.shape)
    indices = _indices_in_source(points_layer, source_layer, coordinates, taken)
    here = _on_pinned(indices, taken)
    if not here.any():
        alone = len(indices) == 1
        raise InputError(
            "seeds-elsewhere",
            f"The {what.removesuffix('s')} does not lie on the slice on show"
            if alone
            else f"None of the {len(indices)} {what} lies on the slice on show",
            "",
            f"Add one there, or move to the slice that has {'it' if alone else 'them'}.",
        )
    return _local_mm(indices[here], taken, volume, what)


def shapes_to_seeds(
    shapes_layer: Shapes, source_layer: Image | Labels, region: Region, radius_mm: float
) -> Seeds | NDArray[np.bool_]:
    """Lines of a shapes layer as strokes, or with filled shapes all of it as a mask, inside a region of the source.

    Returns
    -------
    Seeds or ndarray of bool
        Strokes of `radius_mm` where the layer holds lines and paths only; else a mask of the shape of the region, with
        ellipses, rectangles and polygons filled on the one slice they were drawn on. Shapes on other slices or time
        points than the pinned ones are left out.

    Raises
    ------
    InputError
        Where there are no shapes, or some lie outside the region.
    GeometryError
        Where a filled shape does not lie in a slice of the image.
    """
    from src_models.levelset.initial import Seeds, Stroke, from_seeds

    volume = describe_layer(source_layer)
    taken = check_region(region, volume.shape)
    lines: list[tuple[NDArray[np.float64], str]] = []
    filled: list[tuple[NDArray[np.float64], str]] = []
    for vertices, kind in zip(shapes_layer.data, shapes_layer.shape_type, strict=True):
        indices = _indices_in_source(shapes_layer, source_layer, np.asarray(vertices, dtype=np.float64), taken)
        if _on_pinned(indices, taken).all():
            (filled if kind in ("ellipse", "rectangle", "polygon") else lines).append((indices, kind))
    if not lines and not filled:
        elsewhere = len(shapes_layer.data) > 0
        raise InputError(
            "seeds-elsewhere" if elsewhere else "seeds-none",
            "No seed shape lies on the slice on show" if elsewhere else "There are no seed shapes",
            "",
            "Draw a line or a filled shape there.",
        )
    strokes = [_local_mm(indices, taken, volume, "points of the lines") for indices, _ in lines]
    seeds = Seeds(strokes=tuple(Stroke(points=tuple(tuple(p) for p in line), radius=radius_mm) for line in strokes))
    if not filled:
        return seeds
    mask = np.zeros(_region_shape(taken), dtype=bool)
    for indices, kind in filled:
        _fill(mask, _local_indices(indices, taken, "corners of the shapes"), kind)
    if lines:
        spacing = volume.spacing_of(taken)
        mask |= from_seeds(seeds, mask.shape, spacing, min(spacing))[0] > 0
    if not mask.any():
        raise InputError("seeds-empty", "The shapes cover no voxel", "", "Draw them larger.")
    return mask


def labels_to_mask(
    labels_layer: Labels,
    source_layer: Image | Labels,
    region: Region,
    *,
    value: int | None = None,
    resample: bool = False,
) -> NDArray[np.bool_]:
    """A labels layer as a mask of a region of the source.

    Voxels that coincide are copied exactly, also where one layer is a crop of the other.

    Parameters
    ----------
    labels_layer : Labels
        With any transform of its own.
    source_layer : Image or Labels
        The image that the level set runs on.
    region : tuple of slice or int
        Of the source.
    value : int, optional
        The label to take; without it every label counts.
    resample : bool
        Take the nearest voxel where the grids differ.

    Raises
    ------
    GeometryError
        Where the voxels do not coincide and `resample` is False.
    InputError
        Where nothing is painted inside the region.
    """
    if not resample:
        painted = labels_of_region(labels_layer, source_layer, region)
        mask = np.asarray(painted != 0 if value is None else painted == value)
    else:
        mask = _nearest_mask(
            labels_layer, source_layer, check_region(region, describe_layer(source_layer).shape), value
        )
    if not mask.any():
        raise InputError(
            "seeds-empty",
            "Nothing is painted inside the image"
            if value is None
            else f"Label {value} is not painted inside the image",
            "",
            "Paint into the structure, or choose another label.",
        )
    return mask


def labels_of_region(labels_layer: Labels, source_layer: Image | Labels, region: Region) -> NDArray[Any]:
    """The labels on the voxels of a region of the source, 0 where the labels layer does not reach.

    May be a view of the layer's own data: copy it to keep it.

    Parameters
    ----------
    labels_layer : Labels
        With any transform of its own.
    source_layer : Image or Labels
        The image that the level set runs on.
    region : tuple of slice or int
        Of the source.

    Raises
    ------
    GeometryError
        Where the voxels do not coincide.
    """
    taken = check_region(region, describe_layer(source_layer).shape)
    labels, matrix = _labels_in_source(labels_layer, source_layer, taken)
    offset = lattice_offset(matrix, labels.shape)
    if offset is None:
        raise GeometryError(
            "seeds-grid",
            "The labels lie on another grid than the image",
            "their voxels do not coincide",
            "Paint on a labels layer made from this image, or allow the nearest voxel to be taken.",
        )
    shape = _full_shape(taken)
    starts = [part.start if isinstance(part, slice) else part for part in taken]
    into, out_of = _overlap(shape, starts, labels.shape, offset)
    if out_of is not None and into == tuple(slice(0, n) for n in shape):
        view: NDArray[Any] = np.asarray(labels[out_of]).reshape(_region_shape(taken))
        return view
    found = np.zeros(shape, dtype=labels.dtype)
    if into is not None and out_of is not None:
        found[into] = np.asarray(labels[out_of])
    return found.reshape(_region_shape(taken))


def _nearest_mask(labels_layer: Any, source_layer: Any, taken: Region, value: int | None) -> NDArray[np.bool_]:
    """A labels layer on another grid, by the nearest voxel."""
    from scipy.ndimage import affine_transform

    labels, matrix = _labels_in_source(labels_layer, source_layer, taken)
    back = np.linalg.inv(matrix)
    whole = dense(labels)
    painted = (whole != 0) if value is None else (whole == value)
    starts = [part.start if isinstance(part, slice) else part for part in taken]
    shift = back[:-1, :-1] @ np.array(starts, dtype=np.float64) + back[:-1, -1]
    mask = affine_transform(
        painted.view(np.uint8), back[:-1, :-1], shift, _full_shape(taken), order=0, mode="constant", cval=0
    )
    return mask.astype(bool).reshape(_region_shape(taken))


def matching_region(target_layer: Labels, source_layer: Image | Labels, region: Region) -> Region:
    """The region of a labels layer that covers exactly the voxels of a region of the source.

    Raises
    ------
    GeometryError
        Where the voxels do not coincide, or the region reaches out of the labels layer.
    """
    taken = check_region(region, shape_of(source_layer, level_of(source_layer)))
    target_shape = shape_of(target_layer, level_of(target_layer))
    matrix = aligned_matrix(target_layer, source_layer, taken)
    lead = source_layer.ndim - len(target_shape)
    offset = lattice_offset(matrix, (1,) * lead + target_shape) if lead >= 0 else None
    if offset is not None:
        found: list[slice | int] = []
        for part, shift in zip(taken[lead:], offset[lead:], strict=True):
            found.append(slice(part.start - shift, part.stop - shift) if isinstance(part, slice) else part - shift)
        starts = [part.start if isinstance(part, slice) else part for part in found]
        stops = [part.stop if isinstance(part, slice) else part + 1 for part in found]
        if min(starts) >= 0 and all(stop <= n for stop, n in zip(stops, target_shape, strict=True)):
            return tuple(found)
    raise GeometryError(
        "target-grid",
        "The labels layer does not cover this part of the image voxel by voxel",
        "",
        "Choose a labels layer made from this image, or accept into a new layer.",
    )


def _indices_in_source(layer: Any, source: Any, points: NDArray[np.float64], region: Region) -> NDArray[np.float64]:
    """Fractional indices in the source of points in a layer's own coordinates."""
    matrix = aligned_matrix(layer, source, region)
    shared = min(source.ndim, layer.ndim)
    padded = np.zeros((len(points), source.ndim))
    padded[:, source.ndim - shared :] = points[:, layer.ndim - shared :]
    moved: NDArray[np.float64] = padded @ matrix[:-1, :-1].T + matrix[:-1, -1]
    return moved


def _on_pinned(indices: NDArray[np.float64], region: Region) -> NDArray[np.bool_]:
    """Which points lie on the slice and time point that the region pins."""
    here = np.ones(len(indices), dtype=bool)
    for axis, part in enumerate(region):
        if not isinstance(part, slice):
            here &= np.floor(indices[:, axis] + 0.5) == part
    return here


def _local_indices(indices: NDArray[np.float64], region: Region, what: str) -> NDArray[np.float64]:
    """Indices within the array of the region; refuses what lies outside."""
    kept = [axis for axis, part in enumerate(region) if isinstance(part, slice)]
    parts = [part for part in region if isinstance(part, slice)]
    local = indices[:, kept] - np.array([part.start for part in parts], dtype=np.float64)
    lengths = np.array([part.stop - part.start for part in parts], dtype=np.float64)
    outside = int(((local < -0.5) | (local >= lengths - 0.5)).any(axis=1).sum())
    if outside:
        # a line or a shape has several
        alone = len(indices) == 1 and " of " not in what
        raise InputError(
            "seeds-outside",
            f"The {what.removesuffix('s')} lies outside the image or its region"
            if alone
            else f"{outside} of {len(indices)} {what} lie outside the image or its region",
            "",
            f"Move or delete {'it' if alone else 'them'}, or enlarge the region.",
        )
    return local


def _local_mm(indices: NDArray[np.float64], region: Region, volume: LayerVolume, what: str) -> list[list[float]]:
    """Lengths in mm along the axes of the region's array, from the centre of its first voxel."""
    spacing = np.array(volume.spacing_of(region))
    values: list[list[float]] = (_local_indices(indices, region, what) * spacing).tolist()
    return values


def _fill(mask: NDArray[np.bool_], corners: NDArray[np.float64], kind: str) -> None:
    """Set the voxels whose centre lies in a filled shape, on the slice it was drawn on."""
    plane: tuple[Any, ...] = (slice(None),) * 2
    if mask.ndim == 3:
        across = int(np.ptp(corners, axis=0).argmin())
        if np.ptp(corners[:, across]) > 0.5:
            raise GeometryError(
                "shape-tilted",
                "A filled shape does not lie in a slice of the image",
                "",
                "Draw it on a slice of this image, with the image's own axes in view.",
            )
        at = int(np.floor(corners[:, across].mean() + 0.5))
        plane = tuple(at if axis == across else slice(None) for axis in range(3))
        corners = np.delete(corners, across, axis=1)
    view = mask[plane]
    if kind != "ellipse":
        from skimage.draw import polygon

        rows, columns = polygon(corners[:, 0], corners[:, 1], view.shape)  # type: ignore[no-untyped-call]
        view[rows, columns] = True
        return
    # napari stores the corners of the box around an ellipse; in the box's own axes the ellipse is the unit circle.
    centre = corners.mean(axis=0)
    axes = np.stack([(corners[1] - corners[0]) / 2, (corners[3] - corners[0]) / 2], axis=1)
    if abs(np.linalg.det(axes)) < 1e-12:
        return
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in view.shape], indexing="ij"), axis=-1) - centre
    view |= (np.linalg.solve(axes, grid[..., None])[..., 0] ** 2).sum(axis=-1) <= 1.0


def _labels_in_source(labels: Any, source: Any, region: Region) -> tuple[Any, NDArray[np.float64]]:
    """The labels with the axes of the source, and the matrix from their indices to those of the source."""
    level = level_of(labels)
    array = labels.data[level] if labels.multiscale else labels.data
    matrix = aligned_matrix(labels, source, region)
    if labels.ndim > source.ndim:
        cut = labels.ndim - source.ndim
        if any(n != 1 for n in array.shape[:cut]):
            raise GeometryError(
                "seeds-axes",
                f"The labels have {labels.ndim} axes and the image has {source.ndim}",
                "",
                "Choose labels that were painted on this image.",
            )
        return array[(0,) * cut], matrix
    return (array if labels.ndim == source.ndim else array[(None,) * (source.ndim - labels.ndim)]), matrix


def _overlap(
    shape: tuple[int, ...], starts: Sequence[int], other_shape: tuple[int, ...], offset: tuple[int, ...]
) -> tuple[tuple[slice, ...] | None, tuple[slice, ...] | None]:
    """Where a box that starts at `starts` and an array that lies at `offset` share voxels, in the indices of each."""
    into, out_of = [], []
    for length, start, other, shift in zip(shape, starts, other_shape, offset, strict=True):
        low, high = max(start, shift), min(start + length, shift + other)
        if low >= high:
            return None, None
        into.append(slice(low - start, high - start))
        out_of.append(slice(low - shift, high - shift))
    return tuple(into), tuple(out_of)


def _full_shape(region: Region) -> tuple[int, ...]:
    return tuple(part.stop - part.start if isinstance(part, slice) else 1 for part in region)


def _region_shape(region: Region) -> tuple[int, ...]:
    return tuple(part.stop - part.start for part in region if isinstance(part, slice))
