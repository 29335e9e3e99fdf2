"""What can be analysed: a module, a name of the store, a file of weights, a checkpoint, a folder of nnU-Net."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from src_models.errors import FileError, InputError
from src_models.files.gate import check_file, shown_name
from src_models.kernels.collect import dense
from src_models.progress import finish
from src_models.weights.checkpoints import SUFFIXES, read_checkpoint, state_in
from src_models.weights.pairs import WEIGHTS_SUFFIX, card_path
from src_models.weights.store import load_pair, locate, tensors_in

if TYPE_CHECKING:
    from src_models.weights.card import ModelCard

_FOLDERS = ("plans.json", "configs/metadata.json")


@dataclass(frozen=True, eq=False)
class Source:
    """A network whose kernels are analysed: a module, or bare tensors by name.

    Attributes
    ----------
    name : str
        Of the model.
    network : Module or None
        Where its structure is known.
    state : mapping or None
        Tensors alone.
    card : ModelCard or None
        Where it is a model of this program.
    content_hash : str
        SHA-256 over the weights.
    notes : tuple of str
        Such as which fold was taken.
    """

    name: str
    network: nn.Module | None
    state: Mapping[str, Any] | None
    card: ModelCard | None
    content_hash: str
    notes: tuple[str, ...] = ()


def open_source(source: Any, *, fold: str = "") -> Source:
    """A module as it is, or what a name, file or folder holds.

    Parameters
    ----------
    source : Module, mapping, Model or path-like
        ``str`` and paths: a name of the store, a safetensors file with or without a card, a file that torch wrote, a
        training's folder, a folder of nnU-Net or a MONAI bundle.
    fold : str
        Which fold, where there are several; by default the first.

    Raises
    ------
    FileError, InputError
        Where it is missing, damaged, would run a program when opened, or holds no network.
    """
    if isinstance(source, Source):
        return source
    if isinstance(source, torch.jit.ScriptModule):
        # compiled layers do not tell of what kind they are
        state = source.state_dict()
        return Source(str(getattr(source, "original_name", "network")), None, state, None, hash_of(state))
    if isinstance(source, nn.Module):
        return Source(type(source).__name__, source, None, None, hash_of(source.state_dict()))
    network = getattr(source, "network", None)
    if isinstance(network, nn.Module):
        return Source(source.card.name, network, None, source.card, hash_of(network.state_dict()))
    if isinstance(source, Mapping):
        tensors = _tensors(source)
        return Source("tensors", None, tensors, None, hash_of(tensors))
    if isinstance(source, str | os.PathLike):
        return _open_path(os.fspath(source), fold)
    raise InputError(
        "kernels-source",
        f"What was given, {type(source).__name__}, has no kernels",
        "",
        "Give a torch module, a name or a file of a model.",
    )


def _tensors(source: Mapping[Any, Any]) -> Mapping[str, Any]:
    """A table of tensors; arrays count as such, and a checkpoint is looked into."""
    plain = {
        str(key): torch.from_numpy(np.ascontiguousarray(value)) if _is_array(value) else value
        for key, value in source.items()
    }
    if any(isinstance(value, torch.Tensor) for value in plain.values()):
        return plain
    return state_in(dict(source), "This mapping")


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind in "fiub"


def hash_of(state: Mapping[str, Any]) -> str:
    """SHA-256 over names, types and numbers of tensors."""
    digest = hashlib.sha256()
    for key, value in state.items():
        if isinstance(value, torch.Tensor) and not value.is_meta and not torch.nn.parameter.is_lazy(value):
            plain = dense(value)
            digest.update(f"{key}{plain.dtype}{tuple(plain.shape)}".encode())
            digest.update(np.ascontiguousarray(plain.cpu().contiguous().reshape(-1).view(torch.uint8).numpy()).data)
    return digest.hexdigest()


def _open_path(text: str, fold: str) -> Source:
    path = Path(text)
    lower = path.name.lower()
    if path.is_file() and lower.endswith(SUFFIXES):
        return _bare(path, state_in(read_checkpoint(path), shown_name(path)))
    if path.is_file() and lower.endswith(WEIGHTS_SUFFIX) and not card_path(path).is_file():
        check_file(path)
        return _bare(path, tensors_in(path.read_bytes(), shown_name(path)))
    if (path.is_file() and lower.endswith(".zip")) or (path.is_dir() and _is_foreign(path)):
        return _foreign(path, fold)
    paths = locate(text)
    chosen = paths[0]
    if fold:
        matching = [each for each in paths if f"fold{fold}" in each.name or each.parent.name == f"fold_{fold}"]
        if not matching:
            raise InputError("kernels-fold", f"{shown_name(path)} has no fold {fold}", "", f"It has {len(paths)}.")
        chosen = matching[0]
    model = load_pair(chosen)
    notes = (f"The first of {len(paths)} folds was taken.",) if len(paths) > 1 and not fold else ()
    return Source(model.card.name, model.network, None, model.card, model.card.sha256, notes)


def _bare(path: Path, state: Mapping[str, Any]) -> Source:
    return Source(path.name.partition(".")[0], None, state, None, hash_of(state))


def _is_foreign(folder: Path) -> bool:
    """Whether a folder, or one up to two levels below, is one of nnU-Net or a MONAI bundle."""
    return any(any(folder.glob("*/" * depth + name)) for depth in range(3) for name in _FOLDERS)


def _foreign(path: Path, fold: str) -> Source:
    """A model of others: the importer reads it into a folder that does not stay, so that all its checks hold here."""
    from src_models.weights.importers import ImportOptions, import_model

    try:
        with tempfile.TemporaryDirectory() as place:
            chosen = ImportOptions(folds=(fold or _first_fold(path),) if _first_fold(path) else ())
            entries = finish(import_model(path, place, chosen))
            if entries[0].path is None:
                raise FileError("kernels-import", f"{shown_name(path)} could not be read", "", "Choose another folder.")
            model = load_pair(entries[0].path)
    except InputError as error:
        # a bundle or an archive that does not say of which network it is still has its tensors
        if error.code != "import-net":
            raise
        return _tensors_of_bundle(path, error)
    taken = "" if fold or not _first_fold(path) else f"Fold {_first_fold(path)} was taken."
    return Source(model.card.name, model.network, None, model.card, model.card.sha256, tuple(filter(None, (taken,))))


def _first_fold(path: Path) -> str:
    """The first fold of an nnU-Net folder that has a checkpoint; empty where it is none."""
    for depth in range(3):
        for folder in sorted(path.glob("*/" * depth + "fold_*")):
            if any(folder.glob("checkpoint_*.pth")):
                return folder.name.removeprefix("fold_")
    return ""


def _tensors_of_bundle(path: Path, error: InputError) -> Source:
    if not path.is_dir():
        raise error
    from src_models.weights.bundle import weights_of_bundle

    weights = weights_of_bundle(path)
    if weights.name.lower().endswith(WEIGHTS_SUFFIX):
        return _bare(weights, tensors_in(weights.read_bytes(), shown_name(weights)))
    return _bare(weights, state_in(read_checkpoint(weights), shown_name(weights)))
