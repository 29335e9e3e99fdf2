"""One experiment: kernels are taken away or replaced, as many others at random too, and the image is labelled again."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_lsnet.jobs import Job
from napari_lsnet.kernels.run import Analysis
from napari_lsnet.kernels.seen import known_network, turn_of
from napari_lsnet.layers import describe_layer, read_region, result_arguments, result_array
from napari_lsnet.network_image import channel_fault, read_image, region_of, space_of
from napari_lsnet.one_job import OneJob
from napari_lsnet.transforms import Region, aligned_matrix, lattice_offset
from src_models.errors import InputError
from src_models.geometry import StoredOrder
from src_models.progress import Progress

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from src_models.kernels.knockout import Effect

OPERATIONS = {
    "zero": "remove them",
    "onto:mean-zero": "take their mean away",
    "without:mean-zero": "keep only their mean",
    "onto:first+second": "keep slopes and curvatures",
    "template": "put the nearest known kernel in",
    "shuffle": "shuffle their entries",
    "noise": "put noise of their norm in",
}
"""Operations that are offered, and what they do to the kernels."""
_CASE = "the image"
_SURE = 0.05


@dataclass(frozen=True, eq=False)
class ExperimentRequest:
    """What an experiment is made from; nothing in it changes when layers do.

    Attributes
    ----------
    analysis : Analysis
        With the network.
    rows : tuple of int
        Of the table: the kernels.
    told : str
        What they are.
    operation : str
        A key of `OPERATIONS`.
    draws : int
        Random controls.
    image : Image
        The layer of the person; only its place is asked for.
    region : tuple of slice or int
        Of it.
    content : ndarray of shape (C, z, y, x) or (C, y, x)
        A copy.
    reference : ndarray or None
        Labels on the region.
    spacing, unit : tuple of float, str
        Of their axes in space.
    turn : StoredOrder
        From the axes of the layer to those of content and reference, which are the ones that the network sees.
    """

    analysis: Analysis
    rows: tuple[int, ...]
    told: str
    operation: str
    draws: int
    image: Any
    region: Region
    content: NDArray[Any]
    reference: NDArray[Any] | None
    spacing: tuple[float, ...]
    unit: Any
    turn: StoredOrder

    def make(self) -> Generator[Progress, None, Outcome]:
        """The generator of the job; called in the worker."""
        import copy

        from src_models.kernels.changes import Operation
        from src_models.kernels.evaluation import Evaluation, EvaluationCase
        from src_models.kernels.knockout import knock_out
        from src_models.kernels.selection import Selection
        from src_models.processor import let_waiting_threads_sleep

        let_waiting_threads_sleep()
        yield Progress(phase="prepare", message="Preparing...")
        network, card = known_network(self.analysis.source)
        # on a copy: feature maps may be asked for meanwhile
        network = copy.deepcopy(network)
        case = EvaluationCase(_CASE, _CASE, self.content, self.spacing, self.reference, self.unit)
        evaluation = Evaluation(card, [case])
        seen: list[NDArray[np.uint8]] = []

        def evaluate(changed: Any) -> Generator[Progress, None, Any]:
            scores = yield from evaluation.run(changed)
            # the first two are the network as it is, and the change; what follows are controls
            if len(seen) < 2:
                seen.append(np.ascontiguousarray(self.turn.present(labels_of(evaluation.found[_CASE], card))))
            return scores

        (effect,) = yield from knock_out(
            network,
            self.analysis.report,
            [Selection(rows=self.rows)],
            evaluate,
            Operation.parse(self.operation),
            draws=self.draws,
            seed=self.analysis.report.parameters.seed,
        )
        return Outcome(self, effect, seen[0], seen[1])


@dataclass(frozen=True, eq=False)
class Outcome:
    """What an experiment gave.

    Attributes
    ----------
    request : ExperimentRequest
        What was asked.
    effect : Effect
        Scores and controls.
    before, after : ndarray of the shape of the region
        Labels with the numbers of the card.
    """

    request: ExperimentRequest
    effect: Effect
    before: NDArray[np.uint8]
    after: NDArray[np.uint8]

    @property
    def text(self) -> str:
        """One or two sentences."""
        effect, request = self.effect, self.request
        before, after = effect.before[_CASE], effect.after[_CASE]
        many = f"{effect.kernels:,} kernel" + ("s" if effect.kernels != 1 else "")
        if not np.isfinite(before) or not np.isfinite(after):
            return f"Done with {many}: no label was found before or after, so there is nothing to compare."
        what = "Dice" if request.reference is not None else "Agreement with the unchanged labels (Dice)"
        controls = np.array(effect.controls)
        worst, best = float(controls.min()), float(controls.max())
        text = (
            f"{what}: {before:.3f} before, {after:.3f} after ({_signed(after - before)}) with {many} changed. "
            f"As many at random: {_signed(float(controls.mean()))} ({_signed(worst)} to {_signed(best)} "
            f"in {len(controls)}), p = {effect.p:.2g}."
        )
        if effect.p <= _SURE:
            return f"{text} More than random kernels do."
        if 1 / (1 + len(controls)) > _SURE:
            return f"{text} With fewer than 19 controls p cannot fall to {_SURE:g}."
        return f"{text} Not more than random kernels do."


def labels_of(masks: list[NDArray[np.bool_]], card: Any) -> NDArray[np.uint8]:
    """One label image from one mask per label of a card; regions are painted over each other in their order."""
    wanted = [label for label in card.labels if label.members or label.value != 0]
    most = max(label.value for label in wanted)
    made = np.zeros(masks[0].shape, np.uint8 if most < 256 else np.uint16)
    for label, mask in zip(wanted, masks, strict=True):
        made[mask] = label.value
    return made


def experiment_for(
    viewer: ViewerModel,
    analysis: Analysis,
    rows: tuple[int, ...],
    told: str,
    operation: str,
    draws: int,
    image: Any,
    mode: str,
    box: tuple[slice, ...] | None,
    reference: Any,
) -> ExperimentRequest:
    """Read what an experiment needs from the layers.

    Raises
    ------
    InputError, GeometryError
        One sentence each.
    """
    network, card = known_network(analysis.source)
    if not rows:
        raise InputError("knock-out-none", "No kernel is chosen", "", "Click one, or tick words in the list.")
    if card.click is not None:
        raise InputError(
            "knock-out-click",
            "This model begins at a click",
            "what it finds depends on where it begins, so that an experiment without it says nothing",
            "Choose a model that takes images alone.",
        )
    volume = describe_layer(image)
    fault = channel_fault(volume, card)
    if fault:
        raise InputError("image-channels", fault, "", "Choose another image or model.")
    region = region_of(image, viewer.dims, mode, box)
    size, _ = space_of(volume, region)
    if network.ndim > len(size):
        raise InputError("knock-out-axes", "This network takes volumes, not slices", "", "Work on the whole volume.")
    content = read_image(image, region, len(card.preprocessing.channels))
    if content.ndim == len(size):
        content = content[None]
    labels = None if reference is None else _reference(reference, image, region, card)
    turn, spacing = turn_of(card, image, region)
    content = np.ascontiguousarray(turn.store(content))
    labels = None if labels is None else np.ascontiguousarray(turn.store(labels))
    return ExperimentRequest(
        analysis, rows, told, operation, draws, image, region, content, labels, spacing, volume.unit, turn
    )


def _reference(reference: Any, image: Any, region: Region, card: Any) -> NDArray[Any]:
    """The labels on a region of the image."""
    held, wanted = describe_layer(reference), describe_layer(image)
    offset = None
    if held.shape == wanted.shape and reference.ndim == image.ndim:
        offset = lattice_offset(aligned_matrix(reference, image, region), held.shape)
    if offset is None or any(offset):
        raise InputError(
            "knock-out-reference",
            "The reference does not lie on the voxels of the image",
            "",
            "Choose labels of this image, or none.",
        )
    labels = read_region(reference, region)
    values = sorted({value for label in card.labels for value in (label.members or (label.value,)) if value})
    if not np.isin(labels, values).any():
        raise InputError(
            "knock-out-reference-values",
            f"The reference holds none of the labels {', '.join(map(str, values))} of this model here",
            "",
            "Choose another slice or reference, or none.",
        )
    return labels


class ExperimentRun(OneJob):
    """Runs experiments one after the other, and adds the labels of each.

    Parameters
    ----------
    viewer : ViewerModel
        Where.

    Attributes
    ----------
    outcome : Outcome or None
        The newest; a run that was stopped has none, because it lacks its controls.
    layers : dict
        Its labels.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self._viewer = viewer
        self.outcome: Outcome | None = None
        self.layers: dict[str, Any] = {}

    def start(self, request: ExperimentRequest) -> None:
        """Begin."""
        if self.is_busy:
            return
        self._begin(Job(request.make, title="The knock-out", device="cpu"))

    def _keep(self, result: Any) -> None:
        if result is not None:
            self.outcome = result
            self.layers = add_labels(self._viewer, result)


def add_labels(viewer: ViewerModel, outcome: Outcome) -> dict[str, Any]:
    """The labels before, as a line, and after the change; and where they differ."""
    from napari.utils.colormaps import DirectLabelColormap

    request = outcome.request
    if request.image not in viewer.layers:
        return {}
    card = request.analysis.source.card
    assert card is not None
    shades: dict[Any, Any] = {None: "#d55e00", 0: (0, 0, 0, 0)}
    for place, label in enumerate(label for label in card.labels if label.value):
        shades[label.value] = label.colour or _SHADES[place % len(_SHADES)]
    arguments = result_arguments(request.image, request.region)
    arguments["metadata"]["lsnet"] |= {"role": "knock-out", "effect": outcome.text}
    changed = (outcome.before != outcome.after) * np.where(outcome.after == 0, 1, 2).astype(np.uint8)
    parts = (
        (
            "changed",
            changed,
            "Lost (orange) and new (blue)",
            {1: "#e69f00", 2: "#0072b2", 0: (0, 0, 0, 0), None: "white"},
        ),
        ("after", outcome.after, f"After: {request.told}", shades),
        ("before", outcome.before, "Before: all kernels", {key: _lighter(shade) for key, shade in shades.items()}),
    )
    active = viewer.layers.selection.active
    made = {}
    for key, array, name, colours in parts:
        layer = viewer.add_labels(
            np.ascontiguousarray(result_array(request.region, array)),
            name=name,
            colormap=DirectLabelColormap(color_dict=colours),
            visible=key != "changed",
            **arguments,
        )
        if key == "before":
            layer.contour = 1
        made[key] = layer
    viewer.layers.selection.active = active
    return made


def _lighter(shade: Any) -> Any:
    """Nearly white, so that the line of what was is seen on what is."""
    if not isinstance(shade, str):
        return shade
    return (*(0.25 * int(shade[k : k + 2], 16) / 255 + 0.75 for k in (1, 3, 5)), 1.0)


_SHADES = ("#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#f0e442", "#0072b2")


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "\N{MINUS SIGN}")
