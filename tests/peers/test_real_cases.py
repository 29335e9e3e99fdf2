"""The cases of the benchmark are what it says: files load, clicks lie in the structure, command lines parse."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest

from src_models.cli import inputs
from src_models.cli.evolve import add_arguments, chosen_parameters
from src_models.files import ReadOptions
from tests.real_cases import CASES, DATA_VARIABLE, RealCase


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> RealCase:
    """Each case whose files are there."""
    found: RealCase = request.param
    if not found.is_there:
        pytest.skip(f"{found.image} is not in {found.folder}; name the data folder with {DATA_VARIABLE}")
    return found


def test_clicks_lie_in_the_structure(case: RealCase) -> None:
    for sphere in case.seeds.spheres:
        place = tuple(round(x / h) for x, h in zip(sphere.centre, case.spacing, strict=True))
        assert case.reference_mask[place], f"{case.name}: the click at {sphere.centre} mm lies outside"


def test_box_holds_the_structure(case: RealCase) -> None:
    """A box that cut it would flatter every program: what lies outside is not counted."""
    whole = inputs.read_mask(
        case.folder / case.label, inputs.read_frame(case.folder / case.image, ReadOptions()), ReadOptions(), "reference"
    )
    assert case.reference_mask.shape == case.array.shape
    assert 0 < case.reference_mask.sum() < 0.6 * case.reference_mask.size
    if case.shipped:
        assert case.reference_mask.sum() == whole.sum()


def test_thresholds_tell_the_structure_from_its_border(case: RealCase) -> None:
    inside = case.array[case.reference_mask]
    lower = -np.inf if case.lower is None else case.lower
    upper = np.inf if case.upper is None else case.upper
    assert np.mean((inside >= lower) & (inside <= upper)) > 0.8


@pytest.mark.parametrize("speed", ["region", "edge"])
def test_printed_command_makes_the_same_parameters(case: RealCase, speed: str) -> None:
    import argparse

    parameters = case.parameters(speed=speed, curvature=0.5)
    program, name, *words = shlex.split(case.command(parameters))
    assert (program, name) == ("lsnet", "evolve")
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    arguments = parser.parse_args(words)
    assert chosen_parameters(arguments) == parameters
    assert Path(arguments.image).name == Path(case.image).name
    assert inputs.read_points(arguments.point, case.frame) == case.seeds
    assert inputs.read_frame(case.folder / case.image, ReadOptions(), crop=arguments.crop).box == case.frame.box
