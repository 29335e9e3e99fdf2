"""Where the sample images that come with this program lie."""

from __future__ import annotations

from pathlib import Path

from src_models.errors import FileError


def sample_folder() -> Path:
    """The folder of the sample data: inside the plugin where it was installed, else beside it in the checkout."""
    root = Path(__file__).parents[1]
    inside = root / "napari_lsnet" / "sample_data"
    return inside if inside.is_dir() else root / "sample_data"


def sample_file(name: str) -> Path:
    """A file of the sample data, by its name below `sample_folder`.

    Raises
    ------
    FileError
        Where it is not there.
    """
    path = sample_folder() / name
    if not path.is_file():
        raise FileError(
            "sample-missing",
            f"The sample {path.name} was not found",
            "this installation is not complete",
            "Install napari-lsnet again.",
        )
    return path
