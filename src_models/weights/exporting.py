"""A model given away: as its two files in a folder, or as a MONAI bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from src_models.errors import InputError, SaveError
from src_models.files.gate import shown_name
from src_models.files.saving import save_together
from src_models.weights.bundle import bundle_files
from src_models.weights.cascade import first_stage_paths, named_stages, without_ways
from src_models.weights.pairs import CARD_SUFFIX, WEIGHTS_SUFFIX, card_text, read_card, read_weights, stem_of
from src_models.weights.store import load_pair

Form = Literal["folder", "bundle"]


def export(path: Path, out: Path, form: Form = "folder", *, overwrite: bool = False) -> tuple[Path, ...]:
    """Write a model into a folder, verified; that of a cascade with its first stage.

    Parameters
    ----------
    path : Path
        Its weights file.
    out : Path
        The folder; made where it is missing.
    form : str
        "folder" for weights and card, "bundle" for a MONAI bundle.
    overwrite : bool
        Whether files that are there may be replaced.

    Returns
    -------
    tuple of Path
        The files.

    Raises
    ------
    FileError, InputError
        Where the model is damaged, a first stage is missing, or the form cannot hold it.
    SaveError
        Where files are there already, or cannot be written.
    """
    files: dict[str, bytes]
    if form == "bundle" and read_card(path).first_stage:
        raise InputError(
            "export-cascade", "A MONAI bundle holds one network", "this is the second of a cascade", "Use --to folder."
        )
    if form == "bundle":
        files = bundle_files(load_pair(path))
    else:
        card = read_card(path)
        stages = {read_card(one).sha256: one for one in first_stage_paths(path, card)}
        card = card.model_copy(update={"first_stage": without_ways(card.first_stage)})
        files = {}
        for source, one in [(path, card), *named_stages(stages.values())]:
            stem = stem_of(one)
            files |= {stem + WEIGHTS_SUFFIX: read_weights(source, one), stem + CARD_SUFFIX: card_text(one)}
    targets = {out / name: content for name, content in files.items()}
    try:
        for target in targets:
            target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        why = (error.strerror or "the system refused it").lower()
        raise SaveError("export-folder", f"{shown_name(out)} cannot be made", why, "Choose another folder.") from error
    save_together(targets, overwrite=overwrite)
    return tuple(targets)
