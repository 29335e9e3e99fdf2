"""Layers in, layers out: voxel to world is equal for source and result, and nothing of the user's is changed."""

from __future__ import annotations

import dask.array
import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from napari.components import Dims, ViewerModel
from napari.layers import Image, Labels, Points
from numpy.testing import assert_allclose, assert_array_equal

from napari_lsnet import layers
from src_models.errors import GeometryError, InputError
from src_models.geometry import Grid, Segmentation, StoredOrder, Volume, matrix_from_spacing
from src_models.record import content_hash

# napari says so for every layer that is turned out of the picture; such layers are the point of these tests.
tilted = pytest.mark.filterwarnings("ignore:Non-orthogonal slicing:UserWarning")
quick = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
shifts = st.floats(-500, 500, allow_nan=False)
sizes = st.floats(0.05, 8)
slants = st.floats(-0.7, 0.7)
units = st.sampled_from(["pixel", "mm", "um", "cm", "m"])


@st.composite
def placed_images(draw: st.DrawFn) -> Image:
    """An image with every part of a transform that napari has, 2D to 4D."""
    ndim = draw(st.sampled_from([2, 3, 4]))
    array = np.arange(np.prod((3, 4, 5, 6)[:ndim]), dtype=np.int16).reshape((3, 4, 5, 6)[:ndim])
    turn = np.linalg.qr(np.array(draw(st.lists(slants, min_size=ndim**2, max_size=ndim**2))).reshape(ndim, ndim))[0]
    skew = draw(st.lists(slants, min_size=ndim * (ndim - 1) // 2, max_size=ndim * (ndim - 1) // 2))
    affine = np.eye(ndim + 1)
    affine[:-1, :-1] += 0.2 * turn.T @ np.diag(draw(st.lists(slants, min_size=ndim, max_size=ndim)))
    affine[:-1, -1] = draw(st.lists(shifts, min_size=ndim, max_size=ndim))
    return Image(
        array,
        scale=draw(st.lists(sizes, min_size=ndim, max_size=ndim)),
        translate=draw(st.lists(shifts, min_size=ndim, max_size=ndim)),
        rotate=turn,
        shear=skew,
        affine=affine,
        units=(draw(units),) * ndim,
    )


@st.composite
def regions(draw: st.DrawFn, shape: tuple[int, ...]) -> layers.Region:
    region: list[slice | int] = []
    for length in shape:
        start = draw(st.integers(0, length - 1))
        stop = draw(st.integers(start + 1, length))
        region.append(draw(st.sampled_from([slice(start, stop), start])))
    return tuple(region)


@tilted
@quick
@given(st.data())
def test_a_result_lies_on_its_source_for_any_transform_and_crop(data: st.DataObject) -> None:
    source = data.draw(placed_images())
    region = data.draw(regions(source.data.shape))
    array = layers.result_array(region, layers.read_region(source, region))
    result = Image(array, **layers.result_transform(source, region))
    start = np.array([part.start if isinstance(part, slice) else part for part in region])
    voxel = np.array([data.draw(st.integers(0, n - 1)) for n in array.shape])
    expected = np.array(source.data_to_world(voxel + start))
    assert_allclose(result.data_to_world(voxel), expected, rtol=1e-9, atol=1e-7)
    assert array[tuple(voxel)] == source.data[tuple(voxel + start)]
    assert result.units == source.units


@tilted
@quick
@given(st.data())
def test_spacing_is_the_distance_between_neighbouring_voxels_in_mm(data: st.DataObject) -> None:
    source = data.draw(placed_images())
    volume = layers.describe_layer(source)
    factor = {"pixel": None, "millimeter": 1, "micrometer": 1e-3, "centimeter": 10, "meter": 1e3}[str(source.units[-1])]
    assert volume.spacing_known == (factor is not None)
    spatial = list(volume.spatial_axes)
    steps = []
    for axis in spatial:
        step = np.zeros(source.ndim)
        step[axis] = 1
        moved = np.array(source.data_to_world(step)) - np.array(source.data_to_world(np.zeros(source.ndim)))
        steps.append(np.linalg.norm(moved[spatial]))
    expected = np.array(steps) * factor if factor is not None else np.array(steps) / min(steps)
    assert_allclose(volume.spacing, expected, rtol=1e-5)


def test_a_coarse_level_lies_on_the_fine_one() -> None:
    fine = np.arange(16 * 8, dtype=np.float32).reshape(16, 8)
    layer = Image(
        [fine, fine[::2, ::2], fine[::4, ::4]], multiscale=True, scale=(0.5, 2), translate=(3, -1), units="mm"
    )
    assert layers.describe_layer(layer).shape == (16, 8)
    region = (slice(1, 4), slice(0, 2))
    result = Image(np.zeros((3, 2)), **layers.result_transform(layer, region))
    assert_allclose(result.data_to_world((2, 1)), layer.data_to_world((3, 1)))
    assert_array_equal(layers.read_region(layer, region), fine[1:4, 0:2])
    if not hasattr(layer, "locked_data_level"):
        return
    layer.locked_data_level = 2
    volume = layers.describe_layer(layer)
    assert (volume.shape, volume.spacing, volume.level) == ((4, 2), (2.0, 8.0), 2)
    assert "resolution level 2" in volume.text
    result = Image(np.zeros((3, 2)), **layers.result_transform(layer, region))
    assert_allclose(result.data_to_world((2, 1)), layer.data_to_world((12, 4)))
    assert_array_equal(layers.read_region(layer, region), fine[4::4, ::4][:, :2])


class OnlySlices:
    """An array that can do no more than be sliced and turned into numpy, like a tensorstore."""

    def __init__(self, array: np.ndarray) -> None:
        self.become(array)

    def become(self, array: np.ndarray) -> None:
        self._array = array
        self.shape, self.dtype, self.ndim = array.shape, array.dtype, array.ndim

    def __getitem__(self, index: object) -> OnlySlices:
        return OnlySlices(self._array[index])

    def __array__(self, dtype: object = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self._array, dtype=dtype)


@pytest.mark.parametrize(
    "wrap",
    [
        np.asarray,
        lambda a: dask.array.from_array(a, chunks=2),
        lambda a: zarr.array(a, chunks=(2, 2, 2)),
        OnlySlices,
        lambda a: a[::-1, :, ::-1][::-1, :, ::-1],
        np.asfortranarray,
    ],
    ids=["numpy", "dask", "zarr", "slices only", "negative strides", "Fortran order"],
)
def test_every_kind_of_array_reads_the_same(wrap: object) -> None:
    array = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    region = (1, slice(1, 3), slice(2, 5))
    read = layers.read_region(Image(wrap(array)), region)
    assert_array_equal(read, array[1, 1:3, 2:5])
    assert read.flags.c_contiguous
    assert read.flags.writeable


@pytest.mark.parametrize(
    "dtype", ["?", "i1", "u1", "<i2", ">i2", "u2", ">u4", "i8", "u8", "f2", ">f4", "f4", ">f8", "f8"]
)
def test_every_real_dtype_is_read_in_native_order_with_its_values(dtype: str) -> None:
    array = (np.arange(12).reshape(3, 4) % 2).astype(dtype)
    swapped = OnlySlices(array.astype(array.dtype.newbyteorder("=")))
    layer = Image(swapped)
    swapped.become(array)  # only now: napari 0.7 fails on drawing foreign byte order with newer versions of numpy
    read = layers.read_region(layer, (slice(0, 3), slice(None)))
    assert read.dtype == np.dtype(dtype).newbyteorder("=")
    assert read.dtype.isnative
    assert_array_equal(read, array)


def test_the_array_read_is_a_private_copy() -> None:
    layer = Image(np.zeros((4, 4)))
    layers.read_region(layer, (slice(0, 4), slice(0, 4)))[:] = 7
    assert not layer.data.any()


def test_complex_images_are_refused_with_the_way_out() -> None:
    lazy = OnlySlices(np.zeros((4, 4)))
    layer = Image(lazy)
    lazy.dtype = np.dtype(complex)  # only now: napari fails on drawing one
    with pytest.raises(InputError, match=r"complex values cannot be used.*magnitude"):
        layers.describe_layer(layer)


def test_other_layers_are_refused() -> None:
    with pytest.raises(InputError, match="holds no voxels"):
        layers.describe_layer(Points(np.zeros((2, 2))))


def test_rgb_is_read_as_luminance_or_as_one_channel() -> None:
    array = np.zeros((4, 5, 4), np.uint8)
    array[..., 0], array[..., 1], array[..., 3] = 200, 100, 255
    layer = Image(array, rgb=True)
    assert layers.describe_layer(layer).shape == (4, 5)
    assert "colour" in layers.describe_layer(layer).text
    everything = (slice(0, 4), slice(0, 5))
    assert_allclose(layers.read_region(layer, everything), 0.2125 * 200 + 0.7154 * 100, rtol=1e-5)
    assert_array_equal(layers.read_region(layer, everything, channel=1), array[..., 1])
    with pytest.raises(InputError, match=r"no colour channel 4.*0 to 3"):
        layers.read_region(layer, everything, channel=4)


def test_values_that_are_no_numbers_are_counted() -> None:
    array = np.array([[np.nan, 1.0], [np.inf, -np.inf]])
    assert layers.not_finite_note(array).startswith("3 voxels hold no number (1 NaN, 2 infinite)")
    assert layers.not_finite_note(np.ones((2, 2))) == ""
    assert layers.not_finite_note(np.ones((2, 2), int)) == ""


@pytest.mark.parametrize(
    "region",
    [(slice(0, 4),), (slice(0, 5), slice(0, 4)), (slice(2, 2), 0), (4, slice(0, 4)), (slice(0, 4, 2), 0), (-1, 0)],
)
def test_a_region_that_does_not_fit_is_refused(region: layers.Region) -> None:
    with pytest.raises(InputError, match="does not lie inside the image"):
        layers.read_region(Image(np.zeros((4, 4))), region)


def test_the_slice_on_show_is_taken_whatever_the_transform_and_the_viewer_s_order() -> None:
    viewer = ViewerModel()
    layer = viewer.add_image(
        np.zeros((3, 10, 12, 14)),
        scale=(2, 3, 0.5, 0.5),
        translate=(1, -7, 0, 20),
        units=("second", "mm", "mm", "mm"),
        axis_labels=("t", "z", "y", "x"),
    )
    viewer.dims.set_point((0, 1), (1 + 2 * 2, -7 + 3 * 4))
    assert layers.region_for(layer, viewer.dims, "slice") == (2, 4, slice(0, 12), slice(0, 14))
    assert layers.region_for(layer, viewer.dims, "volume") == (2, slice(0, 10), slice(0, 12), slice(0, 14))
    viewer.dims.order = (0, 2, 1, 3)
    viewer.dims.set_point(2, 0.5 * 9)
    assert layers.region_for(layer, viewer.dims, "slice") == (2, slice(0, 10), 9, slice(0, 14))
    viewer.dims.ndisplay = 3
    assert layers.region_for(layer, viewer.dims, "volume")[0] == 2
    with pytest.raises(InputError, match="view is 3D"):
        layers.region_for(layer, viewer.dims, "slice")


@pytest.mark.parametrize("unit", ["mm", "um"])
def test_the_slice_is_the_one_napari_draws_beside_a_layer_in_another_unit(unit: str) -> None:
    viewer = ViewerModel()
    stack = np.broadcast_to(np.arange(20)[:, None, None], (20, 8, 8))
    both = {
        "um": viewer.add_image(stack, scale=(1500, 1000, 1000), units="um"),
        "mm": viewer.add_image(stack, scale=(1.2, 1, 1), units="mm"),
    }
    for step in (0, 5, 13):
        viewer.dims.set_current_step(0, step)
        index = layers.region_for(both[unit], viewer.dims, "slice")[0]
        assert index == both[unit].get_value((0, 2, 2), dims_displayed=[1, 2], view_direction=None)


def test_a_slider_that_stands_outside_the_image_is_told() -> None:
    viewer = ViewerModel()
    layer = viewer.add_image(np.zeros((4, 8, 8)))
    viewer.add_image(np.zeros((20, 8, 8)))
    viewer.dims.set_point(0, 15)
    with pytest.raises(InputError, match="slice on show lies outside"):
        layers.region_for(layer, viewer.dims, "slice")


def test_a_2d_layer_in_a_3d_viewer_and_the_other_way_round() -> None:
    flat = Image(np.zeros((8, 9)))
    assert layers.region_for(flat, Dims(ndim=3), "slice") == (slice(0, 8), slice(0, 9))
    deep = Image(np.zeros((5, 8, 9)))
    assert layers.region_for(deep, Dims(ndim=3, ndisplay=2, range=[(0, 4, 1)] * 3, point=(3, 0, 0)), "slice")[0] == 3


@pytest.mark.parametrize(
    ("shape", "keywords", "roles", "clear"),
    [
        ((5, 6), {}, "yx", True),
        ((4, 5, 6), {"units": "mm"}, "zyx", True),
        ((4, 5, 6), {}, "zyx", False),
        ((4, 5, 6), {"axis_labels": ("t", "y", "x")}, "tyx", True),
        ((4, 5, 6), {"units": ("second", "mm", "mm")}, "tyx", True),
        ((3, 4, 5, 6), {"units": "mm"}, "tzyx", False),
        ((3, 4, 5, 6), {"axis_labels": ("channel", "z", "y", "x")}, "czyx", True),
        ((4, 3, 5, 6), {"axis_labels": ("z", "time", "y", "x")}, "ztyx", True),
        ((2, 3, 4, 5, 6), {"units": ("second", "pixel", "mm", "mm", "mm")}, "tczyx", False),
    ],
)
def test_axes_in_time_are_found_and_guesses_are_marked(
    shape: tuple[int, ...], keywords: dict[str, object], roles: str, clear: bool
) -> None:
    volume = layers.describe_layer(Image(np.zeros(shape), **keywords))
    assert "".join(volume.roles) == roles
    assert volume.roles_clear == clear


def test_what_a_person_declares_is_kept_beside_the_layer() -> None:
    layer = Image(np.zeros((4, 5, 6)))
    layers.declare_axes(layer, ("t", "y", "x"))
    layers.declare_spacing(layer, (0.4, 0.2))
    volume = layers.describe_layer(layer)
    assert volume.roles == ("t", "y", "x")
    assert volume.spacing == (0.4, 0.2)
    assert volume.unit == "mm"
    assert volume.spacing_of((0, slice(0, 5), slice(0, 6))) == (0.4, 0.2)
    assert volume.text == "5 x 6, 4 time points, 0.4 x 0.2 mm, patient position unknown"
    assert_allclose(layer.scale, 1)
    layers.declare_spacing(layer, None)
    assert layers.describe_layer(layer).unit == "px"
    with pytest.raises(InputError, match="axes t t x do not fit"):
        layers.declare_axes(layer, ("t", "t", "x"))
    with pytest.raises(GeometryError, match="must be above 0"):
        layers.declare_spacing(layer, (0.4, 0.0))


def tilted_grid(shape: tuple[int, ...] = (12, 20, 24), degrees: float = 20.0) -> Grid:
    """An oblique grid: three spacings, axes growing towards Inferior, Posterior, Left, turned about the left axis."""
    spacing = (3.0, 0.9, 0.7)
    a = np.radians(degrees)
    turn = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    matrix = np.eye(4)
    matrix[:3, :3] = turn @ matrix_from_spacing(spacing)[:3, :3] @ np.diag([-1, 1, 1])
    matrix[:3, 3] = (-80.0, 33.0, 400.0)
    return Grid(shape, spacing, matrix, orientation_known=True)


def test_a_layer_of_ours_is_axis_aligned_and_keeps_the_place_in_the_patient() -> None:
    grid = tilted_grid()
    order = StoredOrder((2, 1, 0), (True, False, False))
    volume = Volume(np.zeros(grid.shape, np.int16), grid, value_unit="HU", stored_order=order, source_hash="ab")
    arguments = layers.layer_arguments(volume)
    layer = Image(volume.array, **arguments)
    assert_allclose(layer.rotate, np.eye(3))
    assert_allclose(layer.affine.affine_matrix, np.eye(4))
    assert layer.axis_labels == ("z", "y", "x")
    told = layers.describe_layer(layer)
    assert told.text == "12 x 20 x 24, 3.0 x 0.9 x 0.7 mm, oblique, patient position known"
    known = layers.patient_grid(layer)
    assert known is not None
    assert_allclose(known.index_to_patient, grid.index_to_patient)
    again = layers.volume_from_attributes(layer.data, layer.as_layer_data_tuple()[1])
    assert_allclose(again.grid.index_to_patient, grid.index_to_patient)
    assert (again.stored_order, again.value_unit, again.source_hash) == (order, "HU", "ab")


def test_distances_in_the_layer_s_world_are_those_in_the_patient() -> None:
    grid = tilted_grid()
    layer = Labels(np.zeros(grid.shape, int), **layers.layer_arguments(Segmentation(np.zeros(grid.shape, int), grid)))
    a, b = np.array([1, 2, 3]), np.array([9, 17, 20])
    world = np.linalg.norm(np.array(layer.data_to_world(a)) - np.array(layer.data_to_world(b)))
    assert world == pytest.approx(np.linalg.norm(grid.to_patient(a) - grid.to_patient(b)))


def test_images_of_one_direction_overlay_where_they_overlay_in_the_patient() -> None:
    grid = tilted_grid()
    box = (slice(2, 9), slice(5, 18), slice(1, 24))
    whole = Image(np.zeros(grid.shape), **layers.layer_arguments(Volume(np.zeros(grid.shape), grid)))
    crop = grid.crop(box)
    part = Image(np.zeros(crop.shape), **layers.layer_arguments(Volume(np.zeros(crop.shape), crop)))
    assert_allclose(part.data_to_world((0, 0, 0)), whole.data_to_world((2, 5, 1)))


def test_napari_still_cannot_slice_obliquely() -> None:
    """When this fails, layers can be given the patient's own directions instead of axis-aligned ones."""
    affine = np.eye(4)
    affine[1:3, 1:3], affine[1, 0] = [[0.8, -0.6], [0.6, 0.8]], 0.5
    with pytest.warns(UserWarning, match="Non-orthogonal slicing is being requested, but is not fully supported"):
        Image(np.zeros((4, 5, 6)), affine=affine)


def test_near_axial_images_name_the_ends_of_their_axes() -> None:
    grid = tilted_grid(degrees=4)
    arguments = layers.layer_arguments(Volume(np.zeros(grid.shape), grid))
    assert arguments["axis_labels"] == ("I-S", "A-P", "R-L")
    unknown = Grid(grid.shape, grid.spacing)
    assert layers.layer_arguments(Volume(np.zeros(grid.shape), unknown))["axis_labels"] == ("z", "y", "x")


def test_frames_in_time_make_a_layer_with_seconds() -> None:
    grid = tilted_grid((5, 6, 7))
    volume = Volume(np.zeros((3, 5, 6, 7)), grid, leading_axis="t", time_step=0.5)
    layer = Image(volume.array, **layers.layer_arguments(volume))
    told = layers.describe_layer(layer)
    assert told.roles == ("t", "z", "y", "x")
    assert told.spacing == pytest.approx(grid.spacing)
    assert layer.scale[0] == 0.5
    assert told.patient is not None
    again = layers.volume_from_attributes(layer.data, layer.as_layer_data_tuple()[1])
    assert again.leading_axis == "t"


def test_the_place_in_the_patient_is_lost_when_a_layer_is_moved_and_comes_back_on_the_person_s_word() -> None:
    grid = tilted_grid()
    layer = Image(np.zeros(grid.shape), **layers.layer_arguments(Volume(np.zeros(grid.shape), grid)))
    layer.translate = np.add(layer.translate, (0, 0, 1.5))
    assert layers.patient_grid(layer) is None
    assert "patient position unknown" in layers.describe_layer(layer).text
    with pytest.raises(GeometryError, match="moved or reshaped by hand"):
        layers.volume_from_attributes(layer.data, layer.as_layer_data_tuple()[1])
    layers.declare_patient_grid(layer, grid)
    assert layers.patient_grid(layer) is grid
    layer.data = np.zeros((12, 20, 25))
    assert layers.patient_grid(layer) is None


def test_metadata_that_was_tampered_with_means_unknown() -> None:
    grid = tilted_grid()
    arguments = layers.layer_arguments(Volume(np.zeros(grid.shape), grid))
    arguments["metadata"]["lsnet"]["geometry"]["spacing"] = "wide"
    assert layers.patient_grid(Image(np.zeros(grid.shape), **arguments)) is None


def test_a_result_knows_its_place_in_the_patient() -> None:
    grid = tilted_grid()
    layer = Image(np.zeros(grid.shape), **layers.layer_arguments(Volume(np.zeros(grid.shape), grid)))
    region = (slice(2, 9), 7, slice(1, 24))
    arguments = layers.result_arguments(layer, region)
    result = Labels(layers.result_array(region, np.zeros((7, 23), np.uint8)), **arguments)
    known = layers.patient_grid(result)
    assert known is not None
    assert known.shape == (7, 1, 23)
    assert_allclose(known.to_patient(np.array([0, 0, 0])), grid.to_patient(np.array([2, 7, 1])))


def test_a_layer_without_a_unit_of_length_cannot_become_a_volume() -> None:
    layer = Image(np.zeros((4, 5, 6)), scale=(2, 1, 1))
    with pytest.raises(GeometryError, match="Declare the voxel size"):
        layers.volume_from_attributes(layer.data, layer.as_layer_data_tuple()[1])
    layer = Image(np.zeros((4, 5, 6)), scale=(2000, 1000, 500), units="um")
    grid = layers.volume_from_attributes(layer.data, layer.as_layer_data_tuple()[1]).grid
    assert grid.spacing == pytest.approx((2, 1, 0.5))
    assert not grid.orientation_known


def test_the_proxy_that_napari_hands_to_plugins_is_the_same_layer(make_napari_viewer_proxy: object) -> None:
    viewer = make_napari_viewer_proxy()
    viewer.add_image(np.zeros((4, 5, 6)))
    layers.declare_spacing(viewer.layers[0], (3, 1, 1))
    assert layers.describe_layer(viewer.layers[0]).spacing == (3, 1, 1)
    assert layers.region_for(viewer.layers[0], viewer.dims, "slice")[1:] == (slice(0, 5), slice(0, 6))


@tilted
def test_nothing_of_the_user_s_layer_changes() -> None:
    array = np.random.default_rng(0).integers(-1000, 1000, (6, 7, 8)).astype(np.int16)
    layer = Image(array, scale=(3, 1, 1), rotate=(10, 0, 20), units="mm", metadata={"mine": 1})
    before = (content_hash(layer.data), layer.affine.affine_matrix.copy(), str(layer.as_layer_data_tuple()[1]))
    events = []
    layer.events.connect(lambda event: events.append(event.type))
    region = (slice(1, 5), 3, slice(0, 8))
    layers.read_region(layer, region)[:] = 0
    arguments = layers.result_arguments(layer, region)
    arguments["scale"][:] = 9
    arguments["affine"][:] = 9
    layers.declare_spacing(layer, (1, 1, 1))
    layers.describe_layer(layer)
    assert content_hash(layer.data) == before[0]
    assert_array_equal(layer.affine.affine_matrix, before[1])
    assert str(layer.as_layer_data_tuple()[1]) == before[2]
    assert events == []
