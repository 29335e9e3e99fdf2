"""A form shows what its model says, gives the model back unchanged, and tells in words what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field
from pytestqt.qtbot import QtBot
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QWheelEvent
from qtpy.QtWidgets import QApplication, QCheckBox, QComboBox, QLabel, QLineEdit, QSlider, QToolButton, QWidget

from napari_lsnet.forms import ParameterForm
from napari_lsnet.parameter_files import load_parameters, save_parameters
from src_models.errors import FileError, InputError, SaveError
from src_models.levelset.parameters import LevelSetParameters

RULES = {
    "edge": lambda entries: entries.speed == "edge",
    "region": lambda entries: entries.speed == "region",
    "lower": lambda entries: entries.speed == "region",
}


@pytest.fixture
def form(qtbot: QtBot) -> ParameterForm:
    made = ParameterForm(LevelSetParameters, visible_when=RULES)
    qtbot.addWidget(made)
    return made


def box(form: ParameterForm, name: str) -> QLineEdit:
    return form.editor(name).findChild(QLineEdit)


def test_the_form_starts_at_the_defaults(form: ParameterForm) -> None:
    assert form.value() == LevelSetParameters()


numbers = st.floats(-1e6, 1e6)
models = st.builds(
    LevelSetParameters,
    speed=st.sampled_from(["edge", "region"]),
    balloon=numbers,
    curvature=st.floats(0, 1e3),
    convection=st.none() | st.floats(0, 1e3),
    lower=st.none() | st.floats(-1000, -1),
    upper=st.none() | st.floats(0, 1000),
    sigma=st.floats(0, 10) | st.tuples(*[st.floats(0, 10)] * 3),
    eps=st.floats(1e-12, 1e-3),
    time_step=st.just("cfl") | st.floats(1e-3, 10),
    value_range=st.none() | st.tuples(numbers, numbers),
    steps=st.integers(1, 10**9),
    auto_stop=st.booleans(),
    device=st.sampled_from(["auto", "cpu", "cuda", "mps"]),
    order=st.sampled_from([1, 2]),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(models)
def test_a_model_comes_back_to_the_last_digit(form: ParameterForm, model: LevelSetParameters) -> None:
    form.set_value(model)
    assert form.value() == model


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(models)
def test_a_file_gives_the_model_back(tmp_path: Path, model: LevelSetParameters) -> None:
    save_parameters(model, tmp_path / "p.toml")
    assert load_parameters(LevelSetParameters, tmp_path / "p.toml") == model


def test_a_change_is_told_once_with_the_new_model(form: ParameterForm, qtbot: QtBot) -> None:
    told: list[LevelSetParameters] = []
    form.changed.connect(told.append)
    box(form, "curvature").setText("0.7")
    assert [model.curvature for model in told] == [0.7]
    box(form, "curvature").setText("0.70")
    assert len(told) == 1
    form.set_value(LevelSetParameters(balloon=2, curvature=3, lower=1))
    assert len(told) == 2


def test_only_fields_of_the_preview_ask_for_a_new_one(form: ParameterForm) -> None:
    asked: list[object] = []
    form.preview_changed.connect(asked.append)
    box(form, "curvature").setText("0.7")
    assert asked == []
    box(form, "contrast").setText("0.1")
    assert len(asked) == 1


def test_a_wrong_entry_is_told_in_words_and_the_way_back_too(form: ParameterForm) -> None:
    wrong: list[str] = []
    right: list[object] = []
    form.invalid.connect(wrong.append)
    form.changed.connect(right.append)
    box(form, "curvature").setText("-1")
    assert wrong == ["Smoothing must be 0 or more. Correct it, or set it back to its default."]
    with pytest.raises(InputError, match="Smoothing must be 0 or more"):
        form.value()
    box(form, "curvature").setText("0.2")
    assert right == [LevelSetParameters()]


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("balloon", "abc", "Grow or shrink needs a number, got 'abc'"),
        ("balloon", "", "Grow or shrink needs a number"),
        ("balloon", "nan", "Grow or shrink must be a finite number"),
        ("cfl", "1.5", "CFL number must be 1 or less"),
        ("contrast", "0", "Edge contrast must be above 0"),
        ("steps", "2.5", "Steps at most must be a whole number"),
        ("time_step", "-1", "Time_step must be 'cfl' or a number above 0"),
        ("value_range", "1, x", "Grey-value range needs a number, got 'x'"),
    ],
)
def test_every_kind_of_mistake_has_its_sentence(form: ParameterForm, name: str, text: str, sentence: str) -> None:
    box(form, name).setText(text)
    with pytest.raises(InputError) as caught:
        form.value()
    assert str(caught.value).startswith(sentence)
    assert "\n" not in str(caught.value)


def test_a_mistake_in_two_fields_together_is_told(form: ParameterForm) -> None:
    box(form, "lower").setText("5")
    box(form, "upper").setText("3")
    with pytest.raises(InputError, match=r"Lower \(5\) must be below upper \(3\)"):
        form.value()


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("convection", "", None),
        ("convection", "auto", None),
        ("convection", "0,5", 0.5),
        ("time_step", "", "cfl"),
        ("time_step", "cfl", "cfl"),
        ("time_step", "0.25", 0.25),
        ("sigma", "2", 2.0),
        ("sigma", "2, 1, 1", (2.0, 1.0, 1.0)),
        ("sigma", "2; 1", (2.0, 1.0)),
        ("value_range", "-100, 400", (-100.0, 400.0)),
        ("steps", "1e3", 1000),
        ("eps", "1e-9", 1e-9),
    ],
)
def test_what_may_be_typed(form: ParameterForm, name: str, text: str, value: object) -> None:
    box(form, name).setText("77")
    box(form, name).setText(text)
    assert getattr(form.value(), name) == value


def test_empty_boxes_say_what_they_stand_for(form: ParameterForm) -> None:
    assert box(form, "convection").placeholderText() == "auto"
    assert box(form, "time_step").placeholderText() == "cfl"


def test_a_slider_and_its_box_follow_each_other(form: ParameterForm) -> None:
    slider = form.editor("curvature").findChild(QSlider) or form.editor("curvature").layout().itemAt(0).widget()
    slider.setValue(slider.maximum() / 2)
    assert form.value().curvature == 0.5
    box(form, "curvature").setText("7")
    assert slider.value() == slider.maximum()
    assert form.value().curvature == 7


def test_arrow_keys_step_a_number(form: ParameterForm, qtbot: QtBot) -> None:
    qtbot.keyClick(box(form, "steps"), Qt.Key.Key_Up)
    assert form.value().steps == 2001
    qtbot.keyClick(box(form, "curvature"), Qt.Key.Key_Down)
    assert form.value().curvature == pytest.approx(0.195)


def test_fields_of_the_other_speed_are_hidden(form: ParameterForm) -> None:
    assert form.is_shown("edge_power")
    assert not form.is_shown("lower")
    assert not form.is_shown("smoothness")
    form.editor("speed").findChild(QComboBox).setCurrentIndex(1)
    assert not form.is_shown("edge_power")
    assert form.is_shown("lower")
    assert form.is_shown("smoothness")


def test_a_wrong_entry_stays_in_sight(form: ParameterForm) -> None:
    form.set_value(LevelSetParameters(speed="region"))
    box(form, "lower").setText("x")
    form.editor("speed").findChild(QComboBox).setCurrentIndex(0)
    assert form.is_shown("lower")


def test_groups_fold_and_the_first_is_always_open(form: ParameterForm) -> None:
    form.show()
    assert form.editor("balloon").isVisible()
    assert not form.editor("cfl").isVisible()
    form.open_group("advanced")
    assert form.editor("cfl").isVisible()
    titles = {button.text() for button in form.findChildren(QToolButton) if button.isVisible()}
    assert {"Edge image", "Stopping and device", "Advanced"} <= titles
    assert "Region speed" not in titles


def test_each_field_and_all_of_them_can_be_reset(form: ParameterForm, qtbot: QtBot) -> None:
    form.set_value(LevelSetParameters(balloon=3, curvature=4))
    form.reset("balloon")
    assert form.value() == LevelSetParameters(curvature=4)
    told: list[object] = []
    form.changed.connect(told.append)
    form.reset()
    assert told == [LevelSetParameters()]


def test_the_reset_button_shows_where_it_would_do_something(form: ParameterForm) -> None:
    form.show()
    row = form.editor("balloon").parentWidget()
    button = row.findChild(QToolButton)
    assert not button.isVisible()
    box(form, "balloon").setText("3")
    assert button.isVisible()
    button.click()
    assert form.value().balloon == 1
    assert not button.isVisible()


def test_labels_tips_and_units_come_from_the_model(form: ParameterForm) -> None:
    field = LevelSetParameters.model_fields["sigma"]
    row = form.editor("sigma").parentWidget()
    texts = [label.text() for label in row.findChildren(QLabel)]
    assert field.title in texts
    assert "mm" in texts
    assert field.description.split(";")[0] in form.editor("sigma").toolTip()
    assert "sigma" in form.editor("sigma").toolTip()


def test_the_wheel_scrolls_past_a_field_that_has_no_focus(form: ParameterForm) -> None:
    form.show()
    for name in ("speed", "curvature"):
        for widget in form.editor(name).findChildren(QWidget):
            centre = QPointF(5, 5)
            turn = QWheelEvent(
                centre,
                centre,
                QPoint(0, -120),
                QPoint(0, -120),
                Qt.MouseButton.NoButton,
                Qt.KeyboardModifier.NoModifier,
                Qt.ScrollPhase.NoScrollPhase,
                False,
            )
            QApplication.sendEvent(widget, turn)
    assert form.value() == LevelSetParameters()


def test_the_form_fits_a_narrow_dock(form: ParameterForm) -> None:
    for group in ("edge", "region", "advanced", "run"):
        form.open_group(group)
    assert form.minimumSizeHint().width() <= 320


def test_load_and_save(form: ParameterForm, tmp_path: Path) -> None:
    form.set_value(LevelSetParameters(curvature=0.123456789, sigma=(1.0, 2.0)))
    form.save(tmp_path / "deep" / "p.toml")
    form.reset()
    form.load(tmp_path / "deep" / "p.toml")
    assert form.value() == LevelSetParameters(curvature=0.123456789, sigma=(1.0, 2.0))
    assert "[LevelSetParameters]" in (tmp_path / "deep" / "p.toml").read_text()
    box(form, "balloon").setText("x")
    with pytest.raises(InputError):
        form.save(tmp_path / "other.toml")
    assert not (tmp_path / "other.toml").exists()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "p.toml was not read: No such file"),
        ("= 3", "p.toml was not read: it is not a TOML file"),
        ("[Other]\na = 1", "p.toml was not read: it holds no LevelSetParameters"),
        ("LevelSetParameters = 4", "p.toml was not read: it holds no LevelSetParameters"),
        ("[LevelSetParameters]\ncurvature = -1", "p.toml was not read: curvature must be 0 or more, not -1"),
        ("[LevelSetParameters]\nspeeed = 'edge'", "p.toml was not read: speeed is not known here"),
    ],
)
def test_a_file_that_does_not_fit_changes_nothing(
    form: ParameterForm, tmp_path: Path, content: str | None, sentence: str
) -> None:
    if content is not None:
        (tmp_path / "p.toml").write_text(content)
    form.set_value(LevelSetParameters(balloon=3))
    with pytest.raises(FileError) as caught:
        form.load(tmp_path / "p.toml")
    assert str(caught.value).startswith(sentence)
    assert form.value() == LevelSetParameters(balloon=3)


def test_a_file_that_cannot_be_written_leaves_the_old_one_whole(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(SaveError, match="was not saved"):
        save_parameters(LevelSetParameters(), tmp_path / "taken" / "p.toml")
    (tmp_path / "p.toml").mkdir()
    with pytest.raises(SaveError):
        save_parameters(LevelSetParameters(), tmp_path / "p.toml")
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["p.toml", "taken"]


class Other(BaseModel):
    """A model without hints, with the kinds of fields that the level set does not have."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    overlap_share: float = Field(0.5, ge=0, lt=1)
    axis: Literal["z", "y"] | None = None
    tiles: int | None = Field(3, ge=1)
    mirror: bool = False


def test_any_model_makes_a_form(qtbot: QtBot, tmp_path: Path) -> None:
    form = ParameterForm(Other)
    qtbot.addWidget(form)
    assert form.value() == Other()
    form.set_value(Other(overlap_share=0.25, axis="y", tiles=None, mirror=True))
    assert form.value() == Other(overlap_share=0.25, axis="y", tiles=None, mirror=True)
    assert form.editor("mirror").findChild(QCheckBox).isChecked()
    form.save(tmp_path / "p.toml")
    form.reset()
    form.load(tmp_path / "p.toml")
    assert form.value().tiles is None
    box(form, "overlap_share").setText("1")
    with pytest.raises(InputError, match="Overlap share must be below 1"):
        form.value()


def test_a_type_without_an_editor_is_refused(qtbot: QtBot) -> None:
    class Strange(BaseModel):
        names: list[str] = []

    with pytest.raises(TypeError, match="no editor"):
        ParameterForm(Strange)
