"""Images as scanners make them, in small."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from src_models.geometry import Grid, Segmentation, StoredOrder, Volume, present_grid, presenting_order


def oblique_matrix(spacing: tuple[float, float, float] = (3.0, 0.9, 0.75)) -> np.ndarray:
    """Stored axes (z, y, x) towards Superior, Posterior and Left, turned by 5, -9 and 14 degrees."""
    turned = np.eye(3)
    for (i, j), angle in (((1, 2), 5.0), ((0, 2), -9.0), ((0, 1), 14.0)):
        part = np.eye(3)
        c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
        part[[i, i, j, j], [i, j, i, j]] = c, -s, s, c
        turned = turned @ part
    matrix = np.eye(4)
    matrix[:3, :3] = turned @ np.array([[0, 0, 1.0], [0, 1, 0], [1, 0, 0]]) * np.array(spacing)
    matrix[:3, 3] = -101.5, 47.25, -880.125
    return matrix


@pytest.fixture
def ct() -> Volume:
    """Oblique, three different voxel sizes, int16 HU with air, asymmetric along every axis; stored feet first."""
    shape = (4, 6, 9)
    z, y, x = np.meshgrid(*[np.arange(n) for n in shape], indexing="ij")
    stored = (-1000 + 37 * z + 5 * y * y + 11 * x + 300 * (x > 5)).astype(np.int16)
    grid = Grid(shape, (3.0, 0.9, 0.75), oblique_matrix(), orientation_known=True)
    order = presenting_order(grid.index_to_patient)
    assert order == StoredOrder((0, 1, 2), (True, False, False))
    return Volume(order.present(stored), present_grid(grid, order), stored_order=order)


@pytest.fixture
def mask(ct: Volume) -> Segmentation:
    """Three labels on the CT, one of them beyond 16 bits, with a negative stride as presented views have."""
    labels = np.zeros(ct.array.shape, np.uint32)
    labels[ct.array > -900] = 1
    labels[ct.array > -700] = 2
    labels[0, 1, 2] = 70_000
    return Segmentation(
        ct.stored_order.present(ct.stored_order.store(labels).copy()), ct.grid, stored_order=ct.stored_order
    )


@pytest.fixture
def sheared(ct: Volume) -> Volume:
    """The same CT with a gantry tilt: slices slide towards the front."""
    matrix = ct.grid.index_to_patient.copy()
    matrix[:3, 0] += 0.8 * matrix[:3, 1]
    spacing = tuple(float(h) for h in np.linalg.norm(matrix[:3, :3], axis=0))
    return replace(ct, grid=Grid(ct.grid.shape, spacing, matrix, orientation_known=True))
