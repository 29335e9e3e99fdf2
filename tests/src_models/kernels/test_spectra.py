"""Spectra: the fast ways against the dense matrix, and the bounds that hold between boundaries."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from src_models.errors import InputError
from src_models.kernels.layer_operator import layer_operator, layer_singular_values
from src_models.kernels.result import Layer
from src_models.kernels.spectra import dense_matrix, singular_values, symbol
from src_models.kernels.zero_padding import correlate, largest_singular_values, spectral_norm

SHAPES = [((3, 3), (8, 8)), ((3, 3), (7, 10)), ((3, 3, 3), (4, 5, 6)), ((5, 5), (9, 8)), ((1, 3), (6, 5))]


@pytest.mark.parametrize(("size", "grid"), SHAPES)
def test_periodic_spectrum_is_that_of_the_dense_matrix_and_of_the_fourier_transform(
    size: tuple[int, ...], grid: tuple[int, ...]
) -> None:
    kernels = np.random.default_rng(0).normal(size=(10, *size))
    fast = singular_values(kernels, grid)
    for kernel, values in zip(kernels, fast, strict=True):
        dense = np.linalg.svd(dense_matrix(kernel, grid, "periodic"), compute_uv=False)
        fourier = np.sort(np.abs(symbol(kernel, grid)).ravel())[::-1]
        assert np.abs(values - dense).max() <= 1e-10 * dense[0]
        assert np.abs(values - fourier).max() <= 1e-10 * dense[0]


def test_a_wave_is_multiplied_by_the_symbol() -> None:
    """Guards the sign of the exponent, and that kernels act by cross-correlation as torch's do."""
    kernel, n = np.random.default_rng(1).normal(size=(3, 3)), (6, 8)
    values = symbol(kernel, n)
    y, x = np.indices(n)
    for j in ((1, 0), (0, 1), (2, 3)):
        wave = np.exp(1j * (2 * np.pi * j[0] * y / n[0] + 2 * np.pi * j[1] * x / n[1]))
        parts = []
        for part in (wave.real, wave.imag):
            image = functional.pad(torch.from_numpy(part)[None, None], (1, 1, 1, 1), mode="circular")
            parts.append(functional.conv2d(image, torch.from_numpy(kernel)[None, None])[0, 0].numpy())
        assert np.allclose(parts[0] + 1j * parts[1], values[j] * wave, atol=1e-12)


@pytest.mark.parametrize("size", [(3, 3), (5, 5)])
def test_zero_padding_lies_between_shifted_periodic_spectra(size: tuple[int, int]) -> None:
    """A principal submatrix of the periodic operator on a grid that is r points larger."""
    n, r = 7, size[0] // 2
    for kernel in np.random.default_rng(2).normal(size=(6, *size)):
        zero, periodic = singular_values(kernel, (n, n), "zero"), singular_values(kernel, (n + r, n + r))
        added = (n + r) ** 2 - n**2
        assert (zero <= periodic[: n * n] + 1e-10).all()
        lower = periodic[2 * added :]
        assert (zero[: len(lower)] >= lower - 1e-10).all()
        assert zero[0] <= np.abs(kernel).sum() + 1e-12


def test_a_shift_loses_a_row_at_the_border_and_nothing_on_the_torus() -> None:
    shift = np.zeros((3, 3))
    shift[1, 2] = 1.0
    assert np.count_nonzero(singular_values(shift, (6, 6), "zero") < 1e-12) == 6
    assert np.allclose(singular_values(shift, (6, 6)), 1.0)


@pytest.mark.parametrize("stride", [(1, 1), (2, 2), (1, 2)])
@pytest.mark.parametrize("groups", [1, 2])
def test_a_layer_as_one_operator_is_its_dense_matrix(stride: tuple[int, int], groups: int) -> None:
    n, outs, per_group = (6, 4), 4, 2
    kernels = np.random.default_rng(3).normal(size=(outs, per_group, 3, 3))
    layer = Layer("layer", 0, "conv", kernels, (3, 3), (3, 3), stride, (1, 1), groups)
    inputs = per_group * groups
    rows = []
    for channel in range(inputs):
        for place in np.ndindex(*n):
            image = torch.zeros(1, inputs, *n, dtype=torch.float64)
            image[(0, channel, *place)] = 1
            padded = functional.pad(image, (1, 1, 1, 1), mode="circular")
            out = functional.conv2d(padded, torch.from_numpy(kernels), stride=stride, groups=groups)
            rows.append(out.numpy().ravel())
    dense = np.linalg.svd(np.stack(rows), compute_uv=False)
    values = layer_singular_values(layer, n)
    assert np.abs(values - dense[: len(values)]).max() <= 1e-10 * dense[0]
    assert np.abs(dense[len(values) :]).max(initial=0) <= 1e-10 * dense[0]


def test_the_norm_of_an_operator_is_what_power_iteration_finds() -> None:
    kernels = np.random.default_rng(4).normal(size=(3, 2, 3, 3))
    layer = Layer("layer", 0, "conv", kernels, (3, 3), (3, 3), (1, 1), (1, 1))
    weight = torch.from_numpy(kernels)
    image = torch.randn(1, 2, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    norm = 0.0
    for _ in range(3000):
        image = image / image.norm()
        out = functional.conv2d(functional.pad(image, (1, 1, 1, 1), mode="circular"), weight)
        norm = float(out.norm())
        back = functional.conv2d(functional.pad(out, (1, 1, 1, 1), mode="circular"), weight.transpose(0, 1).flip(2, 3))
        image = back
    scores = layer_operator(layer)
    assert scores.norm == pytest.approx(norm, rel=1e-6)
    assert scores.values == 16 * 16 * 2
    assert 1 <= scores.effective_rank <= scores.values


@pytest.mark.parametrize(
    ("kernel", "shape", "boundary", "words"),
    [
        (np.ones((2, 2)), (8, 8), "periodic", "no spectrum"),
        (np.ones((5, 5)), (4, 8), "periodic", "no spectrum"),
        (np.ones(3), (8, 8), "periodic", "does not fit"),
        (np.full((3, 3), np.nan), (8, 8), "periodic", "not finite"),
        (np.ones((3, 3)), (8, 8), "mirror", "no boundary"),
        (np.ones((3, 3)), (90, 90), "zero", "too large"),
    ],
)
def test_what_has_no_spectrum_is_told(kernel: np.ndarray, shape: tuple[int, int], boundary: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        singular_values(kernel, shape, boundary)  # type: ignore[arg-type]


KERNELS = {
    "mean": np.full((3, 3), 1 / 9),
    "gaussian": np.outer([1, 2, 1], [1, 2, 1]) / 16,
    "laplacian": np.array([[0, 1.0, 0], [1, -4, 1], [0, 1, 0]]),
    "sobel": np.outer([1, 2, 1], [-1.0, 0, 1]),
    "shift": np.eye(9)[2].reshape(3, 3),
    "identity": np.eye(9)[4].reshape(3, 3),
    "five": np.random.default_rng(9).normal(size=(5, 5)),
    "volume": np.random.default_rng(3).normal(size=(3, 3, 3)),
    "tiny": 1e-9 * np.random.default_rng(4).normal(size=(3, 3)),
}


@pytest.mark.parametrize("name", KERNELS)
def test_iteration_without_a_matrix_finds_the_largest_values_of_the_dense_one(name: str) -> None:
    kernel = KERNELS[name]
    # on a square some values are there twice
    shape = (20, 20) if kernel.ndim == 2 else (8, 7, 6)
    dense = singular_values(kernel, shape, "zero")
    found = largest_singular_values(kernel, shape, 4)
    assert found == pytest.approx(dense[:4], rel=1e-6, abs=1e-6 * dense[0])
    assert largest_singular_values(kernel, shape)[0] == pytest.approx(dense[0], rel=1e-6)
    image = np.random.default_rng(0).normal(size=shape)
    assert dense_matrix(kernel, shape) @ image.ravel() == pytest.approx(correlate(image, kernel).ravel(), abs=1e-12)


def test_large_grids_keep_the_bounds_and_small_ones_are_decomposed() -> None:
    """No norm beyond that of the torus with one more point, nor below what is left of it; it grows with the grid."""
    for name in ("gaussian", "laplacian", "sobel"):
        kernel = KERNELS[name]
        norms = [spectral_norm(kernel, (n, n), "zero") for n in (32, 48, 96)]
        assert norms == sorted(norms)
        assert norms[0] == pytest.approx(largest_singular_values(kernel, (32, 32))[0], rel=1e-6)
        torus = singular_values(kernel, (97, 97))
        assert norms[2] <= torus[0] * (1 + 1e-9)
        assert norms[2] >= torus[2 * (97**2 - 96**2)] * (1 - 1e-9)
        assert norms[2] <= np.abs(kernel).sum()
    # separable kernels have a closed form: two tridiagonal matrices
    line = 2 + 2 * np.cos(np.pi / 97)
    assert spectral_norm(KERNELS["gaussian"], (96, 96), "zero") == pytest.approx((line / 4) ** 2, rel=1e-9)
    assert spectral_norm(KERNELS["gaussian"], (96, 96)) == pytest.approx(1)
    assert spectral_norm(np.zeros((3, 3)), (96, 96), "zero") == 0


def test_more_values_than_there_are_and_larger_matrices_are_told() -> None:
    with pytest.raises(InputError, match="There are 16 singular values"):
        largest_singular_values(KERNELS["mean"], (4, 4), 17)
    with pytest.raises(InputError, match="no spectrum"):
        largest_singular_values(np.ones((2, 2)), (96, 96))
    assert len(singular_values(KERNELS["mean"], (12, 12), "zero", most_bytes=10**6)) == 144
    with pytest.raises(InputError, match="too large"):
        singular_values(KERNELS["mean"], (12, 12), "zero", most_bytes=10**5)
