"""The best that other programs make of a real case: every setting of a stated grid, and the best moment of each run.

None of these programs has a rule that stops them where a structure ends. They are given the moment at which their mask
is closest to the reference, which no user can know: their figures are the most that can be had.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_models.levelset import LevelSetParameters, evolve
from src_models.levelset.initial import from_seeds
from src_models.levelset.speed import blurred, speed_image
from src_models.progress import finish
from tests.real_cases import RealCase
from tests.scenes import dice

Array = NDArray[Any]

LOST = 0.1
"""A run of a program without a stop is left alone once its Dice lies this far below its best: it has leaked."""


@dataclass(frozen=True, eq=False)
class Best:
    """What came out of a search.

    Attributes
    ----------
    setting : str
        The winner, in words.
    dice : float
        With the reference.
    seconds : float
        Of one run with the winner, speed image included.
    """

    setting: str
    dice: float
    seconds: float


@dataclass(frozen=True, eq=False)
class Try:
    """One setting.

    Attributes
    ----------
    setting : str
        In words.
    path : callable
        Gives masks on the way, each with the count of iterations.
    final : callable
        The mask after a count of iterations, in one go: what is timed.
    """

    setting: str
    path: Callable[[], Iterator[tuple[int, Array]]]
    final: Callable[[int], Array]


def search(case: RealCase, tries: Sequence[Try]) -> Best:
    """The best setting at its best moment, then run once more in one go for its seconds."""
    moments = []
    for number, attempt in enumerate(tries):
        best, count = 0.0, 1
        for now, mask in attempt.path():
            share = dice(mask, case.reference_mask)
            best, count = max((best, count), (share, now), key=lambda moment: moment[0])
            if share < best - LOST:
                break
        moments.append((best, -number, count))
    best, number, count = max(moments)
    chosen = tries[-number]
    begin = time.perf_counter()
    mask = chosen.final(count)
    seconds = time.perf_counter() - begin
    # Going on from a mask is not quite one long run: the program is given the better of the two.
    share = max(best, dice(mask, case.reference_mask))
    return Best(f"{chosen.setting}, {count} iterations", share, seconds)


def start_level_set(case: RealCase) -> Array:
    """Distance in mm to the clicked balls, positive inside."""
    return from_seeds(case.seeds, case.array.shape, case.spacing)[0]


def _edge(case: RealCase, sigma: float, share: float) -> Array:
    """The edge image that ours reads too."""
    parameters = LevelSetParameters(speed="edge", sigma=sigma, contrast=case.contrast * share)
    return speed_image(case.array, case.spacing, parameters)


def _smooth(case: RealCase, sigma: float) -> Array:
    image = case.array.astype(np.float32)
    return blurred(image, case.spacing, sigma) if sigma > 0 else image


def _limits(case: RealCase) -> tuple[float, float]:
    lowest, highest = float(case.array.min()), float(case.array.max())
    return (lowest if case.lower is None else case.lower, highest if case.upper is None else case.upper)


# -- ours


@dataclass(frozen=True, eq=False)
class OwnStop:
    """One run of ours to its own stop, and the best moment on the way, which no user can know.

    Attributes
    ----------
    parameters : LevelSetParameters
        What was set.
    dice, best_moment : float
        With the reference: where it stopped, and the largest on the way.
    stop_reason : str
        Why it stopped.
    seconds : float
        Of a run without looking at it.
    mask : ndarray of bool
        Where it stopped.
    """

    parameters: LevelSetParameters
    dice: float
    best_moment: float
    stop_reason: str
    seconds: float
    mask: Array


def our_settings(case: RealCase) -> list[LevelSetParameters]:
    """12 settings: 7 of region speed, 5 of edge speed."""
    region = [
        case.parameters(speed="region", curvature=curvature, smoothness=smoothness)
        for curvature, smoothness in itertools.product((0.2, 1.0, 3.0), (1.0, 3.0))
    ]
    region.append(case.parameters(speed="region", curvature=1.0, convection=1.0, contrast=case.contrast))
    edge = [
        case.parameters(speed="edge", sigma=sigma, contrast=round(case.contrast * share, 5), curvature=1.0)
        for sigma, share in itertools.product((1.0, 2.0), (0.5, 1.0))
    ]
    edge.append(case.parameters(speed="edge", sigma=2.0, convection=0.0))
    return region + edge


def watched_run(case: RealCase, parameters: LevelSetParameters, every: int = 10) -> OwnStop:
    """Run to the end, looking at the mask now and then; its seconds are not worth telling."""
    best = 0.0
    work = evolve(case.array, case.seeds, case.spacing, parameters)
    begin = time.perf_counter()
    while True:
        try:
            state = next(work)
        except StopIteration as end:
            result = end.value
            break
        if state.iteration % every == 0:
            best = max(best, dice(state.level_set > 0, case.reference_mask))
    share = dice(result.mask, case.reference_mask)
    seconds = time.perf_counter() - begin
    return OwnStop(parameters, share, max(best, share), result.stop_reason, seconds, result.mask)


def timed_run(case: RealCase, parameters: LevelSetParameters, best_moment: float) -> OwnStop:
    """The same run for its seconds."""
    begin = time.perf_counter()
    result = finish(evolve(case.array, case.seeds, case.spacing, parameters))
    seconds = time.perf_counter() - begin
    share = dice(result.mask, case.reference_mask)
    return OwnStop(parameters, share, best_moment, result.stop_reason, seconds, result.mask)


def search_ours(case: RealCase) -> tuple[OwnStop, float]:
    """The setting that is best where it stops by itself, and the best moment of all runs of the grid."""
    runs = [watched_run(case, parameters) for parameters in our_settings(case)]
    chosen = max(runs, key=lambda run: run.dice)
    return timed_run(case, chosen.parameters, chosen.best_moment), max(run.best_moment for run in runs)


# -- SimpleITK


def _pace(case: RealCase) -> tuple[int, int]:
    """Iterations between two looks, and looks: thick slices make small time steps."""
    if case.array.ndim == 2:
        return 100, 20
    return (80, 60) if max(case.spacing) > 3 * min(case.spacing) else (20, 80)


def _sitk_run(make: Callable[[], tuple[Any, Any]], case: RealCase, start: Array, iterations: int) -> Array:
    import SimpleITK

    program, feature = make()
    program.SetMaximumRMSError(0.0)
    program.SetNumberOfIterations(iterations)
    level_set = SimpleITK.GetImageFromArray(np.ascontiguousarray(start, dtype=np.float32))
    level_set.SetSpacing(feature.GetSpacing())
    return np.asarray(SimpleITK.GetArrayFromImage(program.Execute(level_set, feature)))


def _sitk_try(setting: str, case: RealCase, program: Callable[[], Any], feature: Callable[[], Array]) -> Try:
    import SimpleITK

    start = -start_level_set(case)
    chunk, chunks = _pace(case)

    def make() -> tuple[Any, Any]:
        image = SimpleITK.GetImageFromArray(np.ascontiguousarray(feature(), dtype=np.float32))
        image.SetSpacing([float(h) for h in case.spacing[::-1]])
        return program(), image

    def path() -> Iterator[tuple[int, Array]]:
        filter_and_feature = make()
        phi = start
        for number in range(1, chunks + 1):
            phi = _sitk_run(lambda: filter_and_feature, case, phi, chunk)
            if not (phi < 0).any() or (phi < 0).all():
                return
            yield number * chunk, phi < 0

    return Try(setting, path, lambda count: _sitk_run(make, case, start, count) < 0)


def simpleitk_tries(case: RealCase) -> list[Try]:
    """12 settings: 6 of thresholds, 4 of the geodesic active contour, 2 of shape detection."""
    import SimpleITK

    lower, upper = _limits(case)

    def threshold(curvature: float) -> Any:
        program = SimpleITK.ThresholdSegmentationLevelSetImageFilter()
        program.SetLowerThreshold(lower)
        program.SetUpperThreshold(upper)
        program.SetPropagationScaling(1.0)
        program.SetCurvatureScaling(curvature * (upper - lower) / 2)
        return program

    def geodesic(curvature: float) -> Any:
        program = SimpleITK.GeodesicActiveContourLevelSetImageFilter()
        program.SetPropagationScaling(1.0)
        program.SetCurvatureScaling(curvature)
        program.SetAdvectionScaling(2.0)
        return program

    def shape(curvature: float) -> Any:
        program = SimpleITK.ShapeDetectionLevelSetImageFilter()
        program.SetPropagationScaling(1.0)
        program.SetCurvatureScaling(curvature)
        return program

    tries = []
    for blur, curvature in itertools.product((0.0, 1.0), (0.05, 0.2, 3.0)):
        name = f"ThresholdSegmentation, blur {blur:g}, curvature {curvature:g}"
        tries.append(
            _sitk_try(name, case, lambda c=curvature: threshold(c), lambda b=blur: _smooth(case, b))  # type: ignore[misc]
        )
    edges = [(geodesic, "GeodesicActiveContour", *pair, 1.0) for pair in itertools.product((1.0, 2.0), (0.5, 1.0))]
    edges += [(shape, "ShapeDetection", 1.0, 1.0, curvature) for curvature in (0.2, 1.0)]
    for program, label, sigma, share, curvature in edges:
        tries.append(
            _sitk_try(
                f"{label}, sigma {sigma:g}, edge x {share:g}, curvature {curvature:g}",
                case,
                lambda c=curvature, p=program: p(c),  # type: ignore[misc]
                lambda s=sigma, e=share: _edge(case, s, e),  # type: ignore[misc]
            )
        )
    return tries


# -- scikit-image


def _morphological_try(
    setting: str, case: RealCase, feature: Callable[[], Array], run: Callable[[Array, int, Array], Array]
) -> Try:
    """`run` takes the feature image, a count and a level set of 0 and 1.

    It is looked at every fourth iteration by going on from the mask: the two orders of its smoothing alternate, and an
    even count leaves them where they were, so that the result is that of one long run.
    """
    start = (start_level_set(case) > 0).astype(np.int8)
    most = 160 if case.array.ndim == 3 else 250

    def path() -> Iterator[tuple[int, Array]]:
        image, level_set = feature(), start
        for now in range(4, most + 1, 4):
            level_set = run(image, 4, level_set)
            if not level_set.any() or level_set.all():
                return
            yield now, level_set > 0

    return Try(setting, path, lambda count: run(feature(), count, start) > 0)


def scikit_image_tries(case: RealCase) -> list[Try]:
    """12 settings: 8 of the geodesic active contour, on its own edge image and on ours, 4 of Chan-Vese."""
    from skimage.segmentation import (
        inverse_gaussian_gradient,
        morphological_chan_vese,
        morphological_geodesic_active_contour,
    )

    lower, upper = _limits(case)
    reach = 2 * (upper - lower)
    window = (max(lower - reach, float(case.array.min())), min(upper + reach, float(case.array.max())))

    def edge(kind: str, sigma: float) -> Array:
        if kind == "ours":
            return _edge(case, sigma, 1.0)
        scaled = (np.clip(case.array, *window).astype(np.float32) - window[0]) / (window[1] - window[0])
        return np.asarray(inverse_gaussian_gradient(scaled, alpha=100.0, sigma=sigma))

    def membership(blur: float) -> Array:
        parameters = LevelSetParameters(speed="region", lower=case.lower, upper=case.upper)
        return speed_image(_smooth(case, blur), case.spacing, parameters)

    tries = []
    pairs = ((1.0, 1), (2.0, 3))
    for kind, (sigma, smoothing), threshold in itertools.product(
        ("inverse_gaussian_gradient", "ours"), pairs, ("auto", 0.5)
    ):

        def geodesic(image: Array, count: int, start: Array, m=smoothing, t=threshold) -> Array:  # type: ignore[no-untyped-def]
            return np.asarray(
                morphological_geodesic_active_contour(image, count, start, smoothing=m, threshold=t, balloon=1)
            )

        name = f"morphological GAC, edge image {kind}, sigma {sigma:g}, smoothing {smoothing}, threshold {threshold}"
        tries.append(_morphological_try(name, case, lambda k=kind, s=sigma: edge(k, s), geodesic))  # type: ignore[misc]
    for blur, smoothing in itertools.product((0.0, 1.0), (1, 3)):

        def chan_vese(image: Array, count: int, start: Array, m=smoothing) -> Array:  # type: ignore[no-untyped-def]
            return np.asarray(morphological_chan_vese(image, count, start, smoothing=m))

        name = f"morphological Chan-Vese on our region speed, blur {blur:g}, smoothing {smoothing}"
        tries.append(_morphological_try(name, case, lambda b=blur: membership(b), chan_vese))  # type: ignore[misc]
    return tries
