"""Keys do what the table says, leave napari's and the user's alone, and can all be turned off."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import platformdirs
import pytest
from app_model.types import KeyBinding
from napari.components import ViewerModel
from napari.settings import get_settings
from napari.utils.shortcuts import default_shortcuts

from napari_lsnet import keys, settings, theme


@pytest.fixture(autouse=True)
def own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platformdirs, "user_config_path", lambda *_, **__: tmp_path)
    monkeypatch.setattr(settings, "plugin_settings", lambda: None)


def press(viewer: ViewerModel, key: str) -> object:
    """What napari runs for a key on the canvas."""
    return viewer.keymap[KeyBinding.from_str(key)](viewer)


def test_no_key_of_the_table_is_one_of_napari_s() -> None:
    taken = {binding: name for name, bindings in default_shortcuts.items() for binding in bindings}
    clashes = {key.keys: taken.get(KeyBinding.from_str(key.text)) for key in keys.KEYS}
    assert not any(clashes.values()), clashes
    assert len({key.keys for key in keys.KEYS}) == len(keys.KEYS)


def test_a_key_calls_its_action_until_it_is_released() -> None:
    viewer = ViewerModel()
    called: list[str] = []
    bindings = keys.Bindings(viewer, {"run": lambda: called.append("run"), "step": lambda: called.append("step")})
    press(viewer, "Shift+R")
    press(viewer, "Shift+S")
    assert called == ["run", "step"]
    assert KeyBinding.from_str("G") not in viewer.keymap
    bindings.release()
    assert not viewer.keymap


def test_a_held_key_tells_press_and_release() -> None:
    viewer = ViewerModel()
    told: list[bool] = []
    keys.Bindings(viewer, {"hide": told.append})
    held = press(viewer, "H")
    next(held)
    assert told == [True]
    assert next(held, "ended") == "ended"
    assert told == [True, False]


def test_one_setting_turns_all_keys_off_and_on_again() -> None:
    viewer = ViewerModel()
    bindings = keys.Bindings(viewer, {"run": lambda: None, "outline": lambda: None})
    assert keys.hint("run") == " (Shift+R)"
    settings.change(keys_on=False)
    assert bindings.bound == ()
    assert not viewer.keymap
    assert keys.hint("run") == ""
    settings.change(keys_on=True)
    assert [key.action for key in bindings.bound] == ["run", "outline"]
    bindings.release()
    settings.change(keys_on=False)
    settings.change(keys_on=True)
    assert not viewer.keymap


def test_a_key_that_the_user_gave_to_napari_is_left_to_napari(monkeypatch: pytest.MonkeyPatch) -> None:
    shortcuts = dict(get_settings().shortcuts.shortcuts)
    shortcuts["napari:reset_view"] = [KeyBinding.from_str("G")]
    monkeypatch.setattr(get_settings().shortcuts, "shortcuts", shortcuts)
    viewer = ViewerModel()
    bindings = keys.Bindings(viewer, {"outline": lambda: None, "run": lambda: None})
    assert [key.action for key in bindings.bound] == ["run"]
    assert keys.hint("outline") == ""


def test_a_key_that_the_user_bound_on_the_viewer_is_left_to_them() -> None:
    viewer = ViewerModel()
    theirs: Callable[[object], None] = lambda _: None  # noqa: E731
    viewer.bind_key("G", theirs)
    bindings = keys.Bindings(viewer, {"outline": lambda: None})
    assert bindings.bound == ()
    bindings.release()
    assert viewer.keymap[KeyBinding.from_str("G")] is theirs


def test_colours_follow_the_theme() -> None:
    get_settings().appearance.theme = "dark"
    told: list[theme.Colours] = []
    end = theme.on_theme_change(lambda: told.append(theme.colours()))
    get_settings().appearance.theme = "light"
    get_settings().appearance.theme = "dark"
    end()
    get_settings().appearance.theme = "light"
    get_settings().appearance.theme = "dark"
    light, dark = told
    assert light.background > light.text
    assert dark.background < dark.text
    assert all(len(colour) == 7 and colour[0] == "#" for colour in vars(dark).values())
