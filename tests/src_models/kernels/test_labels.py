"""Known kernels and labels: classes, invariances, the rule itself, and the stated shares of random kernels."""

from __future__ import annotations

import numpy as np
import pytest

from src_models.errors import InputError
from src_models.kernels.dictionary import DEAD, INDETERMINATE, dictionary, orientations
from src_models.kernels.labels import bank, confusions, cosines, label_kernels, spectral_distances
from src_models.kernels.null import NullKey, null, random_kernels
from src_models.kernels.spectra import singular_values

SIZES = [(3, 3), (3, 3, 3)]
# mean of the normalised spectrum of each label, 64 x 64 and 16 x 16 x 16: reference numbers of the specification
MEANS_2D = {
    "identity": 1,
    "unsharp": 0.875,
    "sharpen-9": 0.692,
    "laplacian-9": 0.667,
    "first difference": 0.636,
    "compact laplacian": 0.625,
    "sharpen": 0.556,
    "laplacian": 0.5,
    "second difference": 0.5,
    "mixed difference": 0.405,
    "scharr": 0.398,
    "edge": 0.318,
    "prewitt": 0.305,
    "gaussian": 0.25,
    "mean": 0.229,
}
MEANS_3D = {"laplacian": 0.5, "sharpen": 0.538, "edge": 0.157, "gaussian": 0.125, "mean": 0.111}
# shares of random kernels under paper-6 and 0.10, with the standard error of the reference
SHARES = [
    ("gaussian", (16, 16), (0.0042, 0.5304, 0.0021, 0.0542, 0, 0.3544, 0.0547), 0.0008),
    ("gaussian", (32, 32), (0.0037, 0.5362, 0.0020, 0.0627, 0, 0.3468, 0.0485), 0.0008),
    ("gaussian", (64, 64), (0.0036, 0.5375, 0.0020, 0.0650, 0, 0.3448, 0.0472), 0.0008),
    ("uniform", (16, 16), (0.0107, 0.5607, 0.0043, 0.0801, 0, 0.2949, 0.0493), 0.0008),
    ("uniform", (32, 32), (0.0100, 0.5659, 0.0041, 0.0930, 0, 0.2857, 0.0413), 0.0008),
    ("uniform", (64, 64), (0.0097, 0.5663, 0.0040, 0.0966, 0, 0.2837, 0.0397), 0.0008),
    ("gaussian", (16, 16, 16), (0, 0.460, 0, 0.001, 0, 0.002, 0.537), 0.002),
    ("uniform", (16, 16, 16), (0, 0.403, 0, 0.002, 0, 0.001, 0.594), 0.002),
]


@pytest.mark.parametrize(("law", "grid", "stated", "error"), SHARES)
def test_random_kernels_get_the_stated_shares(
    law: str, grid: tuple[int, ...], stated: tuple[float, ...], error: float
) -> None:
    count = 20_000
    kernels = random_kernels(law, (3,) * len(grid), count, 7)  # type: ignore[arg-type]
    found = label_kernels(kernels.reshape(count, *(3,) * len(grid)), "paper-6", grid)
    shares = found.shares()
    for name, expected in zip(shares, stated, strict=True):
        own = np.sqrt(max(expected * (1 - expected), 1 / count) / count)
        assert abs(shares[name] - expected) <= 4 * np.hypot(own, error), name


@pytest.mark.parametrize("size", SIZES)
def test_every_known_kernel_labels_itself(size: tuple[int, ...]) -> None:
    known = dictionary("extended", size)
    assert all(np.abs(feature.kernel).sum() == pytest.approx(1, abs=1e-12) for feature in known.features)
    kernels = np.stack([feature.kernel for feature in known.features])
    found = label_kernels(kernels, "extended", (9,) * len(size))
    assert found.words().tolist() == [known.labels[label] for label in known.label_of]
    assert found.distance.max() < 1e-5


@pytest.mark.parametrize("size", SIZES)
def test_members_of_a_class_agree_at_odd_sizes_and_nearly_at_even_ones(size: tuple[int, ...]) -> None:
    known = dictionary("extended", size)
    for n, bound in ((9, 1e-12), (8, 1 / 8)):
        curves = singular_values(np.stack([feature.kernel for feature in known.features]), (n,) * len(size))
        curves /= curves[:, :1]
        for label in range(len(known.labels)):
            mine = curves[known.label_of == label]
            assert np.abs(mine - mine[0]).mean(axis=1).max() <= bound, known.labels[label]


def test_the_paper_lists_six_and_eleven_kernels() -> None:
    assert len(dictionary("paper-6", (3, 3)).features) == 6
    eleven = dictionary("paper-11", (3, 3))
    assert len(eleven.features) == 11
    assert eleven.labels == ("mean", "laplacian", "gaussian", "edge", "identity", "sharpen", "laplacian-9")
    assert len(dictionary("paper-11", (3, 3), merge=False).labels) == 11


@pytest.mark.parametrize(("size", "grid", "means"), [((3, 3), (64, 64), MEANS_2D), ((3,) * 3, (16,) * 3, MEANS_3D)])
def test_spectra_have_the_stated_means(size: tuple[int, ...], grid: tuple[int, ...], means: dict[str, float]) -> None:
    known = dictionary("extended", size)
    for name, expected in means.items():
        kernel = known.features[int(np.flatnonzero(known.label_of == known.labels.index(name))[0])].kernel
        values = singular_values(kernel, grid)
        assert values.mean() / values[0] == pytest.approx(expected, abs=6e-4), name


def test_the_confusions_are_those_of_the_specification() -> None:
    pairs = {frozenset(pair[:2]): pair[2] for pair in confusions(dictionary("extended", (3, 3)), (64, 64))}
    stated = {
        ("sharpen-9", "laplacian-9"): 0.026,
        ("edge", "prewitt"): 0.032,
        ("compact laplacian", "laplacian-9"): 0.043,
        ("gaussian", "mean"): 0.044,
        ("laplacian", "sharpen"): 0.056,
        ("gaussian", "edge"): 0.068,
        ("mean", "prewitt"): 0.076,
        ("laplacian-9", "first difference"): 0.094,
    }
    for pair, gap in stated.items():
        assert pairs[frozenset(pair)] == pytest.approx(gap, abs=6e-4), pair


@pytest.mark.parametrize("size", SIZES)
def test_sign_scale_rotation_and_reflection_do_not_matter(size: tuple[int, ...]) -> None:
    kernels = np.random.default_rng(0).normal(size=(40, *size))
    plain = label_kernels(kernels, "paper-11")
    turned = np.stack([np.flip(np.swapaxes(kernel, 0, 1), 0) for kernel in kernels])
    for other in (-kernels, 1e-30 * kernels, 1e30 * kernels, turned):
        found = label_kernels(other, "paper-11")
        sure = (plain.margin > 1e-4) & (np.abs(plain.distance - 0.1) > 1e-4)
        assert (found.codes == plain.codes)[sure].all()
        assert np.abs(found.distance - plain.distance).max() < 1e-5


def test_distances_are_the_mean_difference_of_normalised_spectra() -> None:
    """float32 and half of the frequencies against float64 and all of them; up to 4 frequencies count once."""
    kernels, known = np.random.default_rng(1).normal(size=(30, 3, 3)), dictionary("paper-6", (3, 3))
    for grid in ((12, 10), (9, 12), (7, 7)):
        spectra = singular_values(kernels, grid)
        spectra /= spectra[:, :1]
        references, owners = known.spectra(grid)
        expected = np.abs(spectra[:, None] - references[None]).mean(axis=2)
        found = spectral_distances(kernels.reshape(30, 9), (3, 3), grid, known)
        for label in range(len(known.labels)):
            assert np.abs(found[:, label] - expected[:, owners == label].min(axis=1)).max() < 1e-5


def test_the_threshold_counts_and_far_kernels_are_indeterminate() -> None:
    kernels = np.random.default_rng(2).normal(size=(50, 3, 3))
    loose = label_kernels(kernels, threshold=1.0)
    one = int(np.argmax(loose.distance))
    assert label_kernels(kernels, threshold=float(loose.distance[one])).words()[one] == loose.words()[one]
    below = np.nextafter(loose.distance[one], np.float32(0))
    assert label_kernels(kernels, threshold=float(below)).words()[one] == INDETERMINATE


def test_zeros_are_dead_and_not_counted_in_shares() -> None:
    kernels = np.random.default_rng(3).normal(size=(10, 3, 3))
    kernels[4] = 0
    found = label_kernels(kernels)
    assert found.words()[4] == DEAD
    assert np.isnan(found.distance[4])
    assert sum(found.shares().values()) == pytest.approx(1)


def test_results_do_not_depend_on_threads_or_on_what_else_is_measured() -> None:
    kernels = np.random.default_rng(4).normal(size=(700, 3, 3))
    whole = label_kernels(kernels, "paper-11", threads=1)
    assert np.array_equal(whole.all_distances, label_kernels(kernels, "paper-11", threads=3).all_distances)
    apart = [label_kernels(part, "paper-11").all_distances for part in np.array_split(kernels, 9)]
    assert np.array_equal(whole.all_distances, np.concatenate(apart))


def test_a_kernel_is_known_in_every_orientation_with_its_sign() -> None:
    known = dictionary("paper-6", (3, 3, 3))
    edge, templates = known.features[3].kernel, bank(known)
    assert len(orientations(edge)) == 3
    assert len(orientations(edge, (1.0, 1.0, 2.0))) == 1
    turned = -np.swapaxes(edge, 0, 2)
    label, distance, turn = cosines(turned.reshape(1, -1), templates)
    assert known.labels[label[0]] == "edge"
    assert distance[0] == pytest.approx(0, abs=1e-6)
    back = cosines(-turned.reshape(1, -1), templates)[2]
    assert templates.names[turn[0]][1:] == templates.names[back[0]][1:]
    assert templates.names[turn[0]][0] != templates.names[back[0]][0]


def test_a_spacing_adds_the_laplacian_of_its_voxels() -> None:
    known = dictionary("paper-6", (3, 3, 3), (2.0, 1.0, 1.0))
    kernel = next(feature.kernel for feature in known.features if feature.name == "laplacian of the spacing")
    expected = np.zeros((3, 3, 3))
    for axis, h in enumerate((2.0, 1.0, 1.0)):
        for offset in (0, 2):
            place = [1, 1, 1]
            place[axis] = offset
            expected[tuple(place)] = 1 / h**2
    expected[1, 1, 1] = -expected.sum()
    assert np.allclose(kernel, expected / np.abs(expected).sum(), atol=1e-15)
    assert dictionary("paper-6", (3, 3, 3), (1.0, 1.0, 1.0)).labels == dictionary("paper-6", (3, 3, 3)).labels


def test_chance_is_the_same_for_any_threads_and_p_values_of_fresh_random_kernels_are_uniform() -> None:
    from scipy.stats import kstest

    key = NullKey("gaussian", (3, 3), (3, 3), (16, 16), "paper-6", None, True, 0.05, 4000, 1)
    one, more = null(key), null(key, threads=2)
    assert np.array_equal(one.distances, more.distances)
    fresh = random_kernels("gaussian", (3, 3), 4000, 2).reshape(-1, 3, 3)
    found = label_kernels(fresh, "paper-6", (16, 16))
    _, p_any = one.p_values(found.nearest, found.distance)
    assert kstest(p_any, "uniform").pvalue > 1e-3


@pytest.mark.parametrize("kernels", [np.ones((4, 2, 2)), np.ones((4, 9)), np.full((2, 3, 3), np.inf)])
def test_what_cannot_be_labelled_is_told(kernels: np.ndarray) -> None:
    with pytest.raises(InputError):
        label_kernels(kernels)


def test_unknown_presets_and_spacings_of_other_dimensions_are_told() -> None:
    with pytest.raises(InputError, match="no known kernels named paper-7"):
        dictionary("paper-7", (3, 3))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="2 numbers, the kernels have 3"):
        dictionary("paper-6", (3, 3, 3), (1.0, 1.0))
