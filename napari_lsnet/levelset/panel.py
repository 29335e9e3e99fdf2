"""The level set panel: choose an image and a start, see the speed, run, steer, and accept."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QFrame, QScrollArea, QVBoxLayout, QWidget

from napari_lsnet import settings
from napari_lsnet.forms import ParameterForm
from napari_lsnet.jobs import Ending, JobState, Update
from napari_lsnet.keys import Bindings, hint
from napari_lsnet.layer_combo import LayerCombo
from napari_lsnet.levelset import words
from napari_lsnet.levelset.accept import Accepted, accept_into, accept_into_new
from napari_lsnet.levelset.accept_labels import accept_labels
from napari_lsnet.levelset.arrival_bar import ArrivalBar
from napari_lsnet.levelset.controls import Controls, Standing
from napari_lsnet.levelset.engine_preparation import engine_preparation
from napari_lsnet.levelset.inputs import Inputs
from napari_lsnet.levelset.kept import Kept
from napari_lsnet.levelset.labels_request import LabelsRequest
from napari_lsnet.levelset.learned_speed import SpeedSource, holds_strokes, with_speed
from napari_lsnet.levelset.picture import is_step
from napari_lsnet.levelset.request import Frame, Request, memory_needed
from napari_lsnet.levelset.run import run_of
from napari_lsnet.levelset.scrubbing import Scrubbing
from napari_lsnet.levelset.speed_tools import SpeedTools
from napari_lsnet.levelset.steering import Steering, steers
from napari_lsnet.roles import is_live
from napari_lsnet.run_controls import Sharing
from napari_lsnet.section import Section, section_title, wrapped_line
from src_models.errors import InputError, LsnetError
from src_models.levelset.parameters import LevelSetParameters

if TYPE_CHECKING:
    import napari.viewer

_VISIBLE = {
    "lower": lambda p: p.speed == "region",
    "upper": lambda p: p.speed == "region",
    "sigma": lambda p: p.speed == "edge",
    "contrast": lambda p: p.speed == "edge" and p.edge_preset == "normalised",
    "convection": lambda p: p.speed == "edge",
    "edge": lambda p: p.speed == "edge",
    "region": lambda p: p.speed == "region",
}

_NEWS_MS = 150
_PREPARE_AFTER_MS = 1500


class LevelSetPanel(QWidget):
    """The dock widget *Level set: grow a contour*.

    Parameters
    ----------
    viewer : napari.Viewer
        Whose layers it works on.
    parent : QWidget, optional
        The usual.
    """

    def __init__(self, viewer: napari.viewer.Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        # Docks opened by name get a proxy, docks from the menu the viewer: layers must be the same objects in both.
        viewer = getattr(viewer, "__wrapped__", viewer)
        self._viewer = viewer
        self.level_set_run = run_of(viewer)
        self._accepted: list[Accepted] = []
        run = self.level_set_run
        actions: dict[str, Callable[..., object]] = {
            "run": self.run,
            "step": self.step,
            "outline": run.switch_outline,
            "hide": run.hide,
        }
        self._keys = Bindings(viewer, actions)
        self.destroyed.connect(self._keys.release)
        self._inputs_changed = False
        self._after: Callable[[], None] | None = None
        self._invalid = ""
        self._news = ""
        self._news_timer = QTimer(self)
        self._news_timer.setSingleShot(True)
        self._news_timer.setInterval(_NEWS_MS)
        self._news_timer.timeout.connect(self._tell_news)
        self._build()
        self.kept: Kept | None = None
        self.sharing = Sharing(self.controls, lambda: self.kept, self._refuse)
        self.scrubbing = Scrubbing(viewer, run, self.controls.timeline, self.controls.plot, self)
        self._connect()
        self._on_inputs()
        if self.level_set_run.result is not None and self.level_set_run.request is not None:
            self.kept = Kept(self.level_set_run.request, self.level_set_run.result)
        self._follow()
        self.controls.run_button.setToolTip(self.controls.run_button.toolTip() + hint("run"))
        self.controls.step_button.setToolTip(self.controls.step_button.toolTip() + hint("step"))

    def showEvent(self, event: Any) -> None:  # noqa: N802
        """Once the panel can be seen, the engine is made ready behind it."""
        super().showEvent(event)
        QTimer.singleShot(_PREPARE_AFTER_MS, engine_preparation().begin)

    # ---- layout

    def _build(self) -> None:
        viewer = self._viewer
        self.inputs = Inputs(viewer)
        self.form = ParameterForm(LevelSetParameters, visible_when=_VISIBLE)
        self.form.set_value(settings.last_used(LevelSetParameters))
        self.neck_line = wrapped_line()
        self.forecast_line = wrapped_line()
        self.steering = Steering(viewer, self.level_set_run)
        self.speed_source = SpeedSource(viewer)
        self.tools = SpeedTools(viewer, self.inputs, self.speed_source, self.form.value, self._request)
        self.arrival = ArrivalBar(viewer, lambda: self.steering.with_walls(self._request(self.form.value())))
        self.controls = Controls(LayerCombo(viewer, _is_target, nothing="new layer", may_be_empty=True))
        upper = QWidget()
        rows = QVBoxLayout(upper)
        rows.setContentsMargins(2, 2, 8, 2)
        rows.setSpacing(4)
        rows.addWidget(self.inputs)
        rows.addWidget(section_title("Equation"))
        rows.addWidget(self.form)
        rows.addWidget(self.speed_source)
        self.speed_source.setVisible(self.form.value().speed == "region")
        rows.addWidget(self.neck_line)
        rows.addWidget(self.tools)
        rows.addWidget(Section("Estimate", self.arrival))
        rows.addStretch(1)
        scroll = QScrollArea()
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setWidget(upper)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(6, 4, 6, 6)
        outer.setSpacing(4)
        outer.addWidget(scroll, 1)
        outer.addWidget(self.forecast_line)
        outer.addWidget(self.steering)
        outer.addWidget(self.controls)
        self.setMinimumWidth(300)

    def _connect(self) -> None:
        self.inputs.changed.connect(self._on_inputs)
        self.inputs.moved.connect(self.tools.redraw)
        self.inputs.elsewhere.connect(self._on_elsewhere)
        self.speed_source.changed.connect(self._on_inputs)
        self.inputs.refused.connect(self._refuse)
        self.form.changed.connect(self._on_parameters)
        self.form.invalid.connect(self._on_invalid)
        self.tools.picked.connect(self.form.set_value)
        for refused in (self.speed_source.refused, self.arrival.refused, self.tools.refused, self.steering.refused):
            refused.connect(self._refuse)
        for told in (self.steering.told, self.speed_source.told, self.tools.told):
            told.connect(self.controls.tell)
        self.level_set_run.changed.connect(self._follow)
        self.level_set_run.updated.connect(self._on_updated)
        self.level_set_run.ended.connect(self._on_ended)
        self.scrubbing.changed.connect(self._follow)
        self.scrubbing.changed.connect(self._tell_place)
        self.scrubbing.refused.connect(self._refuse)
        controls = self.controls
        for signal, action in (
            (controls.run, self.run),
            (controls.step, self.step),
            (controls.rewind, self.rewind),
            (controls.cancel, self.cancel),
            (controls.accept, self.accept),
            (controls.undo, self.undo),
        ):
            signal.connect(action)

    # ---- what the person does

    def run(self) -> None:
        """Run, pause, resume or continue, whatever the state allows; from an earlier step where one is on show."""
        state = self.level_set_run.state
        if self._goes_on:
            self._go_on_from_here(None)
        elif state is JobState.RUNNING:
            self.level_set_run.pause()
        elif state is JobState.PAUSED:
            self.level_set_run.resume()
        else:
            self._begin(None)

    def step(self, count: int = 1) -> None:
        """Take some steps and rest."""
        if self._goes_on:
            self._go_on_from_here(count + 1)
        elif self.level_set_run.is_busy:
            self.level_set_run.step(count)
        else:
            self._begin(count + 1)  # the first report is the start itself

    def rewind(self) -> None:
        """Back to the start."""
        self._after = None
        self.kept = None
        self.scrubbing.forget()
        self.level_set_run.rewind()
        if not self.level_set_run.is_busy:
            self.controls.tell("Back at the start.")
        self._follow()

    def cancel(self) -> None:
        """Stop and keep what was reached."""
        self.level_set_run.cancel()

    def accept(self) -> None:
        """Write the contour on show into the chosen labels layer; a run that is under way is stopped first."""
        frame = self.scrubbing.frame
        if frame is not None and self.scrubbing.is_away:
            self._when_ended(lambda: self.scrubbing.accept(frame, self._write))
        else:
            self._when_ended(self._accept_reached)

    def _accept_reached(self) -> None:
        request, result = self.level_set_run.request, self.level_set_run.result
        if request is not None and result is not None:
            self._write(request, result)

    def _when_ended(self, action: Callable[[], None]) -> None:
        """Do something when the run has ended, and end it if it has not."""
        if self.level_set_run.is_busy:
            self._after = action
            self.level_set_run.cancel()
        else:
            action()

    def _write(self, request: Request, result: Any) -> None:
        value = self.controls.label.value()
        target = self.controls.targets.layer
        try:
            if isinstance(request, LabelsRequest):
                self._tell_accepted(request, result, accept_labels(self._viewer, target, request, result, "Level set"))
                return
            if not result.mask.any():
                raise InputError("accept-empty", "Nothing is inside", "", "Rewind and start from larger seeds.")
            if target is None:
                accepted = accept_into_new(self._viewer, request, result, "Level set", value)
            else:
                accepted = accept_into(target, request, result, value)
        except LsnetError as error:
            self._refuse(str(error))
            return
        self._tell_accepted(request, result, accepted)

    def _tell_accepted(self, request: Request, result: Any, accepted: Accepted) -> None:
        self._accepted.append(accepted)
        self.kept = Kept(request, result)
        self.level_set_run.set_aside()
        self.controls.targets.choose(accepted.layer)
        kept = f" {accepted.kept:,} voxels of other labels were left alone." if accepted.kept else ""
        self.controls.tell(
            f"Accepted: {accepted.written:,} voxels are {accepted.what} of {accepted.layer.name!r} now.{kept}"
        )
        self._follow()

    def take_over(self, image: Any, start: Any, label: int, **parameters: Any) -> None:
        """Make ready for layers that another dock made: a run grows one label of `start` on `image`."""
        self.rewind()
        self.inputs.take(image, start, label)
        self.form.set_value(self.form.value().model_copy(update=parameters))

    def undo(self) -> None:
        """Take the last Accept back."""
        if not self._accepted:
            return
        accepted = self._accepted.pop()
        self.level_set_run.call_back()
        self._follow()
        try:
            accepted.take_back(self._viewer.layers)
        except LsnetError as error:
            self._refuse(str(error))
        else:
            self.controls.tell(f"Taken back: {accepted.what} of {accepted.layer.name!r}.")

    # ---- what the inputs cause

    def _go_on_from_here(self, steps: int | None) -> None:
        frame = self.scrubbing.frame
        self._when_ended(lambda: self._begin(steps, frame))

    def _begin(self, steps: int | None, frame: Frame | None = None) -> None:
        """Begin a run: from a step of the timeline, from where the last one ended, or from the seeds."""
        try:
            parameters = self.form.value()
            if frame is None and self._can_continue():
                frame = self.scrubbing.newest
            before = self.level_set_run.request
            if before is not None and frame is not None:
                request = before.going_on(frame, parameters)
            elif isinstance(before, LabelsRequest) and self._can_continue():
                request = before.after(self.level_set_run.result, parameters)
            else:
                request = self._request(parameters)
            if isinstance(request, LabelsRequest):
                request = request.protecting(self.controls.targets.layer)
            request = self.steering.constrained(request)
        except LsnetError as error:
            self._refuse(str(error))
            return
        self._inputs_changed = False
        self.arrival.hide_estimate()
        self.kept = None
        self.scrubbing.begin(frame)
        curve, three = self.controls.size_curve, request.image.ndim == 3
        known = request.volume.spacing_known
        curve.unit = ("ml" if three else "mm\N{SUPERSCRIPT TWO}") if known else ("voxels" if three else "pixels")
        self.controls.rate_curve.unit = f"{request.volume.unit}/time"
        self.controls.tell("Preparing: the speed image and the start...")
        settings.remember(parameters)
        self.level_set_run.start(request, steps=steps)

    def _request(self, parameters: LevelSetParameters) -> Request:
        """What a run from the start would begin with, but for walls and pins."""
        request = self.inputs.request(parameters)
        return with_speed(request, self.speed_source.recipe(request.source, request.region, parameters.speed))

    def _on_inputs(self) -> None:
        self._inputs_changed = True
        self.speed_source.follow(self.inputs.image.layer)
        self.arrival.follow()
        self.steering.follow(self.inputs.image.layer, self.inputs.extent.mode)
        self._tell_forecast()
        self.tools.redraw()
        self._follow()
        if self.scrubbing.is_away:
            self._tell_place()

    def _on_elsewhere(self) -> None:
        """Another slice is on show, and the run would work on it: back on its own slice, a run can go on."""
        self.tools.redraw()
        self.arrival.follow()
        self._follow()

    def _on_parameters(self, parameters: LevelSetParameters) -> None:
        self._invalid = ""
        self.level_set_run.send(parameters)
        self.speed_source.setVisible(parameters.speed == "region")
        self.arrival.follow()
        self._tell_forecast()
        self.tools.redraw()
        self._follow()

    def _on_invalid(self, message: str) -> None:
        self._invalid = message
        self._follow()

    # ---- what the run causes

    def _on_updated(self, update: Update) -> None:
        request = self.level_set_run.request
        if request is None:
            return
        state: Any = update.report
        for values in update.history:
            if "time" in values:
                self.controls.plot.add(values["time"], values["size"] * request.size_factor, values["rate"])
        notes = " ".join(update.notes)
        self._news = f"{request.running_text(state) if is_step(state) else state.message} {notes}".strip()
        if notes or not self._news_timer.isActive():
            self._tell_news()
            self._news_timer.start()

    def _tell_news(self) -> None:
        """Curve and status line; less often than the contour moves, because each has the whole window drawn again."""
        if self._news and not self.scrubbing.is_away:
            self.controls.tell(self._news)
            self.controls.plot.update()
        self._news = ""

    def _on_ended(self, ending: Ending) -> None:
        self._news_timer.stop()
        self._tell_news()
        if ending.state is JobState.FAILED:
            self.sharing.report = ending.details
            self._after = None
            self._refuse(ending.message, details=bool(ending.details))
            return
        request, result = self.level_set_run.request, self.level_set_run.result
        if request is None or result is None:
            self.controls.tell("Cancelled before the first step.")
            return
        self.kept = Kept(request, result)
        self._tell_place()
        after, self._after = self._after, None
        if after is not None:
            after()

    def _tell_place(self) -> None:
        """The status line speaks of the step on show."""
        text, attention = self.scrubbing.place_text(self._goes_on)
        self.controls.tell(text, warning=attention)

    @property
    def _goes_on(self) -> bool:
        """Whether Run goes on from the earlier step on show; where the inputs are others, it begins anew."""
        return self.scrubbing.is_away and (self.level_set_run.is_busy or not self._inputs_changed)

    def _can_continue(self) -> bool:
        result = self.level_set_run.result
        return (
            result is not None
            and not self._inputs_changed
            and result.stop_reason not in ("vanished", "filled")
            and self.level_set_run.request is not None
            and self.inputs.region() == self.level_set_run.request.region
            and not self.level_set_run.is_busy
        )

    def _follow(self) -> None:
        """Buttons and lines follow the state."""
        if self.level_set_run.state is JobState.PAUSED:
            self._tell_news()
        reason = self.inputs.why_not() or self._invalid
        busy = self.level_set_run.is_busy
        self.controls.follow(
            Standing(
                state=self.level_set_run.state,
                can_run=not reason,
                can_continue=not reason and self._can_continue(),
                has_result=self.kept is not None,
                can_rewind=self.level_set_run.result is not None,
                can_undo=bool(self._accepted),
                looks_back=self.scrubbing.is_away,
                goes_on=self._goes_on,
            )
        )
        self.inputs.lock(busy)
        volume = self.inputs.volume
        if volume is not None:
            with suppress(LsnetError):
                self.neck_line.setText(words.neck_text(self.form.value(), self.inputs.ndim, volume.unit))
        if self.level_set_run.waits_for:
            self.controls.tell(f"Waiting: {self.level_set_run.waits_for} is running on this device.")
        elif reason and not busy and self.level_set_run.result is None:
            self.controls.tell(reason)
        elif self.level_set_run.state is JobState.IDLE and not self._accepted:
            self.controls.tell("Ready: press Run.")

    def _tell_forecast(self) -> None:
        volume, region = self.inputs.volume, self.inputs.region()
        if volume is None or region is None:
            self.forecast_line.setText("")
            return
        import psutil

        shape = tuple(part.stop - part.start for part in region if isinstance(part, slice))
        needed = memory_needed(shape, volume.dtype)
        text, _ = words.memory_text(needed, psutil.virtual_memory().available, int(np.prod(shape)))
        self.forecast_line.setText(text)

    # ---- words

    def _refuse(self, message: str, *, details: bool = False) -> None:
        from napari.utils.notifications import show_warning

        self.controls.tell(message, warning=True, details=details)
        show_warning(message)


def _is_target(layer: Any) -> bool:
    from napari.layers import Labels

    return isinstance(layer, Labels) and not is_live(layer) and not steers(layer) and not holds_strokes(layer)
