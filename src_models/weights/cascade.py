"""The first stage of a cascade: named by hash on the card of the second, found again wherever it lies now."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from src_models.errors import FileError, LsnetError
from src_models.files.gate import shown, shown_name
from src_models.weights.card import ModelCard, StageModel
from src_models.weights.listing import SHIPPED, models_folder
from src_models.weights.pairs import CARD_SUFFIX, WEIGHTS_SUFFIX, read_card, weights_path

if TYPE_CHECKING:
    from src_models.weights.model import Model


def stage_model(card: ModelCard, path: Path | None = None, beside: Path | None = None) -> StageModel:
    """A first-stage model as the card of a second stage names it.

    Parameters
    ----------
    card : ModelCard
        Of the first-stage model, with its hash.
    path : Path, optional
        Its weights.
    beside : Path, optional
        The folder of the second stage, from where the way to `path` is kept.
    """
    way = "" if path is None or beside is None else _way(path, beside)
    return StageModel(name=card.name, version=card.version, fold=card.fold, sha256=card.sha256, way=way)


def _way(path: Path, folder: Path) -> str:
    try:
        return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()
    except ValueError:
        # another drive: the file is found by its hash, or not at all
        return ""


def first_stage_paths(
    path: Path, card: ModelCard, folder: str | os.PathLike[str] | None = None, shipped: Path = SHIPPED
) -> tuple[Path, ...]:
    """The weights of a first stage, in the order of the card; files are compared by the hashes on their cards.

    Parameters
    ----------
    path : Path
        Weights of the second stage: its folder is searched first, along the ways on the card and by hash.
    card : ModelCard
        Of it.
    folder : path-like, optional
        The user's folder of models, see `listing.models_folder`; then `shipped`.

    Raises
    ------
    FileError
        Where one is missing, naming it.
    """
    found: list[Path] = []
    for stage in card.first_stage:
        for candidate in _candidates(stage, path, (path.parent, models_folder(folder), shipped)):
            if _hash_on_card(candidate) == stage.sha256:
                found.append(candidate)
                break
        else:
            named = shown(stage.name) + (f", fold {shown(stage.fold)}" if stage.fold else "")
            raise FileError(
                "cascade-first-stage",
                f"{shown(card.name)} is the second stage of a cascade and its first stage was not found",
                f"{named}, SHA-256 {shown(stage.sha256, 12)}...",
                f"Put that model beside {shown_name(path)}, or import it with lsnet weights import.",
            )
    return tuple(found)


def _candidates(stage: StageModel, path: Path, folders: Iterable[Path]) -> Iterator[Path]:
    if stage.way:
        yield weights_path(path.parent / stage.way)
    for folder in folders:
        if folder.is_dir():
            yield from (weights_path(card) for card in sorted(folder.glob("*" + CARD_SUFFIX)))


def _hash_on_card(path: Path) -> str:
    """The hash that the card of a weights file gives; empty where there is no model."""
    if not path.is_file() or not path.name.lower().endswith(WEIGHTS_SUFFIX):
        return ""
    try:
        return read_card(path).sha256
    except LsnetError:
        return ""


def with_first_stages(
    models: Sequence[Model],
    paths: Sequence[Path],
    load: Callable[[Path], Model],
    folder: str | os.PathLike[str] | None = None,
    shipped: Path = SHIPPED,
) -> tuple[Model, ...]:
    """Models with their first stages, each of which is loaded once; models without one stay as they are.

    Raises
    ------
    FileError
        Where a first stage is missing or damaged.
    """
    loaded: dict[Path, Model] = {}

    def stage(path: Path) -> Model:
        if path not in loaded:
            loaded[path] = load(path)
        return loaded[path]

    return tuple(
        replace(model, first_stage=tuple(stage(one) for one in first_stage_paths(path, model.card, folder, shipped)))
        if model.card.first_stage
        else model
        for model, path in zip(models, paths, strict=True)
    )


def without_ways(stages: Iterable[StageModel]) -> tuple[StageModel, ...]:
    """The same models without the ways to their files: the second stage goes elsewhere."""
    return tuple(stage.model_copy(update={"way": ""}) for stage in stages)


def named_stages(paths: Iterable[Path], base: str = "") -> list[tuple[Path, ModelCard]]:
    """Cards of first-stage models that go into one folder with their second stage, under names of their own.

    Parameters
    ----------
    paths : iterable of Path
        Their weights, each once.
    base : str
        In place of the names on their cards.
    """
    found = [(path, read_card(path)) for path in paths]
    names = [base or card.name for _, card in found]
    alike = {name for name in names if names.count(name) > 1}
    return [
        (path, card.model_copy(update={"name": f"{name}-fold{card.fold}" if name in alike else name}))
        for (path, card), name in zip(found, names, strict=True)
    ]
