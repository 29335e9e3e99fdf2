"""Speeds that a run makes itself: in the record whole, made again bit for bit, refused where they do not fit."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from src_models.errors import FileError, InputError
from src_models.levelset import LevelSetParameters, evolve
from src_models.levelset.classifier import ClassifierParameters, train
from src_models.levelset.clustering import ClusterParameters
from src_models.levelset.evolution import replay
from src_models.levelset.initial import Seeds, Sphere
from src_models.levelset.recipes import ClassifierSpeed, ClusterSpeed, prepare
from src_models.record import Record, content_hash
from tests.runs import finish, states
from tests.scenes import REPOSITORY, ball, ball_scene, dice, picture

SCENE = replace(
    ball_scene(), image=picture(10.0 * ball((44, 44, 44), (1.0,) * 3, 14.3), (1.0,) * 3, 20.0, 1, blur_voxels=0.0)
)
"""With a sharp border: two clusters and nothing between them."""
REGION = LevelSetParameters(speed="region", steps=45)
QUICK = ClassifierParameters(trees=8, feature_sigmas=(1.0, 3.0))


def strokes():
    painted = np.zeros(SCENE.image.shape, np.int64)
    painted[20, 20:24, 18:28] = 3
    painted[22, 3, :] = 1
    painted[:, 40, 8] = 259  # 3 in eight bits
    return painted


RECIPES = {
    "classifier": ClassifierSpeed(strokes(), QUICK, label=3),
    "clusters": ClusterSpeed(ClusterParameters(clusters=2)),
}
named = pytest.mark.parametrize("name", RECIPES)


def run(speed, start=SCENE.start, parameters=REGION):
    return evolve(SCENE.image, start, SCENE.spacing, parameters, speed)


@named
def test_the_record_makes_the_run_again_without_a_further_file(name):
    result = finish(run(RECIPES[name]))
    record = Record.model_validate_json(result.record.to_json())
    again = finish(replay(record, SCENE.image))
    np.testing.assert_array_equal(again.level_set, result.level_set)
    assert again.record.inputs == result.record.inputs
    assert result.mask.sum() > 2 * SCENE.start.sum()
    assert dice(result.mask, SCENE.truth) > 0.9
    assert "speed_image" not in record.inputs
    assert len(record.to_json()) < 20_000
    assert ("scikit-learn" in record.versions) == (name == "classifier")


@named
def test_a_run_with_a_recipe_is_the_run_with_its_speed(name):
    prepared = finish(prepare(RECIPES[name], SCENE.image, SCENE.spacing, SCENE.start))
    assert abs(prepared.speed).max() <= 1
    with_array = finish(run(prepared.speed))
    with_recipe = finish(run(RECIPES[name]))
    with_prepared = finish(run(prepared))
    np.testing.assert_array_equal(with_array.level_set, with_recipe.level_set)
    np.testing.assert_array_equal(with_prepared.level_set, with_recipe.level_set)
    assert with_prepared.record.inputs == with_recipe.record.inputs
    assert with_prepared.notes == with_recipe.notes
    assert with_array.record.inputs["speed_image"] == content_hash(prepared.speed)


@named
def test_preparing_tells_how_far_it_is(name):
    seen, _ = states(prepare(RECIPES[name], SCENE.image, SCENE.spacing, SCENE.start))
    fractions = [progress.fraction for progress in seen]
    assert len(fractions) >= 2
    assert fractions == sorted(fractions)
    assert fractions[0] == 0
    assert fractions[-1] <= 1
    assert all(progress.message for progress in seen)


@named
def test_a_prepared_speed_belongs_to_its_image_and_start(name):
    prepared = finish(prepare(RECIPES[name], SCENE.image, SCENE.spacing, SCENE.start))
    for changed in ({"image": SCENE.image + 1}, {"spacing": (2.0, 1.0, 1.0)}, {"initial": SCENE.truth}):
        given = {"image": SCENE.image, "initial": SCENE.start, "spacing": SCENE.spacing} | changed
        if name == "classifier" and "initial" in changed:
            next(evolve(**given, parameters=REGION, speed_image=prepared))  # its strokes ask for no start
            continue
        with pytest.raises(InputError, match="The prepared speed belongs to another image or start"):
            next(evolve(**given, parameters=REGION, speed_image=prepared))


def test_clusters_are_those_at_any_kind_of_start():
    """Labels, u, and seeds in mm: inside the ball it grows, outside of it the front leaves the ball alone."""
    inside = [SCENE.start, np.where(SCENE.start, 2.0, -2.0), Seeds(spheres=(Sphere(centre=(20, 22, 23), radius=5),))]
    clusters = RECIPES["clusters"]
    first, *others = (finish(prepare(clusters, SCENE.image, SCENE.spacing, start)).speed for start in inside)
    assert dice(first > 0, SCENE.truth) > 0.9
    for other in others:
        np.testing.assert_array_equal(other, first)
    outside = Seeds(spheres=(Sphere(centre=(4, 4, 4), radius=3),))
    away = finish(prepare(clusters, SCENE.image, SCENE.spacing, outside)).speed
    assert dice(away > 0, ~SCENE.truth) > 0.9
    assert not ((away > 0) & (first > 0)).any()


def test_the_record_holds_the_strokes_as_they_were():
    painted = strokes()
    recipe = ClassifierSpeed(painted, QUICK, label=3)
    painted[:] = 0
    again = finish(run(recipe)).record
    assert again.inputs == finish(run(RECIPES["classifier"])).record.inputs


def test_edge_speed_takes_no_recipe():
    for recipe in RECIPES.values():
        with pytest.raises(InputError, match="give a region speed: this run follows edges"):
            next(run(recipe, parameters=LevelSetParameters()))
    under_way = run(RECIPES["clusters"])
    next(under_way)
    assert "Not changed: Strokes and clusters" in under_way.send(LevelSetParameters(speed="edge")).note


def test_a_class_that_was_not_painted_is_refused():
    with pytest.raises(InputError, match="No stroke has label 2: the labels painted are 1, 3, 259"):
        next(run(ClassifierSpeed(strokes(), QUICK, label=2)))


DAMAGE = {
    "no strokes": lambda inputs: inputs["classifier"].pop("strokes"),
    "no label": lambda inputs: inputs["classifier"].pop("label"),
    "no entry": lambda inputs: inputs.update(classifier="yes"),
    "another hash": lambda inputs: inputs["classifier"]["strokes"].update(sha256="0" * 64),
    "a forest out of bounds": lambda inputs: inputs["classifier"]["parameters"].update(trees=10**9),
    "clusters out of bounds": lambda inputs: (
        inputs.pop("classifier"),
        inputs.update(clusters={"parameters": {"clusters": 0}}),
    ),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_record_is_refused(case):
    record = finish(run(RECIPES["classifier"], parameters=REGION.model_copy(update={"steps": 1}))).record
    content = record.model_dump(mode="json")
    DAMAGE[case](content["inputs"])
    with pytest.raises((FileError, KeyError, ValidationError)):
        finish(replay(Record(**content), SCENE.image))


PROCESS = """
import sys
import numpy as np
from src_models.levelset.recipes import *
from src_models.progress import finish
from src_models.record import content_hash
given = np.load(sys.argv[1])
settings = ClassifierParameters(trees=8, feature_sigmas=(1.0, 3.0))
for recipe in (ClassifierSpeed(given["strokes"], settings, 3), ClusterSpeed()):
    print(content_hash(finish(prepare(recipe, given["image"], (1.0, 1.0, 1.0), given["start"])).speed))
"""


def test_another_process_with_more_threads_gives_the_same_bits(tmp_path):
    np.savez(tmp_path / "given.npz", image=SCENE.image, start=SCENE.start, strokes=strokes())
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    environment = os.environ | dict.fromkeys(names, "2") | {"PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", PROCESS, str(tmp_path / "given.npz")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=True)
    here = [
        content_hash(finish(prepare(recipe, SCENE.image, SCENE.spacing, SCENE.start)).speed)
        for recipe in (RECIPES["classifier"], ClusterSpeed())
    ]
    assert done.stdout.split() == here


def test_the_random_state_of_others_plays_no_part():
    first = train(SCENE.image, strokes(), SCENE.spacing, QUICK).speed(SCENE.image, SCENE.spacing, 3)
    np.random.seed(7)
    second = train(SCENE.image, strokes(), SCENE.spacing, QUICK).speed(SCENE.image, SCENE.spacing, 3)
    np.testing.assert_array_equal(first, second)
    other = QUICK.model_copy(update={"forest_seed": 1})
    assert not np.array_equal(
        train(SCENE.image, strokes(), SCENE.spacing, other).speed(SCENE.image, SCENE.spacing, 3), first
    )
