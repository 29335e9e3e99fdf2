"""The folder of a trained nnU-Net configuration, as networks with cards; that of a cascade with its first stage.

nnU-Net keeps each configuration in a folder ``TRAINER__PLANS__CONFIGURATION``: the first stage lies beside the second.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from src_models.errors import FileError, LsnetError
from src_models.files.gate import shown, shown_name
from src_models.progress import Progress
from src_models.record import versions
from src_models.weights.card import ModelCard, StageModel, TrainingData
from src_models.weights.cascade import stage_model
from src_models.weights.checkpoints import read_checkpoint, state_in
from src_models.weights.nnunet_plans import NNUNetModel, model_from, previous_stage, read_json
from src_models.weights.pairs import plain_name
from src_models.weights.store import network_with, serialise

Made = list[tuple[bytes, ModelCard]]

_DROPPED = ("all_modules", "decoder.encoder.")
"""Parts of keys under which nnU-Net's networks hold tensors a second time."""
_CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_best.pth")
_PLANS = "plans.json"


def nnunet_models(
    folder: Path, *, name: str = "", licence: str = "", folds: Sequence[str] = ()
) -> Generator[Progress, None, Made]:
    """Weights and card of every fold; of a cascade those of the first stage before them.

    Parameters
    ----------
    folder : Path
        With ``plans.json``, ``dataset.json`` and ``fold_N``.
    name, licence : str
        For the cards.
    folds : sequence of str
        Of this folder; all by default. Of a first stage all are taken.

    Raises
    ------
    FileError
        Where something is damaged, not known here, or a first stage is missing.
    """
    plans, dataset = read_json(folder / _PLANS), read_json(folder / "dataset.json")
    plan_hash = hashlib.sha256((folder / _PLANS).read_bytes()).hexdigest()
    made: Made = []
    stage: tuple[StageModel, ...] = ()
    chosen = folds_of(folder, folds)
    for number, (fold, checkpoint) in enumerate(chosen):
        yield Progress(phase="import", fraction=number / len(chosen), message=f"reading {fold}")
        content = read_checkpoint(checkpoint)
        arguments = content.get("init_args") if isinstance(content, dict) else None
        configuration = str((arguments or {}).get("configuration") or _configuration_of(folder))
        model = model_from(plans, dataset, configuration)
        if model.previous and not stage:
            earlier = _first_stage(folder, model.previous, configuration)
            base = f"{name}-first-stage" if name else ""
            first = yield from nnunet_models(earlier, name=base, licence=licence)
            _check_stage(first, model, earlier)
            made += first
            stage = tuple(stage_model(_hashed(weights, card)) for weights, card in first)
        weights, card = _fold(content, checkpoint, model, name)
        more = {
            "weights_licence": licence,
            "plan_hash": plan_hash,
            "first_stage": stage,
            "training_data": TrainingData(name=model.data_name, cases=_count(dataset.get("numTraining"))),
        }
        made.append((weights, card.model_copy(update=more)))
    return made


def _fold(content: Mapping[str, Any], checkpoint: Path, model: NNUNetModel, name: str) -> tuple[bytes, ModelCard]:
    """One checkpoint."""
    folder = checkpoint.parent
    told = f"{shown(folder.name)}/{shown_name(checkpoint)}"
    state = {
        key: value for key, value in state_in(dict(content), told).items() if not any(part in key for part in _DROPPED)
    }
    network = network_with(model.network, state, told)
    fold = folder.name.removeprefix("fold_")
    base = name or plain_name(f"{network.name}-{model.data_name}-{model.configuration}")
    axes = content.get("inference_allowed_mirroring_axes")
    card = ModelCard(
        name=base + (f"-fold{fold}" if fold.isdecimal() else ""),
        task=f"segmentation of {', '.join(label.name for label in model.labels if label.name != 'background')}",
        modality=model.modality,
        network=network.config,
        ndim=network.ndim,
        orientation=model.orientation,
        preprocessing=model.preprocessing,
        patch=model.patch,
        labels=model.labels,
        head=model.head,
        mirror_axes=tuple(int(axis) for axis in axes) if isinstance(axes, list | tuple) else (),
        fold=fold,
        budget=f"{content.get('current_epoch', '?')} epochs, {shown(str(content.get('trainer_name', 'nnU-Net')))}",
        metrics=_scores(folder),
        metrics_note="as nnU-Net reports them",
        versions=versions("torch"),
        created=datetime.now(UTC).strftime("%Y-%m-%d"),
        changelog=f"imported from {shown_name(checkpoint)} of nnU-Net",
    )
    return serialise(network.state_dict()), card


def _hashed(weights: bytes, card: ModelCard) -> ModelCard:
    return card.model_copy(update={"sha256": hashlib.sha256(weights).hexdigest()})


def _configuration_of(folder: Path) -> str:
    return folder.name.rpartition("__")[2]


def _first_stage(folder: Path, previous: str, configuration: str) -> Path:
    """The folder of the first stage, beside that of the second.

    Raises
    ------
    FileError
        Where it is not there, or it is not clear which.
    """
    own = folder.resolve()
    exact = own.with_name(f"{own.name.rpartition('__')[0]}__{previous}")
    others = [exact] if (exact / _PLANS).is_file() else []
    others = others or [path.parent for path in sorted(own.parent.glob(f"*__{previous}/{_PLANS}"))]
    if len(others) == 1:
        return others[0]
    why = f"it needs {shown(previous)}, and {len(others) or 'no'} such folder{'s' if len(others) > 1 else ''} "
    raise FileError(
        "nnunet-cascade",
        f"The configuration {shown(configuration)} is the second stage of a cascade",
        f"{why}{'lie' if len(others) > 1 else 'lies'} beside {shown_name(folder)}",
        f"Put the folder that ends in __{shown(previous)} beside it, or import 3d_fullres or 2d.",
    )


def _check_stage(first: Made, model: NNUNetModel, folder: Path) -> None:
    """Refuse a first stage of other labels, or one that is itself a second stage."""
    for _, card in first:
        if card.labels != model.labels or card.first_stage:
            raise FileError(
                "nnunet-cascade",
                f"{shown_name(folder)} is not the first stage of this cascade",
                "it is a cascade itself" if card.first_stage else "its labels differ",
                "Put the right folder beside it.",
            )


def second_stage(folders: Sequence[Path]) -> Path | None:
    """Of two folders of nnU-Net, the second stage of a cascade where the other is its first; else None."""
    if len(folders) != 2 or not all((folder / _PLANS).is_file() for folder in folders):
        return None
    for folder, other in (folders, folders[::-1]):
        try:
            previous = previous_stage(read_json(folder / _PLANS), _configuration_of(folder))
        except LsnetError:
            return None
        if previous and previous == _configuration_of(other):
            return folder
    return None


def folds_of(folder: Path, wanted: Sequence[str]) -> list[tuple[str, Path]]:
    """Fold folders with their checkpoints; the final one where there is one."""
    found = []
    for path in sorted(folder.glob("fold_*")):
        if wanted and path.name.removeprefix("fold_") not in wanted:
            continue
        checkpoint = next((path / name for name in _CHECKPOINTS if (path / name).is_file()), None)
        if checkpoint is not None:
            found.append((path.name, checkpoint))
    missing = [fold for fold in wanted if f"fold_{fold}" not in [name for name, _ in found]]
    if not found or missing:
        raise FileError(
            "nnunet-folds",
            f"{shown_name(folder)} holds no checkpoint of fold {missing[0]}" if missing else "There is no checkpoint",
            "" if missing else f"{shown_name(folder)} has no fold_*/checkpoint_final.pth",
            "Choose the folder of a trained configuration.",
        )
    return found


def _scores(fold: Path) -> tuple[dict[str, Any], ...]:
    file = fold / "validation" / "summary.json"
    if not file.is_file():
        return ()
    try:
        mean = float(read_json(file)["foreground_mean"]["Dice"])
    except (FileError, KeyError, TypeError, ValueError):
        return ()
    return ({"fold": fold.name.removeprefix("fold_"), "dice": mean},)


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and value >= 0 else None
