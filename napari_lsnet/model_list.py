"""The models that may be chosen in the docks: those of the package, of the user's folder, and files opened by hand."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from src_models.weights.card import ModelCard

_listeners: list[Callable[[], object]] = []
_FOLD = re.compile(r"-fold\d+$")


@dataclass(frozen=True, eq=False)
class ModelChoice:
    """A model, or the folds of one training that predict together.

    Attributes
    ----------
    title : str
        As it stands in a list.
    paths : tuple of Path
        Weights files.
    card : ModelCard
        Of the first.
    """

    title: str
    paths: tuple[Path, ...]
    card: ModelCard

    @property
    def name(self) -> str:
        """What `lsnet predict --weights` takes: a name, or the file where it is not in the list."""
        return self.title.partition(" (")[0] if self.listed else str(self.paths[0])

    @property
    def listed(self) -> bool:
        """Whether it is among the models of the package and of the user's folder."""
        from src_models.weights.listing import SHIPPED, models_folder

        return self.paths[0].parent in (SHIPPED, models_folder())


def usable_models() -> tuple[ModelChoice, ...]:
    """Models that can be used now, by name; those with several folds also together. Weights are not read."""
    from src_models.weights.listing import available

    found: list[ModelChoice] = []
    folds: dict[str, list[ModelChoice]] = {}
    entries = [entry for entry in available() if entry.usable and entry.path is not None and entry.card is not None]
    several = {name for name in (entry.name for entry in entries) if sum(e.name == name for e in entries) > 1}
    for entry in entries:
        assert entry.path is not None
        assert entry.card is not None
        title = f"{entry.name}@{entry.version}" if entry.name in several else entry.name
        choice = ModelChoice(title, (entry.path,), entry.card)
        found.append(choice)
        if _FOLD.search(entry.name):
            folds.setdefault(_FOLD.sub("", entry.name), []).append(choice)
    for name, parts in folds.items():
        if len(parts) > 1 and name not in several:
            paths = tuple(path for part in parts for path in part.paths)
            found.append(ModelChoice(f"{name} ({len(parts)} folds)", paths, parts[0].card))
    return tuple(sorted(found, key=lambda choice: choice.title))


def model_in(path: Path) -> ModelChoice:
    """A model from its file.

    Raises
    ------
    FileError
        Where the file or its card is missing, damaged or of another kind.
    """
    from src_models.weights.pairs import read_card
    from src_models.weights.store import locate

    weights = locate(path)[0]
    card = read_card(weights)
    return ModelChoice(f"{card.name} (file)", (weights,), card)


def install(weights: Path, name: str = "") -> ModelChoice:
    """Copy a model into the user's folder, as the next version of its name, and tell every list.

    Parameters
    ----------
    weights : Path
        Of a model with its card.
    name : str
        In place of that of the card.

    Raises
    ------
    FileError, SaveError
        Where it cannot be read or written; nothing is half there.
    """
    from src_models.errors import SaveError
    from src_models.weights.listing import available, models_folder
    from src_models.weights.pairs import read_card, read_weights
    from src_models.weights.store import write_pair

    card = read_card(weights)
    content = read_weights(weights, card)
    card = card.model_copy(update={"name": name or card.name})
    for entry in available():
        if entry.usable and entry.name == card.name and entry.sha256 == card.sha256 and entry.path is not None:
            return ModelChoice(card.name, (entry.path,), entry.card or card)
    taken = {entry.version for entry in available() if entry.name == card.name}
    version = next(str(n) for n in range(1, len(taken) + 2) if str(n) not in taken)
    folder = models_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        why = (error.strerror or "the system refused it").lower()
        raise SaveError("models-folder", "The folder of models cannot be made", why, "Check its rights.") from error
    card = write_pair(content, card.model_copy(update={"version": version}), folder)
    tell()
    return ModelChoice(card.name, (folder / f"{card.name}@{version}.safetensors",), card)


def on_change(listener: Callable[[], object]) -> Callable[[], None]:
    """Call `listener` when there may be other models than before; the function returned ends it."""
    _listeners.append(listener)

    def end() -> None:
        if listener in _listeners:
            _listeners.remove(listener)

    return end


def tell() -> None:
    """Models were added or removed."""
    for listener in tuple(_listeners):
        listener()
