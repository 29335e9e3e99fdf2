"""What is asked before a model of others is taken over: its hash is shown, its network and licence are named."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QComboBox, QDialog, QDialogButtonBox, QFormLayout, QLabel, QLineEdit, QVBoxLayout, QWidget

AS_IT_SAYS = "as the model says"
_SAFE = (
    "Only tensors and plain numbers are read from it. Nothing that comes with it is run, and whatever else it holds "
    "is refused."
)


class ImportDialog(QDialog):
    """Ask what a file does not say.

    Parameters
    ----------
    name : str
        Of the file or folder.
    sha256 : str
        Of the file; "" for a folder.
    networks : sequence of str
        That can be named.
    parent : QWidget, optional
        The usual.
    """

    def __init__(self, name: str, sha256: str, networks: Sequence[str], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Import a model")
        self.network = QComboBox()
        self.network.addItems([AS_IT_SAYS, *networks])
        self.settings = QLineEdit()
        self.settings.setPlaceholderText("such as depth=3 base_width=16")
        self.licence = QLineEdit()
        self.licence.setPlaceholderText("of the weights, such as CC-BY-4.0")
        self.name = QLineEdit()
        self.name.setPlaceholderText("made from the model where it is empty")
        title = QLabel(f"<b>{name}</b>")
        title.setTextFormat(Qt.TextFormat.PlainText)
        title.setText(name)
        safe = QLabel(_SAFE)
        safe.setWordWrap(True)
        form = QFormLayout()
        if sha256:
            # in groups, so that it can be compared by eye and takes two lines
            groups = [sha256[k : k + 8] for k in range(0, len(sha256), 8)]
            self.hash = QLabel("SHA-256: " + " ".join(groups[:4]) + "\n" + " ".join(groups[4:]))
            self.hash.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
            form.addRow("Check", self.hash)
        form.addRow("Network", self.network)
        form.addRow("Its options", self.settings)
        form.addRow("Licence", self.licence)
        form.addRow("Name", self.name)
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Ok | QDialogButtonBox.StandardButton.Cancel)
        ok = buttons.button(QDialogButtonBox.StandardButton.Ok)
        if ok is not None:
            ok.setText("Import")
        buttons.accepted.connect(self.accept)
        buttons.rejected.connect(self.reject)
        rows = QVBoxLayout(self)
        rows.addWidget(title)
        rows.addWidget(safe)
        rows.addLayout(form)
        rows.addWidget(buttons)
        self.setMinimumWidth(460)

    def chosen(self) -> dict[str, Any]:
        """The answers, as `ImportOptions` takes them."""
        network = self.network.currentText()
        return {
            "net": "" if network == AS_IT_SAYS else network,
            "settings": dict(_setting(word) for word in self.settings.text().split() if "=" in word),
            "licence": self.licence.text().strip(),
            "name": self.name.text().strip(),
        }


def _setting(word: str) -> tuple[str, Any]:
    name, _, value = word.partition("=")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
