"""The third tab: curves and samples of the training that is under way, or of the last one."""

from __future__ import annotations

from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_lsnet.section import wrapped_line
from napari_lsnet.train.drift_plot import DriftPlot
from napari_lsnet.train.run import TrainRun
from napari_lsnet.train.sample_view import SampleView
from napari_lsnet.views import Curve, CurvePlot


class RunTab(QWidget):
    """Loss and Dice by epoch, the drift of the kernels of a level set network, and the newest sample.

    Parameters
    ----------
    run : TrainRun
        What is shown.
    parent : QWidget, optional
        The usual.
    """

    def __init__(self, run: TrainRun, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._run = run
        self.loss = Curve("loss", "", "#6c9ef8")
        self.dice = Curve("Dice", "", "#e09f3e", top=1.0)
        self.plot = CurvePlot(self.loss, self.dice, x_name="epoch")
        self.plot.setMinimumHeight(130)
        self.drift = DriftPlot()
        self.drift.hide()
        self.sample = SampleView()
        self.plan = wrapped_line()
        rows = QVBoxLayout(self)
        rows.setContentsMargins(4, 6, 4, 4)
        rows.setSpacing(6)
        rows.addWidget(self.plan)
        rows.addWidget(self.plot)
        rows.addWidget(self.drift, 1)
        rows.addWidget(self.sample, 1)
        run.moved.connect(self.follow)
        self.follow()

    def follow(self) -> None:
        """Show what the run has told."""
        curves = self._run.curves
        for curve, points in ((self.loss, curves.loss), (self.dice, curves.dice)):
            curve.x, curve.y = [x for x, _ in points], [y for _, y in points]
        self.plot.update()
        self.drift.show_drift(curves.drift)
        self.drift.setVisible(bool(self.drift.lines))
        # without anybody left out there is no sample: the curves take its place
        self.sample.setVisible(self._run.sample is not None or not self.drift.lines)
        self.sample.show_sample(self._run.sample)
