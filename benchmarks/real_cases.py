"""Five real structures from a few clicks: ours beside SimpleITK and scikit-image, each with its best settings.

Writes ``docs/real_cases.md`` and its pictures; every figure there comes from here. The data sets that are not shipped
are read from the folder that is named; cases whose files are not there are left out, and the page says so.

    python benchmarks/real_cases.py [--data FOLDER] [--case NAME ...]
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.peers.searches import (  # noqa: E402
    Best,
    OwnStop,
    scikit_image_tries,
    search,
    search_ours,
    simpleitk_tries,
    timed_run,
    watched_run,
)
from tests.real_cases import CASES, DATA_VARIABLE, RealCase  # noqa: E402

PAGE = ROOT / "docs" / "real_cases.md"
PICTURES = ROOT / "docs" / "images"
HEAD = (
    "case",
    "voxels",
    "mm",
    "ours, first setting",
    "s",
    "clicks",
    "stopped by",
    "ours, best setting",
    "s",
    "clicks",
    "stopped by",
    "best moment: ours",
    "SimpleITK",
    "s",
    "scikit-image",
    "s",
)


@dataclass(frozen=True, eq=False)
class Row:
    """Everything found out about one case."""

    case: RealCase
    first: OwnStop
    best: OwnStop
    best_moment: float
    simpleitk: Best
    scikit_image: Best

    def cells(self) -> list[str]:
        """As the table shows it."""
        case = self.case
        spacing = " x ".join(f"{h:.2g}" for h in case.spacing)
        cells = [case.title, " x ".join(map(str, case.array.shape)), "px" if case.array.ndim == 2 else spacing]
        for run in (self.first, self.best):
            cells += [f"{run.dice:.3f}", f"{run.seconds:.2f}", str(case.clicks(run.parameters)), run.stop_reason]
        cells.append(f"{self.best_moment:.3f}")
        for peer in (self.simpleitk, self.scikit_image):
            cells += [f"{peer.dice:.3f}", f"{peer.seconds:.2f}"]
        return cells


def find_out(case: RealCase) -> Row:
    """Run every program on one case."""
    first = watched_run(case, case.parameters())
    best, best_moment = search_ours(case)
    row = Row(
        case=case,
        first=timed_run(case, first.parameters, first.best_moment),
        best=best,
        best_moment=best_moment,
        simpleitk=search(case, simpleitk_tries(case)),
        scikit_image=search(case, scikit_image_tries(case)),
    )
    print(*row.cells(), sep="  ", flush=True)
    return row


def draw(row: Row, path: Path) -> None:
    """The slice with the reference and the contours of the first and the best setting."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    case = row.case
    at = ... if case.shown is None else case.shown
    grey = case.array[at]
    lowest, highest = np.percentile(grey, (2, 99))
    if case.lower is not None and case.upper is not None:
        reach = case.upper - case.lower
        lowest, highest = max(lowest, case.lower - 1.5 * reach), min(highest, case.upper + 1.5 * reach)
    height, width = grey.shape
    figure, axes = plt.subplots(1, 2, figsize=(7.2, 3.6 * height / width + 0.5), layout="constrained")
    named = ((row.first, "first setting"), (row.best, "best setting"))
    for axis, (run, name) in zip(axes, named, strict=True):
        axis.imshow(grey, cmap="gray", vmin=lowest, vmax=highest, interpolation="nearest")
        for mask, colour in ((case.reference_mask, "#ffb000"), (run.mask, "#00c8ff")):
            if mask[at].any() and not mask[at].all():
                axis.contour(mask[at].astype(float), [0.5], colors=[colour], linewidths=1.4)
        axis.set_title(f"{name}: Dice {run.dice:.3f}", fontsize=9)
        axis.set_axis_off()
    figure.savefig(path, dpi=90, bbox_inches="tight", pad_inches=0.03)
    plt.close(figure)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows as Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def section(row: Row) -> str:
    """What belongs to one case: how to repeat it, who won how, and the picture."""
    case = row.case
    picture = PICTURES / f"case_{case.name}.png"
    lines = [
        f"## {case.title[0].upper()}{case.title[1:]}",
        "",
        f"{case.source}; reference {case.reference}.",
        clicks_in_words(case),
        "",
        "First setting, then the best one:",
        "",
        "```sh",
        case.command(row.first.parameters),
        case.command(row.best.parameters),
        "```",
        "",
        reading(row),
        "",
        f"- SimpleITK, best: {row.simpleitk.setting}",
        f"- scikit-image, best: {row.scikit_image.setting}",
        "",
    ]
    if case.may_be_shown:
        draw(row, picture)
        lines += [f"![{case.title}: reference orange, ours blue](images/{picture.name})", ""]
    return "\n".join(lines)


def reading(row: Row) -> str:
    """Who is closer to the reference, and whether the stop or the way is the reason."""
    name, peer = max((("SimpleITK", row.simpleitk.dice), ("scikit-image", row.scikit_image.dice)), key=lambda x: x[1])
    stopped, moment = (beside(x - peer) for x in (row.best.dice, row.best_moment))
    return (
        f"The closest of the others is {name} with {peer:.3f}. "
        f"Where ours stops by itself it is {stopped}; at its best moment {moment}."
    )


def beside(difference: float) -> str:
    """How far above or below, in words."""
    if abs(difference) < 0.0005:
        return "level with it"
    return f"{abs(difference):.3f} {'above' if difference > 0 else 'below'}"


def clicks_in_words(case: RealCase) -> str:
    """How the clicks add up."""
    limits = [
        f"{name} {value:g}" for name, value in (("lower", case.lower), ("upper", case.upper)) if value is not None
    ]
    points = "1 point" if len(case.points) == 1 else f"{len(case.points)} points"
    thresholds = f"{len(limits)} for the threshold{'s' if len(limits) > 1 else ''} ({', '.join(limits)})"
    return f"Clicks: {points}, 2 for the box, {thresholds}, 1 for the edge ({case.edge:g} per mm) where it is used."


def page(rows: Sequence[Row], missing: Sequence[str]) -> str:
    """All of it."""
    packages = ("SimpleITK", "scikit-image", "torch", "numba")
    versions = ", ".join(f"{package} {metadata.version(package)}" for package in packages)
    left_out = f"\nLeft out, because the files are not there: {', '.join(missing)}.\n" if missing else ""
    return f"""# Five real cases

Written by `python benchmarks/real_cases.py`; do not edit. {versions}, Python {platform.python_version()},
{platform.machine()}, {os.cpu_count()} cores. Dice with the reference, inside the box; seconds of one run, speed image
included. Where the pixel size is unknown a pixel counts as 1 mm. Research use only.
{left_out}
{table(HEAD, [row.cells() for row in rows])}
**What is compared.** Every program gets the same clicks: the same balls to start from, the same box, the same
thresholds and the same edge strength, and 12 settings per case, of which the best is taken by looking at the reference:

- *ours*, by its own stop: region speed with smoothing 0.2, 1, 3 and sharpness 1, 3, and with smoothing 1 and pull to
  edges 1; edge speed with blur 1 and 2 mm, the clicked edge and half of it, smoothing 1; edge speed with blur 2 mm,
  smoothing 0.2 and no pull to edges at the clicked edge.
- *SimpleITK*: ThresholdSegmentation on the image and on the image blurred by 1 mm with curvature 0.05, 0.2, 3 (times
  half the width of the thresholds, which is its largest speed); GeodesicActiveContour (advection 2, curvature 1) on our
  edge image with blur 1 and 2 mm, the clicked edge and half of it; ShapeDetection on the edge image of 1 mm with
  curvature 0.2, 1.
- *scikit-image*: morphological geodesic active contour, balloon 1, on its `inverse_gaussian_gradient` (alpha 100, the
  image cut to a window around the thresholds and scaled to 0 to 1) and on our edge image, with blur 1 and smoothing 1
  and with blur 2 and smoothing 3, threshold auto and 0.5; morphological Chan-Vese on our region speed, blur 0, 1,
  smoothing 1, 3.

**Two kinds of end.** The others have no rule to stop by: they are given the iteration at which they are closest to the
reference, which a user could only guess. Ours is shown where it stopped by itself; *best moment* is what the best of
our runs had on its way, so ours with the same gift. *First setting* is the picked thresholds and nothing else: no
search, no look at the reference.

**Clicks.** A point is one click, a box two, each threshold one, the strength of the edge one. The others need as many
as ours with the same kind of speed. The clicks were placed in known structures; they are the same for all, and what
another person's clicks would give is not told. Seconds are those of the winner alone, run once more, compiled code
warm.

`DATA` below is the folder of the data sets that are not shipped ({DATA_VARIABLE} or `--data`).

{chr(10).join(section(row) for row in rows)}"""


def main() -> None:
    """Read the arguments, run, write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, help="The folder of the data sets. Default: ../shared/data.")
    parser.add_argument("--case", action="append", choices=[case.name for case in CASES], help="Only this one.")
    arguments = parser.parse_args()
    if arguments.data is not None:
        os.environ[DATA_VARIABLE] = str(arguments.data.resolve())
    wanted = [case for case in CASES if not arguments.case or case.name in arguments.case]
    rows = [find_out(case) for case in wanted if case.is_there]
    missing = [case.title for case in wanted if not case.is_there]
    if not rows:
        sys.exit("No case is there. Name the folder of the data sets with --data.")
    PAGE.write_text(page(rows, missing), encoding="utf-8")


if __name__ == "__main__":
    main()
