"""The page and the picture of the demo: the contour at five moments, on two slices through the click.

The page stands alone: no scripts, nothing loaded from outside, every text escaped.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from src_models.record import Record

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

_SHARES = (0.1, 0.4, 0.75)
"""Of the final volume, for the moments between start and end."""
_WINDOW = (-160.0, 240.0)
"""HU from black to white: level 40, width 400, the usual window of the abdomen."""
_PIXELS_PER_MM = 1.0
_FINE = 2
"""Lines are drawn this much larger and shrunk, for smooth edges."""
CONTOUR_COLOUR = (255, 150, 20)
LABEL_COLOUR = (255, 255, 255)
GAP = 6
CAPTION = 24
_OPPOSITE = {"L": "R", "R": "L", "A": "P", "P": "A", "S": "I", "I": "S"}


@dataclass(frozen=True, eq=False)
class Look:
    """One slice of the image: which axis it cuts, and where."""

    name: str
    axis: int
    index: int
    grey: NDArray[Any]
    spacing: tuple[float, ...]
    letters: Sequence[str]

    def cut(self, array: NDArray[Any]) -> NDArray[Any]:
        """The slice of an array on the grid of the image."""
        return np.asarray(np.take(array, self.index, axis=self.axis))

    @property
    def scale(self) -> tuple[float, float]:
        """Pixels of the picture per row and column of the slice."""
        row, column = (h for axis, h in enumerate(self.spacing) if axis != self.axis)
        return row * _PIXELS_PER_MM, column * _PIXELS_PER_MM

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the picture."""
        rows, columns = self.cut(self.grey).shape
        return round(columns * self.scale[1]), round(rows * self.scale[0])


@dataclass(frozen=True, eq=False)
class Moment:
    """The level set on the slices after a step."""

    step: int
    millilitres: float
    slices: tuple[NDArray[Any], ...]


@dataclass(frozen=True)
class Shown:
    """What the page tells."""

    record: Record
    dice: float
    label_ml: float
    seconds: float
    command: str
    point: str
    moments: Sequence[Moment]


def five_moments(moments: Sequence[Moment]) -> list[Moment]:
    """Start, three moments on the way by volume, and end."""
    end = moments[-1]
    between = [next(m for m in moments if m.millilitres >= share * end.millilitres) for share in _SHARES]
    return [moments[0], *between, end]


def picture(moments: Sequence[Moment], looks: Sequence[Look], label: NDArray[np.bool_]) -> bytes:
    """A PNG: a row for each slice, a column for each moment; the last column has the label as a thin white line."""
    from PIL import Image, ImageDraw

    width = max(look.size[0] for look in looks) + GAP
    height = sum(look.size[1] + GAP for look in looks) + CAPTION
    sheet = Image.new("RGB", (width * len(moments) + GAP, height), (24, 24, 28))
    pen = ImageDraw.Draw(sheet)
    for column, moment in enumerate(moments):
        left, top = GAP + column * width, CAPTION
        pen.text((left, 4), _caption(moment), fill=(235, 235, 235), font=_font(15))
        for look, level_set in zip(looks, moment.slices, strict=True):
            last = column == len(moments) - 1
            sheet.paste(_panel(look, level_set, look.cut(label) if last else None), (left, top))
            top += look.size[1] + GAP
    file = io.BytesIO()
    sheet.save(file, "PNG", optimize=True)
    return file.getvalue()


def page(shown: Shown, png: bytes) -> str:
    """The HTML page."""
    from src_models.levelset.evolution import REASONS

    record, result = shown.record, shown.record.result
    rows = [
        ("Stopped", REASONS[result["stop_reason"]]),
        ("Volume", f"{result['volume_ml']:.0f} ml; the label has {shown.label_ml:.0f} ml"),
        ("Dice against the label", f"{shown.dice:.3f}"),
        ("Steps", f"{result['steps']} in {shown.seconds:.1f} s on the {record.device}, {record.threads} thread(s)"),
        ("Click", f"{shown.point} (z, y, x and radius in mm, as the file stores its axes)"),
        ("Versions", ", ".join(f"{name} {number}" for name, number in record.versions.items())),
    ]
    table = "\n".join(f"<tr><th>{escape(name)}</th><td>{escape(text)}</td></tr>" for name, text in rows)
    steps = "; ".join(_caption(moment) for moment in shown.moments)
    image = base64.b64encode(png).decode("ascii")
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>A level set finds the liver</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #1c1c20; }}
img {{ width: 100%; height: auto; }}
th {{ text-align: left; padding-right: 2rem; vertical-align: top; font-weight: 600; }}
code {{ background: #eeeef2; padding: .15rem .3rem; }}
.use {{ border-left: 4px solid #b35900; padding-left: .8rem; }}
</style>
</head>
<body>
<h1>A level set finds the liver</h1>
<p class="use">{escape(record.research_use)}</p>
<p>One click into the liver of an abdominal CT. The contour (orange) grows where the grey value is that of liver without
contrast agent, is kept smooth, and stops by itself. Above, axial slices; below, coronal ones; the white line on the
last ones is the label that comes with the CT.</p>
<img src="data:image/png;base64,{image}" alt="{escape(f"The contour at five moments: {steps}", quote=True)}">
<table>
{table}
</table>
<p>The label was made by a network, not drawn by a reader, and the smoothing and the lower threshold were chosen on this
very scan: the Dice
shows that the two agree here. It says nothing about accuracy on other images.</p>
<h2>Make it again</h2>
<p>The same mask, bit for bit: <code>lsnet replay liver.lsnet.json</code>. As a command line:</p>
<p><code>{escape(shown.command)}</code></p>
<h2>The image</h2>
<p>CT and label are test files of TotalSegmentator, Apache-2.0 (Wasserthal et al., Radiology: Artificial Intelligence
5(5), e230024, 2023).</p>
</body>
</html>
"""


def _caption(moment: Moment) -> str:
    return f"step {moment.step}, {moment.millilitres:.0f} ml"


def _font(size: int) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size)


def _panel(look: Look, level_set: NDArray[Any], label: NDArray[np.bool_] | None) -> Picture:
    from PIL import Image, ImageDraw

    low, high = _WINDOW
    grey = np.clip((look.cut(look.grey).astype(np.float64) - low) / (high - low), 0, 1)
    width, height = look.size
    fine = (width * _FINE, height * _FINE)
    panel = Image.fromarray(np.rint(grey * 255).astype(np.uint8)).resize(fine, Image.Resampling.BICUBIC).convert("RGB")
    pen = ImageDraw.Draw(panel)
    if label is not None:
        _draw_outline(pen, label - 0.5, look, LABEL_COLOUR, 1)
    _draw_outline(pen, level_set, look, CONTOUR_COLOUR, 2)
    panel = panel.resize((width, height), Image.Resampling.LANCZOS)
    _draw_letters(ImageDraw.Draw(panel), look)
    return panel


def _draw_outline(pen: Any, values: NDArray[Any], look: Look, colour: tuple[int, int, int], width: int) -> None:
    """The lines where the values cross 0."""
    from skimage.measure import find_contours

    row, column = look.scale
    # closed at the border of the image, where a contour would end without a frame of outside
    framed = np.pad(np.asarray(values, np.float64), 1, constant_values=min(float(values.min()), -0.5))
    for line in find_contours(framed, 0.0):  # type: ignore[no-untyped-call]
        points = [((x - 0.5) * column * _FINE, (y - 0.5) * row * _FINE) for y, x in line]
        pen.line(points, fill=colour, width=width * _FINE, joint="curve")


def _draw_letters(pen: Any, look: Look) -> None:
    """The sides of the patient at the edges, where they are known."""
    if "?" in look.letters:
        return
    down, right = (letter for axis, letter in enumerate(look.letters) if axis != look.axis)
    width, height = look.size
    places: dict[str, tuple[float, float, str]] = {
        "mt": (width / 2, 3, _OPPOSITE[down]),
        "mb": (width / 2, height - 3, down),
    }
    places |= {"lm": (4, height / 2, _OPPOSITE[right]), "rm": (width - 4, height / 2, right)}
    for anchor, (x, y, letter) in places.items():
        pen.text((x, y), letter, fill=(200, 200, 200), font=_font(13), anchor=anchor)
