"""Save a network with its card, and load it again: nothing is unpickled, and nothing is half loaded."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Generator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from src_models.errors import FileError, InputError, SaveError
from src_models.files.gate import shown, shown_name
from src_models.files.saving import save_together
from src_models.progress import Progress
from src_models.weights.card import ModelCard
from src_models.weights.cascade import with_first_stages
from src_models.weights.listing import SHIPPED, Entry, available, entry_of, find, models_folder
from src_models.weights.manifest import Manifest
from src_models.weights.pairs import (
    CARD_SUFFIX,
    WEIGHTS_SUFFIX,
    card_path,
    card_text,
    check_hash,
    hash_file,
    read_card,
    read_weights,
    stem_of,
    weights_path,
)
from src_models.weights.selected import Selected, read_selected

if TYPE_CHECKING:
    from torch import Tensor

    from src_models.networks.network import Network
    from src_models.weights.model import Model

__all__ = ["Entry", "available", "find", "load", "load_folds", "locate", "models_folder", "remove", "save", "verify"]


def save(network: Network, card: ModelCard, path: str | os.PathLike[str], *, overwrite: bool = False) -> ModelCard:
    """Write weights and card; both are there afterwards, or what was there before.

    Parameters
    ----------
    network : Network
        Its state is stored as it is, on whatever device it lies.
    card : ModelCard
        Hash and size are filled in.
    path : path-like
        A folder, for files named ``NAME@VERSION``, or the weights file.
    overwrite : bool
        Whether a model that is there may be replaced.

    Returns
    -------
    ModelCard
        As written.

    Raises
    ------
    InputError
        Where the card describes another network.
    SaveError
        Where the files cannot be written.
    """
    if card.network != network.config:
        raise InputError(
            "weights-card-network",
            f"The card {shown(card.name)} describes another network",
            f"{shown(str(card.network.get('name', 'none')))}, not this {network.name}",
            "Give the configuration of the network that is saved.",
        )
    content = serialise(network.state_dict())
    return write_pair(content, card, path, overwrite=overwrite)


def serialise(state: Mapping[str, Tensor]) -> bytes:
    """Tensors as the bytes of a safetensors file; equal tensors give equal bytes, so equal hashes."""
    from safetensors.torch import save as to_bytes

    plain = {key: value.detach().cpu().contiguous() for key, value in state.items()}
    return bytes(to_bytes(plain, {"format": "pt"}))


def write_pair(content: bytes, card: ModelCard, path: str | os.PathLike[str], *, overwrite: bool = False) -> ModelCard:
    """Write the bytes of a safetensors file with its card; see `save`."""
    target = Path(path)
    if target.is_dir():
        target = target / (stem_of(card) + WEIGHTS_SUFFIX)
    full = card.model_copy(update={"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)})
    save_together({weights_path(target): content, card_path(target): card_text(full)}, overwrite=overwrite)
    return full


def load(
    name_or_path: str | os.PathLike[str],
    folder: str | os.PathLike[str] | None = None,
    *,
    manifest: Manifest | None = None,
    shipped: Path = SHIPPED,
) -> Model:
    """Load one model; its hash is checked.

    Parameters
    ----------
    name_or_path : str or path-like
        A name from `available`, either file of a model, or a folder that holds one, such as that of a training.
    folder : path-like, optional
        The user's folder of models, for names; see `models_folder`.
    manifest, shipped
        As in `available`.

    Returns
    -------
    Model
        In evaluation mode, on the CPU; that of a cascade with its first stage.

    Raises
    ------
    FileError
        Where files are missing, cut short, of another hash or another network, or the card is not understood; for a
        cascade also where its first stage is not found.
    InputError
        Where there is no such name, or several models are meant.
    """
    paths = locate(name_or_path, folder, manifest=manifest, shipped=shipped)
    if len(paths) > 1:
        raise InputError(
            "weights-several",
            f"{shown_name(Path(name_or_path))} means {len(paths)} models",
            "",
            f"Choose one: {', '.join(shown(path.name[: -len(WEIGHTS_SUFFIX)]) for path in paths[:8])}.",
        )
    return with_first_stages([load_pair(paths[0])], paths, load_pair, folder, shipped)[0]


def load_folds(
    name_or_path: str | os.PathLike[str],
    folder: str | os.PathLike[str] | None = None,
    *,
    manifest: Manifest | None = None,
    shipped: Path = SHIPPED,
) -> tuple[Model, ...]:
    """Load every model that a name, file or folder means, for an ensemble; see `load`.

    The folder of a selection means the folds of the configuration that was selected, or of both.

    Raises
    ------
    InputError
        Also where they differ in labels, head, channels or dimensions, so that their results cannot be averaged.
    """
    selected = read_selected(Path(name_or_path)) if Path(name_or_path).is_dir() else None
    if selected is not None:
        return _selected_models(selected, Path(name_or_path), folder, shipped)
    paths = locate(name_or_path, folder, manifest=manifest, shipped=shipped)
    models = with_first_stages([load_pair(path) for path in paths], paths, load_pair, folder, shipped)
    first = models[0].card
    for model in models[1:]:
        card = model.card
        kept = ("labels", "head", "ndim", "preprocessing")
        stages = [{stage.sha256 for stage in one.first_stage} for one in (card, first)]
        if any(getattr(card, field) != getattr(first, field) for field in kept) or stages[0] != stages[1]:
            raise InputError(
                "weights-folds",
                f"{shown(card.name)} and {shown(first.name)} are no folds of one model",
                "their labels, inputs or first stages differ",
                "Choose one of them.",
            )
    return models


def _selected_models(
    selected: Selected, place: Path, folder: str | os.PathLike[str] | None, shipped: Path
) -> tuple[Model, ...]:
    """The folds of one configuration as their cards say; those of a pair keep the largest parts of the pair."""
    groups = [load_folds(place / name, folder, shipped=shipped) for name in selected.configurations]
    if len(groups) == 1:
        return groups[0]
    kept = {"keep_largest": [list(one) for one in selected.keep_largest]}
    return tuple(
        replace(model, card=model.card.model_copy(update={"inference": {**model.card.inference, **kept}}))
        for group in groups
        for model in group
    )


def locate(
    name_or_path: str | os.PathLike[str],
    folder: str | os.PathLike[str] | None = None,
    *,
    manifest: Manifest | None = None,
    shipped: Path = SHIPPED,
) -> tuple[Path, ...]:
    """The weights files that a name, file or folder means; nothing is read but names.

    Raises
    ------
    FileError, InputError
        Where there are none.
    """
    path = Path(name_or_path)
    if path.is_dir():
        return in_folder(path)
    if path.name.lower().endswith((WEIGHTS_SUFFIX, CARD_SUFFIX)) and (path.exists() or weights_path(path).exists()):
        return (weights_path(path),)
    text = os.fspath(name_or_path)
    if path.exists():
        raise FileError(
            "weights-kind",
            f"{shown_name(path)} is not a model of this program",
            "models are .safetensors files with a card",
            "Import it first: lsnet weights import FILE --net NAME.",
        )
    if path.name != text or text.lower().endswith((WEIGHTS_SUFFIX, CARD_SUFFIX)):
        raise FileError("weights-missing", f"{shown_name(path)} was not found", "", "Check the name and the folder.")
    return tuple(entry.path for entry in find(text, folder, manifest=manifest, shipped=shipped) if entry.path)


def load_pair(path: Path) -> Model:
    """The model in one pair of files, that of a cascade without its first stage; see `load`."""
    from src_models.weights.model import Model

    card = read_card(path)
    content = read_weights(path, card)
    name = shown_name(weights_path(path))
    network = network_with(card.network, tensors_in(content, name), name)
    return Model(network, card)


def verify(entry: Entry) -> Generator[Progress, None, Entry]:
    """Hash the weights of a model; returns its entry, damaged where the hash is not that of its card.

    Parameters
    ----------
    entry : Entry
        Of a model that is here.
    """
    if entry.path is None:
        return entry
    fresh = entry_of(entry.path, "installed" if entry.state == "damaged" else entry.state)
    if fresh.state == "damaged" or fresh.card is None:
        return fresh
    try:
        check_hash((yield from hash_file(entry.path)), fresh.card.sha256, shown_name(entry.path))
    except FileError as error:
        return replace(fresh, state="damaged", problem=str(error))
    return fresh


def remove(entry: Entry) -> None:
    """Take the files of an installed or damaged model away.

    Raises
    ------
    InputError
        Where it came with the package, or is not here.
    SaveError
        Where the files cannot be removed.
    """
    if entry.path is None or entry.path.parent.resolve() == SHIPPED.resolve():
        why = "it is not on this computer" if entry.path is None else "it came with the package"
        raise InputError("weights-remove", f"{shown(entry.name)} cannot be removed", why, "")
    try:
        # the card last: a half that is left is still listed, as damaged
        entry.path.unlink(missing_ok=True)
        card_path(entry.path).unlink(missing_ok=True)
    except OSError as error:
        why = (error.strerror or "the system refused it").lower()
        raise SaveError("weights-remove", f"{shown(entry.name)} was not removed", why, "Check its rights.") from error


def tensors_in(content: bytes, name: str) -> dict[str, Tensor]:
    """The tensors in the bytes of a safetensors file.

    Raises
    ------
    FileError
        Where it is none, or cut short.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load as from_bytes

    try:
        return dict(from_bytes(content))
    except (SafetensorError, ValueError, KeyError, OverflowError, RuntimeError) as error:
        raise FileError(
            "weights-safetensors", f"{name} is no safetensors file", "it is damaged", "Download or copy it again."
        ) from error


def network_with(config: Mapping[str, object], state: Mapping[str, Tensor], name: str) -> Network:
    """A network with weights, in evaluation mode, once every name and shape has been compared.

    Shapes are compared on a network without numbers, so that a description of something huge costs nothing.

    Raises
    ------
    FileError
        Where a tensor is missing, left over, or of another shape.
    """
    import torch

    from src_models.networks.zoo import from_config

    # what a network draws at its start is overwritten at once: the caller's random numbers stay as they were
    with torch.random.fork_rng(devices=[]):
        with torch.device("meta"):
            expected = {key: tuple(value.shape) for key, value in from_config(config).state_dict().items()}
        compare_shapes(expected, {key: tuple(value.shape) for key, value in state.items()}, name)
        network = from_config(config)
    network.load_state_dict(dict(state))
    return network.eval()


def compare_shapes(expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]], name: str) -> None:
    """Refuse tensors that are not exactly those of a network.

    Raises
    ------
    FileError
        Naming the first difference.
    """
    missing = [key for key in expected if key not in found]
    extra = [key for key in found if key not in expected]
    differing = [key for key in expected if key in found and expected[key] != found[key]]
    if missing:
        why = f"{len(missing)} tensor(s) are missing, such as {shown(missing[0])}"
    elif extra:
        why = f"{len(extra)} tensor(s) are left over, such as {shown(extra[0])}"
    elif differing:
        key = differing[0]
        why = f"{shown(key)} has the shape {found[key]}, not {expected[key]}"
    else:
        return
    raise FileError(
        "weights-network", f"{name} holds the weights of another network", why, "Use the weights of this network."
    )


def in_folder(folder: Path) -> tuple[Path, ...]:
    """The models of a folder: weights that have a card, there or in its ``fold_N``; checkpoints are none.

    Raises
    ------
    FileError
        Where there are none.
    """
    paths = _pairs(folder)
    if not paths:
        folds = sorted(folder.glob("fold_*"), key=lambda path: (len(path.name), path.name))
        paths = tuple(path for fold in folds for path in _pairs(fold))
    if paths:
        return paths
    if (folder / "plans.json").is_file():
        raise FileError(
            "weights-nnunet",
            f"{shown_name(folder)} is a model of nnU-Net",
            "",
            "Import it first: lsnet weights import FOLDER.",
        )
    without = len(list(folder.glob("*" + WEIGHTS_SUFFIX)))
    why = f"{without} file(s) of weights there have no card" if without else ""
    raise FileError("weights-none", f"There is no model in {shown_name(folder)}", why, "Choose another folder.")


def _pairs(folder: Path) -> tuple[Path, ...]:
    found = sorted(path for path in folder.glob("*" + WEIGHTS_SUFFIX) if not path.name.startswith("."))
    return tuple(path for path in found if card_path(path).is_file())
