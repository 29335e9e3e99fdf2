"""Ellipses and axes of diffusion on the tiles: closed forms, and the layers that they become."""

from __future__ import annotations

import numpy as np
import pytest

from napari_lsnet.kernels.colours import INDEFINITE, SHARPENING, SMOOTHING
from napari_lsnet.kernels.ellipses import spread_of
from napari_lsnet.kernels.place import ROLE
from napari_lsnet.kernels.tiles import Tiling
from napari_lsnet.roles import role_of
from src_models.kernels.result import Layer
from tests.napari_lsnet.kernel_models import analyse, content_of

LAPLACIAN = np.array([[0, 1.0, 0], [1, -4, 1], [0, 1, 0]])
ALONG_X = np.array([[0, 0, 0], [1.0, -2, 1], [0, 0, 0]])
# along the diagonal: second difference between (-1, -1), (0, 0) and (1, 1)
DIAGONAL = np.diag([1.0, -2, 1])


def layer_of(*kernels: np.ndarray) -> Layer:
    stack = np.stack(kernels)[:, None]
    size = stack.shape[2:]
    return Layer("conv", 0, "conv", stack, size, size, (1,) * len(size), (1,) * len(size))


def test_half_axes_are_roots_of_eigenvalues_along_their_directions() -> None:
    kernels = (LAPLACIAN, 4 * ALONG_X, -DIAGONAL, ALONG_X - ALONG_X.T, np.zeros((3, 3)))
    layer = layer_of(*kernels)
    spread = spread_of(Tiling(5, 1, (3, 3)), layer)
    # the zero kernel has none
    assert spread.kernels.tolist() == [0, 1, 2, 3]
    assert spread.kinds() == [SMOOTHING, SMOOTHING, SHARPENING, INDEFINITE]
    boxes = spread.boxes()
    np.testing.assert_allclose(boxes.mean(axis=1), spread.centres, atol=1e-12)
    # m_2 of [1 -2 1] is 1, of 4 times it 4: half-axes 1 and 2; the longest is 0.48 of a tile
    length = np.linalg.norm(spread.halves, axis=2)
    unit = 0.48 * 3 / 2
    np.testing.assert_allclose(length[0], [unit, unit])
    np.testing.assert_allclose(length[1], [2 * unit, 0], atol=1e-12)
    np.testing.assert_allclose(np.abs(spread.halves[1, 0]), [0, 2 * unit], atol=1e-12)
    # D of the diagonal difference is [[1, 1], [1, 1]]: eigenvalue 2 along (1, 1), here negative
    y, x = spread.halves[2, 1]
    assert y == pytest.approx(x)
    assert np.hypot(y, x) == pytest.approx(2**0.5 * unit)
    # a box is never flat
    wide = boxes[1] - spread.centres[1]
    assert np.abs(wide[:, 0]).max() == pytest.approx(0.06 * 2 * unit)
    assert np.abs(wide[:, 1]).max() == pytest.approx(2 * unit)
    lines, colours = spread.lines()
    assert len(lines) == 2 + 1 + 1 + 2
    np.testing.assert_allclose(lines[:, 0] + lines[:, 1] / 2, spread.centres[[0, 0, 1, 2, 3, 3]], atol=1e-12)
    assert colours == [SMOOTHING, SMOOTHING, SMOOTHING, SHARPENING, SMOOTHING, SHARPENING]


def test_turning_a_kernel_turns_its_ellipse() -> None:
    kernel = np.random.default_rng(0).normal(size=(3, 3))
    one, two = (
        spread_of(Tiling(1, 1, (3, 3)), layer_of(each)) for each in (kernel, np.ascontiguousarray(np.rot90(kernel)))
    )
    np.testing.assert_allclose(one.values, two.values, atol=1e-12)
    quarter = np.array([[0.0, -1], [1, 0]])
    for a, b in zip(one.halves[0] @ quarter.T, two.halves[0], strict=True):
        np.testing.assert_allclose(np.outer(a, a), np.outer(b, b), atol=1e-12)


def test_of_three_axes_the_part_in_the_plane_is_drawn() -> None:
    kernel = np.zeros((3, 3, 3))
    kernel[1, 1, 1] = -2 - 8
    kernel[0, 1, 1] = kernel[2, 1, 1] = 4
    kernel[1, 1, 0] = kernel[1, 1, 2] = 1
    spread = spread_of(Tiling(1, 1, (3, 3, 3)), layer_of(kernel))
    np.testing.assert_allclose(spread.values, [[4, 1, 0]], atol=1e-12)
    lines, _ = spread.lines()
    # the longest axis points through the plane and is nothing in it; the other half-axis is half as long
    half = 0.48 * 3 / 2
    np.testing.assert_allclose(
        np.sort([lines[0, 0], lines[0].sum(0)], axis=0), [[1, 1 - half], [1, 1 + half]], atol=1e-12
    )


@pytest.fixture
def panel(kernel_panel):
    """A viewer with a turned picture of 0.5 x 2 mm pixels, and the panel."""
    return kernel_panel


def test_ellipses_are_a_layer_on_the_montage_and_follow_the_layer_on_show(panel, qtbot):
    image = panel.viewer.layers["scan"]
    before = content_of(image)
    analyse(panel, qtbot)
    results = panel.results
    results.ellipses.setChecked(True)
    layer, montage = results.shown.layer("ellipses"), results.shown.layer("montage")
    assert role_of(layer) == ROLE
    np.testing.assert_allclose(layer.scale, montage.scale)
    results.layers.choose(1)
    spread = spread_of(montage.tiling, results.found.layer)
    assert len(layer.data) == len(spread.kernels)
    np.testing.assert_allclose(np.stack(layer.data), spread.boxes(), atol=1e-5)
    for corners, kernel in zip(layer.data, spread.kernels, strict=True):
        assert montage.tiling.at(*corners.mean(axis=0)) == (kernel, (1, 1))
    results.arrows.setChecked(True)
    assert results.shown.layer("arrows").visible
    # what the filter hides is dimmed with what lies on it
    results.shares.tick_only(frozenset())
    order = [panel.viewer.layers.index(results.shown.layer(name)) for name in ("ellipses", "arrows", "veil")]
    assert order[2] == max(order)
    results.ellipses.setChecked(False)
    assert not layer.visible
    panel.viewer.layers.remove(layer)
    results.ellipses.setChecked(True)
    assert results.shown.layer("ellipses") in panel.viewer.layers
    assert content_of(image) == before


def test_of_many_tiles_and_in_3d_the_axes_are_vectors(panel, qtbot, monkeypatch):
    import napari_lsnet.kernels.overlays as overlays

    analyse(panel, qtbot)
    results = panel.results
    results.ellipses.setChecked(True)
    assert results.shown.layer("ellipses").visible
    monkeypatch.setattr(overlays, "MOST_ELLIPSES", 3)
    results.layers.choose(1)
    assert not results.shown.layer("ellipses").visible
    axes = results.shown.layer("axes")
    lines, _ = spread_of(results.shown.layer("montage").tiling, results.found.layer).lines()
    np.testing.assert_allclose(axes.data, lines, atol=1e-5)
    monkeypatch.setattr(overlays, "MOST_ELLIPSES", 2000)
    results.layers.choose(0)
    assert results.shown.layer("ellipses").visible
    assert not axes.visible
    analyse(panel, qtbot, "random-3d")
    axes = results.shown.layer("axes")
    assert axes.visible
    assert axes.ndim == 2
    assert len(axes.data) == len(spread_of(results.shown.layer("montage").tiling, results.found.layer).lines()[0])
