"""The panel *Segment with a network*: choose an image and a model, see what it costs, run, and keep the labels."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QFrame, QScrollArea, QVBoxLayout, QWidget

from napari_lsnet import settings
from napari_lsnet.background import Background
from napari_lsnet.forms import ParameterForm
from napari_lsnet.hand_over import to_level_set
from napari_lsnet.jobs import Ending, JobState, Update
from napari_lsnet.keys import Bindings, hint
from napari_lsnet.network_image import order_in_file
from napari_lsnet.run_controls import Sharing
from napari_lsnet.section import section_title, wrapped_line
from napari_lsnet.segment import words
from napari_lsnet.segment.controls import Controls, Standing
from napari_lsnet.segment.foresight import Costs, costs_of, learn_pace, seconds_for
from napari_lsnet.segment.inputs import Inputs
from napari_lsnet.segment.run import run_of
from napari_lsnet.segment.steps_bar import StepsBar
from src_models.errors import LsnetError
from src_models.inference.parameters import PredictionParameters

if TYPE_CHECKING:
    import napari.viewer

_GROUPS = {"basic": "", "run": "Device and memory", "advanced": "Advanced"}
_VISIBLE = {
    "neck": lambda p: p.refine == "levelset",
    "crf_width": lambda p: p.post == "crf",
    "crf_contrast": lambda p: p.post == "crf",
    "mirror_axes": lambda p: p.mirror == "all",
}
_NEWS_MS = 150


class SegmentPanel(QWidget):
    """The dock widget *Segment with a network*.

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
        self.segment_run = run_of(viewer)
        self._invalid = ""
        self._news = ""
        self._outcome = "Ready: press Run."
        self._reason = ""
        self._costs: Costs | None = None
        self._costs_of_run: Costs | None = None
        self._found: tuple[Any, int] | None = None
        self._news_timer = QTimer(self)
        self._news_timer.setSingleShot(True)
        self._news_timer.setInterval(_NEWS_MS)
        self._news_timer.timeout.connect(self._tell_news)
        self._build()
        self.foresight = Background(self)
        self.sharing = Sharing(self.controls, lambda: self.segment_run.made, self._refuse)
        self._connect()
        self._keys = Bindings(viewer, {"run": self.run})
        self.destroyed.connect(self._keys.release)
        self._on_stepped()
        self.controls.run_button.setToolTip(self.controls.run_button.toolTip() + hint("run"))
        self._follow()

    # ---- layout

    def _build(self) -> None:
        self.inputs = Inputs(self._viewer)
        self.form = ParameterForm(PredictionParameters, visible_when=_VISIBLE, group_titles=_GROUPS)
        self.form.set_value(settings.last_used(PredictionParameters))
        self.forecast_line = wrapped_line()
        self.steps = StepsBar()
        self.controls = Controls()
        upper = QWidget()
        rows = QVBoxLayout(upper)
        rows.setContentsMargins(2, 2, 8, 2)
        rows.setSpacing(4)
        rows.addWidget(self.inputs)
        rows.addWidget(section_title("How"))
        rows.addWidget(self.form)
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
        outer.addWidget(self.steps)
        outer.addWidget(self.controls)
        self.setMinimumWidth(300)

    def _connect(self) -> None:
        self.inputs.changed.connect(self._on_inputs)
        self.inputs.refused.connect(self._refuse)
        self.form.changed.connect(self._on_parameters)
        self.form.invalid.connect(self._on_invalid)
        self.foresight.answered.connect(self._on_costs)
        self.foresight.failed.connect(self._on_no_costs)
        self.segment_run.changed.connect(self._follow)
        self.segment_run.updated.connect(self._on_updated)
        self.segment_run.ended.connect(self._on_ended)
        self.segment_run.stepped.connect(self._on_stepped)
        self.steps.moved.connect(self.segment_run.show_step)
        self.controls.run.connect(self.run)
        self.controls.watch.connect(self.watch)
        self.controls.cancel.connect(self.cancel)
        self.controls.hand_over.connect(self.hand_over)

    def showEvent(self, event: Any) -> None:  # noqa: N802
        """Costs are looked for once the panel can be seen: that loads torch, in a worker."""
        super().showEvent(event)
        self._foresee()

    # ---- what the person does

    def run(self) -> None:
        """Run, pause or resume, whatever the state allows."""
        state = self.segment_run.state
        if state is JobState.RUNNING:
            self.segment_run.pause()
        elif state is JobState.PAUSED:
            self.segment_run.resume()
        elif not self.segment_run.is_busy:
            self._begin()

    def watch(self) -> None:
        """Run, with the level set of a level set network shown after every step."""
        if not self.segment_run.is_busy:
            self._begin(watched=True)

    def cancel(self) -> None:
        """Stop and keep what is finished."""
        self.segment_run.cancel()

    def hand_over(self) -> None:
        """Open the level set with the first label that was found, its probability as the image."""
        found = self._probability()
        if found is None:
            return
        probability, label = found
        to_level_set(self._viewer, probability, self.segment_run.layers["labels"], label)
        self.controls.tell("The level set is ready: it grows where the probability is above 0.5. Press Run there.")

    # ---- what the inputs cause

    def _begin(self, *, watched: bool = False) -> None:
        reason = self.inputs.why_not() or self._invalid or (self.inputs.why_no_watch() if watched else "")
        if reason:
            self._refuse(reason)
            return
        try:
            parameters = self.form.value()
            request = self.inputs.request(parameters, watched=watched)
        except LsnetError as error:
            self._refuse(str(error))
            return
        settings.remember(parameters)
        self.controls.tell("Preparing: the model and the image...")
        self._costs_of_run = None if self.foresight.is_busy else self._costs
        self._found = None
        self.segment_run.start(request)

    def _on_inputs(self) -> None:
        self._foresee()
        self._follow()

    def _on_parameters(self, _parameters: PredictionParameters) -> None:
        self._invalid = ""
        self._foresee()
        self._follow()

    def _on_invalid(self, message: str) -> None:
        self._invalid = message
        self._follow()

    def _foresee(self) -> None:
        """Ask a worker what the run would cost, when the inputs rest."""
        choice, volume, region = self.inputs.models.choice, self.inputs.image.volume, self.inputs.region()
        if not self.isVisible() or choice is None or volume is None or region is None or self.inputs.why_not():
            self.foresight.forget()
            self.forecast_line.setText("")
            return
        try:
            parameters = self.form.value()
        except LsnetError:
            return
        order = order_in_file(self.inputs.image.layer, volume, region)
        self.foresight.ask(partial(costs_of, choice, volume, region, parameters, order))

    def _on_costs(self, costs: Costs) -> None:
        self._costs = costs
        import psutil

        seconds = seconds_for(costs)
        text, _ = words.forecast_text(costs.outlook, psutil.virtual_memory().available, costs.frames, seconds)
        self.forecast_line.setText(text)

    def _on_no_costs(self, error: Exception) -> None:
        self.forecast_line.setText(str(error) if isinstance(error, LsnetError) else "")

    # ---- what the run causes

    def _on_updated(self, update: Update) -> None:
        self.controls.show_fraction(update.report.fraction)
        self._news = " ".join([update.report.message, *update.notes]).strip()
        if update.notes or not self._news_timer.isActive():
            self._tell_news()
            self._news_timer.start()

    def _on_stepped(self) -> None:
        self.steps.show_step(self.segment_run.shown, len(self.segment_run.steps))

    def _tell_news(self) -> None:
        if self._news and self.segment_run.state is not JobState.PAUSED:
            self.controls.tell(self._news)
        self._news = ""

    def _on_ended(self, ending: Ending) -> None:
        self._news_timer.stop()
        self._news = ""
        if ending.state is JobState.FAILED:
            self.sharing.report = ending.details
            self._refuse(ending.message, details=bool(ending.details))
            return
        request, result = self.segment_run.request, self.segment_run.result
        if request is None or result is None or not self.segment_run.layers:
            self._outcome = "Cancelled before anything was finished."
            self.controls.tell(self._outcome)
            return
        # slices without a click take no time
        if result.complete and self._costs_of_run is not None and not result.record.inputs.get("points"):
            learn_pace(result.record, self._costs_of_run)
        self._found = self._first_probability()
        layer = self.segment_run.layers["labels"]
        table = layer.features
        amounts = next((table[name] for name in ("volume (ml)", "area (mm2)") if name in table), [None] * len(table))
        sizes = list(zip(table["name"], table["voxels"], amounts, strict=True))
        ndim = len(request.spacing)
        text = words.done_text(result, sizes, ndim)
        said = self.inputs.mismatch.text()
        notes = [note for note in result.notes if not note.startswith("No voxel") and note not in said]
        self._outcome = " ".join([text, *notes])
        self.controls.tell(self._outcome, warning=not result.labels.any())

    def _follow(self) -> None:
        """Buttons and lines follow the state."""
        reason = self.inputs.why_not() or self._invalid
        run = self.segment_run
        self.controls.follow(
            Standing(
                state=run.state,
                can_run=not reason,
                has_result=run.result is not None,
                can_hand_over=self._probability() is not None,
                has_steps=self.inputs.can_be_watched,
            )
        )
        self.inputs.lock(run.is_busy)
        self.form.setEnabled(not run.is_busy)
        if run.waits_for:
            self.controls.tell(f"Waiting: {run.waits_for} is running on this device.")
        elif run.state is JobState.PAUSED:
            self._news = ""
            self.controls.tell("Paused. Resume goes on; Cancel keeps what is finished.")
        elif run.is_busy:
            pass
        elif reason:
            self.controls.tell(reason)
        elif self._reason or run.state is JobState.IDLE:
            self.controls.tell(self._outcome)
        self._reason = reason

    def _first_probability(self) -> tuple[Any, int] | None:
        """The probability layer of the first label that was found, and its number."""
        layers, result = self.segment_run.layers, self.segment_run.result
        for label in result.classes:
            layer = layers.get(f"probability {label.name}")
            if label.value != 0 and layer is not None and (result.labels == label.value).any():
                return layer, label.value
        return None

    def _probability(self) -> tuple[Any, int] | None:
        """The same, while its layers are there."""
        layers = self._viewer.layers
        if self._found is None or self._found[0] not in layers or self.segment_run.layers.get("labels") not in layers:
            return None
        return self._found

    def _refuse(self, message: str, *, details: bool = False) -> None:
        from napari.utils.notifications import show_warning

        self.controls.tell(message, warning=True, details=details)
        show_warning(message)
