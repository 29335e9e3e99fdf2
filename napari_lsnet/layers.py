"""Layer to array and back: with `transforms`, the only place that reads or writes the transforms of layers.

The place of a layer is the full transform ``affine * (rotate * shear * scale + translate)`` with a unit per world axis.
Arrays are read along the layer's own data axes and results are put back on exactly those voxels, so nothing is
resampled on the way. What a person declares about a layer (voxel size, meaning of the axes, place in the patient) is
kept beside the layer and never written on it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from napari_lsnet.compat import slider_units
from napari_lsnet.transforms import (
    Region,
    conversion,
    holds_voxels,
    in_mm,
    level_factors,
    level_of,
    matrix_of,
    millimetres,
    off_axes,
    physical_matrix,
    same_place,
    shape_of,
    unit_factors,
    world_matrix,
)
from src_models.errors import GeometryError, InputError
from src_models.geometry import Grid, Segmentation, StoredOrder, Volume, check_spacing

if TYPE_CHECKING:
    from napari.components import Dims
    from napari.layers import Image, Labels, Layer

Role: TypeAlias = Literal["t", "c", "z", "y", "x"]

_TIME_LABELS = frozenset({"t", "time", "frame", "frames"})
_CHANNEL_LABELS = frozenset({"c", "ch", "channel", "channels"})
# Rec. 709 weights, the ones scikit-image's rgb2gray has.
_LUMINANCE = (0.2125, 0.7154, 0.0721)
_OBLIQUE_DEGREES = 1.0
_NEAR_AXIAL_DEGREES = 15.0


@dataclass
class _Declared:
    """What a person said about a layer that the layer itself does not say."""

    spacing: tuple[float, ...] | None = None
    roles: tuple[Role, ...] | None = None
    patient: tuple[Grid, NDArray[np.float64]] | None = None


_declared: WeakKeyDictionary[Any, _Declared] = WeakKeyDictionary()


@dataclass(frozen=True, eq=False)
class LayerVolume:
    """What an image or labels layer holds, as it is now.

    Attributes
    ----------
    shape : tuple of int
        One length per data axis, at `level`, without the colours of an RGB image.
    dtype : numpy.dtype
        Of the values.
    roles : tuple of str
        "t" (time) or "c" (channel) for an axis that is pinned to one index; "z", "y", "x" for axes in space.
    roles_clear : bool
        False where the roles are a guess that the person should be able to correct.
    axis_labels : tuple of str
        The layer's own.
    spacing : tuple of float
        mm per voxel for every axis in space, in array order; 1 where it is not known.
    spacing_known : bool
        False where the layer is in pixels and no voxel size was declared.
    level : int
        Resolution level that is read; 0 is the finest.
    rgb, multiscale : bool
        The layer's own.
    oblique : bool
        Whether the axes are more than one degree off those of the patient, or of the viewer if there is no patient.
    patient : Grid or None
        Place in the patient of the axes in space, see `patient_grid`.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    roles: tuple[Role, ...]
    roles_clear: bool
    axis_labels: tuple[str, ...]
    spacing: tuple[float, ...]
    spacing_known: bool
    level: int
    rgb: bool
    multiscale: bool
    oblique: bool
    patient: Grid | None

    @property
    def is_time(self) -> tuple[bool, ...]:
        """Per data axis, whether it is no axis in space (time or channel) and so pinned to one index."""
        return tuple(role in ("t", "c") for role in self.roles)

    @property
    def spatial_axes(self) -> tuple[int, ...]:
        """The data axes in space, in array order."""
        return tuple(axis for axis, pinned in enumerate(self.is_time) if not pinned)

    @property
    def unit(self) -> str:
        """Unit of lengths in this image: "mm", or "px" where the voxel size is not known."""
        return "mm" if self.spacing_known else "px"

    @property
    def text(self) -> str:
        """One line on size, voxel size and place."""
        parts = [" x ".join(str(self.shape[axis]) for axis in self.spatial_axes)]
        for axis, role in enumerate(self.roles):
            if role == "t":
                parts.append(f"{self.shape[axis]} time points")
            elif role == "c":
                parts.append(f"{self.shape[axis]} channels")
        if self.spacing_known:
            parts.append(" x ".join(_number(h) for h in self.spacing) + " mm")
        else:
            parts.append("voxel size unknown")
        if self.rgb:
            parts.append("colour")
        if self.level:
            parts.append(f"resolution level {self.level}")
        if self.oblique:
            parts.append("oblique")
        known = self.patient is not None and self.patient.orientation_known
        parts.append("patient position known" if known else "patient position unknown")
        return ", ".join(parts)

    def spacing_of(self, region: Region) -> tuple[float, ...]:
        """Spacing of the array that `read_region` gives: one value per axis in space that is not pinned."""
        by_axis = dict(zip(self.spatial_axes, self.spacing, strict=True))
        return tuple(by_axis.get(axis, 1.0) for axis, part in enumerate(region) if isinstance(part, slice))


def describe_layer(layer: Image | Labels) -> LayerVolume:
    """What an image or labels layer holds: size, voxel size, axes, place.

    Raises
    ------
    InputError
        For other kinds of layers, and for values that are not real numbers.
    GeometryError
        Where the layer's transform gives a voxel size that cannot be.
    """
    if not holds_voxels(layer):
        raise InputError(
            "layer-kind", "This layer holds no voxels", "", "Choose an image, or a labels layer, as the input."
        )
    level = level_of(layer)
    array = layer.data[level] if layer.multiscale else layer.data
    rgb = bool(getattr(layer, "rgb", False))
    shape = tuple(int(n) for n in array.shape[: layer.ndim])
    dtype = np.dtype(array.dtype)
    if dtype.kind not in "buif":
        kind = "complex" if dtype.kind == "c" else str(dtype)
        raise InputError(
            "image-dtype",
            f"Images of {kind} values cannot be used",
            "the level set needs one real number per voxel",
            "Choose its magnitude, real or imaginary part as an image of its own.",
        )
    roles, clear = _roles(layer)
    spatial = [axis for axis, role in enumerate(roles) if role in ("z", "y", "x")]
    directions = (unit_factors(layer)[:, None] * world_matrix(layer)[:-1, :-1])[np.ix_(spatial, spatial)]
    spacing = tuple(float(h) for h in np.linalg.norm(directions, axis=0) * level_factors(layer, level)[spatial])
    known = in_mm(layer, spatial)
    declared = _beside(layer).spacing
    if declared is not None and not known and len(declared) == len(spatial):
        spacing, known = declared, True
    elif not known:
        # In pixels: one voxel is one px, whatever the scale, unless the scale says that voxels are not cubes.
        spacing = tuple(h / min(spacing) for h in spacing)
    check_spacing(spacing, len(spatial))
    patient = patient_grid(layer)
    if patient is not None and patient.orientation_known:
        oblique = off_axes(patient.index_to_patient[:3, :3]) > _OBLIQUE_DEGREES
    else:
        oblique = off_axes(directions) > _OBLIQUE_DEGREES
    return LayerVolume(
        shape=shape,
        dtype=dtype,
        roles=roles,
        roles_clear=clear,
        axis_labels=tuple(str(label) for label in layer.axis_labels),
        spacing=spacing,
        spacing_known=known,
        level=level,
        rgb=rgb,
        multiscale=bool(layer.multiscale),
        oblique=oblique,
        patient=patient,
    )


def read_region(
    layer: Image | Labels, region: Region, *, channel: int | Literal["luminance"] = "luminance"
) -> NDArray[Any]:
    """A private, dense copy of a region of a layer, in native byte order.

    Parameters
    ----------
    layer : Image or Labels
        Of numpy, dask, zarr or any array that takes slices; of a multiscale layer the level of `describe_layer`.
    region : tuple of slice or int
        One entry per data axis; an integer takes one index and drops the axis.
    channel : int or "luminance"
        What to read of an RGB(A) image; ignored for others.

    Returns
    -------
    ndarray
        Of the layer's dtype; float32 for the luminance of an RGB image.
    """
    volume = describe_layer(layer)
    taken = check_region(region, volume.shape)
    array = layer.data[volume.level] if volume.multiscale else layer.data
    if not volume.rgb:
        return dense(array[taken])
    count = int(array.shape[-1])
    if channel == "luminance":
        colours = dense(array[(*taken, slice(0, 3))]).astype(np.float32)
        grey: NDArray[Any] = colours @ np.asarray(_LUMINANCE, np.float32)
        return grey
    if not 0 <= channel < count:
        raise InputError(
            "image-channel", f"The image has no colour channel {channel}", "", f"Choose one from 0 to {count - 1}."
        )
    return dense(array[(*taken, channel)])


def not_finite_note(array: NDArray[Any]) -> str:
    """What to tell about NaN and infinite values in an array that was read; "" where there are none."""
    if array.dtype.kind != "f":
        return ""
    missing = int(np.isnan(array).sum())
    infinite = int(np.isinf(array).sum())
    if not missing + infinite:
        return ""
    return (
        f"{missing + infinite} voxels hold no number ({missing} NaN, {infinite} infinite): replace them before a run."
    )


def check_region(region: Region, shape: tuple[int, ...]) -> Region:
    """The region with every start and stop filled in.

    Raises
    ------
    InputError
        Where it does not fit the shape, steps over voxels, or holds nothing.
    """
    outside = InputError(
        "region-outside", "The region does not lie inside the image", "", "Draw it again, or take the whole image."
    )
    if len(region) != len(shape):
        raise outside
    checked: list[slice | int] = []
    for part, length in zip(region, shape, strict=True):
        if not isinstance(part, slice):
            if not 0 <= int(part) < length:
                raise outside
            checked.append(int(part))
            continue
        start = 0 if part.start is None else int(part.start)
        stop = length if part.stop is None else int(part.stop)
        if part.step not in (None, 1) or not 0 <= start < stop <= length:
            raise outside
        checked.append(slice(start, stop))
    return tuple(checked)


def region_for(layer: Image | Labels, viewer_dims: Dims, mode: Literal["volume", "slice"]) -> Region:
    """The part of a layer that is to be worked on.

    Parameters
    ----------
    layer : Image or Labels
        The image.
    viewer_dims : napari Dims
        ``viewer.dims``: which axes are displayed, and where the sliders stand.
    mode : str
        ``"volume"`` is all of the axes in space; ``"slice"`` is the one slice on show. Time and channel axes are always
        pinned to the index on show.

    Raises
    ------
    InputError
        Where the sliders stand outside the image, or the slice mode is asked for while the view is 3D.
    """
    volume = describe_layer(layer)
    extra = viewer_dims.ndim - layer.ndim
    displayed = {axis - extra for axis in viewer_dims.displayed}
    hidden = [axis for axis in range(layer.ndim) if axis not in displayed]
    wanted = [axis for axis, pinned in enumerate(volume.is_time) if pinned]
    if mode == "slice":
        wanted += [axis for axis in hidden if axis not in wanted]
        if len(volume.spatial_axes) == 3 and not set(hidden) & set(volume.spatial_axes):
            raise InputError(
                "slice-in-3d",
                "No single slice is on show",
                "the view is 3D",
                "Switch the view to 2D, or take the volume.",
            )
    region: list[slice | int] = [slice(0, n) for n in volume.shape]
    if not wanted:
        return tuple(region)
    if set(wanted) & displayed:
        raise InputError(
            "time-displayed", "A time or channel axis lies in the picture", "", "Roll the view until it is on a slider."
        )
    # The sliders move in the viewer's units; napari takes the hidden axes alone, so this finds the slice it draws.
    inverse = np.linalg.inv(world_matrix(layer))
    units = slider_units(viewer_dims)
    point = np.array(viewer_dims.point[extra:] if extra >= 0 else (0.0,) * -extra + tuple(viewer_dims.point))
    if units is not None and len(units) >= layer.ndim:
        point = point * conversion(units[len(units) - layer.ndim :], layer.units)
    factors = level_factors(layer, volume.level)
    indices = inverse[np.ix_(hidden, hidden)] @ point[hidden] + inverse[hidden, -1]
    for axis, index in zip(hidden, indices, strict=True):
        if axis not in wanted:
            continue
        nearest = int(np.floor(index / factors[axis] + 0.5))
        if not 0 <= nearest < volume.shape[axis]:
            raise InputError(
                "slice-outside",
                "The slice on show lies outside the image",
                "",
                "Move the slider until the image is visible.",
            )
        region[axis] = nearest
    return tuple(region)


def result_transform(layer: Image | Labels, region: Region) -> dict[str, Any]:
    """Keyword arguments that put a result of a region exactly on its source.

    The result keeps all data axes: an axis that was pinned becomes one voxel thick, see `result_array`.

    Parameters
    ----------
    layer : Image or Labels
        The source.
    region : tuple of slice or int
        Of the source, at the level that `describe_layer` names.

    Returns
    -------
    dict
        scale, translate, rotate, shear, affine, units and axis_labels.
    """
    level = level_of(layer)
    taken = check_region(region, shape_of(layer, level))
    factors = level_factors(layer, level)
    start = np.array([part.start if isinstance(part, slice) else part for part in taken], dtype=np.float64)
    physical = physical_matrix(layer)
    return {
        "scale": np.asarray(layer.scale, dtype=np.float64) * factors,
        "translate": physical[:-1, -1] + physical[:-1, :-1] @ (start * factors),
        "rotate": np.array(layer.rotate, dtype=np.float64),
        "shear": np.array(layer.shear, dtype=np.float64),
        "affine": np.array(layer.affine.affine_matrix, dtype=np.float64),
        "units": tuple(layer.units),
        "axis_labels": tuple(layer.axis_labels),
    }


def stepped_transform(
    layer: Image | Labels, region: Region, start: Sequence[float], step: Sequence[float]
) -> dict[str, Any]:
    """As `result_transform`, for an array whose voxels lie apart: coarser than the source, or between its voxels.

    Parameters
    ----------
    layer : Image or Labels
        The source.
    region : tuple of slice or int
        Of the source.
    start, step : sequence of float
        Per axis of the region that is not pinned: where the first voxel lies in the region, and how far apart two
        neighbours are, both in voxels of the source.
    """
    arguments = result_transform(layer, region)
    free = [axis for axis, part in enumerate(region) if isinstance(part, slice)]
    shift, factor = np.zeros(layer.ndim), np.ones(layer.ndim)
    shift[free], factor[free] = start, step
    linear = physical_matrix(layer)[:-1, :-1] * level_factors(layer, level_of(layer))
    arguments["translate"] = arguments["translate"] + linear @ shift
    arguments["scale"] = arguments["scale"] * factor
    return arguments


LABELS_IN_3D: dict[str, Any] = {"iso_gradient_mode": "smooth"}
"""Labels as a body in 3D: shaded by the direction of the surface; napari's quick way speckles it voxel by voxel."""


def result_arguments(layer: Image | Labels, region: Region) -> dict[str, Any]:
    """`result_transform` together with the metadata that tell a writer the result's place in the patient."""
    arguments = result_transform(layer, region)
    source = dict(layer.metadata).get("lsnet", {})
    content = {key: source[key] for key in ("stored_order", "header", "value_unit", "source_hash") if key in source}
    grid = patient_grid(layer)
    if grid is not None:
        volume = describe_layer(layer)
        parts = check_region(region, volume.shape)
        boxes = [parts[axis] for axis in volume.spatial_axes]
        box = tuple(part if isinstance(part, slice) else slice(part, part + 1) for part in boxes)
        matrix = matrix_of(arguments)
        leading = tuple(
            part.stop - part.start
            for axis, part in enumerate(parts)
            if axis not in volume.spatial_axes and isinstance(part, slice)
        )
        content["geometry"] = _geometry_content(grid.crop(box), matrix, leading)
    return arguments | {"metadata": {"lsnet": content}}


def result_array(region: Region, array: NDArray[Any]) -> NDArray[Any]:
    """A view of a result with every pinned axis put back, one voxel thick."""
    index = tuple(slice(None) if isinstance(part, slice) else None for part in region)
    view: NDArray[Any] = array[index]
    return view


def layer_arguments(volume: Volume | Segmentation) -> dict[str, Any]:
    """Keyword arguments for a layer that shows a volume: axis aligned, in mm, with the place in the patient beside it.

    The world of the layer is LPS mm turned into the image's own axes, so images of one direction overlay without
    rotation.
    """
    array = volume.array if isinstance(volume, Volume) else volume.labels
    grid = volume.grid
    lead = array.ndim - grid.ndim
    directions = grid.index_to_patient[:3, :3] / np.linalg.norm(grid.index_to_patient[:3, :3], axis=0)
    origin = np.linalg.solve(directions, grid.index_to_patient[:3, 3])[3 - grid.ndim :]
    length_unit = "millimeter" if grid.spacing_known else "pixel"
    leading = volume.leading_axis if isinstance(volume, Volume) else ""
    time_step = volume.time_step if isinstance(volume, Volume) else None
    seconds = leading == "t" and time_step is not None
    arguments: dict[str, Any] = {
        "scale": np.array((time_step if seconds else 1.0,) * lead + grid.spacing, dtype=np.float64),
        "translate": np.concatenate([np.zeros(lead), origin]),
        "units": ("second" if seconds else "pixel",) * lead + (length_unit,) * grid.ndim,
        "axis_labels": (leading or "t",) * lead + _letters(grid),
    }
    if isinstance(volume, Volume):
        arguments["rgb"] = False
    content: dict[str, Any] = {
        "geometry": _geometry_content(grid, matrix_of(arguments), array.shape[:lead]),
        "stored_order": {"axes": list(volume.stored_order.axes), "flips": list(volume.stored_order.flips)},
        "header": dict(volume.header),
        "value_unit": volume.value_unit if isinstance(volume, Volume) else "",
        "source_hash": volume.source_hash,
    }
    return arguments | {"metadata": {"lsnet": content}}


def volume_from_attributes(data: Any, attributes: Mapping[str, Any]) -> Volume:
    """The volume behind the data and attributes of a layer, as a writer is given them.

    Raises
    ------
    GeometryError
        Where nothing says how large the voxels are, or where the layer was moved after its place was known.
    """
    content = dict(attributes.get("metadata") or {}).get("lsnet", {})
    array = np.asarray(data)
    ndim = min(array.ndim, 3)
    matrix = matrix_of({"scale": np.ones(array.ndim), "translate": np.zeros(array.ndim)} | dict(attributes))
    known = content.get("geometry")
    if known is not None:
        grid = _grid_if_unmoved(known, array.shape, matrix)
        if grid is None:
            raise GeometryError(
                "layer-moved",
                "The patient position of this layer is not known any more",
                "it was moved or reshaped by hand",
                "Undo the move, or accept the new position under Geometry.",
            )
        order = content.get("stored_order")
        stored = None if order is None else StoredOrder(tuple(order["axes"]), tuple(order["flips"]))
        lead = array.ndim - grid.ndim
        leading = "" if lead == 0 else str(next(iter(attributes.get("axis_labels", "t"))))
        return Volume(
            array,
            grid,
            leading_axis=leading if leading in ("t", "c") else "t" if lead else "",
            value_unit=str(content.get("value_unit", "")),
            stored_order=stored,  # type: ignore[arg-type]
            header=dict(content.get("header", {})),
            source_hash=str(content.get("source_hash", "")),
        )
    units = attributes.get("units")
    factors = None if units is None else [millimetres(unit) for unit in tuple(units)[array.ndim - ndim :]]
    if factors is None or any(factor is None for factor in factors):
        raise GeometryError(
            "layer-voxel-size",
            "The voxel size of this layer is not known",
            "it has no unit of length",
            "Declare the voxel size under Geometry, or choose the image it belongs to.",
        )
    linear = matrix[array.ndim - ndim : -1, array.ndim - ndim : -1] * np.array(factors, dtype=np.float64)[:, None]
    return Volume(array, Grid(array.shape[array.ndim - ndim :], tuple(np.linalg.norm(linear, axis=0).tolist())))


def patient_grid(layer: Layer) -> Grid | None:
    """The grid of a layer's axes in space, with its place in the patient; None where it is not known.

    It is not known any more once the layer was moved or reshaped by hand, until `declare_patient_grid` is called.
    """
    if not holds_voxels(layer):
        return None
    # A coarse level has another shape than the grid, and so no place of its own.
    shape = shape_of(layer, level_of(layer))
    matrix = world_matrix(layer)
    declared = _beside(layer).patient
    if declared is not None:
        grid, placed = declared
        spatial = tuple(shape[axis] for axis in _spatial(layer))
        return grid if grid.shape == spatial and same_place(placed, matrix, shape) else None
    known = dict(dict(layer.metadata).get("lsnet", {})).get("geometry")
    return None if known is None else _grid_if_unmoved(known, shape, matrix)


def declare_patient_grid(layer: Layer, grid: Grid | None) -> None:
    """Remember, beside the layer, where it lies in the patient as it stands now; None forgets it."""
    beside = _beside(layer)
    beside.patient = None if grid is None else (grid, world_matrix(layer))
    _declared[_bare(layer)] = beside


def declare_spacing(layer: Layer, spacing: Sequence[float] | None) -> None:
    """Remember, beside the layer, the voxel size in mm of its axes in space; None forgets it.

    Raises
    ------
    GeometryError
        Where a value is missing or not above 0.
    """
    if spacing is not None:
        check_spacing(tuple(spacing), len(_spatial(layer)))
    beside = _beside(layer)
    beside.spacing = None if spacing is None else tuple(float(h) for h in spacing)
    _declared[_bare(layer)] = beside


def declare_axes(layer: Layer, roles: Sequence[Role] | None) -> None:
    """Remember, beside the layer, what its axes are, such as ``("t", "y", "x")``; None forgets it.

    Raises
    ------
    InputError
        Where there is not one role per axis, or not two or three axes in space.
    """
    beside = _beside(layer)
    if roles is not None:
        spatial = [role for role in roles if role in ("z", "y", "x")]
        if (
            len(roles) != layer.ndim
            or len(set(spatial)) != len(spatial)
            or not 2 <= len(spatial) <= 3
            or set(roles) - {"t", "c", "z", "y", "x"}
        ):
            raise InputError(
                "axes-declared",
                f"The axes {' '.join(roles)} do not fit this image",
                "",
                f"Give {layer.ndim} letters out of t, c, z, y, x, with two or three of z, y and x.",
            )
    beside.roles = None if roles is None else tuple(roles)
    _declared[_bare(layer)] = beside


def _bare(layer: Any) -> Any:
    """The layer itself: plugins are handed a proxy that is made anew for each access."""
    return getattr(layer, "__wrapped__", layer)


def _beside(layer: Any) -> _Declared:
    return _declared.get(_bare(layer)) or _Declared()


def _roles(layer: Any) -> tuple[tuple[Role, ...], bool]:
    """What the data axes are, and whether that is certain."""
    declared = _beside(layer).roles
    if declared is not None and len(declared) == layer.ndim:
        return declared, True
    labels = [str(label).lower() for label in layer.axis_labels]
    pinned: dict[int, Role] = {}
    for axis, (label, unit) in enumerate(zip(labels, layer.units, strict=True)):
        if label in _TIME_LABELS or dict(unit.dimensionality) == {"[time]": 1}:
            pinned[axis] = "t"
        elif label in _CHANNEL_LABELS:
            pinned[axis] = "c"
    if layer.ndim - len(pinned) < 2:
        pinned = {}
    said = bool(pinned) or in_mm(layer, range(layer.ndim)) or not all(label.lstrip("-").isdigit() for label in labels)
    free = [axis for axis in range(layer.ndim) if axis not in pinned]
    clear = layer.ndim == 2 or (said and len(free) <= 3)
    for axis in free[:-3]:
        pinned[axis] = "c" if "t" in pinned.values() else "t"
    names = iter("zyx"[-min(len(free), 3) :])
    roles: list[Any] = [pinned[axis] if axis in pinned else next(names) for axis in range(layer.ndim)]
    return tuple(roles), clear


def _spatial(layer: Any) -> tuple[int, ...]:
    return tuple(axis for axis, role in enumerate(_roles(layer)[0]) if role in ("z", "y", "x"))


def _letters(grid: Grid) -> tuple[str, ...]:
    """Axis labels of a layer that we make: ends in the patient where the axes are near enough to name them."""
    plain = ("z", "y", "x")[3 - grid.ndim :]
    directions = grid.index_to_patient[:3, :3] / np.linalg.norm(grid.index_to_patient[:3, :3], axis=0)
    if not grid.orientation_known or off_axes(directions) > _NEAR_AXIAL_DEGREES:
        return plain
    ends = ("R-L", "A-P", "I-S")
    return tuple(ends[int(np.abs(directions[:, axis]).argmax())] for axis in range(3 - grid.ndim, 3))


def _geometry_content(grid: Grid, placed: NDArray[np.float64], leading: tuple[int, ...] = ()) -> dict[str, Any]:
    """A grid and where the layer stood when it was valid, as plain values that survive saving and duplicating."""
    return {
        "shape": list(grid.shape),
        "leading": list(leading),
        "spacing": list(grid.spacing),
        "index_to_patient": grid.index_to_patient.tolist(),
        "orientation_known": grid.orientation_known,
        "spacing_known": grid.spacing_known,
        "placed": placed.tolist(),
    }


def _grid_if_unmoved(content: Mapping[str, Any], shape: tuple[int, ...], matrix: NDArray[np.float64]) -> Grid | None:
    """The grid in a layer's metadata, if the layer still has its shape and stands where it stood."""
    try:
        grid = Grid(
            shape=tuple(int(n) for n in content["shape"]),
            spacing=tuple(float(h) for h in content["spacing"]),
            index_to_patient=np.array(content["index_to_patient"], dtype=np.float64),
            orientation_known=bool(content["orientation_known"]),
            spacing_known=bool(content["spacing_known"]),
        )
        placed = np.array(content["placed"], dtype=np.float64)
    except (KeyError, TypeError, ValueError, GeometryError):
        # Metadata can be edited by anyone; what cannot be read is not known.
        return None
    kept = tuple(n for n in shape if n != 1) == tuple(n for n in (*content["leading"], *grid.shape) if n != 1)
    return grid if kept and same_place(placed, matrix, shape) else None


def dense(part: Any) -> NDArray[Any]:
    """A writable C-ordered copy in native byte order of any array-like."""
    array = np.asarray(part)
    return np.array(array, dtype=array.dtype.newbyteorder("="), order="C", copy=True)


def _number(value: float) -> str:
    """Three significant digits, with one decimal at least: 3.0, 0.9, 0.703."""
    text = f"{value:.3g}"
    return text if "." in text or "e" in text else f"{text}.0" if abs(value) < 100 else text
