"""Kernels as terms of the level set: what fits, what is refused and why, the frame test in words, and the file."""

from __future__ import annotations

import numpy as np
import pytest

from napari_lsnet.kernels.to_level_set import Basket, Choice, choose, frame_words
from src_models.errors import InputError
from src_models.kernels.exchange import Frame, Terms, finite_differences, frame, read_terms, step
from tests.napari_lsnet.kernel_models import analyse, save_random_lsn

MEAN = np.full((3, 3), 1 / 9)
SOBEL = np.outer([1.0, 2, 1], [-1, 0, 1]) / 8
LAPLACIAN = np.array([[0, 1.0, 0], [1, -4, 1], [0, 1, 0]])


@pytest.fixture(scope="module")
def report():
    """One layer: two slopes, an average, a Laplacian, and a slope with a sum."""
    import torch

    from src_models.kernels import KernelAnalysisParameters, analyse
    from src_models.progress import finish

    kernels = np.stack([SOBEL, SOBEL.T, MEAN, LAPLACIAN, SOBEL + 0.1 * MEAN])[:, None]
    state = {"conv.weight": torch.from_numpy(kernels), "wide.weight": torch.ones(2, 1, 5, 5)}
    return finish(analyse(state, KernelAnalysisParameters(n=8, null_draws=100, cluster_draws=0)))


def test_what_is_no_slope_is_refused_with_the_reason(report):
    choice = choose(report, range(5), "rho", "gradient", (1.0, 2.0))
    assert [name.split(", ")[1] for name in choice.origin] == ["output 0", "output 1"]
    reasons = {each.name.split(", ")[1]: each for each in choice.refused}
    assert "its entries sum to 1" in reasons["output 2"].reason
    assert reasons["output 2"].helps
    assert reasons["output 3"].reason == "has no slope"
    assert not reasons["output 3"].helps
    projected = choose(report, range(5), "rho", "gradient", (1.0, 2.0), project=True)
    assert len(projected.kernels) == 3
    assert {each.reason for each in projected.refused} == {"has no slope"}
    np.testing.assert_allclose(projected.kernels.sum((1, 2)), 0, atol=1e-12)
    # the image's slopes may be anything
    assert len(choose(report, range(5), "e", "gradient", (1.0, 2.0)).kernels) == 5
    for rows, sentence in (((), "No kernel is chosen"), ((5,), "5 x 5 do not fit"), ((0,) * 65, "at most 64")):
        with pytest.raises(InputError, match=sentence):
            choose(report, rows, "rho", "raw", (1.0, 2.0))


def test_the_roles_are_filled_and_the_frame_test_says_what_they_make_of_it(report):
    spacing = (1.0, 2.0)
    basket = Basket(spacing)
    np.testing.assert_array_equal(basket.terms().rho, finite_differences(spacing).rho)
    basket.chosen["rho"] = choose(report, (0, 1), "rho", "gradient", spacing)
    terms = basket.terms()
    np.testing.assert_array_equal(terms.sigma, terms.rho)
    np.testing.assert_array_equal(terms.e, finite_differences(spacing).e)
    assert frame(terms).gradient == pytest.approx((1, 1))
    assert "Both are the identity" in frame_words(frame(terms))
    basket.chosen["sigma"] = choose(report, (0,), "sigma", "gradient", spacing)
    with pytest.raises(InputError, match="2 slopes and 1 divergences"):
        basket.terms()
    # one slope alone does not see the other direction
    basket.chosen = {"rho": choose(report, (0,), "rho", "gradient", spacing)}
    assert "Slopes along a direction are not seen" in frame_words(frame(basket.terms()))


def test_each_case_of_the_frame_has_a_true_sentence():
    spacing = (1.0, 1.0)
    plain = finite_differences(spacing)
    double = Terms(2 * plain.rho, 3 * plain.sigma, plain.e, spacing)
    # N is 2 times |Du| and kappa = div(6 Du / 2|Du|), 3 times the curvature
    assert "slopes 2 times and curvature 3 times" in frame_words(frame(double))
    wide = np.stack([plain.rho[0], 3 * plain.rho[1]])
    said = frame_words(frame(Terms(wide, plain.sigma, plain.e, spacing)))
    assert "slopes are seen up to 3 times and curvature up to 3 times" in said
    assert "roughens" in frame_words(frame(Terms(plain.rho, -plain.sigma, plain.e, spacing)))
    assert "infinitely" in frame_words(Frame((2.0, 1.0), (1.0, 0.0), 0.0))


@pytest.fixture
def panel(kernel_panel):
    """A viewer with a turned picture of 0.5 x 2 mm pixels, and the panel."""
    return kernel_panel


def test_a_level_set_network_goes_to_the_solver_as_it_is(kernel_folder, panel, qtbot, tmp_path):
    import torch

    # begun with finite differences of 1 mm: then the frame is the identity
    save_random_lsn(kernel_folder, "plain-lsn", first_kernels="differences", noise=0.0, kernels=2)
    panel.models.refresh()
    panel.form.set_value(panel.form.value().model_copy(update={"spacing": (1.0, 1.0)}))
    report = analyse(panel, qtbot, "plain-lsn")
    part = panel.on_image.level_set
    for place, found in enumerate(report.layers):
        panel.results.layers.choose(place)
        assert ROLE_OF[found.layer.name.rpartition(".")[2]] == part.role.currentData()
        part.set_button.click()
    assert "Both are the identity" in part.frame_line.text()
    assert part.line.text().startswith("ρ 2 kernels; σ 2 kernels; e 2 kernels.")
    part.save(tmp_path / "terms.safetensors")
    assert "Saved: terms.safetensors and terms.json" in panel.controls.status.text()
    terms = read_terms(tmp_path / "terms.safetensors")
    np.testing.assert_allclose(terms.rho, finite_differences((1.0, 1.0)).rho, atol=1e-7)
    assert terms.origin[0] == "rho: levels.0.steps.0.rho, output 0, input 0"
    u = torch.randn(9, 8, dtype=torch.float64)
    moved = step(u, torch.ones_like(u), terms, (1.0, 0.1, 0.0), 0.01)
    plain = step(u, torch.ones_like(u), finite_differences((1.0, 1.0)), (1.0, 0.1, 0.0), 0.01)
    torch.testing.assert_close(moved, plain, atol=1e-6, rtol=0)


ROLE_OF = {"rho": "rho", "sigma": "sigma", "kernels": "e"}


def test_the_partners_of_a_level_set_network_stay_together():
    kernels = finite_differences((1.0, 1.0)).rho
    basket = Basket((1.0, 1.0))
    basket.chosen = {"rho": Choice(kernels, ("a", "b"), (), (0, 1)), "sigma": Choice(kernels, ("c", "d"), (), (0, 2))}
    with pytest.raises(InputError, match="Slopes 0, 1 stand beside divergences 0, 2"):
        basket.terms()


def test_in_the_panel_what_is_refused_may_be_projected_or_left_out(panel, qtbot):
    report = analyse(panel, qtbot)
    part = panel.on_image.level_set
    panel.on_image.level_set_section.header.setChecked(True)
    part.what.setCurrentIndex(part.what.findData("shown"))
    part.role.setCurrentIndex(part.role.findData("rho"))
    part.set_button.click()
    # random kernels have sums
    assert panel.controls.status.text().startswith(
        "Refused, 3 of 3: encoder.0.0.conv, output 0, input 0 is no difference"
    )
    assert not part.basket.chosen
    assert not part.project_button.isHidden()
    assert not part.save_button.isEnabled()
    part.project_button.click()
    assert len(part.basket.chosen["rho"].kernels) == 3
    assert part.project_button.isHidden()
    assert part.line.text().startswith("ρ 3 kernels; σ the same; e finite differences. Voxel size 0.5 x 2.")
    assert part.frame_line.text().startswith("Frame test: G ")
    assert part.save_button.isEnabled()
    # a kernel of 3D does not fit what is there: another analysis begins anew
    analyse(panel, qtbot, "random-3d")
    assert not part.basket.chosen
    panel.results.show_row(report.layers[0].first_row)
    part.what.setCurrentIndex(part.what.findData("kernel"))
    part.role.setCurrentIndex(part.role.findData("e"))
    part.set_button.click()
    assert part.basket.chosen["e"].kernels.shape == (1, 3, 3, 3)
