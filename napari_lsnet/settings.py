"""What a user sets once: kept by napari where it keeps settings for plugins (from 0.9), else in a small TOML file.

Names and defaults are those of the manifest. Values are read when they are needed, so a change holds at once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from napari_lsnet.compat import PLUGIN, plugin_settings
from napari_lsnet.parameter_files import load_parameters, save_parameters
from src_models.errors import FileError, InputError, LsnetError
from src_models.refusals import problem_of

CATEGORY = "general"
"""Key of our settings in the manifest's ``configurations``."""

Model = TypeVar("Model", bound=BaseModel)


class Settings(BaseModel):
    """The settings, with their defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        "auto", title="Device", description="Where a run starts: auto takes a graphics card when there is one."
    )
    file_size_limit_gb: float = Field(
        4.0, title="File size limit (GB)", description="Larger images are not opened.", gt=0
    )
    keys_on: bool = Field(True, title="Keys", description="Use the keys of this plugin on the canvas.")
    model_folder: str = Field(
        "", title="Model folder", description="Where models are kept; empty for the usual cache folder."
    )
    offline: bool = Field(False, title="Offline", description="Download no model, even when asked to.")


_listeners: list[Callable[[Settings], object]] = []


def current() -> Settings:
    """The settings as they are now; a value that is damaged counts as its default."""
    kept = plugin_settings()
    if kept is None:
        try:
            return load_parameters(Settings, _folder() / "settings.toml")
        except FileError:
            return Settings()
    group = getattr(kept, CATEGORY)
    valid: dict[str, Any] = {}
    for name in Settings.model_fields:
        try:
            Settings(**{name: getattr(group, name)})
        except (AttributeError, ValidationError):
            continue
        valid[name] = getattr(group, name)
    return Settings(**valid)


def change(**values: Any) -> Settings:
    """Set some of the settings, keep them, and tell whoever listens.

    Raises
    ------
    InputError
        For a name or a value that there is not.
    SaveError
        Where they cannot be kept.
    """
    try:
        changed = Settings(**(current().model_dump() | values))
    except ValidationError as error:
        found = problem_of(error)
        what = f"The setting {found.place} was not changed"
        raise InputError("setting-value", what, f"it {found.rule}", "") from None
    kept = plugin_settings()
    if kept is None:
        save_parameters(changed, _folder() / "settings.toml")
        _tell()
    else:
        for name in values:
            setattr(getattr(kept, CATEGORY), name, getattr(changed, name))
    return changed


def on_change(listener: Callable[[Settings], object]) -> Callable[[], None]:
    """Call `listener` with the settings after each change, also one made in napari's preferences.

    Returns
    -------
    callable
        Ends it.
    """
    kept = plugin_settings()
    if kept is not None:
        # napari keeps a callback once, however often it is connected.
        getattr(kept, CATEGORY).events.connect(_tell)
    _listeners.append(listener)

    def end() -> None:
        if listener in _listeners:
            _listeners.remove(listener)

    return end


def last_used(model_class: type[Model]) -> Model:
    """The parameters of the last run of this user, or the defaults."""
    try:
        return load_parameters(model_class, _folder() / f"{model_class.__name__}.toml")
    except FileError:
        return model_class()


def remember(model: BaseModel) -> None:
    """Keep the parameters of a run for next time. They hold no paths, no weights and nothing of a patient."""
    try:
        save_parameters(model, _folder() / f"{type(model).__name__}.toml")
    except LsnetError as error:
        # A home folder that cannot be written must not stop a run.
        logging.getLogger(__name__).info("%s", error)


def _tell(*_: Any) -> None:
    settings = current()
    for listener in tuple(_listeners):
        listener(settings)


def _folder() -> Path:
    from platformdirs import user_config_path

    return user_config_path(PLUGIN, appauthor=False)
