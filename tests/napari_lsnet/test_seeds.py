"""Seeds drawn in the viewer reach the image where they were drawn, whatever the transforms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from napari.layers import Image, Labels, Points, Shapes
from numpy.testing import assert_allclose, assert_array_equal

from napari_lsnet import layers, seeds
from src_models.errors import GeometryError, InputError
from src_models.levelset.initial import Seeds

WHOLE = (slice(0, 6), slice(0, 20), slice(0, 24))
tilted = pytest.mark.filterwarnings("ignore:Non-orthogonal slicing:UserWarning")


def placed(**changes: object) -> Image:
    """An anisotropic image that is scaled, moved and turned in the picture plane, in micrometres."""
    turn = np.eye(3)
    turn[1:, 1:] = [[0.8, -0.6], [0.6, 0.8]]
    keywords: dict[str, object] = {"scale": (3000, 900, 700), "translate": (50, -4000, 800), "rotate": turn}
    return Image(np.zeros((6, 20, 24)), **(keywords | {"units": "um"} | changes))


@settings(max_examples=25, deadline=None)
@given(
    st.tuples(st.integers(0, 5), st.integers(0, 19), st.integers(0, 23)),
    st.sampled_from(["mm", "um"]),
    st.tuples(*[st.floats(-3, 3)] * 3),
)
def test_a_point_is_found_in_mm_from_the_first_voxel(
    voxel: tuple[int, ...], unit: str, shift: tuple[float, ...]
) -> None:
    image = placed()
    world = np.array(image.data_to_world(voxel)) * (1e-3 if unit == "mm" else 1)
    points = Points([world - shift], translate=shift, units=unit, ndim=3)
    found = seeds.points_to_seeds(points, image, WHOLE, 4.0)
    assert_allclose(found.spheres[0].centre, np.array(voxel) * (3.0, 0.9, 0.7), atol=1e-6)
    assert found.spheres[0].radius == 4.0


def test_points_count_from_the_corner_of_the_region_and_only_on_its_slice() -> None:
    image = Image(np.zeros((6, 20, 24)), scale=(3, 1, 1), units="mm")
    points = Points([(3, 12, 9), (6, 10, 10)], units="mm", ndim=3)
    found = seeds.points_to_seeds(points, image, (1, slice(10, 15), slice(4, 20)), 2.0)
    assert [sphere.centre for sphere in found.spheres] == [(2.0, 5.0)]
    with pytest.raises(InputError, match="None of the 2 seed points lies on the slice on show"):
        seeds.points_to_seeds(points, image, (5, slice(0, 20), slice(0, 24)), 2.0)
    points.data = points.data[:1]
    with pytest.raises(InputError, match=r"The seed point does not lie on the slice on show.*slice that has it"):
        seeds.points_to_seeds(points, image, (5, slice(0, 20), slice(0, 24)), 2.0)


def test_points_outside_and_no_points_are_told_apart() -> None:
    image = Image(np.zeros((6, 20, 24)))
    with pytest.raises(InputError, match="1 of 2 seed points lie outside the image"):
        seeds.points_to_seeds(Points([(1, 2, 3), (1, 19.6, 3)]), image, WHOLE, 2.0)
    with pytest.raises(InputError, match=r"^The seed point lies outside the image or its region\. Move or delete it,"):
        seeds.points_to_seeds(Points([(1, 19.6, 3)], ndim=3), image, (1, slice(0, 10), slice(0, 24)), 2.0)
    with pytest.raises(InputError, match="There are no seed points"):
        seeds.points_to_seeds(Points(ndim=3), image, WHOLE, 2.0)


def test_points_in_fewer_axes_take_the_slice_that_is_pinned() -> None:
    image = Image(np.zeros((6, 20, 24)), scale=(3, 1, 1))
    flat = Points([(7, 8)])
    found = seeds.points_to_seeds(flat, image, (4, slice(0, 20), slice(0, 24)), 2.0)
    assert found.spheres[0].centre == pytest.approx((7, 8))
    with pytest.raises(GeometryError, match="2 axes and the image has 3"):
        seeds.points_to_seeds(flat, image, WHOLE, 2.0)


def test_points_in_more_axes_than_the_image_leave_out_the_leading_ones() -> None:
    found = seeds.points_to_seeds(Points([(5, 7, 8)]), Image(np.zeros((20, 24))), WHOLE[1:], 2.0)
    assert found.spheres[0].centre == pytest.approx((7, 8))


def test_the_radius_in_px_of_an_image_without_voxel_size_is_in_its_smallest_side() -> None:
    found = seeds.points_to_seeds(Points([(1, 4, 6)]), Image(np.zeros((6, 20, 24)), scale=(1, 0.5, 0.5)), WHOLE, 2.0)
    assert found.spheres[0].centre == pytest.approx((2, 8, 12))


@tilted
def test_paths_become_strokes_and_filled_shapes_a_mask() -> None:
    image = placed()
    drawn = np.array([(2, 4, 5), (2, 15, 8)])
    world = np.array([image.data_to_world(p) for p in drawn])
    path = Shapes([world], shape_type="path", units="um", ndim=3)
    found = seeds.shapes_to_seeds(path, image, WHOLE, 1.5)
    assert isinstance(found, Seeds)
    assert_allclose(found.strokes[0].points, drawn * (3.0, 0.9, 0.7), atol=1e-6)
    assert found.strokes[0].radius == 1.5


def box(z: float, low: tuple[float, float], high: tuple[float, float]) -> np.ndarray:
    return np.array([(z, low[0], low[1]), (z, low[0], high[1]), (z, high[0], high[1]), (z, high[0], low[1])])


def test_a_rectangle_covers_the_voxels_whose_centre_it_holds_on_its_slice_alone() -> None:
    image = Image(np.zeros((6, 20, 24)), scale=(3, 1, 1))
    shapes = Shapes([box(6, (3.6, 5.6), (7.4, 9.4))], shape_type="rectangle", ndim=3)
    expected = np.zeros((6, 20, 24), bool)
    expected[2, 4:8, 6:10] = True
    assert_array_equal(seeds.shapes_to_seeds(shapes, image, WHOLE, 1.0), expected)
    on_slice = seeds.shapes_to_seeds(shapes, image, (2, slice(2, 20), slice(0, 24)), 1.0)
    assert_array_equal(on_slice, expected[2, 2:])


def test_an_ellipse_and_a_polygon_have_their_area() -> None:
    image = Image(np.zeros((100, 120)))
    ellipse = Shapes([box(0, (20, 30), (80, 90))[:, 1:]], shape_type="ellipse")
    mask = seeds.shapes_to_seeds(ellipse, image, (slice(0, 100), slice(0, 120)), 1.0)
    assert mask.sum() == pytest.approx(np.pi * 30 * 30, rel=0.01)
    assert mask[50, 60]
    assert not mask[22, 32]
    triangle = Shapes([[(10, 10), (70, 10), (10, 50)]], shape_type="polygon")
    mask = seeds.shapes_to_seeds(triangle, image, (slice(0, 100), slice(0, 120)), 1.0)
    assert mask.sum() == 60 * 40 / 2 + (60 + 40 + 20) / 2 + 1  # Pick: area, half the border points, one


def test_lines_and_filled_shapes_together_are_their_union() -> None:
    image = Image(np.zeros((40, 40)))
    shapes = Shapes([[(2, 2), (2, 30)]], shape_type="line")
    shapes.add_rectangles([box(0, (20, 20), (30, 30))[:, 1:]])
    mask = seeds.shapes_to_seeds(shapes, image, (slice(0, 40), slice(0, 40)), 1.5)
    assert mask[25, 25]
    assert mask[3, 15]
    assert not mask[10, 15]


def test_shapes_that_cannot_be_used_are_told() -> None:
    image = Image(np.zeros((6, 20, 24)))
    with pytest.raises(InputError, match="There are no seed shapes"):
        seeds.shapes_to_seeds(Shapes(ndim=3), image, WHOLE, 1.0)
    elsewhere = Shapes([box(2, (3, 3), (7, 7))], shape_type="rectangle", ndim=3)
    with pytest.raises(InputError, match="No seed shape lies on the slice on show"):
        seeds.shapes_to_seeds(elsewhere, image, (3, *WHOLE[1:]), 1.0)
    leaning = Shapes([[(0, 2, 2), (3, 2, 9), (5, 9, 2)]], shape_type="polygon", ndim=3)
    with pytest.raises(GeometryError, match="does not lie in a slice"):
        seeds.shapes_to_seeds(leaning, image, WHOLE, 1.0)
    outside = Shapes([box(2, (3, 3), (70, 7))], shape_type="rectangle", ndim=3)
    with pytest.raises(InputError, match="2 of 4 corners of the shapes lie outside"):
        seeds.shapes_to_seeds(outside, image, WHOLE, 1.0)
    nothing = Shapes([box(2, (3.1, 3.1), (3.4, 3.4))], shape_type="rectangle", ndim=3)
    with pytest.raises(InputError, match="cover no voxel"):
        seeds.shapes_to_seeds(nothing, image, WHOLE, 1.0)


def painted(shape: tuple[int, ...] = (6, 20, 24)) -> np.ndarray:
    array = np.zeros(shape, np.uint32)
    array[..., 3:9, 5:11] = 70_000
    array[..., 12:14, 5:11] = 2
    return array


@tilted
def test_labels_on_the_image_s_grid_are_copied_exactly() -> None:
    image = placed()
    labels = Labels(painted(), **layers.result_transform(image, WHOLE))
    assert_array_equal(seeds.labels_to_mask(labels, image, WHOLE), painted() != 0)
    assert_array_equal(seeds.labels_to_mask(labels, image, WHOLE, value=70_000), painted() == 70_000)
    region = (2, slice(4, 15), slice(0, 24))
    assert_array_equal(seeds.labels_to_mask(labels, image, region), painted()[region] != 0)


@tilted
def test_labels_of_a_crop_are_put_at_their_place() -> None:
    image = placed()
    crop = (slice(1, 4), slice(2, 12), slice(4, 20))
    labels = Labels(painted()[crop], **layers.result_transform(image, crop))
    expected = np.zeros((6, 20, 24), bool)
    expected[crop] = painted()[crop] != 0
    assert_array_equal(seeds.labels_to_mask(labels, image, WHOLE), expected)
    region = (slice(0, 3), slice(5, 20), 7)
    assert_array_equal(seeds.labels_to_mask(labels, image, region), expected[region])


@tilted
def test_labels_in_another_unit_that_coincide_are_the_same_grid() -> None:
    image = placed(rotate=np.eye(3))
    labels = Labels(painted(), scale=(3, 0.9, 0.7), translate=(0.05, -4, 0.8), units="mm")
    assert_array_equal(seeds.labels_to_mask(labels, image, WHOLE), painted() != 0)


def test_labels_on_another_grid_are_refused_or_resampled_when_asked() -> None:
    image = Image(np.zeros((6, 20, 24)), scale=(3, 1, 1))
    fine = np.repeat(painted(), 3, axis=0)
    labels = Labels(fine, scale=(1, 1, 1), translate=(-1, 0, 0))
    with pytest.raises(GeometryError, match=r"another grid than the image.*nearest voxel"):
        seeds.labels_to_mask(labels, image, WHOLE)
    assert_array_equal(seeds.labels_to_mask(labels, image, WHOLE, resample=True), painted() != 0)
    region = (4, slice(2, 20), slice(1, 9))
    assert_array_equal(seeds.labels_to_mask(labels, image, region, resample=True), painted()[region] != 0)


def test_half_a_voxel_is_another_grid() -> None:
    image = Image(np.zeros((6, 20, 24)))
    with pytest.raises(GeometryError):
        seeds.labels_to_mask(Labels(painted(), translate=(0, 0.5, 0)), image, WHOLE)


def test_labels_with_fewer_or_more_axes() -> None:
    frames = Image(np.zeros((3, 6, 20, 24)), axis_labels=("t", "z", "y", "x"))
    labels = Labels(painted())
    assert_array_equal(seeds.labels_to_mask(labels, frames, (2, *WHOLE)), painted() != 0)
    with pytest.raises(GeometryError, match="3 axes and the image has 4"):
        seeds.labels_to_mask(labels, frames, (slice(0, 3), *WHOLE))
    one = Labels(painted()[None])
    assert_array_equal(seeds.labels_to_mask(one, Image(np.zeros((6, 20, 24))), WHOLE), painted() != 0)
    with pytest.raises(GeometryError, match="4 axes and the image has 3"):
        seeds.labels_to_mask(Labels(np.ones((2, 6, 20, 24), int)), Image(np.zeros((6, 20, 24))), WHOLE)


def test_labels_without_paint_in_the_region_are_told() -> None:
    image = Image(np.zeros((6, 20, 24)))
    with pytest.raises(InputError, match="Nothing is painted inside the image"):
        seeds.labels_to_mask(Labels(np.zeros((6, 20, 24), int)), image, WHOLE)
    with pytest.raises(InputError, match="Label 9 is not painted"):
        seeds.labels_to_mask(Labels(painted()), image, WHOLE, value=9)
    with pytest.raises(InputError, match="Nothing is painted"):
        seeds.labels_to_mask(Labels(painted(), translate=(0, 100, 0)), image, WHOLE)


def test_a_result_goes_into_the_voxels_of_a_labels_layer_that_coincide() -> None:
    image = Image(np.zeros((6, 20, 24)), scale=(3, 1, 1))
    target = Labels(np.zeros((4, 20, 24), int), scale=(3, 1, 1), translate=(3, 0, 0))
    assert seeds.matching_region(target, image, (slice(1, 3), 7, slice(2, 9))) == (slice(0, 2), 7, slice(2, 9))
    with pytest.raises(GeometryError, match="does not cover this part"):
        seeds.matching_region(target, image, (slice(0, 3), 7, slice(2, 9)))
    with pytest.raises(GeometryError, match="does not cover this part"):
        seeds.matching_region(Labels(np.zeros((6, 20, 24), int)), image, WHOLE)
