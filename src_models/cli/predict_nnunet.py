"""``lsnet predict --backend nnunet``: nnU-Net itself on an image, its labels saved as this program saves its own."""

from __future__ import annotations

import argparse
import hashlib
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from src_models.errors import FileError, InputError
from src_models.files.gate import shown, shown_name
from src_models.geometry import Volume
from src_models.inference.parameters import PredictionParameters
from src_models.progress import Progress

if TYPE_CHECKING:
    from src_models.inference.nnunet import NNUNetAnswer, NNUNetProcess
    from src_models.inference.prediction import Prediction
    from src_models.record import Record
    from src_models.weights.card import Label

BACKEND = "nnunet"
_WITHOUT = "Leave out --backend nnunet."
_ITS_OWN = {"step", "mirror", "device", "probabilities"}
"""Settings of a prediction that nnU-Net has too."""


@dataclass(frozen=True, eq=False)
class Peer:
    """A folder of nnU-Net and its process, in the place of models of this program.

    Attributes
    ----------
    process : NNUNetProcess
        Not started before the first image.
    models : tuple of dict
        Name, fold and hash of each checkpoint, for the record.
    channels : tuple of str
        Names of the channels.
    labels : tuple of Label
        What its numbers mean.
    ending : str
        Of the files that its reader reads.
    orientation : str
        How its reader turns them, as on a card.
    parameters : PredictionParameters
        How.
    """

    process: NNUNetProcess
    models: tuple[dict[str, str], ...]
    channels: tuple[str, ...]
    labels: tuple[Label, ...]
    ending: str
    orientation: str
    parameters: PredictionParameters

    def predict(
        self, volume: Volume, files: Sequence[Path], interrupt: Callable[[], bool]
    ) -> Generator[Progress, None, Prediction]:
        """Predict an image that was read from files.

        Raises
        ------
        InputError
            For a time series, and another number of channels.
        """
        from src_models.files import read_segmentation
        from src_models.inference.prediction import Prediction

        began = time.perf_counter()
        lead = volume.array.ndim - volume.grid.ndim
        if volume.leading_axis == "t" or (lead and volume.leading_axis != "c"):
            raise InputError("nnunet-series", "nnU-Net takes one image at a time", "this is a series", _WITHOUT)
        found = volume.array.shape[0] if lead else 1
        if found != len(self.channels):
            raise InputError(
                "image-channels",
                f"The image has {found} channels, the model takes {len(self.channels)}",
                f"in this order: {', '.join(self.channels)}",
                "Give one image per channel, in this order.",
            )
        answer = yield from self.process.predict(
            self._readable(volume, files), probabilities=self.parameters.probabilities, interrupt=interrupt
        )
        made = read_segmentation(answer.stem.with_name(answer.stem.name + self.ending), like=volume.grid)
        # nnU-Net writes as the image is stored; what its header says of the place may be rounded
        stored = made.stored_order.store(made.labels)
        labels = np.ascontiguousarray(volume.stored_order.present(stored))
        if labels.shape != volume.grid.shape:
            raise FileError("nnunet-result", "The labels of nnU-Net do not lie on the image", "", _WITHOUT)
        shares = self._probabilities(answer, volume) if self.parameters.probabilities else None
        record = self._record(volume, labels, answer, time.perf_counter() - began)
        return Prediction(labels, self.labels, record, probabilities=shares, notes=record.notes)

    def _readable(self, volume: Volume, files: Sequence[Path]) -> list[Path]:
        """The files themselves where nnU-Net's reader takes them, else copies in its kind of file."""
        from src_models.files import write_volume

        if all(path.name.lower().endswith(self.ending) for path in files):
            return list(files)
        arrays = volume.array if volume.leading_axis == "c" else volume.array[None]
        copies = []
        for number, array in enumerate(arrays):
            copies.append(self.process.private / f"image_{number:04d}{self.ending}")
            write_volume(copies[-1], replace(volume, array=array, leading_axis=""), overwrite=True)
        return copies

    def _probabilities(self, answer: NNUNetAnswer, volume: Volume) -> NDArray[np.float16]:
        """As this program keeps them; nnU-Net gives them the way round that it saw the image."""
        from src_models.inference.orientation import turn_for

        known = volume.grid.orientation_known or volume.grid.ndim == 2
        turn, _ = turn_for(self.orientation, volume.stored_order if known else None, volume.grid.ndim)
        with np.load(answer.stem.with_suffix(".npz")) as content:
            found = content["probabilities"]
        flat = found[:, 0] if volume.grid.ndim == 2 else found
        return np.ascontiguousarray(turn.present(flat), dtype=np.float16)

    def _record(self, volume: Volume, labels: NDArray[Any], answer: NNUNetAnswer, seconds: float) -> Record:
        from src_models.record import Record, Source, content_hash, versions

        grid = volume.grid
        numbers, counts = np.unique(labels, return_counts=True)
        return Record(
            task="predict",
            status="done",
            parameters=self.parameters.model_dump(mode="json"),
            inputs={"backend": BACKEND, "models": list(self.models)},
            source=Source(
                content_hash=content_hash(volume.array),
                shape=volume.array.shape,
                dtype=volume.array.dtype.str,
                spacing=grid.spacing,
            ),
            result={
                "labels_hash": content_hash(labels),
                "voxels": {str(n): int(c) for n, c in zip(numbers, counts, strict=True) if n},
                "nnunet_seconds": answer.seconds,
            },
            versions=versions() | {f"{name} of {BACKEND}": version for name, version in answer.versions.items()},
            device=answer.device,
            threads=answer.threads,
            duration_s=round(seconds, 3),
            notes=(f"Predicted by nnU-Net {answer.versions['nnunetv2']} itself.",),
        )


@contextmanager
def peer(arguments: argparse.Namespace, parameters: PredictionParameters) -> Iterator[Peer]:
    """The folder that ``--weights`` names, with a process for it that ends here.

    Raises
    ------
    InputError, FileError
        Where a setting is not nnU-Net's, or the folder holds no trained nnU-Net that can be opened safely.
    """
    from src_models.inference.nnunet import NNUNetProcess, NNUNetSettings
    from src_models.weights.checkpoints import read_checkpoint
    from src_models.weights.importers import folder_with
    from src_models.weights.nnunet_folder import folds_of
    from src_models.weights.nnunet_plans import labels_from, read_json, seen_by_reader

    _check(arguments, parameters)
    weights = Path(arguments.weights)
    folder = folder_with("plans.json", weights) if weights.is_dir() else None
    if folder is None:
        raise InputError(
            "nnunet-folder",
            f"{shown_name(weights)} is no folder of a trained nnU-Net",
            "nnU-Net needs its own plans.json, dataset.json and fold_X/checkpoint_final.pth",
            "Give that folder with --weights.",
        )
    plans, dataset = read_json(folder / "plans.json"), read_json(folder / "dataset.json")
    folds = folds_of(folder, () if arguments.folds == "all" else [part.strip() for part in arguments.folds.split(",")])
    if len({checkpoint.name for _, checkpoint in folds}) > 1:
        raise InputError("nnunet-folds", "Some folds have no final checkpoint", "", "Name the others with --folds.")
    for _, checkpoint in folds:
        # nnU-Net unpickles what it is given: only what holds nothing but numbers is given to it
        read_checkpoint(checkpoint)
    try:
        labels, _ = labels_from(dataset)
        names = dataset.get("channel_names") or dataset["modality"]
        channels = tuple(str(names[key]) for key in sorted(names, key=int))
        ending = str(dataset["file_ending"]).lower()
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FileError(
            "nnunet-plans", "The data set is not as nnU-Net writes it", shown(str(error)), "Use undamaged copies."
        ) from error
    settings = NNUNetSettings(
        folder=folder,
        folds=tuple(name.removeprefix("fold_") for name, _ in folds),
        checkpoint=folds[0][1].name,
        python=arguments.nnunet_python,
        step=parameters.step,
        mirror=parameters.mirror == "all",
        device=parameters.device,
    )
    models = tuple(
        {"name": folder.name, "fold": fold, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        for fold, (_, path) in zip(settings.folds, folds, strict=True)
    )
    with NNUNetProcess(settings) as process:
        orientation, _ = seen_by_reader(plans, dataset)
        yield Peer(process, models, channels, labels, ending, orientation, parameters)


def _check(arguments: argparse.Namespace, parameters: PredictionParameters) -> None:
    """Refuse what only this program's own prediction does."""
    plain = PredictionParameters()
    others = [
        name
        for name in PredictionParameters.model_fields
        if name not in _ITS_OWN and getattr(parameters, name) != getattr(plain, name)
    ]
    flags = [f"--{name}" for name in ("cluster", "keep_partial") if getattr(arguments, name)]
    if others or flags:
        wrong = PredictionParameters.model_fields[others[0]].title if others else flags[0].replace("_", "-")
        raise InputError(
            "nnunet-setting",
            f"nnU-Net has nothing like the setting {wrong}",
            "",
            "Leave it out, or leave out --backend nnunet.",
        )
