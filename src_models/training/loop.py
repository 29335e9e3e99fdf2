"""`train`: a network from a plan and its cases, a generator of progress that can be stopped and gone on with.

Files of a run in its folder: ``plan.json``; ``checkpoint.safetensors``, the one before it and the best; ``log.jsonl``
and ``log.csv``, one row an epoch; ``sample.npz``, the last sample prediction; at its end, or when it is closed,
``model.safetensors`` with its card ``model.json``.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from src_models.errors import InputError
from src_models.files.gate import shown_name
from src_models.networks.network import Network
from src_models.progress import Progress
from src_models.training.augmentation import Augmenter
from src_models.training.case import Case, DataSet
from src_models.training.devices import Precision, open_devices
from src_models.training.first_stage import FirstStage, check_channels, open_first_stage
from src_models.training.folds import Fold, everything
from src_models.training.label_targets import Targets, click_of
from src_models.training.loader import Batch, batches
from src_models.training.mirroring import mirror_axes
from src_models.training.outcome import TrainingResult, finish_training
from src_models.training.plan import Configuration, TrainingPlan
from src_models.training.prepared import Prepared, prepare
from src_models.training.run_folder import PLAN, SAMPLE, taken, write_arrays, write_log, write_text
from src_models.training.sampling import PreparedCase, Sampler, Stream
from src_models.training.trainer import Trainer, decided, fresh_network
from src_models.weights.card import TrainingData

NOT_EXACT = (
    "On a graphics card max pooling in 3D and linear up-sampling have no deterministic form: trainings of one seed "
    "agree to rounding, not bit for bit."
)
_REPORT_S = 0.2


@dataclass(frozen=True, eq=False)
class SamplePrediction:
    """What the network makes of one validation patch: its middle slice, or that with the most foreground.

    Attributes
    ----------
    image : ndarray of float32, shape (y, x)
        First channel, normalised.
    reference, prediction : ndarray of int16, shape (y, x)
        Channels of the classes; under a sigmoid head 1 where any region is.
    """

    image: NDArray[np.float32]
    reference: NDArray[np.int16]
    prediction: NDArray[np.int16]


@dataclass(frozen=True, kw_only=True)
class TrainingProgress(Progress):
    """One report of a training.

    Attributes
    ----------
    epoch, epochs : int
        Epochs done, and of the plan.
    step, steps : int
        Steps done, and of the plan.
    row : mapping or None
        At the end of an epoch: its row of the log.
    sample : SamplePrediction or None
        At the end of an epoch.
    """

    epoch: int = 0
    epochs: int = 0
    step: int = 0
    steps: int = 0
    row: dict[str, Any] | None = None
    sample: SamplePrediction | None = None


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """What belongs to one run and not to the plan; it does not change the weights, but for rounding on other devices.

    Attributes
    ----------
    device, precision : str
        See `devices.open_devices`.
    workers : int
        Threads that make samples; 0 makes them between the steps.
    resume : bool
        Go on with the training that is in the folder; begin where there is none.
    init_from : Path or None
        A model to begin with; what does not fit, such as a head of other classes, begins anew.
    minutes : float
        Between two checkpoints.
    cache : Path or None
        A folder for prepared cases that do not fit into the memory.
    first_stage : Path or None
        Of a cascade: the folder of the cross-validation of the configuration it builds on.
    """

    device: str = "auto"
    precision: Precision = "fp32"
    workers: int = 1
    resume: bool = False
    init_from: Path | None = None
    minutes: float = 10.0
    cache: Path | None = None
    first_stage: Path | None = None


def train(
    plan: TrainingPlan,
    cases: DataSet | Sequence[Case],
    out: Path,
    *,
    configuration: str | None = None,
    fold: int | Literal["all"] = 0,
    seed: int = 0,
    settings: RunSettings | None = None,
) -> Generator[Progress, None, TrainingResult]:
    """Train one network.

    Parameters
    ----------
    plan : TrainingPlan
        What is trained and how.
    cases : DataSet or sequence of Case
        All cases of the plan's folds.
    out : Path
        The folder of the run.
    configuration : str, optional
        By default the first of the plan.
    fold : int or "all"
        Which cases are left out; ``"all"`` leaves out none, so that nothing is known about unseen patients.
    seed : int
        Of weights, samples and dropout.
    settings : RunSettings, optional
        Device, threads, going on.

    Yields
    ------
    Progress
        `TrainingProgress` once the training has begun. Pause by not calling; ``close`` leaves a checkpoint to go on
        from and a model that predicts.

    Returns
    -------
    TrainingResult
        The model and its Dice on the left-out cases.

    Raises
    ------
    InputError, FileError, SaveError, DeviceError
        One sentence each.
    """
    settings = settings or RunSettings()
    chosen = plan.configuration(configuration)
    given = {case.id: case for case in (cases.cases if isinstance(cases, DataSet) else cases)}
    sides = fold_of(plan, fold, given)
    stage = _first_stage(plan, chosen, settings, (*sides[0], *sides[1]))
    network, begun = _network(chosen, seed, settings)
    aux_unused = not plan.deep_supervision and bool(getattr(network.options, "deep_supervision", False))
    precision = "fp32" if network.full_precision else settings.precision
    devices = open_devices(settings.device, precision, unused_parts=aux_unused)
    with ExitStack() as stack:
        if devices.rank == 0:
            stack.enter_context(taken(out, resume=settings.resume))
        devices.wait()
        named = () if stage is None else stage.models_from(out)
        identity = _identity(fold, chosen, sides, given, stage)
        trainer = Trainer(plan, chosen, devices, network, seed, identity, first_stage=named)
        if settings.resume and (note := trainer.go_on(out)):
            yield Progress(phase="train", message=note, notes=(note,))
        elif begun:
            yield Progress(phase="train", message=begun, notes=(begun,))
        training, left_out = ([given[name] for name in side] for side in sides)
        prepared = yield from prepare(plan, chosen, training, left_out, settings.cache, stage)
        if devices.rank == 0:
            # only now: data that are refused leave nothing behind
            write_text(out / PLAN, plan.model_dump_json(indent=1))
            write_log(out, trainer.position.history)
        about = cases.about if isinstance(cases, DataSet) else TrainingData()
        groups = {case.id: case.group for case in given.values()}
        return (yield from _to_the_end(_Run(trainer, prepared, out, settings), groups, fold, about))


def _first_stage(
    plan: TrainingPlan, configuration: Configuration, settings: RunSettings, cases: Sequence[str]
) -> FirstStage | None:
    """What a cascade builds on, checked before anything is begun."""
    if configuration.previous is None:
        return None
    stage = open_first_stage(plan, configuration, settings.first_stage, cases, settings.device)
    check_channels(configuration, stage)
    return stage


def _identity(
    fold: int | Literal["all"],
    configuration: Configuration,
    sides: tuple[tuple[str, ...], tuple[str, ...]],
    cases: Mapping[str, Case],
    stage: FirstStage | None,
) -> dict[str, Any]:
    """What a checkpoint must agree in to go on."""
    identity: dict[str, Any] = {
        "fold": fold,
        "configuration": configuration.name,
        "cases": [list(sides[0]), list(sides[1])],
        "patients": len({cases[name].group for name in sides[0]}),
    }
    return identity if stage is None else identity | {"first_stage": [one.sha256 for one in stage.folds]}


def _network(configuration: Configuration, seed: int, settings: RunSettings) -> tuple[Network, str]:
    """Fresh, or begun with a model; and what is to be said of that."""
    network = fresh_network(configuration, seed)
    if settings.init_from is None:
        return network, ""
    from src_models.training.starting import start_from

    anew = start_from(network, settings.init_from)
    count = len(network.state_dict())
    named = ", ".join(anew[:3]) + (", ..." if len(anew) > 3 else "")
    taken = f"It begins with {count - len(anew)} of {count} tensors of weights of {shown_name(settings.init_from)}"
    return network, f"{taken}; these begin anew: {named}" if anew else taken


def _to_the_end(
    run: _Run, groups: dict[str, str], fold: int | Literal["all"], about: TrainingData
) -> Generator[Progress, None, TrainingResult]:
    """All steps and the model; where it is closed, a checkpoint and the model so far."""
    trainer = run.trainer
    finish = partial(finish_training, trainer, groups=groups, out=run.out, fold=fold, about=about)
    if trainer.devices.device.type == "cuda":
        yield Progress(phase="train", message="The training begins", notes=(NOT_EXACT,))
    done = False
    try:
        yield from run.steps()
        done = True
        return (yield from finish(validation=run.prepared.validation))
    except GeneratorExit:
        if trainer.devices.rank == 0:
            if not done:
                trainer.save(run.out)
            for _ in finish(validation=()):
                pass
        raise


def fold_of(
    plan: TrainingPlan, fold: int | Literal["all"], cases: Iterable[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The cases to train on and those left out.

    Raises
    ------
    InputError
        Where the plan has no such fold, or names cases that are not there.
    """
    there = set(cases)
    if fold == "all":
        sides: Fold = everything(there)
        train_on, left_out = sides.train, sides.validation
    elif 0 <= fold < len(plan.folds):
        train_on, left_out = tuple(plan.folds[fold]["train"]), tuple(plan.folds[fold]["val"])
    else:
        raise InputError(
            "fold-missing",
            f"The plan has no fold {fold}",
            f"it has {len(plan.folds)}, counted from 0",
            "Choose another --fold, or all.",
        )
    missing = [name for name in (*train_on, *left_out) if name not in there]
    if missing or not train_on:
        why = f"such as {missing[0]}" if missing else "no case is left to train on"
        raise InputError(
            "fold-cases", f"{len(missing)} cases of the fold are not in the data", why, "Make the plan for this data."
        )
    return train_on, left_out


def sampler_of(
    plan: TrainingPlan,
    configuration: Configuration,
    cases: Sequence[PreparedCase],
    seed: int,
    *,
    validation: bool = False,
) -> Sampler:
    """The samples of a training, or those that its patches are judged on: these are not augmented."""
    augmenter = None
    if plan.augmentation is not None and not validation:
        masked = configuration.preprocessing.use_mask_for_norm
        augmenter = Augmenter(plan.augmentation, mirror_axes(plan, configuration), masked)
    stream: Stream = "validation" if validation else "training"
    size, count = configuration.patch, configuration.batch
    in_turn = plan.sampling == "in_turn" and not validation
    click, clicked = click_of(plan, configuration)
    return Sampler(cases, size, count, seed, plan.foreground, augmenter, stream, in_turn, click, clicked)


@dataclass(eq=False)
class _Run:
    """The steps of a training, with their validation, log and checkpoints."""

    trainer: Trainer
    prepared: Prepared
    out: Path
    settings: RunSettings
    targets: Targets = field(init=False)

    def __post_init__(self) -> None:
        self.targets = Targets.of(self.trainer.plan)

    def _sampler(self, *, validation: bool) -> Sampler:
        trainer, prepared = self.trainer, self.prepared
        cases = prepared.validation if validation else prepared.training
        return sampler_of(trainer.plan, trainer.configuration, cases, trainer.seed, validation=validation)

    def _batches(self, sampler: Sampler, steps: range) -> Generator[Batch, None, None]:
        devices = self.trainer.devices
        yield from batches(
            sampler, self.targets, steps, workers=self.settings.workers, rank=devices.rank, world=devices.world
        )

    def steps(self) -> Generator[TrainingProgress, None, None]:
        """Train to the end of the plan."""
        trainer, clock = self.trainer, _Clock()
        began = saved = time.monotonic()
        if trainer.at_end_of_epoch:
            yield from self._end_of_epoch(0.0, clock)
        reported = 0.0
        source = self._batches(self._sampler(validation=False), range(trainer.position.step, trainer.steps))
        try:
            for batch in source:
                trainer.advance(batch)
                now = time.monotonic()
                last = trainer.at_end_of_epoch
                if last or trainer.devices.device.type == "cpu" or now - reported >= _REPORT_S:
                    loss = trainer.read_losses()
                    reported = now
                    clock.tick(trainer.position.step, now)
                    yield self._report(clock, {"step_loss": loss})
                if last:
                    yield from self._end_of_epoch(time.monotonic() - began, clock)
                    began = saved = time.monotonic()
                elif now - saved > self.settings.minutes * 60:
                    trainer.read_losses()
                    self._save()
                    saved = time.monotonic()
        finally:
            source.close()

    def _end_of_epoch(self, seconds: float, clock: _Clock) -> Generator[TrainingProgress, None, None]:
        trainer = self.trainer
        counts, sample = None, None
        if self.prepared.validation:
            rounds = max(1, trainer.plan.iterations // 5)
            for batch in self._batches(self._sampler(validation=True), range(rounds)):
                found = trainer.count(batch)
                counts = found if counts is None else counts + found
                if sample is None:
                    sample = sample_prediction(trainer, batch)
                yield self._report(clock, {}, phase="validate")
        row = trainer.finish_epoch(counts, seconds)
        if trainer.devices.rank == 0:
            if trainer.is_best():
                trainer.save_best(self.out)
            write_log(self.out, trainer.position.history)
            if sample is not None:
                write_arrays(self.out / SAMPLE, vars(sample))
        self._save()
        values = {name: value for name, value in row.items() if name not in ("epoch", "step")}
        yield self._report(clock, values, row=row, sample=sample)

    def _save(self) -> None:
        if self.trainer.devices.rank == 0:
            self.trainer.save(self.out)
        self.trainer.devices.wait()

    def _report(
        self,
        clock: _Clock,
        values: dict[str, float],
        *,
        phase: str = "train",
        row: dict[str, Any] | None = None,
        sample: SamplePrediction | None = None,
    ) -> TrainingProgress:
        trainer = self.trainer
        step, steps = trainer.position.step, trainer.steps
        epochs = trainer.plan.epochs
        numbers = [f"{name} {values[key]:.4g}" for name, key in _SHOWN if key in values]
        epoch = trainer.epoch if row is not None else min(trainer.epoch + 1, epochs)
        parts = [f"epoch {epoch} of {epochs}", *numbers, clock.left(steps)]
        return TrainingProgress(
            phase=phase,
            fraction=step / steps,
            message=", ".join(part for part in parts if part),
            values=values,
            epoch=trainer.epoch,
            epochs=epochs,
            step=step,
            steps=steps,
            row=row,
            sample=sample,
        )


_SHOWN = (("loss", "step_loss"), ("loss", "loss"), ("Dice", "dice"))


class _Clock:
    """How long a step takes, and so how long is left."""

    def __init__(self) -> None:
        self.first: tuple[int, float] | None = None
        self.step, self.now = 0, 0.0

    def tick(self, step: int, now: float) -> None:
        if self.first is None:
            self.first = (step, now)
        self.step, self.now = step, now

    def left(self, steps: int) -> str:
        if self.first is None or self.step <= self.first[0]:
            return ""
        seconds = (self.now - self.first[1]) / (self.step - self.first[0]) * (steps - self.step)
        minutes, rest = divmod(round(seconds), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours} h {minutes} min left" if hours else f"{minutes} min {rest} s left"


def sample_prediction(trainer: Trainer, batch: Batch) -> SamplePrediction:
    """A look at the last sample of a batch, which holds foreground where there is any."""
    network, head = trainer.network, trainer.plan.head
    with torch.no_grad():
        logits = network(torch.from_numpy(batch.image[-1:]).to(trainer.devices.device)).float()
    prediction = decided(logits, head)[0].cpu().numpy().astype(np.int16)
    reference, image = batch.target[-1].astype(np.int16), batch.image[-1][0]
    if head == "sigmoid":
        prediction, reference = prediction.max(0), reference.max(0)
    if image.ndim == 3:
        middle = int(np.argmax((reference > 0).sum((1, 2)))) if (reference > 0).any() else image.shape[0] // 2
        image, prediction, reference = image[middle], prediction[middle], reference[middle]
    return SamplePrediction(image, reference, prediction)
