"""Which models there are: shipped with the package, in the user's folder, or named in the manifest for download."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from src_models.errors import FileError, InputError, LsnetError
from src_models.files.gate import shown
from src_models.weights.card import ModelCard
from src_models.weights.manifest import Manifest, read_manifest
from src_models.weights.pairs import CARD_SUFFIX, WEIGHTS_SUFFIX, card_path, check_size, read_card

State = Literal["shipped", "installed", "available", "damaged"]
FOLDER_VARIABLE = "LSNET_MODELS"
SHIPPED = Path(__file__).parent / "shipped"


@dataclass(frozen=True)
class Entry:
    """One model in the list.

    Attributes
    ----------
    name, version : str
        As on its card; of the file where there is no card.
    state : str
        ``"shipped"`` and ``"installed"`` can be used, ``"available"`` can be downloaded, ``"damaged"`` can only be
        removed.
    task, licence, sha256, size_bytes : str, str, str, int
        As on its card or in the manifest.
    path : Path or None
        Its weights file; None where it is not here.
    card : ModelCard or None
        Where it can be read.
    problem : str
        One sentence on what is wrong with a damaged one.
    """

    name: str
    version: str
    state: State
    task: str = ""
    licence: str = ""
    sha256: str = ""
    size_bytes: int = 0
    path: Path | None = None
    card: ModelCard | None = None
    problem: str = ""

    @property
    def usable(self) -> bool:
        """Whether it can be loaded."""
        return self.state in ("shipped", "installed")


def models_folder(folder: str | os.PathLike[str] | None = None) -> Path:
    """The user's folder of models; it need not exist yet.

    Parameters
    ----------
    folder : path-like, optional
        Wins over the environment variable ``LSNET_MODELS``, and that over the user's cache folder.
    """
    if folder is not None:
        return Path(folder)
    if os.environ.get(FOLDER_VARIABLE):
        return Path(os.environ[FOLDER_VARIABLE])
    from platformdirs import user_cache_path

    return user_cache_path("napari-lsnet", appauthor=False) / "models"


def available(
    folder: str | os.PathLike[str] | None = None, *, manifest: Manifest | None = None, shipped: Path = SHIPPED
) -> tuple[Entry, ...]:
    """Every model that is here or can be downloaded, by name and version; nothing is hashed and no network asked.

    Parameters
    ----------
    folder : path-like, optional
        As in `models_folder`.
    manifest : Manifest, optional
        The one of the package by default.
    shipped : Path
        Models that came with the package.
    """
    found = [*_in_folder(shipped, "shipped"), *_in_folder(models_folder(folder), "installed")]
    here = {(entry.name, entry.version) for entry in found if entry.usable}
    for offer in (read_manifest() if manifest is None else manifest).models:
        if (offer.name, offer.version) not in here:
            found.append(
                Entry(
                    name=offer.name,
                    version=offer.version,
                    state="available",
                    task=offer.task,
                    licence=offer.licence,
                    sha256=offer.sha256,
                    size_bytes=offer.size_bytes,
                    card=offer.card,
                )
            )
    return tuple(sorted(found, key=lambda entry: (entry.name, _numbers(entry.version))))


def entry_of(path: Path, state: State = "installed") -> Entry:
    """What one pair of files is; either file may be named."""
    weights = path.with_name(card_path(path).name[: -len(CARD_SUFFIX)] + WEIGHTS_SUFFIX)
    name, _, version = weights.name[: -len(WEIGHTS_SUFFIX)].partition("@")
    size = weights.stat().st_size if weights.is_file() else 0
    card = None
    try:
        card = read_card(weights)
        check_size(weights, card)
    except LsnetError as error:
        if card is None:
            return Entry(shown(name), shown(version), "damaged", size_bytes=size, path=weights, problem=str(error))
        state, problem = "damaged", str(error)
    else:
        problem = ""
    return Entry(
        name=card.name,
        version=card.version,
        state=state,
        task=card.task,
        licence=card.weights_licence,
        sha256=card.sha256,
        size_bytes=size,
        path=weights,
        card=card,
        problem=problem,
    )


def find(
    name: str,
    folder: str | os.PathLike[str] | None = None,
    *,
    manifest: Manifest | None = None,
    shipped: Path = SHIPPED,
) -> tuple[Entry, ...]:
    """The usable models that a name means.

    Parameters
    ----------
    name : str
        ``NAME@VERSION``, or ``NAME`` for its newest version; without ``-foldN`` it means all folds of that name.
    folder, manifest, shipped
        As in `available`.

    Returns
    -------
    tuple of Entry
        One, or one per fold.

    Raises
    ------
    FileError
        Where the model is damaged, or not here but could be downloaded.
    InputError
        Where there is none of that name, with the nearest.
    """
    entries = available(folder, manifest=manifest, shipped=shipped)
    wanted, _, version = name.partition("@")
    exact = [entry for entry in entries if entry.name == wanted and version in ("", entry.version)]
    usable = [entry for entry in exact if entry.usable]
    if usable:
        return (_newest(usable),)
    folds: dict[str, list[Entry]] = {}
    for entry in entries:
        if (
            entry.usable
            and version in ("", entry.version)
            and re.fullmatch(re.escape(wanted) + r"-fold\d+", entry.name)
        ):
            folds.setdefault(entry.name, []).append(entry)
    if folds:
        return tuple(_newest(folds[fold]) for fold in sorted(folds, key=_numbers))
    for entry in exact:
        if entry.state == "damaged":
            raise FileError("weights-damaged", f"The model {shown(name)} is damaged", entry.problem.rstrip("."), "")
    if exact:
        raise FileError(
            "weights-not-here",
            f"The model {shown(name)} is not on this computer",
            "",
            f"Download it: lsnet weights get {exact[-1].name}.",
        )
    raise _unknown(name, entries)


def _in_folder(folder: Path, state: State) -> list[Entry]:
    """Every pair, and every half of one, straight in a folder; other JSON files are none of ours."""
    try:
        names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    except OSError:
        return []
    stems = {name[: -len(WEIGHTS_SUFFIX)] for name in names if name.endswith(WEIGHTS_SUFFIX)}
    stems |= {name[: -len(CARD_SUFFIX)] for name in names if name.endswith(CARD_SUFFIX) and "@" in name}
    return [entry_of(folder / (stem + WEIGHTS_SUFFIX), state) for stem in sorted(stems)]


def _newest(entries: Sequence[Entry]) -> Entry:
    # of one version the one that came with the package, which nobody has touched
    return max(entries, key=lambda entry: (_numbers(entry.version), entry.state == "shipped"))


def _numbers(text: str) -> tuple[tuple[int, int, str], ...]:
    """Sorts 10 after 9."""
    parts = re.findall(r"\d+|\D+", text)
    return tuple((1, int(part), "") if part.isdecimal() else (0, 0, part) for part in parts)


def _unknown(name: str, entries: Sequence[Entry]) -> InputError:
    names = list(dict.fromkeys(entry.name for entry in entries if entry.state != "damaged"))
    # a part of a name is what people remember of it
    near = difflib.get_close_matches(name, names, n=1) or [known for known in names if name and name in known]
    return InputError(
        "weights-unknown",
        f"There is no model named {shown(name)}",
        f"did you mean {' or '.join(near[:2])}?" if near else "",
        "See lsnet weights list, or give a file.",
    )
