"""An instant estimate of a run: when the front would arrive where, as a contour with a slider for the time."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import ref

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import Qt, QTimer, Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import QHBoxLayout, QPushButton, QSlider, QVBoxLayout, QWidget

from napari_lsnet.jobs import Ending, Job, JobState, Update
from napari_lsnet.layers import result_arguments, result_array
from napari_lsnet.levelset.picture import line_colours
from napari_lsnet.levelset.quiet import keeping_selection
from napari_lsnet.levelset.request import Request
from napari_lsnet.section import wrapped_line
from src_models.errors import LsnetError

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from src_models.levelset.arrival import ArrivalState, ArrivalTimes

ESTIMATE = "Estimate: without smoothing and edges' pull."
ESTIMATE_COLOUR = (0.55, 0.85, 1.0)

_TICKS = 1000
_REST_MS = 300
_LINE_REACH_VOXELS = 2.0


@dataclass(frozen=True, eq=False)
class _Times:
    """Arrival times on the voxels of the run, and how much is inside at each tick of the slider."""

    values: NDArray[np.float32]
    latest: float
    fastest: float
    sizes: NDArray[np.float64]


class _ArrivalWatch:
    """Takes finished pictures, in the worker: interpolating a coarse one is its work, too."""

    def __init__(self, spacing: tuple[float, ...]) -> None:
        self._voxel = float(np.prod(spacing))
        self._new: ArrivalTimes | None = None

    def see(self, report: ArrivalState) -> None:
        """Remember a finished picture."""
        self._new = getattr(report, "arrival", None) or self._new

    def take(self, _report: ArrivalState, unseen: _Times | None) -> _Times | None:
        """The newest picture, once."""
        new, self._new = self._new, None
        return unseen if new is None else self.times(new)

    def times(self, found: ArrivalTimes) -> _Times:
        """Times for the screen."""
        latest = max(found.latest, 1e-9)
        arrived = found.times[np.isfinite(found.times)]
        counts, _ = np.histogram(arrived, bins=_TICKS, range=(0.0, latest))
        sizes = np.concatenate([[np.count_nonzero(arrived <= 0)], np.cumsum(counts)]) * self._voxel
        never = np.float32(latest + 1e3 * latest)
        return _Times(-np.minimum(found.times, never), latest, found.fastest, sizes)


class ArrivalBar(QWidget):
    """The button *Preview*, the slider for the time, and what is inside then.

    Parameters
    ----------
    viewer : ViewerModel
        Where it is shown.
    request : callable
        Reads what a run would begin with now.
    parent : QWidget, optional
        The usual.

    Attributes
    ----------
    refused : Signal(str)
        Why there is no estimate.
    """

    refused = Signal(str)

    def __init__(self, viewer: ViewerModel, request: Callable[[], Request], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = ref(viewer)
        self._read = request
        self._request: Request | None = None
        self._times: _Times | None = None
        self._layer: Any = None
        self._job: Job | None = None
        self.button = QPushButton("Preview")
        self.button.setCheckable(True)
        self.button.setToolTip("When the contour would arrive where, if nothing but growth drove it; at once")
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setRange(0, _TICKS)
        self.slider.setValue(_TICKS // 2)
        self.slider.setToolTip("Time of the estimate")
        self.slider.setEnabled(False)
        self.line = wrapped_line()
        self.line.setText(ESTIMATE)
        rows = QVBoxLayout(self)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.setSpacing(3)
        row = QHBoxLayout()
        row.setSpacing(3)
        row.addWidget(self.button)
        row.addWidget(self.slider, 1)
        rows.addLayout(row)
        rows.addWidget(self.line)
        self._rest = QTimer(self)
        self._rest.setSingleShot(True)
        self._rest.setInterval(_REST_MS)
        self._rest.timeout.connect(self._begin)
        self.button.toggled.connect(self._on_toggled)
        self.slider.valueChanged.connect(self._place)

    @property
    def layer(self) -> Any:
        """The layer that shows the estimate, or None."""
        viewer = self._viewer()
        return self._layer if viewer is not None and self._layer in viewer.layers else None

    @property
    def is_busy(self) -> bool:
        """Whether an estimate is being made."""
        return self._rest.isActive() or (self._job is not None and not self._job.state.ended)

    def follow(self) -> None:
        """Something that the estimate depends on has changed: make it again, when the changes rest."""
        if self.button.isChecked():
            self._rest.start()

    def hide_estimate(self) -> None:
        """Take the estimate away."""
        self.button.setChecked(False)

    def _on_toggled(self, on: bool) -> None:
        if on:
            self._begin()
        else:
            self._stop()
            self._remove()
        self.slider.setEnabled(on)

    def _begin(self) -> None:
        self._rest.stop()
        self._stop()
        try:
            request = self._request = self._read()
        except LsnetError as error:
            self.button.setChecked(False)
            self.refused.emit(str(error))
            return
        watch = _ArrivalWatch(request.spacing)
        job = self._job = Job(lambda: _estimated(request), title="The estimate", device="estimate", watch=watch)
        job.updated.connect(lambda update: self._on_updated(job, update))
        job.ended.connect(lambda ending: self._on_ended(job, watch, ending))
        job.start()

    def _on_updated(self, job: Job, update: Update) -> None:
        if job is self._job and update.picture is not None:
            self._show(update.picture)
        elif job is self._job and self._times is None:
            self.line.setText(f"{update.report.message} {ESTIMATE}")

    def _on_ended(self, job: Job, watch: _ArrivalWatch, ending: Ending) -> None:
        if job is not self._job:
            return
        if ending.state is JobState.FAILED:
            self.button.setChecked(False)
            self.refused.emit(ending.message)
        elif ending.state is JobState.DONE:
            self._show(watch.times(ending.result))

    def _stop(self) -> None:
        if self._job is not None:
            self._job.cancel()
            self._job = None

    # ---- the picture

    def _show(self, times: _Times) -> None:
        viewer, request = self._viewer(), self._request
        if viewer is None or request is None:
            return
        self._times = times
        data = result_array(request.region, times.values)
        layer = self.layer
        if layer is not None and layer.data.shape == data.shape:
            layer.data = data
        else:
            self._remove_layer()
            arguments = result_arguments(request.source, request.region)
            arguments["metadata"]["lsnet"]["role"] = "live estimate"
            with keeping_selection(viewer):
                self._layer = viewer.add_image(
                    data,
                    name="Arrival (estimate)",
                    rgb=False,
                    interpolation2d="linear",
                    rendering="iso",
                    blending="translucent",
                    colormap=line_colours(True, ESTIMATE_COLOUR),
                    **arguments,
                )
        self._place()

    def _place(self, _tick: int = 0) -> None:
        """The contour at the time of the slider: nothing but the limits of the colours moves."""
        times, request, layer = self._times, self._request, self.layer
        if times is None or request is None:
            return
        tick = self.slider.value()
        time = times.latest * tick / _TICKS
        if layer is not None:
            reach = _LINE_REACH_VOXELS * min(request.spacing) / max(times.fastest, 1e-9)
            layer.contrast_limits = (-time - reach, -time + reach)
            layer.iso_threshold = -time
        self.line.setText(f"Time {time:.3g} of {times.latest:.3g}, {request.size_text(times.sizes[tick])}. {ESTIMATE}")

    def _remove(self) -> None:
        self._times = None
        self._remove_layer()
        self.line.setText(ESTIMATE)

    def _remove_layer(self) -> None:
        viewer, layer = self._viewer(), self.layer
        if viewer is not None and layer is not None:
            viewer.layers.remove(layer)
        self._layer = None


def _estimated(request: Request) -> Generator[Any, Any, ArrivalTimes]:
    """The march; in the worker, because it loads the compiled kernels."""
    from src_models.levelset.arrival import arrival_preview

    given = None
    if request.speed is not None:
        from src_models.levelset.recipes import prepare

        given = (yield from prepare(request.speed, request.image, request.spacing, request.initial)).speed
    work = arrival_preview(
        request.image, request.initial, request.spacing, request.parameters, given, walls=request.walls
    )
    return (yield from work)
