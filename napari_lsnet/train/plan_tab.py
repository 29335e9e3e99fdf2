"""The second tab: what is trained and how, where it is kept, and what that will take."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qtpy.QtCore import Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import (
    QFileDialog,
    QFormLayout,
    QFrame,
    QHBoxLayout,
    QLineEdit,
    QPushButton,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from napari_lsnet import settings
from napari_lsnet.forms import ParameterForm
from napari_lsnet.section import section_title, wrapped_line
from napari_lsnet.train.choices import TrainingChoices
from napari_lsnet.views import time_text

_GROUPS = {"basic": "", "run": "Device", "advanced": "Advanced"}
_VISIBLE = {name: lambda c: c.network == "lsn" for name in ("lsn_start", "lsn_edge", "lsn_steps")}


class PlanTab(QWidget):
    """The form of choices, the name of the model, the folder of the run, and the plan in words.

    Parameters
    ----------
    parent : QWidget, optional
        The usual.

    Attributes
    ----------
    changed : Signal()
        A plan would be another.
    invalid : Signal(str)
        What is wrong with an entry.
    """

    changed = Signal()
    invalid = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.form = ParameterForm(TrainingChoices, visible_when=_VISIBLE, group_titles=_GROUPS, buttons=False)
        self.form.set_value(settings.last_used(TrainingChoices))
        self.name = QLineEdit()
        self.name.setPlaceholderText("by network and data")
        self.name.setToolTip("The name under which the model is listed; letters, digits and . _ + -")
        self.out = QLineEdit()
        self.out.setPlaceholderText("folder of the run")
        self.out.setToolTip("Checkpoints, logs and the model are kept here")
        self.browse = QPushButton("Browse...")
        self.words = wrapped_line()
        content = QWidget()
        rows = QVBoxLayout(content)
        rows.setContentsMargins(4, 6, 8, 4)
        rows.setSpacing(4)
        rows.addWidget(section_title("Train"))
        rows.addWidget(self.form)
        rows.addWidget(section_title("Keep"))
        kept = QFormLayout()
        kept.setSpacing(3)
        kept.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        kept.addRow("Model", self.name)
        row = QHBoxLayout()
        row.setSpacing(3)
        row.addWidget(self.out, 1)
        row.addWidget(self.browse)
        kept.addRow("Folder", row)
        rows.addLayout(kept)
        self._title = section_title("Plan")
        rows.addWidget(self._title)
        rows.addWidget(self.words)
        rows.addStretch(1)
        scroll = QScrollArea()
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setWidget(content)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.setSpacing(4)
        outer.addWidget(scroll, 1)
        self._scroll, self._parts = scroll, (self.form, self.name, self.out, self.browse)
        self.say("")
        self.form.changed.connect(lambda _: self.changed.emit())
        self.form.invalid.connect(self.invalid)
        for entry in (self.name, self.out):
            entry.textChanged.connect(lambda _: self.changed.emit())
        self.browse.clicked.connect(self._ask)

    def folder(self) -> Path | None:
        """Where the run is kept; None where nothing was given."""
        text = self.out.text().strip()
        return Path(text).expanduser().absolute() if text else None

    def propose_folder(self, data_name: str) -> None:
        """Fill in a folder that is not there yet, where none was given."""
        if self.folder() is not None or not data_name:
            return
        home = Path.home() / "lsnet_runs"
        number, folder = 1, home / data_name
        while folder.exists():
            number += 1
            folder = home / f"{data_name}-{number}"
        self.out.setText(str(folder))

    def lock(self, locked: bool) -> None:
        """While a training is under way, its plan cannot be exchanged."""
        for part in self._parts:
            part.setEnabled(not locked)

    def say(self, text: str) -> None:
        """Show the plan in words; "" for none."""
        self.words.setText(text)
        for part in (self._title, self.words):
            part.setVisible(bool(text))
        if text:
            self._scroll.ensureWidgetVisible(self.words)

    def key(self) -> tuple[str, ...]:
        """What makes one plan another."""
        choices = self.form.value()
        return (*choices.plan_words(), choices.device, self.name.text().strip(), str(self.folder()))

    def _ask(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self, "Folder of the run")
        if chosen:
            self.out.setText(chosen)


def plan_text(result: Mapping[str, Any], fold: str) -> str:
    """The plan that a child made, in words.

    Parameters
    ----------
    result : mapping
        Its JSON line.
    fold : str
        Which fold is left out.
    """
    chosen = next(one for one in result["configurations"] if one["name"] == result["chosen"])
    patch = " x ".join(str(n) for n in chosen["patch"])
    folds, cases, costs = result["folds"], int(result["cases"]), result["outlook"]
    if fold == "all" or not folds:
        split = f"{cases} cases to train on, none left out"
    elif int(fold) < len(folds):
        one = folds[int(fold)]
        split = f"{len(one['train'])} cases to train on, {len(one['val'])} left out (fold {fold} of {len(folds)})"
    else:
        split = f"there is no fold {fold}"
    return (
        f"{chosen['network']['name']}, {chosen['name']}: patches of {patch}, {chosen['batch']} a step; "
        f"{result['epochs']} epochs of {result['iterations']} steps, {result['optimiser']['name']}, {result['loss']}; "
        f"{split}. About {costs['memory_bytes'] / 1e9:.1f} GB and {time_text(costs['seconds'])} on this computer."
    )
