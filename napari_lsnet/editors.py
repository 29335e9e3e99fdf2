"""The editors of single fields that `forms` is made of: a tick, a choice, a number, a row of numbers.

An editor reads and writes plain values and knows no model. A number keeps the exact value it was given, so that filling
a form and reading it again changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo
from qtpy.QtCore import QEvent, QObject, Qt, Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import QCheckBox, QComboBox, QHBoxLayout, QLineEdit, QSizePolicy, QWidget
from superqt import QDoubleSlider, QElidingLabel

from napari_lsnet.theme import colours

# Names that people know better than the words in a record.
_CHOICE_WORDS = {
    "chan_vese": "Chan-Vese",
    "cpu": "CPU",
    "cuda": "CUDA",
    "godunov": "Godunov",
    "mps": "Apple GPU",
    "osher_sethian": "Osher-Sethian",
}
_SLIDER_STEPS = 200


class Editor(QWidget):
    """One entry; `edited` tells that a person or `write` changed it.

    Attributes
    ----------
    edited : Signal()
        After every change, also one that leaves the entry unfinished.
    """

    edited = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._row = QHBoxLayout(self)
        self._row.setContentsMargins(0, 0, 0, 0)
        self._row.setSpacing(4)

    def read(self) -> Any:
        """The entry as a value.

        Raises
        ------
        ValueError
            Where it is not one; the message says what is missing.
        """
        raise NotImplementedError

    def write(self, value: Any) -> None:
        """Show a value."""
        raise NotImplementedError

    def mark(self, wrong: str) -> None:
        """Show that the entry is wrong, and why; "" takes the mark away."""
        self.setProperty("wrong", wrong)


class TickEditor(Editor):
    """A check box for a bool."""

    def __init__(self) -> None:
        super().__init__()
        self._box = QCheckBox()
        self._box.toggled.connect(lambda _: self.edited.emit())
        self._row.addWidget(self._box)
        self._row.addStretch(1)
        self.setFocusProxy(self._box)

    def read(self) -> bool:
        """Whether it is ticked."""
        return bool(self._box.isChecked())

    def write(self, value: Any) -> None:
        """Tick it or not."""
        self._box.setChecked(bool(value))


class ChoiceEditor(Editor):
    """A combo box for one of a few words or numbers."""

    def __init__(self, choices: Sequence[Any]) -> None:
        super().__init__()
        self._choices = tuple(choices)
        self._combo = QComboBox()
        self._combo.addItems([_CHOICE_WORDS.get(str(c), str(c).replace("_", " ")) for c in self._choices])
        self._combo.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self._combo.setMinimumContentsLength(6)
        self._combo.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        _scroll_past(self._combo)
        self._combo.currentIndexChanged.connect(lambda _: self.edited.emit())
        self._row.addWidget(self._combo)
        self.setFocusProxy(self._combo)

    def read(self) -> Any:
        """The word or number chosen."""
        return self._choices[self._combo.currentIndex()]

    def write(self, value: Any) -> None:
        """Choose one."""
        self._combo.setCurrentIndex(self._choices.index(value))


class NumberEditor(Editor):
    """A box for a number, with a slider where a usual range is known.

    Parameters
    ----------
    whole : bool
        Whether only whole numbers make sense.
    empty : object
        What an empty box stands for: None, or a word such as "cfl"; ``...`` where it may not be empty.
    soft : tuple of float, optional
        Range of the slider; the box takes more.
    unit : str
        Shown behind the box.
    """

    def __init__(
        self, *, whole: bool = False, empty: Any = ..., soft: tuple[float, float] | None = None, unit: str = ""
    ) -> None:
        super().__init__()
        self._whole = whole
        self._empty = empty
        self._soft = soft
        self._following = False
        self._slider: Any = None
        if soft is not None:
            self._slider = QDoubleSlider(Qt.Orientation.Horizontal)  # type: ignore[no-untyped-call]
            self._slider.setRange(0, _SLIDER_STEPS)
            self._slider.setMinimumWidth(40)
            _scroll_past(self._slider)
            self._slider.valueChanged.connect(self._on_slider)
            self._row.addWidget(self._slider, 3)
        self._box = _Line(self._step)
        self._box.setPlaceholderText("" if empty is ... else "auto" if empty is None else str(empty))
        self._box.setMinimumWidth(52)
        self._box.setMaximumWidth(64 if soft is not None else 110)
        self._box.textChanged.connect(self._on_text)
        self._row.addWidget(self._box, 2)
        if unit:
            self._row.addWidget(_unit_label(unit), 0 if soft is not None else 2)
        elif soft is None:
            self._row.addStretch(1)
        self.setFocusProxy(self._box)

    def read(self) -> Any:
        """The number, or what the empty box stands for."""
        text = self._box.text().strip()
        if not text or (self._empty is not ... and text == self._box.placeholderText()):
            if self._empty is ...:
                raise ValueError("needs a number")
            return self._empty
        number = _parse(text)
        return int(number) if self._whole and number.is_integer() else number

    def write(self, value: Any) -> None:
        """Show a number, to its last digit."""
        self._box.setText("" if value == self._empty else _shortest(value))
        self._box.setCursorPosition(0)

    def mark(self, wrong: str) -> None:
        """Colour the box."""
        super().mark(wrong)
        self._box.mark(wrong)

    def _on_text(self) -> None:
        if self._slider is not None:
            self._following = True
            # "auto" and unfinished numbers have no place on the slider.
            with suppress(TypeError, ValueError):
                self._slider.setValue(self._position(float(self.read())))
            self._following = False
        self.edited.emit()

    def _on_slider(self, position: float) -> None:
        if not self._following:
            self._following = True
            self._box.setText(_shortest(self._value_at(position)))
            self._following = False

    def _step(self, steps: int) -> None:
        """Arrow keys: one step of the slider, or of the second digit."""
        try:
            value = float(self.read())
        except (TypeError, ValueError):
            return
        if self._soft is not None:
            stepped = self._value_at(round(self._position(value)) + steps)
        elif self._whole:
            stepped = value + steps
        else:
            stepped = value + steps * 10.0 ** (math.floor(math.log10(abs(value))) - 1 if value else -2)
        self.write(int(stepped) if self._whole else float(f"{stepped:.6g}"))

    @property
    def _logarithmic(self) -> bool:
        """Ranges over two decades read better in ratios."""
        return self._soft is not None and self._soft[0] > 0 and self._soft[1] / self._soft[0] >= 100

    def _position(self, value: float) -> float:
        low, high = self._soft or (0.0, 1.0)
        if self._logarithmic:
            share = math.log(max(value, low) / low) / math.log(high / low)
        else:
            share = (value - low) / (high - low)
        return _SLIDER_STEPS * min(max(share, 0.0), 1.0)

    def _value_at(self, position: float) -> float:
        low, high = self._soft or (0.0, 1.0)
        share = min(max(round(position) / _SLIDER_STEPS, 0.0), 1.0)
        if self._logarithmic:
            return float(f"{low * (high / low) ** share:.2g}")
        return float(f"{low + share * (high - low):.6g}")


class NumbersEditor(Editor):
    """A box for one number or several, such as ``1`` or ``1, 2, 2``.

    Parameters
    ----------
    single : bool
        Whether one number alone is read as a number and not as a row of one.
    empty : object
        As for `NumberEditor`.
    unit : str
        Shown behind the box.
    """

    def __init__(self, *, single: bool, empty: Any = ..., unit: str = "") -> None:
        super().__init__()
        self._single = single
        self._empty = empty
        self._box = _Line(None)
        self._box.setPlaceholderText("" if empty is ... else "auto")
        self._box.setMinimumWidth(52)
        self._box.setMaximumWidth(110)
        self._box.textChanged.connect(lambda _: self.edited.emit())
        self._row.addWidget(self._box, 2)
        if unit:
            self._row.addWidget(_unit_label(unit), 2)
        else:
            self._row.addStretch(1)
        self.setFocusProxy(self._box)

    def read(self) -> Any:
        """The number, the tuple, or what the empty box stands for."""
        text = self._box.text().strip()
        if not text:
            if self._empty is ...:
                raise ValueError("needs a number")
            return self._empty
        numbers = tuple(_parse(part) for part in text.replace(";", ",").split(",") if part.strip())
        return numbers[0] if self._single and len(numbers) == 1 else numbers

    def write(self, value: Any) -> None:
        """Show one number or several."""
        if value == self._empty:
            self._box.setText("")
        else:
            self._box.setText(", ".join(_shortest(v) for v in (value if isinstance(value, tuple) else (value,))))
        self._box.setCursorPosition(0)

    def mark(self, wrong: str) -> None:
        """Colour the box."""
        super().mark(wrong)
        self._box.mark(wrong)


def editor_for(field: FieldInfo, unit: str, soft: tuple[float, float] | None) -> Editor:
    """The editor that fits the type of a field.

    Raises
    ------
    TypeError
        For a type that no editor fits.
    """
    annotation: Any = field.annotation
    options = (annotation,) if get_origin(annotation) in (None, Literal, tuple) else get_args(annotation)
    empty: Any = None if NoneType in options else ...
    kinds = [option for option in options if option is not NoneType]
    words = [word for kind in kinds if get_origin(kind) is Literal for word in get_args(kind)]
    plain = [kind for kind in kinds if get_origin(kind) is not Literal]
    if plain == [bool]:
        return TickEditor()
    if words and not plain:
        return ChoiceEditor(words if empty is ... else [None, *words])
    if any(get_origin(kind) is tuple for kind in plain):
        return NumbersEditor(single=float in plain, empty=empty, unit=unit)
    if plain in ([float], [int]) and len(words) <= 1:
        return NumberEditor(whole=plain == [int], empty=words[0] if words else empty, soft=soft, unit=unit)
    raise TypeError(f"no editor for a field of type {annotation}")


class _Line(QLineEdit):
    """A line for numbers: a frame in the warning colour where it is wrong, arrow keys step."""

    def __init__(self, step: Any) -> None:
        super().__init__()
        self._step = step
        self.setAlignment(Qt.AlignmentFlag.AlignRight)

    def keyPressEvent(self, event: Any) -> None:  # noqa: N802 (Qt's name)
        """Step with the arrow keys."""
        steps = {Qt.Key.Key_Up: 1, Qt.Key.Key_Down: -1}.get(Qt.Key(event.key()), 0)
        if not steps or self._step is None:
            super().keyPressEvent(event)
        else:
            self._step(steps)

    def mark(self, wrong: str) -> None:
        self.setStyleSheet(f"QLineEdit {{ border: 1px solid {colours().warning}; }}" if wrong else "")
        self.setToolTip(wrong)


class _PassWheel(QObject):
    """Lets the wheel scroll the dock instead of changing a value that it happens to pass over."""

    def eventFilter(self, watched: Any, event: Any) -> bool:  # noqa: N802 (Qt's name)
        if event.type() == QEvent.Type.Wheel and not watched.hasFocus():
            event.ignore()
            return True
        return False


def _unit_label(unit: str) -> QWidget:
    label = QElidingLabel(unit)
    label.setMinimumWidth(24)
    label.setToolTip(unit)
    return label


def _scroll_past(widget: QWidget) -> None:
    widget.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
    widget.installEventFilter(_PassWheel(widget))


def _parse(text: str) -> float:
    try:
        return float(text.strip().replace(",", "."))
    except ValueError:
        raise ValueError(f"needs a number, got {text.strip()[:20]!r}") from None


def _shortest(value: float) -> str:
    """The shortest text that reads back as exactly this number."""
    short = f"{value:g}"
    return short if float(short) == value else repr(value)
