"""How a run makes its region speed from the image: strokes for a classifier, or clusters of grey values.

A recipe is small beside the image it is for, so the record of a run holds it whole and a replay needs no further file.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from src_models.errors import FileError, InputError
from src_models.levelset.classifier import ClassifierParameters, train
from src_models.levelset.clustering import ClusterParameters, cluster_speed, clusters_at, fit_clusters
from src_models.levelset.initial import Seeds, start_mask
from src_models.levelset.parameters import LevelSetParameters
from src_models.levelset.speed import as_image, blurred
from src_models.levelset.states import Resume
from src_models.progress import Progress, finish
from src_models.record import StoredArray, content_hash


@dataclass(frozen=True, eq=False)
class ClassifierSpeed:
    """The speed of a pixel classifier trained on strokes.

    Attributes
    ----------
    strokes : ndarray of int, on the grid of the image
        0 not painted, 1 the structure, 2 and above other classes. A copy is kept.
    parameters : ClassifierParameters
        The forest and its features.
    label : int
        The class in which the front grows.
    """

    strokes: NDArray[Any]
    parameters: ClassifierParameters = field(default_factory=ClassifierParameters)
    label: int = 1

    def __post_init__(self) -> None:
        strokes = np.array(self.strokes)
        strokes.setflags(write=False)
        object.__setattr__(self, "strokes", strokes)


@dataclass(frozen=True)
class ClusterSpeed:
    """The speed of the clusters of grey values at the start of the run.

    Attributes
    ----------
    parameters : ClusterParameters
        The mixture of Gaussians.
    """

    parameters: ClusterParameters = field(default_factory=ClusterParameters)


SpeedRecipe: TypeAlias = ClassifierSpeed | ClusterSpeed


@dataclass(frozen=True, eq=False)
class PreparedSpeed:
    """A recipe with the speed it gives, made by `prepare`; good for the image and start it was made for.

    Attributes
    ----------
    recipe : ClassifierSpeed or ClusterSpeed
        What the record will hold.
    speed : ndarray of float32
        s in [-1, 1]. Read only.
    notes : tuple of str
        What was found, in words.
    made_from : str
        Hash of the image and, for clusters, of the start.
    """

    recipe: SpeedRecipe
    speed: NDArray[np.float32]
    notes: tuple[str, ...]
    made_from: str


GivenSpeed: TypeAlias = NDArray[Any] | ClassifierSpeed | ClusterSpeed | PreparedSpeed


def prepare(
    recipe: SpeedRecipe, image: NDArray[Any], spacing: Sequence[float], initial: NDArray[Any] | Seeds
) -> Generator[Progress, None, PreparedSpeed]:
    """Make the speed of a recipe, telling how far it is; `evolve` takes the result in place of the recipe.

    Parameters
    ----------
    recipe : ClassifierSpeed or ClusterSpeed
        How.
    image : ndarray of shape (z, y, x) or (y, x)
        Grey values.
    spacing : sequence of float
        mm per array axis.
    initial : ndarray or Seeds
        The start of the run, as for `evolve`.

    Raises
    ------
    InputError, GeometryError
        One sentence each.
    """
    plain = as_image(image, spacing)
    made_from = _fingerprint(recipe, plain, spacing, initial)
    notes: tuple[str, ...] = ()
    if isinstance(recipe, ClassifierSpeed):
        speed = yield from _classified(recipe, plain, spacing)
    else:
        speed, notes = yield from _clustered(recipe, plain, spacing, initial)
    speed.setflags(write=False)
    return PreparedSpeed(recipe, speed, notes, made_from)


def _classified(
    recipe: ClassifierSpeed, image: NDArray[Any], spacing: Sequence[float]
) -> Generator[Progress, None, NDArray[np.float32]]:
    yield Progress(phase="classifier", fraction=0.0, message="Training the classifier")
    classifier = train(image, recipe.strokes, spacing, recipe.parameters)
    return (yield from classifier.speed_steps(image, spacing, recipe.label))


def _clustered(
    recipe: ClusterSpeed, image: NDArray[Any], spacing: Sequence[float], initial: NDArray[Any] | Seeds
) -> Generator[Progress, None, tuple[NDArray[np.float32], tuple[str, ...]]]:
    yield Progress(phase="clusters", fraction=0.0, message="Looking for clusters of grey values")
    inside = start_mask(initial, image.shape, spacing)
    smooth = blurred(image, spacing, recipe.parameters.cluster_sigma)
    done = recipe.parameters.model_copy(update={"cluster_sigma": 0.0})
    mixture = fit_clusters(smooth, spacing, done)
    yield Progress(phase="clusters", fraction=0.5, message="Computing the speed image")
    chosen = clusters_at(mixture, smooth, spacing, inside, done)
    there = " and ".join(f"{mixture.means[k]:.4g}" for k in chosen)
    found = ", ".join(f"{mean:.4g}" for mean in mixture.means)
    note = f"Clusters at grey values {found}; the front grows in the one{'s' * (len(chosen) > 1)} at {there}."
    return cluster_speed(mixture, smooth, spacing, chosen, done), (note,)


def prepared(
    speed: GivenSpeed | None, image: NDArray[Any], spacing: Sequence[float], initial: NDArray[Any] | Seeds | Resume
) -> GivenSpeed | None:
    """The same speed with its recipe carried out, so that what asks for it several times waits once."""
    if not isinstance(speed, ClassifierSpeed | ClusterSpeed):
        return speed
    return finish(prepare(speed, as_image(image, spacing), spacing, _drawn(initial)))


def _drawn(initial: NDArray[Any] | Seeds | Resume) -> NDArray[Any] | Seeds:
    """The drawn start that a level set was made from, or its inside."""
    if isinstance(initial, Resume):
        return np.asarray(initial.level_set > 0) if initial.origin is None else initial.origin
    return initial


def given_speed(
    speed: GivenSpeed | None,
    image: NDArray[Any],
    spacing: Sequence[float],
    parameters: LevelSetParameters,
    initial: NDArray[Any] | Seeds | Resume,
) -> tuple[NDArray[Any] | None, tuple[str, ...]]:
    """The speed image a run was given, or that its recipe makes, and what there is to say about it.

    A start that was made from a drawn one (`Resume.origin`) counts as that.

    Raises
    ------
    InputError
        Where it does not fit the image, or the run does not use a region speed.
    """
    from src_models.levelset.fields import check_speed_image

    check_mode(speed, parameters)
    if speed is None:
        return None, ()
    initial = _drawn(initial)
    if isinstance(speed, ClassifierSpeed | ClusterSpeed):
        speed = finish(prepare(speed, image, spacing, initial))
    elif isinstance(speed, PreparedSpeed) and speed.made_from != _fingerprint(speed.recipe, image, spacing, initial):
        raise InputError(
            "speed-prepared",
            "The prepared speed belongs to another image or start",
            "",
            "Prepare it again from these.",
        )
    if isinstance(speed, PreparedSpeed):
        return check_speed_image(speed.speed, image.shape, parameters), speed.notes
    return check_speed_image(speed, image.shape, parameters), ()


def check_mode(speed: GivenSpeed | None, parameters: LevelSetParameters) -> None:
    """Refuse a recipe in a run that follows edges.

    Raises
    ------
    InputError
        In one sentence.
    """
    if isinstance(speed, ClassifierSpeed | ClusterSpeed | PreparedSpeed) and parameters.speed != "region":
        raise InputError(
            "speed-mode",
            "Strokes and clusters give a region speed",
            "this run follows edges",
            "Choose region as the speed.",
        )


def packages(speed: GivenSpeed | None) -> tuple[str, ...]:
    """The packages, beyond those of every run, whose versions decide about the bits."""
    recipe = speed.recipe if isinstance(speed, PreparedSpeed) else speed
    return ("scikit-learn",) if isinstance(recipe, ClassifierSpeed) else ()


def stored_speed(speed: GivenSpeed | None) -> dict[str, Any]:
    """What the inputs of a record hold of it: a recipe whole, of an array the hash."""
    recipe = speed.recipe if isinstance(speed, PreparedSpeed) else speed
    if recipe is None:
        return {}
    if isinstance(recipe, ClassifierSpeed):
        small = recipe.strokes.astype(np.min_scalar_type(recipe.strokes.max()))
        content = {"strokes": StoredArray.of(small).model_dump(mode="json"), "label": recipe.label}
        return {"classifier": content | {"parameters": recipe.parameters.model_dump(mode="json")}}
    if isinstance(recipe, ClusterSpeed):
        return {"clusters": {"parameters": recipe.parameters.model_dump(mode="json")}}
    return {"speed_image": content_hash(np.asarray(recipe))}


def restored_speed(inputs: Mapping[str, Any]) -> SpeedRecipe | None:
    """The recipe among the inputs of a record; None where there is none.

    Raises
    ------
    FileError, KeyError, ValidationError
        Where it is not whole.
    """
    for name in ("classifier", "clusters"):
        if name in inputs and not isinstance(inputs[name], dict):
            raise FileError("record-speed", "The record is damaged", f"{name} is no entry", "Use an undamaged copy.")
    if "classifier" in inputs:
        stored = inputs["classifier"]
        strokes = StoredArray(**stored["strokes"]).array()
        return ClassifierSpeed(strokes, ClassifierParameters(**stored["parameters"]), int(stored["label"]))
    if "clusters" in inputs:
        return ClusterSpeed(ClusterParameters(**inputs["clusters"]["parameters"]))
    return None


def _fingerprint(
    recipe: SpeedRecipe, image: NDArray[Any], spacing: Sequence[float], initial: NDArray[Any] | Seeds
) -> str:
    parts = [content_hash(image), *map(str, map(float, spacing))]
    if isinstance(recipe, ClusterSpeed):
        parts.append(content_hash(start_mask(initial, image.shape, spacing)))
    return " ".join(parts)
