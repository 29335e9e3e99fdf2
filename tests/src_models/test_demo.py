"""`lsnet demo`: one run of the main job on the real CT, and the page and picture that show it."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src_models.cli import demo, demo_page, main
from src_models.cli.demo_page import Look, Moment, Shown
from src_models.errors import FileError
from src_models.files import read_segmentation, read_volume
from src_models.geometry import same_grid
from src_models.record import Record
from src_models.sample_data import sample_file, sample_folder

ORANGE, WHITE = demo_page.CONTOUR_COLOUR, demo_page.LABEL_COLOUR


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one run, made the way a newcomer makes it."""
    folder = tmp_path_factory.mktemp("demo") / "new" / "results"
    assert main(["demo", "--out", str(folder), "--no-viewer"]) == 0
    return folder


def test_the_contour_finds_the_liver_and_stops_by_itself(results: Path) -> None:
    record = Record.read(results / "liver.lsnet.json")
    assert record.result["stop_reason"] == "converged"
    found, label = (
        read_segmentation(results / "liver.nii.gz"),
        read_segmentation(sample_file("liver_ct/liver_ct_liver.nii.gz")),
    )
    assert same_grid(found.grid, label.grid)
    a, b = found.labels != 0, label.labels != 0
    assert 2 * (a & b).sum() / (a.sum() + b.sum()) > 0.92
    assert sorted(path.name for path in results.iterdir()) == [
        "contour.png",
        "index.html",
        "liver.lsnet.json",
        "liver.nii.gz",
    ]


def test_the_page_stands_alone_and_tells_what_was_done(results: Path) -> None:
    text = (results / "index.html").read_text(encoding="utf-8")
    record = Record.read(results / "liver.lsnet.json")
    assert not re.search(r"<script|https?://|src=\"(?!data:)|<link|url\(", text)
    assert "Research use only. Not a medical device; not for diagnosis or treatment." in text
    assert f"{record.result['volume_ml']:.0f} ml" in text
    assert "made by a network, not drawn by a reader" in text
    assert f"--point {demo.POINT}" in text
    found = read_segmentation(results / "liver.nii.gz").labels != 0
    label = read_segmentation(sample_file("liver_ct/liver_ct_liver.nii.gz")).labels != 0
    assert f"<td>{2 * (found & label).sum() / (found.sum() + label.sum()):.3f}</td>" in text
    assert str(results) not in text
    assert str(sample_folder()) not in text
    embedded = re.search(r'src="data:image/png;base64,([^"]+)"', text)
    assert embedded is not None
    assert base64.b64decode(embedded.group(1)) == (results / "contour.png").read_bytes()


def test_the_picture_shows_five_moments_of_a_growing_contour(results: Path) -> None:
    picture = np.asarray(Image.open(results / "contour.png")).astype(int)
    columns = np.array_split(picture[:, demo_page.GAP :], 5, axis=1)
    orange = [(np.abs(column - ORANGE).sum(axis=-1) < 60) for column in columns]
    heights = [np.ptp(np.argwhere(mask)[:, 0]) for mask in orange]
    widths = [np.ptp(np.argwhere(mask)[:, 1]) for mask in orange]
    assert all(mask.sum() > 40 for mask in orange)
    assert widths == sorted(widths)
    assert widths[-1] > 4 * widths[0]
    assert heights[-1] >= heights[0]


def test_the_command_line_on_the_page_is_the_run(results: Path) -> None:
    import argparse
    from html import unescape

    from src_models.cli import evolve, options
    from src_models.levelset import LevelSetParameters

    text = (results / "index.html").read_text(encoding="utf-8")
    command = re.search(r"<code>lsnet (evolve [^<]+)</code>", text)
    assert command is not None
    parser = argparse.ArgumentParser()
    evolve.add_arguments(parser)
    arguments = parser.parse_args(options.join_negative_values(unescape(command.group(1)).split()[1:]))
    assert arguments.point == [demo.POINT]
    record = Record.read(results / "liver.lsnet.json")
    stored = LevelSetParameters(**record.parameters)
    assert evolve.chosen_parameters(arguments) == stored.model_copy(update={"value_range": None})


# -- the picture and the page by themselves


def _looks(letters: tuple[str, str, str] = ("I", "P", "L")) -> tuple[Look, Look]:
    grey = np.full((20, 30, 40), -200.0)
    spacing = (3.0, 2.0, 1.0)
    return Look("axial", 0, 10, grey, spacing, letters), Look("coronal", 1, 15, grey, spacing, letters)


def _ball(radius: float) -> np.ndarray:
    z, y, x = np.meshgrid(np.arange(20) * 3.0, np.arange(30) * 2.0, np.arange(40) * 1.0, indexing="ij")
    return np.asarray(radius - np.sqrt((z - 30) ** 2 + (y - 30) ** 2 + (x - 20) ** 2))


def test_a_contour_is_drawn_where_it_is_in_mm() -> None:
    looks = _looks()
    moments = [Moment(k, 1.0, tuple(look.cut(_ball(12.0)) for look in looks)) for k in range(5)]
    png = demo_page.picture(moments, looks, np.zeros((20, 30, 40), bool))
    picture = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)
    assert looks[0].size == (40, 60)
    top = demo_page.CAPTION
    axial = picture[top : top + 60, demo_page.GAP : demo_page.GAP + 40]
    where = np.argwhere(np.abs(axial - ORANGE).sum(axis=-1) < 90)
    # voxel 15 of 2 mm has its centre at pixel 31, voxel 20 of 1 mm at pixel 20.5; a pixel's centre lies half in
    np.testing.assert_allclose((where.min(axis=0) + where.max(axis=0)) / 2, [30.5, 20], atol=0.75)
    np.testing.assert_allclose(np.ptp(where, axis=0), [24, 24], atol=2)


def test_the_label_is_on_the_last_moment_alone() -> None:
    looks = _looks(("?", "?", "?"))
    moments = [Moment(k, 1.0, tuple(look.cut(_ball(6.0)) for look in looks)) for k in range(5)]
    png = demo_page.picture(moments, looks, _ball(14.0) > 0)
    picture = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)[demo_page.CAPTION :]
    width = looks[0].size[0] + demo_page.GAP
    white = [(picture[5:55, demo_page.GAP + k * width : (k + 1) * width].min(axis=-1) > 150).sum() for k in range(5)]
    assert white[:4] == [0] * 4
    assert white[4] > 30


def test_unknown_sides_get_no_letters() -> None:
    moments = [Moment(0, 1.0, tuple(look.cut(_ball(6.0)) for look in _looks()))]
    empty = np.zeros((20, 30, 40), bool)
    known = demo_page.picture(moments, _looks(), empty)
    unknown = demo_page.picture(moments, _looks(("?", "?", "?")), empty)
    grey = [
        (
            (p := np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)[demo_page.CAPTION :]).max(axis=-1)
            - p.min(axis=-1)
            < 20
        )
        & (p.max(axis=-1) > 120)
        for png in (known, unknown)
    ]
    assert grey[0].sum() > 20
    assert grey[1].sum() == 0


def test_the_five_moments_are_start_end_and_three_on_the_way() -> None:
    volumes = [1, 5, 9, 11, 30, 45, 60, 80, 100]
    moments = [Moment(step, float(ml), ()) for step, ml in enumerate(volumes)]
    assert [moment.step for moment in demo_page.five_moments(moments)] == [0, 3, 5, 7, 8]
    assert [moment.step for moment in demo_page.five_moments(moments[:1])] == [0] * 5


def test_text_on_the_page_is_escaped() -> None:
    nasty = "<script>alert('x')</script>"
    record = Record(
        task="evolve",
        status="complete",
        parameters={},
        result={"stop_reason": "steps", "steps": 3, "volume_ml": 1.0},
        versions={nasty: nasty},
    )
    text = demo_page.page(Shown(record, 0.5, 1.0, 1.0, nasty, nasty, [Moment(0, 1.0, ())]), b"png")
    assert "<script" not in text
    assert text.count("&lt;script&gt;") == 4


# -- around it


@pytest.mark.parametrize(
    ("environment", "platform", "expected"),
    [
        ({"DISPLAY": ":0"}, "linux", True),
        ({"WAYLAND_DISPLAY": "wayland-0"}, "linux", True),
        ({}, "linux", False),
        ({"DISPLAY": ":0", "CI": "true"}, "linux", False),
        ({}, "darwin", True),
        ({"CI": "1"}, "win32", False),
    ],
)
def test_a_viewer_needs_a_display_and_somebody_to_look(
    environment: dict[str, str], platform: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "CI"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.platform", platform)
    assert demo.display_there() is expected


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("x")
    assert main(["demo", "--out", str(tmp_path / "file"), "--no-viewer"]) == 2
    assert capsys.readouterr().err.startswith("lsnet: The folder file cannot be made: ")


def test_a_sample_that_is_missing_is_told() -> None:
    with pytest.raises(FileError, match="this installation is not complete"):
        sample_file("liver_ct/none.nii.gz")
    assert read_volume(sample_file("liver_ct/liver_ct.nii.gz")).array.shape == (112, 101, 122)
