"""``lsnet evaluate``: segmentations against references, with formulas, counts and intervals."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from numpy.typing import NDArray

from src_models.cli import inputs, outputs, report
from src_models.cli.evolve_folder import images_in, partner, stem
from src_models.errors import FileError, GeometryError, InputError, SaveError
from src_models.geometry import Grid, Segmentation, compare_grids, same_grid, slice_axis
from src_models.metrics import FORMULAS, Comparison, Empties, Row, Table, summarise
from src_models.metrics.table import DRAWS, row_of
from src_models.metrics.text import to_csv, to_json, to_markdown, to_plain
from src_models.progress import Progress

if TYPE_CHECKING:
    from src_models.files import ReadOptions

_EPILOG = """\
examples:
  lsnet evaluate predicted.nii.gz reference.nii.gz
  lsnet evaluate predictions references --labels 1=liver,2=tumour --metrics dice,hd95,nsd --nsd-tol 2 --out scores
  lsnet evaluate predictions references --per patient --groups '^([^_]+)' --out scores

Files of two folders belong together by their names. Values: """
_UNITS = ("slice", "case", "patient")
_MANY = 128
"""Labels from which on it is asked whether they are labels; whole-body sets have a few less."""
_TABLE_FILES = {".csv": "rows", ".md": "scores", ".json": "both"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Every flag of the command."""
    parser.epilog = _EPILOG + ", ".join(FORMULAS) + "."
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("prediction", metavar="PRED", type=Path, help="A segmentation, or a folder of them.")
    parser.add_argument("reference", metavar="REF", type=Path, help="Its reference, or the folder of the references.")
    parser.add_argument(
        "--labels", metavar="LIST", help="Which label values, such as 1,2 or 1=liver,whole=1+2. Default: all there are."
    )
    parser.add_argument(
        "--map",
        metavar="OLD:NEW",
        action="append",
        default=[],
        help="Read a label value as another in all files, such as 255:1; may be given several times.",
    )
    parser.add_argument(
        "--fix-geometry",
        action="store_true",
        help="Resample predictions that lie on another grid to that of their reference, by the nearest voxel.",
    )
    parser.add_argument(
        "--metrics", metavar="LIST", default="dice,jaccard,hd95,assd", help="Default: dice,jaccard,hd95,assd."
    )
    parser.add_argument(
        "--nsd-tol", metavar="LENGTH", type=float, help="What nsd counts as near, in mm (in pixels without a size)."
    )
    parser.add_argument(
        "--empties",
        choices=get_args(Empties),
        default="standard",
        help="What both empty is: perfect agreement (standard), or left out (nnunet). Default: standard.",
    )
    parser.add_argument(
        "--groups",
        metavar="RULE",
        help="Which cases are one patient: a regular expression for their names, or a CSV file with case and group.",
    )
    parser.add_argument(
        "--per", choices=_UNITS, help="What a row is; a patient's cases are pooled. Default: patient with --groups."
    )
    parser.add_argument(
        "--bootstrap",
        metavar="N",
        type=int,
        default=DRAWS,
        help=f"Draws for the interval; 0 for none. Default: {DRAWS}.",
    )
    parser.add_argument("--out", metavar="OUT", type=Path, help="A file (.csv, .md, .json), or a folder for all three.")
    parser.add_argument("--overwrite", action="store_true", help="Replace results of earlier runs. Inputs never are.")
    inputs.add_read_flags(parser)


@dataclass(frozen=True)
class Structure:
    """What is compared: the union of some label values."""

    name: str
    values: tuple[int, ...]

    def mask(self, labels: NDArray[Any]) -> NDArray[np.bool_]:
        """Where it is."""
        if len(self.values) == 1:
            return np.asarray(labels == self.values[0])
        return np.isin(labels, self.values)


@dataclass(frozen=True)
class Case:
    """A prediction with its reference."""

    name: str
    prediction: Path
    reference: Path
    group: str


@dataclass(frozen=True)
class Asked:
    """What the command line asks for."""

    metrics: tuple[str, ...]
    per: str
    reading: ReadOptions
    nsd_tolerance: float | None
    empties: Empties
    label_map: Mapping[int, int] = field(default_factory=dict)
    fix_geometry: bool = False

    def row(self, unit: str, group: str, label: str, parts: Sequence[Comparison]) -> Row:
        """Measure one unit."""
        options: dict[str, Any] = {"nsd_tolerance": self.nsd_tolerance, "empties": self.empties}
        return row_of(unit, group, label, parts, self.metrics, **options)


def run(arguments: argparse.Namespace) -> int:
    """Do what the command line says."""
    from src_models.training.checks import parse_map

    metrics = _metrics(arguments)
    per = arguments.per or ("patient" if arguments.groups else "case")
    asked = Asked(
        tuple(metrics),
        per,
        inputs.read_options(arguments),
        arguments.nsd_tol,
        arguments.empties,
        parse_map(arguments.map),
        arguments.fix_geometry,
    )
    cases = find_cases(arguments.prediction, arguments.reference, arguments.groups, per)
    targets = _targets(arguments, per, [path for case in cases for path in (case.prediction, case.reference)])
    rows: list[Row] = []
    with report.watch_job(arguments.json, "evaluating") as show:
        structures, apart = (read_structures(arguments.labels), "") if arguments.labels else _found(cases, asked)
        for number, more in _rows(cases, structures, asked):
            show(Progress(phase="evaluate", fraction=number / len(cases), message=f"case {number} of {len(cases)}"))
            rows += more
    table = summarise(rows, draws=arguments.bootstrap)
    _save(table, targets, per)
    notes = [apart] if apart else []
    _tell(table, targets, arguments, per, [*notes, *_left_out(arguments.prediction, cases), *_nowhere(rows)])
    return 0


def find_cases(prediction: Path, reference: Path, groups: str | None, per: str) -> list[Case]:
    """The pairs of files; every reference has a prediction, so that nothing difficult is left out in silence.

    Raises
    ------
    FileError, InputError
        Where files are missing, or names look like slices of patients that nobody has named.
    """
    from src_models.training.groups import check_slice_names, groups_from

    for path in (prediction, reference):
        if not path.exists():
            raise FileError("file-missing", f"{path.name} was not found", "", "Check the name and the folder.")
    if prediction.is_dir() != reference.is_dir():
        raise InputError("evaluate-kinds", "One is a folder and one a file", "", "Give two files, or two folders.")
    if not reference.is_dir():
        pairs = [(prediction, reference)]
    else:
        pairs = [(partner(prediction, path, "prediction"), path) for path in images_in(reference)]
    names = [stem(path) for _, path in pairs]
    found = {name: name for name in names}
    if groups is not None:
        try:
            found = groups_from(groups, names)
        except InputError as error:
            # scores of a single patient are fine; it is only for a split that there must be more
            if error.code != "groups-single":
                raise
            found = dict.fromkeys(names, "all")
    elif per == "patient":
        check_slice_names(names)
    return [Case(name, p, r, found[name]) for name, (p, r) in zip(names, pairs, strict=True)]


def read_structures(text: str) -> list[Structure]:
    """What ``--labels`` says: ``1,2`` or ``1=liver,whole=1+2``.

    Raises
    ------
    InputError
        Where it cannot be read.
    """
    found = []
    for part in text.split(","):
        left, equals, right = (word.strip() for word in part.partition("="))
        # a name may stand on either side: 1=liver as in tables of labels, whole=1+2 as in formulas
        name, values = (left, left) if not equals else (right, left) if left.isdecimal() else (left, right)
        numbers = values.split("+")
        if not name or not all(number.strip().isdecimal() for number in numbers):
            raise InputError(
                "evaluate-labels", f"--labels {part!r} cannot be read", "", "Write 1,2 or 1=liver,whole=1+2."
            )
        found.append(Structure(name, tuple(int(number) for number in numbers)))
    return found


def compare(case: Case, structures: Sequence[Structure], asked: Asked) -> Iterator[tuple[str, str, Comparison]]:
    """Unit, structure and comparison of everything in one case.

    Raises
    ------
    GeometryError
        Where prediction and reference lie apart.
    """
    prediction, reference = _read(case, asked)
    grid = reference.grid
    _refuse_sheared(case, grid, asked.metrics)
    unit: Any = "mm" if grid.spacing_known else "px"
    volume = grid.voxel_ml * 1000 if grid.ndim == 3 and grid.sheared else None
    across = slice_axis(grid.spacing, reference.stored_order) if asked.per == "slice" and grid.ndim == 3 else None
    for structure in structures:
        p, r = structure.mask(prediction.labels), structure.mask(reference.labels)
        if across is None:
            yield case.name, structure.name, Comparison.of(p, r, grid.spacing, unit, voxel_size=volume)
            continue
        in_plane = tuple(h for axis, h in enumerate(grid.spacing) if axis != across)
        count = grid.shape[across]
        flipped = reference.stored_order.flips[across]
        for k in range(count):
            name = f"{case.name} slice {count - 1 - k if flipped else k}"
            one, other = (np.asarray(np.take(mask, k, across)) for mask in (p, r))
            yield name, structure.name, Comparison.of(one, other, in_plane, unit)


def _rows(cases: Sequence[Case], structures: Sequence[Structure], asked: Asked) -> Iterator[tuple[int, list[Row]]]:
    """Rows of each case, or of a patient once its last case is done; a patient's cases come one after the other."""
    pooled = asked.per == "patient"
    ordered = sorted(cases, key=lambda case: case.group) if pooled else list(cases)
    parts: dict[str, list[Comparison]] = {}
    for number, case in enumerate(ordered, 1):
        compared = compare(case, structures, asked)
        if not pooled:
            yield number, [asked.row(unit, case.group, label, [one]) for unit, label, one in compared]
            continue
        for _, label, comparison in compared:
            parts.setdefault(label, []).append(comparison)
        if number < len(ordered) and ordered[number].group == case.group:
            yield number, []
            continue
        yield number, [asked.row(case.group, case.group, label, several) for label, several in parts.items()]
        parts = {}


def _read(case: Case, asked: Asked) -> tuple[Segmentation, Segmentation]:
    from src_models.files import read_segmentation
    from src_models.training.case import mapped

    reference = read_segmentation(case.reference, asked.reading)
    prediction = read_segmentation(case.prediction, asked.reading, like=reference.grid)
    if reference.labels.ndim != reference.grid.ndim or prediction.labels.ndim != prediction.grid.ndim:
        raise InputError("evaluate-frames", f"{case.name} holds several frames", "", "Evaluate one frame at a time.")
    known = prediction.grid.spacing_known and reference.grid.spacing_known
    if prediction.labels.shape != reference.labels.shape or (known and not same_grid(prediction.grid, reference.grid)):
        prediction = _moved(case, prediction, reference.grid, asked)
    if not asked.label_map:
        return prediction, reference
    return (
        replace(prediction, labels=mapped(prediction.labels, asked.label_map)),
        replace(reference, labels=mapped(reference.labels, asked.label_map)),
    )


def _moved(case: Case, prediction: Segmentation, grid: Grid, asked: Asked) -> Segmentation:
    """A prediction brought to the grid of its reference where that is asked for; otherwise it is refused."""
    from src_models.training.case import resampled

    possible = prediction.grid.orientation_known and grid.orientation_known and grid.ndim == prediction.grid.ndim == 3
    if possible and asked.fix_geometry:
        return replace(prediction, labels=resampled(prediction, grid), grid=grid)
    mine, other = (f"{path.absolute().parent.name}/{path.name}" for path in (case.prediction, case.reference))
    how = compare_grids(prediction.grid, grid).replace("mask", "the prediction").replace("the image", "the reference")
    raise GeometryError(
        "evaluate-grid",
        f"The prediction {mine} does not lie on its reference {other}",
        how,
        "Write it on the grid of the image, or resample it with --fix-geometry."
        if possible
        else "Write it on the grid of the image; it cannot be resampled, since the files do not say where they lie.",
    )


def _refuse_sheared(case: Case, grid: Grid, metrics: Sequence[str]) -> None:
    if grid.sheared and any(FORMULAS[name].kind == "distance" or FORMULAS[name].needs_tolerance for name in metrics):
        raise GeometryError(
            "evaluate-sheared",
            f"Distances in {case.name} are not measured",
            "its axes are not perpendicular, as in a CT with a tilted gantry",
            "Resample both, or choose --metrics without distances.",
        )


def _found(cases: Sequence[Case], asked: Asked) -> tuple[list[Structure], str]:
    """Every label value there is, and a note where predictions and references have none in common."""
    sides: tuple[set[int], set[int]] = (set(), set())
    for case in cases:
        for side, segmentation in zip(sides, _read(case, asked), strict=True):
            side.update(int(value) for value in np.unique(segmentation.labels) if value != 0)
    values = sides[0] | sides[1]
    if not values:
        raise InputError(
            "evaluate-nothing", "All predictions and references are empty", "", "Name the labels with --labels."
        )
    if len(values) > 512:
        raise InputError(
            "evaluate-many",
            f"There are {len(values)} labels",
            "these may be no label images",
            "Name some with --labels.",
        )
    note = _apart(*sides)
    if not note and len(values) > _MANY:
        note = f"There are {len(values)} label values: an image may have been given in place of labels."
    return [Structure(str(value), (value,)) for value in sorted(values)], note


def _apart(predicted: set[int], referred: set[int]) -> str:
    if not predicted or not referred or predicted & referred:
        return ""
    mine, others = (", ".join(str(value) for value in sorted(side)[:5]) for side in (predicted, referred))
    offer = f"--map {min(referred)}:{min(predicted)} reads one as the other."
    return f"The predictions hold {mine}, the references {others}: no label is in both. {offer}"


def _metrics(arguments: argparse.Namespace) -> list[str]:
    names = [name.strip() for name in arguments.metrics.split(",") if name.strip()]
    for name in names:
        if name not in FORMULAS:
            raise InputError("metrics-name", f"There is no metric {name}", "", f"Choose from: {', '.join(FORMULAS)}.")
    if not names:
        raise InputError("metrics-none", "No metric was named", "", f"Choose from: {', '.join(FORMULAS)}.")
    if "nsd" in names and (arguments.nsd_tol is None or not arguments.nsd_tol >= 0):
        raise InputError(
            "metrics-tolerance",
            "nsd needs a tolerance",
            "what counts as near depends on the structure",
            "Add --nsd-tol.",
        )
    if arguments.bootstrap < 0:
        raise InputError("bootstrap", f"--bootstrap cannot be {arguments.bootstrap}", "", "Give 0 or more draws.")
    return names


def _targets(arguments: argparse.Namespace, per: str, sources: Sequence[Path]) -> dict[str, Path]:
    """Files to write, by suffix."""
    out: Path | None = arguments.out
    if out is None:
        return {}
    if out.suffix.lower() in _TABLE_FILES and not out.is_dir():
        targets = {out.suffix.lower(): out}
    else:
        try:
            out.mkdir(exist_ok=True)
        except OSError as error:
            raise SaveError(
                "target-folder", f"The folder {out.name} cannot be made", error.strerror or "", "Choose another one."
            ) from error
        targets = {".csv": out / f"per_{per}.csv", ".md": out / "table.md", ".json": out / "table.json"}
    outputs.check_targets(list(targets.values()), sources, overwrite=arguments.overwrite)
    return targets


def _heading(per: str) -> str:
    return f"Scores per {per}" + (", each pooled from its cases" if per == "patient" else "")


def _save(table: Table, targets: Mapping[str, Path], per: str) -> None:
    for suffix, path in targets.items():
        text = {
            ".csv": lambda: to_csv(table.rows),
            ".md": lambda: to_markdown(table, _heading(per)),
            ".json": lambda: to_json(table),
        }[suffix]()
        outputs.write_whole(path, text.encode())


def _left_out(prediction: Path, cases: Sequence[Case]) -> list[str]:
    """A note on predictions that nothing was compared with."""
    if not prediction.is_dir():
        return []
    used = {case.prediction for case in cases}
    others = [path.name for path in images_in(prediction) if path not in used]
    if not others:
        return []
    few = ", ".join(others[:3]) + (", ..." if len(others) > 3 else "")
    return [f"{len(others)} prediction(s) have no reference and were left out: {few}."]


def _nowhere(rows: Sequence[Row]) -> list[str]:
    """A note on structures that no file holds: nothing compared with nothing is perfect, and a mistyped label too."""
    held = {row.label for row in rows if row.status != "both empty"}
    absent = [label for label in dict.fromkeys(row.label for row in rows) if label not in held]
    return [f"No file holds {label}: its scores compare nothing with nothing. See --labels." for label in absent]


def _tell(
    table: Table, targets: Mapping[str, Path], arguments: argparse.Namespace, per: str, notes: Sequence[str]
) -> None:
    if arguments.json:
        scores = to_plain(table)["scores"]
        report.write_json(
            {
                "event": "result",
                "per": per,
                "scores": scores,
                "files": [str(p) for p in targets.values()],
                "notes": notes,
            }
        )
        return
    report.say(to_markdown(table, _heading(per)).rstrip("\n"))
    if targets:
        report.say("", f"Saved {', '.join(str(path) for path in targets.values())}.")
    report.say(*(f"Note: {note}" for note in notes))
