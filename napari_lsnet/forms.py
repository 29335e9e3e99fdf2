"""A form from a parameter model: labels, tooltips, units, ranges and groups all come from the model's fields.

What a field may hold is checked by the model alone; the form adds only how it looks. Hints stand in the field's schema
extra: ``group``, ``unit``, ``soft`` (range of a slider) and ``preview`` (redraw the preview when it changes).
"""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from qtpy.QtCore import Qt, Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QLabel, QPushButton, QToolButton, QVBoxLayout, QWidget

from napari_lsnet.editors import editor_for
from napari_lsnet.parameter_files import load_parameters, save_parameters
from src_models.errors import InputError, LsnetError
from src_models.refusals import problems_of

GROUP_TITLES: Mapping[str, str] = {
    "basic": "",
    "edge": "Edge image",
    "region": "Region speed",
    "run": "Stopping and device",
    "advanced": "Advanced",
}
"""Groups of fields in the order they are shown. One without a title is always open; the others fold."""

_LABEL_WIDTH = 122
_LABEL_LETTERS = 17

Rule = Callable[[Any], bool]


class ParameterForm(QWidget):
    """A form for one frozen pydantic model.

    Parameters
    ----------
    model_class : type of BaseModel
        Every field needs a default.
    visible_when : mapping of str to callable, optional
        Per field or group name: whether it is shown, given an object with the present entries as attributes. A field
        whose entry is wrong is always shown.
    group_titles : mapping of str to str, optional
        See `GROUP_TITLES`.
    buttons : bool
        Whether the row with *Reset all*, *Load* and *Save* is shown.
    parent : QWidget, optional
        The usual.

    Attributes
    ----------
    changed : Signal(object)
        The new model, whenever the entries make another valid one, or a valid one after a wrong one.
    preview_changed : Signal(object)
        The same, only where a field that the preview depends on differs.
    invalid : Signal(str)
        What is wrong, in one line.
    """

    changed = Signal(object)
    preview_changed = Signal(object)
    invalid = Signal(str)

    def __init__(
        self,
        model_class: type[BaseModel],
        *,
        visible_when: Mapping[str, Rule] | None = None,
        group_titles: Mapping[str, str] = GROUP_TITLES,
        buttons: bool = True,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._model_class = model_class
        self._defaults = model_class()
        self._model = self._defaults
        self._is_wrong = False
        self._filling = False
        self._rules = dict(visible_when or {})
        self._rows: dict[str, _Row] = {}
        self._groups: dict[str, _Group] = {}
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        fields = model_class.model_fields
        present = dict.fromkeys(_hint(field, "group", "basic") for field in fields.values())
        for name in [*(g for g in group_titles if g in present), *(g for g in present if g not in group_titles)]:
            self._groups[name] = _Group(group_titles.get(name, name.capitalize()))
            layout.addWidget(self._groups[name])
        for name, field in fields.items():
            row = _Row(name, field)
            row.editor.edited.connect(self._on_edited)
            row.reset_asked.connect(self.reset)
            self._rows[name] = row
            self._groups[row.group].add(row)
        if buttons:
            layout.addLayout(self._button_row())
        layout.addStretch(1)
        self._fill(self._defaults)
        self._show({})

    def value(self) -> Any:
        """The model that the entries make.

        Raises
        ------
        InputError
            With the field's title and what is wrong with its entry.
        """
        model, wrong = self._read()
        if wrong:
            raise self._refusal(wrong)
        return model

    def set_value(self, model: BaseModel) -> None:
        """Fill the form from a model; `changed` tells once, if it differs from before."""
        self._fill(model)
        self._on_edited()

    def reset(self, name: str = "") -> None:
        """Set one field, or without a name all of them, to the default."""
        self._filling = True
        for each in [name] if name else self._rows:
            self._rows[each].editor.write(getattr(self._defaults, each))
        self._filling = False
        self._on_edited()

    def editor(self, name: str) -> QWidget:
        """The editor of a field, to set the focus or to point at it."""
        return self._rows[name].editor

    def is_shown(self, name: str) -> bool:
        """Whether a field belongs to what is set now; it may still lie in a folded group."""
        return not self._rows[name].isHidden()

    def open_group(self, name: str, is_open: bool = True) -> None:
        """Unfold or fold a group."""
        self._groups[name].set_open(is_open)

    def save(self, path: Path) -> None:
        """Write the entries as TOML, see `save_parameters`; raises `InputError` where an entry is wrong."""
        save_parameters(self.value(), path)

    def load(self, path: Path) -> None:
        """Fill the form from TOML, see `load_parameters`; nothing changes if that fails."""
        self.set_value(load_parameters(self._model_class, path))

    def _read(self) -> tuple[BaseModel | None, dict[str, str]]:
        """The model, or what is wrong per field; "" for what concerns several fields."""
        entries: dict[str, Any] = {}
        wrong: dict[str, str] = {}
        for name, row in self._rows.items():
            try:
                entries[name] = row.editor.read()
            except ValueError as error:
                wrong[name] = str(error)
        if wrong:
            return None, wrong
        try:
            return self._model_class(**entries), {}
        except ValidationError as error:
            for problem in problems_of(error):
                wrong.setdefault(problem.place.partition(".")[0], problem.rule)
            return None, wrong

    def _refusal(self, wrong: Mapping[str, str]) -> InputError:
        name, message = next(iter(wrong.items()))
        what = f"{self._rows[name].title} {message}" if name else message[:1].upper() + message[1:]
        return InputError("parameters-invalid", what, "", "Correct it, or set it back to its default.")

    def _on_edited(self) -> None:
        if self._filling:
            return
        model, wrong = self._read()
        self._show(wrong)
        if model is None:
            self._is_wrong = True
            self.invalid.emit(str(self._refusal(wrong)))
            return
        if model == self._model and not self._is_wrong:
            return
        before, self._model, self._is_wrong = self._model, model, False
        self.changed.emit(model)
        if any(row.preview and getattr(before, name) != getattr(model, name) for name, row in self._rows.items()):
            self.preview_changed.emit(model)

    def _fill(self, model: BaseModel) -> None:
        self._filling = True
        for name, row in self._rows.items():
            row.editor.write(getattr(model, name))
        self._filling = False

    def _show(self, wrong: Mapping[str, str]) -> None:
        """Show what belongs to the present entries, mark what is wrong, offer a reset where it would do something."""
        entries = SimpleNamespace(**{name: getattr(self._model, name) for name in self._rows})
        for name, row in self._rows.items():
            if name not in wrong:
                setattr(entries, name, row.editor.read())
        for name, row in self._rows.items():
            rules = [self._rules[key] for key in (name, row.group) if key in self._rules]
            row.setVisible(name in wrong or all(rule(entries) for rule in rules))
            row.editor.mark(wrong.get(name, ""))
            row.offer_reset(name in wrong or getattr(entries, name) != getattr(self._defaults, name))
        for group in self._groups.values():
            group.setHidden(not group.has_rows())

    def _button_row(self) -> QHBoxLayout:
        row = QHBoxLayout()
        row.setContentsMargins(0, 4, 0, 0)
        for text, tip, action in (
            ("Reset all", "Set every field to its default", lambda: self.reset()),
            ("Load...", "Read parameters from a TOML file", self._ask_load),
            ("Save...", "Write parameters to a TOML file", self._ask_save),
        ):
            button = QPushButton(text)
            button.setToolTip(tip)
            button.clicked.connect(action)
            row.addWidget(button)
        row.addStretch(1)
        return row

    def _ask_load(self) -> None:
        chosen, _ = QFileDialog.getOpenFileName(self, "Load parameters", "", "Parameters (*.toml)")
        if chosen:
            self._or_tell(self.load, Path(chosen))

    def _ask_save(self) -> None:
        chosen, _ = QFileDialog.getSaveFileName(self, "Save parameters", "parameters.toml", "Parameters (*.toml)")
        if chosen:
            self._or_tell(self.save, Path(chosen))

    def _or_tell(self, action: Callable[[Path], None], path: Path) -> None:
        from napari.utils.notifications import show_error

        try:
            action(path)
        except LsnetError as error:
            show_error(str(error))


class _Group(QWidget):
    """Rows under a title that folds them; without a title they are always open."""

    def __init__(self, title: str) -> None:
        super().__init__()
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.setSpacing(1)
        self._body = QWidget()
        self._rows = QVBoxLayout(self._body)
        self._rows.setContentsMargins(0, 0, 0, 0)
        self._rows.setSpacing(3)
        if title:
            self._button = QToolButton()
            self._button.setText(title)
            self._button.setCheckable(True)
            self._button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
            self._button.setAutoRaise(True)
            self._button.toggled.connect(self.set_open)
            outer.addWidget(self._button)
        outer.addWidget(self._body)
        if title:
            self.set_open(False)

    def add(self, row: QWidget) -> None:
        self._rows.addWidget(row)

    def set_open(self, is_open: bool) -> None:
        if hasattr(self, "_button"):
            self._button.setChecked(is_open)
            self._button.setArrowType(Qt.ArrowType.DownArrow if is_open else Qt.ArrowType.RightArrow)
            self._body.setVisible(is_open)

    def has_rows(self) -> bool:
        """Whether any of its rows belongs to what is set now."""
        return any(not row.isHidden() for row in self._body.findChildren(_Row))


class _Row(QWidget):
    """One field: its label, its editor, and a button back to the default."""

    reset_asked = Signal(str)

    def __init__(self, name: str, field: FieldInfo) -> None:
        super().__init__()
        unit = _hint(field, "unit", "")
        soft = _hint(field, "soft", None)
        self.title = field.title or name.replace("_", " ").capitalize()
        self.group = str(_hint(field, "group", "basic"))
        self.preview = bool(_hint(field, "preview", False))
        self.editor = editor_for(field, unit, None if soft is None else (float(soft[0]), float(soft[1])))
        self._label = QLabel(self.title)
        # Only where it has to: Qt reserves a second line for every label that may wrap.
        self._label.setWordWrap(len(self.title) > _LABEL_LETTERS)
        self._label.setFixedWidth(_LABEL_WIDTH)
        self._label.setBuddy(self.editor)
        self._reset = QToolButton()
        self._reset.setText("\N{ANTICLOCKWISE OPEN CIRCLE ARROW}")
        self._reset.setAutoRaise(True)
        self._reset.setToolTip(f"Back to the default: {_told(field.default)}")
        self._reset.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self._reset.clicked.connect(lambda: self.reset_asked.emit(name))
        keep = self._reset.sizePolicy()
        keep.setRetainSizeWhenHidden(True)
        self._reset.setSizePolicy(keep)
        # Rich text is what Qt breaks into lines.
        told = f"<b>{html.escape(self.title)}</b><br>{html.escape(field.description or '')}"
        tip = f"<qt>{told}<br><i>In Python: {name}, default {html.escape(_told(field.default))}</i></qt>"
        self._label.setToolTip(tip)
        self.editor.setToolTip(tip)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self._label)
        layout.addWidget(self.editor, 1)
        layout.addWidget(self._reset)

    def offer_reset(self, offered: bool) -> None:
        self._reset.setVisible(offered)


def _hint(field: FieldInfo, key: str, default: Any) -> Any:
    extra = field.json_schema_extra
    return extra.get(key, default) if isinstance(extra, dict) else default


def _told(value: Any) -> str:
    if value is None:
        return "auto"
    return f"{value:g}" if isinstance(value, float) else str(value)
