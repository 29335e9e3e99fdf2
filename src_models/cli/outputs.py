"""Where results go: never over an input, over an older file only when asked, each file whole or not there."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from src_models.cli.inputs import Frame
from src_models.errors import SaveError
from src_models.geometry import Grid, Segment, Segmentation, Volume
from src_models.record import Record, record_path, write_record

if TYPE_CHECKING:
    from src_models.levelset.coupled import LabelsResult
    from src_models.levelset.evolution import LevelSetResult


@dataclass(frozen=True)
class Target:
    """The files that a run writes.

    Attributes
    ----------
    out : Path
        The mask; its record goes beside it.
    distance : Path or None
        The level set.
    value : int
        What stands for the inside.
    overwrite : bool
        Whether results of earlier runs may be replaced.
    files : mapping of str to Path
        What the run reads, by the name it has in the record's local block.
    """

    out: Path
    distance: Path | None = None
    value: int = 1
    overwrite: bool = False
    files: Mapping[str, Path] = field(default_factory=dict)

    @property
    def images(self) -> list[Path]:
        """The files with voxels among the targets."""
        return [self.out] if self.distance is None else [self.out, self.distance]

    def check(self) -> None:
        """Refuse names that cannot be written to, before any work is done.

        Raises
        ------
        SaveError
            As `check_targets`.
        """
        check_targets([*self.images, record_path(self.out)], self.files.values(), overwrite=self.overwrite)

    def check_formats(self, grid: Grid) -> None:
        """Refuse formats that cannot hold a mask on a grid; one voxel is tried.

        Raises
        ------
        SaveError
            As the writer says it.
        """
        from src_models.files import write_segmentation

        corner = grid.crop((slice(0, 1),) * grid.ndim)
        with tempfile.TemporaryDirectory() as folder:
            for number, path in enumerate(self.images):
                place = Path(folder) / str(number)
                place.mkdir()
                write_segmentation(place / path.name, Segmentation(np.zeros(corner.shape, np.uint8), corner))

    def save(self, frame: Frame, result: LevelSetResult) -> Record:
        """Write the mask, the level set where wanted, and the record, which is given back as written.

        Raises
        ------
        SaveError
            Naming the file that could not be written. What was written new before it is taken away again, so that no
            result lies there without its record.
        """
        dtype = np.uint8 if self.value < 256 else np.uint16
        labels = np.where(result.mask, self.value, 0).astype(dtype)
        return self._write(frame, labels, (Segment(self.value),), result.record, result.level_set)

    def save_labels(self, frame: Frame, result: LabelsResult) -> Record:
        """Write several labels, each under its number, and the record, which is given back as written.

        Raises
        ------
        SaveError
            As `save`.
        """
        return self._write(frame, result.labels, tuple(Segment(number) for number in result.reports), result.record)

    def _write(
        self,
        frame: Frame,
        labels: NDArray[Any],
        segments: tuple[Segment, ...],
        made: Record,
        level_set: NDArray[Any] | None = None,
    ) -> Record:
        from src_models.files import write_segmentation, write_volume

        volume = frame.volume
        segmentation = Segmentation(
            frame.paste(labels), volume.grid, segments, stored_order=volume.stored_order, header=volume.header
        )
        record = self._complete(made, frame)
        new = [path for path in self.images if not os.path.lexists(path)]
        try:
            if self.distance is not None and level_set is not None:
                level_set = level_set.astype(np.float32)
                whole = frame.paste(level_set, outside=float(level_set.min()))
                saved = Volume(whole, volume.grid, stored_order=volume.stored_order, header=volume.header)
                write_volume(self.distance, saved, overwrite=self.overwrite)
            write_segmentation(self.out, segmentation, overwrite=self.overwrite)
            write_record(record_path(self.out), record)
        except BaseException:
            for path in new:
                path.unlink(missing_ok=True)
            raise
        return record

    def _complete(self, record: Record, frame: Frame) -> Record:
        """The record with the place of the image and, in its local block, the way to the files from its folder."""
        place: dict[str, object] = {
            "index_to_patient": frame.volume.grid.index_to_patient.tolist(),
            "region": frame.region,
        }
        source = None if record.source is None else record.source.model_copy(update=place)
        folder = self.out.parent.resolve()
        ways = {name: relative_path(path, folder) for name, path in {**self.files, "out": self.out}.items()}
        local = {name: way for name, way in ways.items() if way}
        return record.model_copy(update={"source": source, "local": local})


def check_targets(targets: Sequence[Path], sources: Iterable[Path], *, overwrite: bool) -> None:
    """Refuse targets before any work is done.

    Parameters
    ----------
    targets : sequence of Path
        Files that are going to be written.
    sources : iterable of Path
        Files that are read; none is ever overwritten, neither by its name nor through a link.
    overwrite : bool
        Whether files from earlier runs may be replaced.

    Raises
    ------
    SaveError
        With the name of the first target that cannot be written.
    """
    inputs = list(sources)
    for number, target in enumerate(targets):
        if any(_same_file(target, source) for source in inputs):
            raise SaveError(
                "target-is-input",
                f"Not saved: {target.name} is an input of this run",
                "inputs are never overwritten",
                "Choose another name.",
            )
        if any(_same_file(target, other) for other in targets[:number]):
            raise SaveError("target-twice", f"Two results would be written to {target.name}", "", "Choose two names.")
        if not target.parent.is_dir():
            raise SaveError("target-folder", f"The folder for {target.name} does not exist", "", "Make it first.")
        if target.is_dir():
            raise SaveError("target-is-folder", f"{target.name} is a folder", "", "Give the name of a file.")
        if os.path.lexists(target) and not overwrite:
            raise SaveError(
                "target-exists", f"{target.name} exists already", "", "Choose another name, or add --overwrite."
            )
        if not os.access(target.parent, os.W_OK):
            raise SaveError(
                "target-read-only", f"{target.name} cannot be written", "its folder is read-only", "Choose another one."
            )


def write_whole(path: Path, content: bytes) -> None:
    """Write a file as a whole or not at all, over an older one.

    Raises
    ------
    SaveError
        Where it cannot be written; the older one is untouched.
    """
    from src_models.files.saving import save_whole

    def write(file: IO[bytes]) -> None:
        file.write(content)

    save_whole(path, write, lambda part: part.read_bytes() == content, overwrite=True)


def relative_path(path: Path, folder: Path) -> str:
    """The way from a folder to a file; empty where there is none, as between two drives."""
    try:
        return Path(os.path.relpath(path.resolve(), folder)).as_posix()
    except ValueError:
        return ""


def _same_file(a: Path, b: Path) -> bool:
    try:
        return a.samefile(b)
    except OSError:
        return a.resolve() == b.resolve()
