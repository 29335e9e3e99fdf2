"""The keys of this plugin: one table that feeds the canvas, the labels of buttons and the documentation.

A key that the user or napari uses already is left to them. One setting turns all of them off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_lsnet import settings

if TYPE_CHECKING:
    from napari.components import ViewerModel


@dataclass(frozen=True)
class Key:
    """One key.

    Attributes
    ----------
    action : str
        Name under which `bind` is given what to do.
    keys : str
        In napari's spelling, such as ``"Shift-R"``.
    title : str
        What it does, for people.
    hold : bool
        Whether it acts while it is held down; then the action is called with True and, on release, with False.
    """

    action: str
    keys: str
    title: str
    hold: bool = False

    @property
    def text(self) -> str:
        """How it is written for people, such as ``"Shift+R"``."""
        return self.keys.replace("-", "+")


KEYS: tuple[Key, ...] = (
    Key("run", "Shift-R", "Run or pause"),
    Key("step", "Shift-S", "Single step"),
    Key("outline", "G", "Contour or fill"),
    Key("hide", "H", "Hide the overlay while held down", hold=True),
)


def in_use(key: Key) -> bool:
    """Whether napari, or the user in napari's preferences, has this key for something else."""
    from app_model.types import KeyBinding
    from napari.settings import get_settings

    wanted = KeyBinding.from_str(key.text)
    return any(wanted in bindings for bindings in get_settings().shortcuts.shortcuts.values())


def hint(action: str) -> str:
    """What to add to the tooltip of a button, such as ``" (Shift+R)"``; "" where the key does nothing."""
    key = next(key for key in KEYS if key.action == action)
    return f" ({key.text})" if settings.current().keys_on and not in_use(key) else ""


class Bindings:
    """Keys bound to a viewer until `release` is called; follows the setting that turns them off.

    Parameters
    ----------
    viewer : Viewer
        Whose canvas listens.
    actions : mapping of str to callable
        What to do, by the name in the table: without arguments, or for a key that is held with one bool.
    """

    def __init__(self, viewer: ViewerModel, actions: Mapping[str, Callable[..., object]]) -> None:
        self._viewer = viewer
        self._wanted = [(key, actions[key.action]) for key in KEYS if key.action in actions]
        self._bound: list[Key] = []
        self._follow(settings.current())
        self._end = settings.on_change(self._follow)

    @property
    def bound(self) -> tuple[Key, ...]:
        """The keys that work now."""
        return tuple(self._bound)

    def release(self) -> None:
        """Take all keys back."""
        self._end()
        self._unbind()

    def _follow(self, now: settings.Settings) -> None:
        self._unbind()
        if not now.keys_on:
            return
        for key, action in self._wanted:
            if in_use(key):
                continue
            try:
                self._viewer.bind_key(key.keys, _holding(action) if key.hold else _pressing(action))
            except ValueError:
                # The user bound it on this viewer: theirs comes first.
                continue
            self._bound.append(key)

    def _unbind(self) -> None:
        for key in self._bound:
            self._viewer.bind_key(key.keys, None)
        self._bound.clear()


def _pressing(action: Callable[..., object]) -> Callable[[Any], None]:
    def press(_: Any) -> None:
        action()

    return press


def _holding(action: Callable[..., object]) -> Callable[[Any], Iterator[None]]:
    def hold(_: Any) -> Iterator[None]:
        action(True)
        yield
        action(False)

    return hold
