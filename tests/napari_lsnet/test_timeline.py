"""The timeline in a real viewer: scrub, go on from an earlier step, compare, accept what is on show."""

from __future__ import annotations

import numpy as np
import pytest

from napari_lsnet.jobs import JobState
from napari_lsnet.levelset.difference import BOTH_EDGE, BOTH_INSIDE, ONLY_A, ONLY_B_GAP, ONLY_B_LINE, painted
from napari_lsnet.levelset.panel import LevelSetPanel
from napari_lsnet.roles import is_live
from src_models.levelset.evolution import replay
from src_models.progress import finish


def ball(shape=(24, 28, 26), centre=(12, 14, 13), radius=9) -> np.ndarray:
    """A bright ball on dark ground."""
    axes = np.meshgrid(*[np.arange(n) for n in shape], indexing="ij", sparse=True)
    distance = np.sqrt(sum((a - c) ** 2 for a, c in zip(axes, centre, strict=True)))
    return (100 / (1 + np.exp(2 * (distance - radius)))).astype(np.float32)


@pytest.fixture
def panel(npe2pm, make_napari_viewer, qtbot, tmp_path, monkeypatch):
    """A viewer with a ball, a seed inside it, and the panel."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    viewer = make_napari_viewer()
    viewer.add_image(ball(), name="ball", scale=(3, 1, 1), units="mm")
    viewer.dims.set_point(0, 36)
    panel = LevelSetPanel(viewer)
    viewer.window.add_dock_widget(panel, name="Level set")
    panel.viewer = viewer
    panel.inputs.start.draw_points()
    panel.inputs.start.combo.layer.data = [[12, 14, 13]]
    panel.inputs.start.radius.setValue(4)
    set_parameters(panel, speed="region", lower=50.0, engine="reference", auto_stop=False, steps=25)
    yield panel
    panel.level_set_run.cancel()
    rest(panel, qtbot)
    qtbot.waitUntil(lambda: not panel.level_set_run.is_busy)


def set_parameters(panel, **values) -> None:
    panel.form.set_value(panel.form.value().model_copy(update=values))


def bar(panel):
    return panel.controls.timeline


def rest(panel, qtbot):
    """Until the step on show is exact."""
    qtbot.waitUntil(lambda: not panel.scrubbing.is_busy, timeout=20_000)


def run_to_end(panel, qtbot):
    panel.run()
    qtbot.waitUntil(lambda: panel.level_set_run.state.ended, timeout=60_000)
    return panel.level_set_run.result


def go_to(panel, qtbot, step):
    bar(panel).slider.setValue(step)
    rest(panel, qtbot)


def timeline(panel):
    return panel.level_set_run.timeline


def shown(panel) -> np.ndarray:
    return np.array(panel.viewer.layers["Level set (live)"].data)


def exact(panel, step, branch=None) -> np.ndarray:
    u = timeline(panel).level_set(step, branch)
    return panel.level_set_run.picture_at(u, step).values


def test_there_is_no_slider_before_the_first_run_and_it_stays_after_accept(panel, qtbot):
    assert not bar(panel).isVisibleTo(panel)
    run_to_end(panel, qtbot)
    assert bar(panel).isVisibleTo(panel)
    assert bar(panel).slider.maximum() == bar(panel).slider.value() == 25
    assert not bar(panel).branches.isVisibleTo(panel)
    panel.accept()
    assert bar(panel).isVisibleTo(panel)
    assert bar(panel).slider.value() == 25


def test_scrubbing_shows_every_step_exactly_once_the_handle_rests(panel, qtbot):
    run_to_end(panel, qtbot)
    end = shown(panel)
    for step in (0, 11, 3, 24):
        go_to(panel, qtbot, step)
        np.testing.assert_array_equal(shown(panel), exact(panel, step))
        assert bar(panel).where.text().startswith(f"Step {step}: ")
        assert panel.controls.plot.place == timeline(panel).current.moment(step).time
    go_to(panel, qtbot, 25)
    np.testing.assert_array_equal(shown(panel), end)
    assert not panel.scrubbing.is_away


def test_a_picture_is_there_at_once_while_the_handle_moves(panel, qtbot):
    run_to_end(panel, qtbot)
    near = timeline(panel).nearest(11)
    bar(panel).slider.setValue(11)
    np.testing.assert_array_equal(shown(panel), exact(panel, near.iteration))


def test_go_on_from_here_makes_a_branch_that_is_the_run_with_the_change_sent(panel, qtbot):
    run_to_end(panel, qtbot)
    go_to(panel, qtbot, 8)
    assert panel.controls.run_button.text() == "Go on from here"
    set_parameters(panel, curvature=0.9, steps=10)
    panel.controls.run_button.click()
    qtbot.waitUntil(lambda: panel.level_set_run.state is JobState.DONE, timeout=60_000)
    result = panel.level_set_run.result
    assert (result.iteration, result.stop_reason) == (18, "steps")
    assert [b.at for b in timeline(panel).branches] == [0, 8]
    assert bar(panel).branches.isVisibleTo(panel)
    assert bar(panel).branches.currentIndex() == 1
    assert bar(panel).slider.maximum() == 18
    np.testing.assert_array_equal(shown(panel), exact(panel, 18))
    times = panel.controls.size_curve.x
    assert times == sorted(times)
    assert len(times) == 19
    (change,) = result.record.changes
    assert (change.step, change.parameters["curvature"]) == (8, 0.9)
    again = finish(replay(result.record, ball()))
    assert again.level_set.tobytes() == result.level_set.tobytes()


def test_continue_at_the_end_stays_on_its_branch(panel, qtbot):
    run_to_end(panel, qtbot)
    assert panel.controls.run_button.text() == "Continue"
    panel.run()
    qtbot.waitUntil(lambda: panel.level_set_run.state is JobState.DONE, timeout=60_000)
    assert panel.level_set_run.result.iteration == 50
    assert len(timeline(panel).branches) == 1
    assert bar(panel).slider.maximum() == 50
    go_to(panel, qtbot, 12)
    np.testing.assert_array_equal(shown(panel), exact(panel, 12))


def test_scrubbing_pauses_a_run_and_the_end_resumes_it(panel, qtbot):
    panel.step(6)
    qtbot.waitUntil(lambda: panel.level_set_run.state is JobState.PAUSED, timeout=20_000)
    go_to(panel, qtbot, 2)
    np.testing.assert_array_equal(shown(panel), exact(panel, 2))
    assert panel.controls.run_button.text() == "Go on from here"
    go_to(panel, qtbot, 6)
    assert panel.controls.run_button.text() == "Resume"
    panel.run()
    qtbot.waitUntil(lambda: panel.level_set_run.state is JobState.DONE, timeout=60_000)
    assert len(timeline(panel).branches) == 1
    np.testing.assert_array_equal(shown(panel), exact(panel, 25))


def test_a_running_run_rests_when_the_handle_is_moved(panel, qtbot):
    set_parameters(panel, steps=2000)
    panel.run()
    qtbot.waitUntil(lambda: bar(panel).slider.maximum() > 5, timeout=20_000)
    bar(panel).slider.setValue(2)
    qtbot.waitUntil(lambda: panel.level_set_run.state is JobState.PAUSED, timeout=20_000)
    rest(panel, qtbot)
    np.testing.assert_array_equal(shown(panel), exact(panel, 2))


def test_going_on_from_a_paused_run_ends_it_and_begins_a_branch(panel, qtbot):
    panel.step(9)
    qtbot.waitUntil(lambda: panel.level_set_run.state is JobState.PAUSED, timeout=20_000)
    go_to(panel, qtbot, 4)
    panel.step(3)
    qtbot.waitUntil(lambda: panel.level_set_run.state is JobState.PAUSED, timeout=20_000)
    assert [(b.at, b.last) for b in timeline(panel).branches] == [(0, 9), (4, 7)]
    assert bar(panel).slider.value() == 7
    np.testing.assert_array_equal(shown(panel), exact(panel, 7))


def test_a_branch_is_chosen_and_shown_with_its_curve(panel, qtbot):
    run_to_end(panel, qtbot)
    go_to(panel, qtbot, 8)
    set_parameters(panel, curvature=0.9, steps=10)
    panel.run()
    qtbot.waitUntil(lambda: panel.level_set_run.state is JobState.DONE, timeout=60_000)
    bar(panel).branches.setCurrentIndex(0)
    bar(panel).branches.activated.emit(0)
    assert bar(panel).slider.maximum() == bar(panel).slider.value() == 25
    rest(panel, qtbot)
    first = timeline(panel).branches[0]
    np.testing.assert_array_equal(shown(panel), exact(panel, 25, first))
    assert panel.controls.size_curve.x == [m.time for m in first.moments]
    assert bar(panel).slider.maximum() == 25


@pytest.mark.parametrize("paused", [False, True])
def test_accept_takes_the_step_on_show_with_a_record_of_its_own(panel, qtbot, paused):
    if paused:
        panel.step(14)
        qtbot.waitUntil(lambda: panel.level_set_run.state is JobState.PAUSED, timeout=20_000)
    else:
        run_to_end(panel, qtbot)
    go_to(panel, qtbot, 7)
    u = timeline(panel).level_set(7).copy()
    panel.accept()
    qtbot.waitUntil(lambda: "Level set" in panel.viewer.layers, timeout=20_000)
    labels = panel.viewer.layers["Level set"]
    np.testing.assert_array_equal(labels.data == 1, u > 0)
    record = panel.kept.result.record
    assert labels.metadata["lsnet"]["record"]["result"]["steps"] == 7
    assert finish(replay(record, ball())).level_set.tobytes() == u.tobytes()


def accept(panel, qtbot):
    """Accept what is on show, and wait until it is written or refused."""
    panel.controls.tell("")
    panel.controls.accept_button.click()
    qtbot.waitUntil(lambda: panel.controls.status.text() != "", timeout=20_000)
    rest(panel, qtbot)


def test_after_accept_another_step_is_shown_and_accepted_and_gone_on_from(panel, qtbot):
    run_to_end(panel, qtbot)
    live = panel.viewer.layers["Level set (live)"]
    go_to(panel, qtbot, 7)
    accept(panel, qtbot)
    labels = panel.viewer.layers["Level set"]
    assert not live.visible
    go_to(panel, qtbot, 14)
    assert live.visible
    assert bar(panel).where.text().startswith("Step 14: ")
    np.testing.assert_array_equal(shown(panel), exact(panel, 14))
    accept(panel, qtbot)
    np.testing.assert_array_equal(labels.data == 1, timeline(panel).level_set(14) > 0)
    before, record = labels.data.copy(), labels.metadata["lsnet"]["record"]
    assert record["result"]["steps"] == 14
    go_to(panel, qtbot, 3)
    accept(panel, qtbot)
    assert panel.controls.status.text().startswith("Nothing was written: ")
    np.testing.assert_array_equal(labels.data, before)
    assert labels.metadata["lsnet"]["record"] == record
    assert live.visible
    set_parameters(panel, curvature=0.9, steps=5)
    panel.controls.run_button.click()
    qtbot.waitUntil(lambda: panel.level_set_run.state is JobState.DONE, timeout=60_000)
    assert [(b.at, b.last) for b in timeline(panel).branches] == [(0, 25), (3, 8)]
    np.testing.assert_array_equal(shown(panel), exact(panel, 8))


@pytest.mark.parametrize("step", [9, 25])
def test_undo_leaves_contour_and_timeline_as_they_were(panel, qtbot, step):
    run_to_end(panel, qtbot)
    live = panel.viewer.layers["Level set (live)"]
    go_to(panel, qtbot, step)
    seen, text = shown(panel), panel.controls.run_button.text()
    accept(panel, qtbot)
    assert not live.visible
    panel.controls.undo_button.click()
    assert "Level set" not in panel.viewer.layers
    assert live.visible
    np.testing.assert_array_equal(shown(panel), seen)
    assert (bar(panel).slider.value(), bar(panel).slider.maximum()) == (step, 25)
    assert panel.controls.run_button.text() == text
    go_to(panel, qtbot, 12)
    np.testing.assert_array_equal(shown(panel), exact(panel, 12))
    accept(panel, qtbot)
    np.testing.assert_array_equal(panel.viewer.layers["Level set"].data == 1, timeline(panel).level_set(12) > 0)


def test_continue_after_accept_shows_the_contour_again(panel, qtbot):
    run_to_end(panel, qtbot)
    accept(panel, qtbot)
    assert panel.controls.run_button.text() == "Continue"
    panel.controls.run_button.click()
    assert panel.viewer.layers["Level set (live)"].visible
    qtbot.waitUntil(lambda: panel.level_set_run.state is JobState.DONE, timeout=60_000)
    assert bar(panel).slider.maximum() == 50


def test_the_status_speaks_of_the_step_on_show(panel, qtbot):
    end = run_to_end(panel, qtbot)
    ended = panel.controls.status.text()
    go_to(panel, qtbot, 5)
    assert panel.controls.status.text().startswith("Step 5 of 25 is on show.")
    assert "Go on from here" in panel.controls.status.text()
    go_to(panel, qtbot, end.iteration)
    assert panel.controls.status.text() == ended
    go_to(panel, qtbot, 5)
    panel.inputs.start.combo.layer.data = [[12, 14, 15]]
    assert panel.controls.run_button.text() == "Run"
    assert "Run begins anew" in panel.controls.status.text()
    before = timeline(panel)
    panel.controls.run_button.click()
    qtbot.waitUntil(lambda: panel.level_set_run.state is JobState.DONE, timeout=60_000)
    assert timeline(panel) is not before
    assert len(timeline(panel).branches) == 1
    assert not panel.scrubbing.is_away


def test_a_run_that_is_cancelled_while_looking_back_speaks_of_the_step_on_show(panel, qtbot):
    panel.step(9)
    qtbot.waitUntil(lambda: panel.level_set_run.state is JobState.PAUSED, timeout=20_000)
    go_to(panel, qtbot, 4)
    assert panel.controls.status.text().startswith("Step 4 of 9 is on show.")
    go_to(panel, qtbot, 9)
    assert panel.controls.status.text().startswith("Step 9, the newest,")
    go_to(panel, qtbot, 4)
    panel.cancel()
    qtbot.waitUntil(lambda: panel.level_set_run.state is JobState.CANCELLED, timeout=20_000)
    assert panel.controls.status.text().startswith("Step 4 of 9 is on show.")


def test_two_branches_are_compared_in_a_layer_and_a_line(panel, qtbot):
    run_to_end(panel, qtbot)
    go_to(panel, qtbot, 8)
    set_parameters(panel, curvature=0.9, steps=17)
    panel.run()
    qtbot.waitUntil(lambda: panel.level_set_run.state is JobState.DONE, timeout=60_000)
    bar(panel).compare_button.click()
    assert "Held: step 25" in bar(panel).comparison.text()
    bar(panel).branches.setCurrentIndex(0)
    bar(panel).branches.activated.emit(0)
    rest(panel, qtbot)
    layer = panel.viewer.layers["Comparison"]
    first, second = timeline(panel).branches
    b, a = (timeline(panel).level_set(25, branch) > 0 for branch in (first, second))
    np.testing.assert_array_equal(layer.data == ONLY_A, a & ~b)
    np.testing.assert_array_equal(np.isin(layer.data, (ONLY_B_LINE, ONLY_B_GAP)), b & ~a)
    np.testing.assert_array_equal(np.isin(layer.data, (BOTH_EDGE, BOTH_INSIDE)), a & b)
    np.testing.assert_allclose(layer.scale, (3, 1, 1))
    assert is_live(layer)
    dice = 2 * (a & b).sum() / (a.sum() + b.sum())
    assert dice < 1
    text = bar(panel).comparison.text()
    assert f"Dice {dice:.3f}, {(int(b.sum()) - int(a.sum())) * 3 / 1000:+.3g} ml" in text
    panel.viewer.layers.remove(layer)
    go_to(panel, qtbot, 20)
    assert "Comparison" in panel.viewer.layers
    bar(panel).compare_button.click()
    assert "Comparison" not in panel.viewer.layers
    assert not bar(panel).comparison.isVisibleTo(panel)


def test_rewind_and_new_seeds_begin_a_new_timeline(panel, qtbot):
    run_to_end(panel, qtbot)
    go_to(panel, qtbot, 8)
    panel.rewind()
    assert not bar(panel).isVisibleTo(panel)
    assert not panel.scrubbing.is_away
    run_to_end(panel, qtbot)
    before = timeline(panel)
    panel.inputs.start.combo.layer.data = [[12, 14, 15]]
    assert panel.controls.run_button.text() == "Run"
    run_to_end(panel, qtbot)
    assert timeline(panel) is not before
    assert len(timeline(panel).branches) == 1


def test_the_steps_of_a_leak_are_marked(panel, qtbot):
    """A disc whose wall has a gap, on one slice."""
    y, x = np.indices((64, 64)) - 31.5
    radius = np.hypot(x, y)
    image = np.where(np.abs(radius - 18) < 2, 0.0, 100.0)
    image[29:35, 40:] = 100.0
    for layer in list(panel.viewer.layers):
        panel.viewer.layers.remove(layer)
    panel.viewer.add_image(image.astype(np.float32), name="disc", units="mm")
    panel.inputs.start.draw_points()
    panel.inputs.start.combo.layer.data = [[32, 31]]
    set_parameters(panel, speed="region", lower=50.0, steps=400, auto_stop=True, curvature=0.2)
    assert run_to_end(panel, qtbot).stop_reason == "leak"
    branch = timeline(panel).current
    assert bar(panel).slider.value() == branch.end < bar(panel).slider.maximum()
    assert panel.controls.plot.hatched_from == branch.moment(branch.end).time
    assert panel.controls.size_curve.x[-1] == branch.moments[-1].time
    go_to(panel, qtbot, branch.last)
    assert bar(panel).where.text().endswith("leaking")
    np.testing.assert_array_equal(shown(panel), exact(panel, branch.last))


def test_the_hatch_runs_through_what_only_the_second_has_and_a_line_around_what_both_have():
    a, b = np.zeros((12, 12), bool), np.zeros((12, 12), bool)
    a[2:8, 2:8] = True
    b[4:12, 4:12] = True
    values = painted(a & ~b, b & ~a, a & b)
    assert (values[a & ~b] == ONLY_A).all()
    only_b = values[b & ~a]
    assert 0.3 < (only_b == ONLY_B_LINE).mean() < 0.7
    assert set(np.unique(only_b)) == {ONLY_B_LINE, ONLY_B_GAP}
    both = values[4:8, 4:8]
    assert (both[1:-1, 1:-1] == BOTH_INSIDE).all()
    assert (both == BOTH_EDGE).sum() == 12
    assert (values[~a & ~b] == 0).all()
