"""Laws of the grids: orders return to themselves, voxels keep their place in the patient, words say where it is."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from src_models.errors import GeometryError
from src_models.geometry import (
    Grid,
    Segmentation,
    StoredOrder,
    Volume,
    compare_grids,
    from_file_affine,
    passport,
    present_grid,
    presenting_order,
    same_grid,
    store_grid,
    to_file_affine,
)

SHAPE = (4, 5, 7)
ORDERS = [
    StoredOrder(axes, flips)
    for axes in itertools.permutations(range(3))
    for flips in itertools.product((False, True), repeat=3)
]


def rotation(angles: tuple[float, float, float]) -> NDArray[np.float64]:
    """A rotation by three angles in degrees, about x, y and z."""
    turned = np.eye(3)
    for axis, angle in enumerate(np.radians(angles)):
        part = np.eye(3)
        i, j = [k for k in range(3) if k != axis]
        part[[i, i, j, j], [i, j, i, j]] = np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
        turned = turned @ part
    return turned


def oblique_grid(
    shape: tuple[int, int, int] = SHAPE,
    spacing: tuple[float, float, float] = (3.0, 0.8, 0.7),
    angles: tuple[float, float, float] = (4.0, -7.0, 11.0),
    order: StoredOrder | None = None,
) -> Grid:
    """A grid near the presented axes, or stored in another order; three different spacings tell axes apart."""
    presented = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])
    matrix = np.eye(4)
    matrix[:3, :3] = rotation(angles) @ presented * np.array(spacing)
    matrix[:3, 3] = (-120.5, 33.25, 870.0)
    grid = Grid(shape, spacing, matrix, orientation_known=True)
    return grid if order is None else store_grid(grid, order)


angle = st.floats(-40.0, 40.0)
length = st.floats(0.05, 20.0)
grids = st.builds(
    oblique_grid,
    shape=st.tuples(*[st.integers(1, 9)] * 3),
    spacing=st.tuples(length, length, length),
    angles=st.tuples(angle, angle, angle),
    order=st.sampled_from(ORDERS),
)


def test_there_are_48_orders() -> None:
    assert len(set(ORDERS)) == 48


@pytest.mark.parametrize("order", ORDERS)
def test_every_order_returns_to_itself(order: StoredOrder) -> None:
    stored = np.arange(2 * 4 * 5 * 7).reshape(2, *SHAPE)
    presented = order.present(stored)
    assert np.array_equal(order.store(presented), stored)
    assert presented.base is not None, "a view, not a copy"
    grid = oblique_grid()
    back = store_grid(present_grid(grid, order), order)
    assert back.shape == grid.shape
    assert back.spacing == grid.spacing
    np.testing.assert_allclose(back.index_to_patient, grid.index_to_patient, atol=1e-9)


@pytest.mark.parametrize("order", ORDERS)
def test_presenting_finds_the_order_that_was_applied(order: StoredOrder) -> None:
    presented = oblique_grid()
    stored = store_grid(presented, order)
    found = presenting_order(stored.index_to_patient)
    assert found == order
    assert present_grid(stored, found).letters == ("I", "P", "L")


@given(grid=grids, data=st.data())
def test_a_voxel_keeps_its_place_in_the_patient(grid: Grid, data: st.DataObject) -> None:
    order = data.draw(st.sampled_from(ORDERS))
    index = tuple(data.draw(st.integers(0, n - 1)) for n in grid.shape)
    stored = np.zeros(grid.shape)
    stored[index] = 1
    shown = present_grid(grid, order)
    moved = np.argwhere(order.present(stored))[0]
    np.testing.assert_allclose(shown.to_patient(moved), grid.to_patient(np.array(index)), atol=1e-8)
    assert order.present_index(index, shown.shape) == tuple(moved)


@given(grid=grids, order=st.sampled_from(ORDERS))
def test_corners_stay_the_same_set_of_points(grid: Grid, order: StoredOrder) -> None:
    def corners(some: Grid) -> NDArray[np.float64]:
        points = some.to_patient(np.array(list(itertools.product(*[(0, n - 1) for n in some.shape]))))
        return points[np.lexsort(points.round(6).T)]

    shown = present_grid(grid, order)
    np.testing.assert_allclose(corners(shown), corners(grid), atol=1e-5)
    assert shown.voxel_ml == pytest.approx(grid.voxel_ml)
    assert shown.voxel_ml == pytest.approx(np.prod(grid.spacing) / 1000)


@given(grid=grids, data=st.data())
def test_a_crop_starts_where_its_first_voxel_was(grid: Grid, data: st.DataObject) -> None:
    start = [data.draw(st.integers(0, n - 1)) for n in grid.shape]
    stop = [data.draw(st.integers(a + 1, n)) for a, n in zip(start, grid.shape, strict=True)]
    cropped = grid.crop(tuple(slice(a, b) for a, b in zip(start, stop, strict=True)))
    assert cropped.shape == tuple(b - a for a, b in zip(start, stop, strict=True))
    np.testing.assert_allclose(cropped.to_patient(np.zeros(3)), grid.to_patient(np.array(start)), atol=1e-8)


@given(grid=grids, space=st.sampled_from(["LPS", "RAS", "LAS"]))
def test_file_affines_return_to_themselves_and_agree_on_the_place(grid: Grid, space: str) -> None:
    affine = to_file_affine(grid.index_to_patient, space)
    assert np.array_equal(from_file_affine(affine, space), grid.index_to_patient)
    signs = {"LPS": (1, 1, 1), "RAS": (-1, -1, 1), "LAS": (1, -1, 1)}[space]
    far = [n - 1 for n in grid.shape]
    np.testing.assert_allclose((affine @ [*far[::-1], 1])[:3] * signs, grid.to_patient(np.array(far)), atol=1e-9)


def test_two_dimensional_grids_follow_the_same_laws() -> None:
    matrix = np.eye(4)
    matrix[:3, :3] = [[0, 0, 0.7], [0, 0.8, 0], [1, 0, 0]]
    grid = Grid((5, 7), (0.8, 0.7), matrix, orientation_known=True)
    order = StoredOrder((1, 0), (True, False))
    assert present_grid(grid, order).shape == (7, 5)
    back = store_grid(present_grid(grid, order), order)
    np.testing.assert_allclose(back.index_to_patient, grid.index_to_patient, atol=1e-12)
    cropped = grid.crop((slice(1, 3), slice(2, 7)))
    np.testing.assert_allclose(cropped.to_patient(np.zeros(2)), grid.to_patient(np.array([1, 2])))
    assert grid.letters == ("P", "L")


def test_same_grid_allows_one_percent_of_a_voxel_and_no_more() -> None:
    grid = oblique_grid()

    def shifted(mm: float) -> Grid:
        matrix = grid.index_to_patient.copy()
        matrix[0, 3] += mm
        return Grid(grid.shape, grid.spacing, matrix, orientation_known=True)

    assert same_grid(grid, shifted(0.0069))
    assert not same_grid(grid, shifted(0.0071))
    turned = oblique_grid(angles=(4.0, -7.0, 11.5))
    assert not same_grid(grid, turned), "one first voxel, other far corners"
    assert not same_grid(grid, oblique_grid((4, 5, 8)))


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"shape": (3, 4, 5), "spacing": (1, 1)}, "one spacing for each"),
        ({"shape": (3, 4, 5), "spacing": (1, 0, 1)}, "axis 1 is 0 mm"),
        ({"shape": (3, 4, 5), "spacing": (1, 1, -2)}, "axis 2 is -2 mm"),
        ({"shape": (3, 4, 5), "spacing": (np.nan, 1, 1)}, "axis 0 is nan mm"),
        ({"shape": (3, 0, 5), "spacing": (1, 1, 1)}, "no voxels"),
        ({"shape": (3, 4, 5), "spacing": (1, 1, 1), "index_to_patient": np.ones((4, 4))}, "singular"),
        ({"shape": (3, 4, 5), "spacing": (1, 1, 1), "index_to_patient": np.full((4, 4), np.nan)}, "not numbers"),
        ({"shape": (3, 4, 5), "spacing": (1, 1, 2), "index_to_patient": np.eye(4)}, "does not fit the position"),
    ],
)
def test_numbers_that_cannot_be_a_place_are_refused(arguments: dict[str, object], word: str) -> None:
    with pytest.raises(GeometryError, match=word):
        Grid(**arguments)


def test_arrays_must_lie_on_their_grid() -> None:
    grid = oblique_grid()
    with pytest.raises(GeometryError, match="does not lie on a grid"):
        Volume(np.zeros((4, 5, 6)), grid)
    with pytest.raises(GeometryError, match="do not lie on a grid"):
        Segmentation(np.zeros((5, 4, 7), np.uint8), grid)
    assert Volume(np.zeros((2, *SHAPE)), grid, leading_axis="t").stored_order == StoredOrder.identity(3)


def test_shear_is_seen_and_rotation_is_not_taken_for_it() -> None:
    grid = oblique_grid()
    assert not grid.sheared
    matrix = grid.index_to_patient.copy()
    matrix[:3, 0] += 0.2 * matrix[:3, 1]
    sheared = Grid(SHAPE, tuple(np.linalg.norm(matrix[:3, :3], axis=0)), matrix, orientation_known=True)
    assert sheared.sheared
    assert sheared.voxel_ml == pytest.approx(grid.voxel_ml), "a shear keeps the volume"


def test_passport_tells_plane_size_and_tilt() -> None:
    def axial(angles: tuple[float, float, float], order: StoredOrder | None = None) -> Volume:
        grid = oblique_grid(spacing=(3.0, 0.9, 0.9), angles=angles)
        return Volume(np.zeros(SHAPE), grid, value_unit="HU", stored_order=order)  # type: ignore[arg-type]

    assert passport(axial((4.0, 0.0, 0.0))) == "Axial CT, 0.9 x 0.9 x 3.0 mm, tilted 4 degrees"
    assert passport(axial((0.0, 0.0, 0.0)), "MR") == "Axial MR, 0.9 x 0.9 x 3.0 mm"
    cubes = oblique_grid(spacing=(1.0, 1.0, 1.0), angles=(0.0, 0.0, 0.0))
    order = StoredOrder((1, 2, 0), (False, False, False))
    assert passport(Volume(np.zeros(SHAPE), cubes, stored_order=order)) == "Sagittal image, 1.0 x 1.0 x 1.0 mm"
    coronal = oblique_grid(spacing=(0.727, 4.0, 0.5), angles=(0.0, 0.0, 0.0))
    assert passport(Segmentation(np.zeros(SHAPE, bool), coronal)) == "Coronal mask, 0.5 x 0.73 x 4.0 mm"


def test_passport_names_no_side_that_is_not_known() -> None:
    unknown = Grid(SHAPE, (3.0, 1.0, 1.0))
    assert passport(Volume(np.zeros(SHAPE), unknown)) == "Image, 1.0 x 1.0 x 3.0 mm, patient position unknown"
    assert unknown.letters == ("?", "?", "?")
    picture = Volume(np.zeros((5, 7)), Grid((5, 7), (1.0, 1.0), spacing_known=False))
    assert passport(picture) == "2D image, 7 x 5, pixel size unknown"


def test_words_for_where_a_mask_lies() -> None:
    image = oblique_grid(angles=(0.0, 0.0, 0.0))

    def shifted(*mm: float) -> Grid:
        matrix = image.index_to_patient.copy()
        matrix[:3, 3] += mm
        return Grid(image.shape, image.spacing, matrix, orientation_known=True)

    assert compare_grids(image, image) == "mask grid identical"
    assert compare_grids(shifted(0, 0, -3), image) == "mask lies 3.0 mm towards the feet of the image"
    both = compare_grids(shifted(-2, 1, 0), image)
    assert both == "mask lies 2.0 mm towards the right and 1.0 mm towards the back of the image"
    assert compare_grids(oblique_grid((4, 5, 8)), image) == "mask has 4 x 5 x 8 voxels, the image 4 x 5 x 7"
    assert compare_grids(oblique_grid(angles=(0, 0, 5)), image) == "mask is turned by 5.0 degrees against the image"
    sizes = compare_grids(oblique_grid(spacing=(2.0, 0.8, 0.7)), image)
    assert sizes == "mask voxels are 2.0 x 0.8 x 0.7 mm, those of the image 3.0 x 0.8 x 0.7 mm"
