"""Figures of change, and names beside panels: nothing overlaps, nothing is lost, equal content gives equal bytes."""

from __future__ import annotations

import csv
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from matplotlib.text import Text

from src_models.errors import FileError
from src_models.kernels import KernelAnalysisParameters, analyse
from src_models.kernels.drift import compare, drift, json_lines
from src_models.kernels.drift_curves import curves_section, log_of, read_curves
from src_models.kernels.drift_figures import comparison_figure, curves_figure, draw_comparison, draw_curves
from src_models.kernels.figures import components, spread_out
from src_models.networks.lsn import LevelSetNetwork, LSNOptions
from src_models.progress import finish
from tests.src_models.kernels.networks import seeded, small

QUICK = KernelAnalysisParameters(n=16, null_draws=100, cluster_draws=0, threads=1)


@pytest.mark.parametrize("count", [1, 2, 6, 17])
def test_names_beside_a_panel_keep_their_distance_and_their_order(count: int) -> None:
    gap = min(0.075, 1 / count)
    random = np.random.default_rng(count)
    for wanted in (random.uniform(0, 1, count), np.full(count, 0.9), random.uniform(-3, 4, count)):
        places = spread_out(wanted, gap)
        assert places.min() >= -1e-12
        assert places.max() <= 1 + 1e-12
        order = np.argsort(wanted, kind="stable")
        if count > 1:
            assert np.diff(places[order]).min() >= gap - 1e-12
    apart = np.linspace(0, 1, count) if count > 1 else np.array([0.4])
    assert spread_out(apart, min(gap, 1 / count)) == pytest.approx(apart), "what has room stays where it is"


def test_every_known_kernel_is_named_once_in_each_panel_without_overlap() -> None:
    report = finish(analyse(small(), KernelAnalysisParameters(**(QUICK.model_dump() | {"preset": "extended"}))))
    figure = components(report)
    figure.draw_without_rendering()
    labels = report.dictionaries[3, 3].labels
    for ax in figure.axes:
        assert len(ax.texts) == len(labels)
        heights = sorted((ax.transAxes.transform(text.xyann)[1], Text.get_window_extent(text)) for text in ax.texts)
        for (below, box), (above, other) in pairwise(heights):
            # boxes of words hold a little room above and below the letters
            assert above - below >= 0.75 * (box.height + other.height) / 2
        wide = max(box.width for _, box in heights)
        assert ax.transAxes.transform((1.04, 0))[0] + wide <= figure.bbox.x1, "nothing is cut off"


def _log(folder: Path) -> tuple[Path, list[dict[str, float]]]:
    """A log as a training writes it, from a network whose kernels are moved."""
    network = LevelSetNetwork(1, 1, 2, LSNOptions(steps=(1, 2), shared=False, start="ones", head="sigmoid"))
    rows = []
    for epoch in range(1, 4):
        rows.append({"epoch": epoch, "loss": 1 / epoch} | network.watched())
        seeded(network, epoch)
    path = folder / "log.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with (folder / "log.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path, rows


def test_curves_are_what_the_log_of_a_training_says(tmp_path: Path) -> None:
    path, rows = _log(tmp_path)
    found, other = read_curves(path), read_curves(tmp_path / "log.csv")
    assert found.families == other.families
    names = [name for name in rows[0] if name.startswith("drift_")]
    assert len(found) == len(names)
    for name in names:
        family, number = name.removeprefix("drift_").rsplit("_", 1)
        assert found.families[family][int(number)] == tuple((row["epoch"], pytest.approx(row[name])) for row in rows)
    assert log_of(str(tmp_path)) == path
    assert log_of(str(tmp_path / "nothing")) is None
    figure = curves_figure(found)
    assert len(figure.axes) == len(found.families)
    assert sum(len(ax.lines) for ax in figure.axes) == len(found)
    assert draw_curves(found) == draw_curves(other)
    assert "Drift in training" in curves_section(found)


def test_lines_of_single_kernels_are_read_and_a_repeated_epoch_counts_once(tmp_path: Path) -> None:
    start = np.random.default_rng(0).normal(size=(2, 9))
    path = tmp_path / "drift.jsonl"
    moved = [drift(scale * start, start, (3, 3)) for scale in (1.0, 1.5, 3.0)]
    path.write_text(
        "".join(json_lines("rho", epoch, each) for epoch, each in ((1, moved[2]), (0, moved[0]), (1, moved[1])))
    )
    found = read_curves(path)
    assert found.families == {"rho": dict.fromkeys(range(2), ((0, 0), (1, 0.5)))}


def test_what_is_no_log_is_told(tmp_path: Path) -> None:
    for name, content, words in (
        ("a.jsonl", "no json", "not the log"),
        ("b.jsonl", '{"epoch": 1, "loss": 2}\n', "says nothing of how kernels moved"),
        ("c.jsonl", '{"epoch": "x", "drift_rho_0": 1}\n', "not the log"),
        ("d.jsonl", "[1, 2]\n", "says nothing"),
        ("e.csv", "a,b\n1,2\n", "says nothing"),
    ):
        path = tmp_path / name
        path.write_text(content)
        with pytest.raises(FileError, match=words):
            read_curves(path)
    with pytest.raises(FileError):
        read_curves(tmp_path / "missing.jsonl")


def test_two_checkpoints_are_drawn_layer_by_layer() -> None:
    one, other = (finish(analyse(seeded(small(), k), QUICK)) for k in range(2))
    found = compare(one, other)
    figure = comparison_figure(found)
    assert len(figure.axes) == 3
    medians = [float(ax.collections[0].get_offsets()[0, 1]) for ax in figure.axes[:2]]
    assert medians == pytest.approx([np.median(found.drifts[0].relative), np.median(found.drifts[0].turn)])
    assert [bar.get_height() for bar in figure.axes[2].patches[:2]] == pytest.approx(
        [np.mean(each.order != each.start_order) for each in found.drifts]
    )
    assert draw_comparison(found) == draw_comparison(compare(one, other))
    assert draw_comparison(compare(one, one)), "a network against itself has no band"
