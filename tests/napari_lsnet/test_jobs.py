"""The promises of `napari_lsnet.jobs`, kept against real generators on napari's real worker."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import pytest

from napari_lsnet.jobs import Ending, Job, JobQueue, JobState, cancel_all, failure_report
from src_models.errors import InputError
from src_models.progress import Progress

PROMISE_MS = 200


@dataclass(frozen=True)
class Count(Progress):
    """One step of a counter that tells what it would give if it were stopped now."""

    at: int

    def result(self) -> tuple[str, int]:
        return ("partial", self.at)


class Counter:
    """A generator with a memory of how it was treated."""

    def __init__(self, until: int = 10**9, nap: float = 0.002) -> None:
        self.until = until
        self.nap = nap
        self.received: list[tuple[int, Any]] = []
        self.closed_in: threading.Thread | None = None
        self.made_in: threading.Thread | None = None

    def work(self) -> Generator[Progress, Any, tuple[str, int]]:
        self.made_in = threading.current_thread()
        try:
            for at in range(1, self.until + 1):
                time.sleep(self.nap)
                change = yield Count(phase="count", at=at, values={"at": float(at)}, notes=("half",) if at == 5 else ())
                if change is not None:
                    self.received.append((at, change))
        finally:
            self.closed_in = threading.current_thread()
        return ("complete", self.until)


class Camera:
    """A picture is (first, last) of the steps that it stands for."""

    def __init__(self) -> None:
        self.threads: set[threading.Thread] = set()

    def see(self, report: Count) -> None:
        self.threads.add(threading.current_thread())

    def take(self, report: Count, unseen: Any) -> tuple[int, int]:
        return (report.at if unseen is None else unseen[0], report.at)


@pytest.fixture
def start(qtbot):
    """Start a job on a queue of its own; everything it emits is kept."""
    jobs: list[Job] = []
    queue = JobQueue()

    def run(make, *, steps=None, **more) -> Job:
        job = Job(make, title="The counter", queue=queue, **more)
        job.updates, job.states, job.threads = [], [], set()
        job.updated.connect(lambda update: (job.updates.append(update), job.threads.add(threading.current_thread())))
        job.state_changed.connect(lambda state: (job.states.append(state), job.threads.add(threading.current_thread())))
        jobs.append(job)
        job.start(steps=steps)
        return job

    yield run
    cancel_all(queue)
    for job in jobs:
        qtbot.waitUntil(lambda job=job: job.state.ended)


def test_a_job_gives_what_its_generator_returns_and_says_all_on_the_main_thread(start, qtbot):
    counter = Counter(until=20)
    job = start(counter.work)
    qtbot.waitUntil(lambda: job.state is JobState.DONE)
    assert job.ending == Ending(JobState.DONE, ("complete", 20))
    assert job.states == [JobState.PREPARING, JobState.RUNNING, JobState.DONE]
    assert job.threads == {threading.main_thread()}
    assert counter.made_in is counter.closed_in is not threading.main_thread()


def test_no_value_and_no_note_is_lost_though_pictures_are(start, qtbot):
    job = start(Counter(until=300, nap=0.0).work)
    qtbot.waitUntil(lambda: job.state is JobState.DONE)
    seen = [values["at"] for update in job.updates for values in update.history]
    assert seen == list(range(1, 301))
    assert [note for update in job.updates for note in update.notes] == ["half"]
    assert len(job.updates) < 100


def test_cancel_answers_in_time_closes_in_the_worker_and_keeps_what_was_reached(start, qtbot):
    counter = Counter()
    work = counter.work()  # held here, so that nobody but the job closes it
    job = start(lambda: work)
    qtbot.waitUntil(lambda: len(job.updates) > 2)
    job.cancel()
    assert job.state is JobState.STOPPING
    qtbot.waitUntil(lambda: job.state is JobState.CANCELLED, timeout=PROMISE_MS)
    kind, at = job.ending.result
    assert kind == "partial"
    assert at >= job.updates[-1].report.at
    assert counter.closed_in is counter.made_in


def test_pause_holds_the_generator_and_resume_goes_on(start, qtbot):
    job = start(Counter().work)
    qtbot.waitUntil(lambda: len(job.updates) > 2)
    job.pause()
    assert job.state is JobState.PAUSED
    qtbot.wait(PROMISE_MS)
    reached = job.updates[-1].report.at
    qtbot.wait(PROMISE_MS)
    assert job.updates[-1].report.at == reached
    job.resume()
    qtbot.waitUntil(lambda: job.updates[-1].report.at > reached, timeout=PROMISE_MS)
    assert job.state is JobState.RUNNING


def test_step_takes_exactly_so_many(start, qtbot):
    job = start(Counter().work, steps=1)
    qtbot.waitUntil(lambda: job.state is JobState.PAUSED)
    assert job.updates[-1].report.at == 1
    job.step(3)
    qtbot.waitUntil(lambda: job.state is JobState.PAUSED, timeout=PROMISE_MS)
    assert job.updates[-1].report.at == 4
    job.step()
    qtbot.waitUntil(lambda: job.updates[-1].report.at == 5, timeout=PROMISE_MS)


def test_a_change_is_sent_once_the_newest_counts_and_a_pause_survives_it(start, qtbot):
    counter = Counter()
    job = start(counter.work, steps=2)
    qtbot.waitUntil(lambda: job.state is JobState.PAUSED)
    job.send(0.25)
    job.send(0.5)
    job.send("wall")
    qtbot.wait(50)
    assert job.state is JobState.PAUSED
    assert counter.received == []
    job.step(4)
    qtbot.waitUntil(lambda: job.state is JobState.PAUSED)
    assert counter.received == [(2, 0.5), (3, "wall")]


def test_pictures_are_taken_in_the_worker_newest_first_and_never_queue(start, qtbot):
    camera = Camera()
    job = start(Counter(nap=0.001).work, watch=camera)
    qtbot.waitUntil(lambda: len(job.updates) > 2)
    before = len(job.updates)
    time.sleep(0.5)  # the screen is busy
    qtbot.waitUntil(lambda: len(job.updates) > before)
    first, last = job.updates[before].picture
    assert last - first > 100  # all pictures of the busy time became one
    job.pause()
    qtbot.wait(PROMISE_MS)
    assert job.updates[-1].picture[1] == job.updates[-1].report.at
    assert threading.main_thread() not in camera.threads


def test_pictures_keep_to_25_a_second(start, qtbot):
    job = start(Counter(nap=0.0005).work)
    qtbot.waitUntil(lambda: bool(job.updates))
    before = len(job.updates)
    qtbot.wait(1000)
    assert 15 <= len(job.updates) - before <= 27


def test_the_end_does_not_overtake_an_update_whose_drawing_lets_other_events_in(start, qtbot):
    told = []
    job = start(Counter(until=3, nap=0.02).work)

    def draw(update: Any) -> None:
        qtbot.wait(200)
        told.append(update.report.at)

    job.updated.connect(draw)
    job.ended.connect(lambda _: told.append("end"))
    qtbot.waitUntil(lambda: "end" in told)
    qtbot.wait(50)
    assert told[-1] == "end"
    assert told[-2] == 3


def test_an_expected_failure_is_one_line(start, qtbot):
    def work():
        yield Progress(phase="start")
        raise InputError("seeds-empty", "The seeds are empty", "no voxel is marked", "Paint inside the structure.")

    job = start(work)
    qtbot.waitUntil(lambda: job.state is JobState.FAILED)
    assert job.ending.message == "The seeds are empty: no voxel is marked. Paint inside the structure."
    assert job.ending.details == ""


def test_an_unexpected_failure_leaves_a_report_without_paths(start, qtbot):
    def work():
        yield Progress(phase="start")
        name = "someone"
        raise ValueError(f"cannot open '/home/{name}/patient/scan.nii' or C:\\Users\\{name}\\scan.nii")

    job = start(work)
    qtbot.waitUntil(lambda: job.state is JobState.FAILED)
    assert job.ending.message == "The counter stopped; your layers are unchanged."
    last = job.ending.details.splitlines()[-1]
    assert last == "ValueError: cannot open '<path>' or <path>"
    assert "in work" in job.ending.details


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA out of memory. Tried to allocate 3 GiB")])
def test_full_memory_says_what_to_do(start, qtbot, error):
    def work():
        yield Progress(phase="start")
        raise error

    job = start(work)
    qtbot.waitUntil(lambda: job.state is JobState.FAILED)
    assert "Choose a smaller region" in job.ending.message


def test_a_generator_that_cannot_be_made_fails_like_any_other(start, qtbot):
    def make():
        raise InputError("no", "The image holds NaN")

    job = start(make)
    qtbot.waitUntil(lambda: job.state is JobState.FAILED)
    assert job.ending.message == "The image holds NaN."


def test_time_left_counts_work_and_not_the_rest(start, qtbot):
    def work():
        for at in range(1, 41):
            time.sleep(0.01)
            yield Progress(phase="count", fraction=at / 40)

    job = start(work, steps=20)
    qtbot.waitUntil(lambda: job.state is JobState.PAUSED)
    qtbot.wait(400)
    job.step()
    qtbot.waitUntil(lambda: job.updates[-1].report.fraction > 0.5)
    assert 0.15 < job.updates[-1].seconds_left < 0.4


def test_one_job_per_device_and_a_paused_one_gives_its_place_up(start, qtbot):
    first = start(Counter().work, device="cpu")
    second = start(Counter().work, device="auto")
    qtbot.waitUntil(lambda: len(first.updates) > 1)
    assert second.state is JobState.PREPARING
    assert second.waits_for is first
    assert not second.updates
    first.pause()
    qtbot.waitUntil(lambda: second.state is JobState.RUNNING)
    first.resume()
    qtbot.wait(100)
    assert first.waits_for is second
    at = first.updates[-1].report.at
    second.cancel()
    qtbot.waitUntil(lambda: first.updates[-1].report.at > at)


def test_a_waiting_job_can_be_cancelled_before_it_began(start, qtbot):
    start(Counter().work)
    counter = Counter()
    second = start(counter.work)
    second.cancel()
    qtbot.waitUntil(lambda: second.state is JobState.CANCELLED, timeout=PROMISE_MS)
    assert second.ending.result is None
    assert counter.made_in is None


def test_other_devices_do_not_wait(start, qtbot):
    first = start(Counter().work, device="cpu")
    second = start(Counter().work, device="cuda")
    qtbot.waitUntil(lambda: first.state is second.state is JobState.RUNNING)


def test_quitting_ends_even_a_paused_job(qtbot):
    queue = JobQueue()
    counter = Counter()
    job = Job(counter.work, title="The counter", queue=queue)
    job.start(steps=1)
    qtbot.waitUntil(lambda: job.state is JobState.PAUSED)
    cancel_all(queue)
    assert counter.closed_in is counter.made_in
    qtbot.waitUntil(lambda: job.state.ended)


def test_napari_shows_the_job_while_it_runs_and_can_stop_it(start, qtbot, make_napari_viewer):
    from napari.utils import progress
    from superqt.utils import WorkerBase

    make_napari_viewer()
    counter = Counter()
    job = start(counter.work)
    qtbot.waitUntil(lambda: len(job.updates) > 0)
    assert [bar.desc.rstrip(": ") for bar in progress._all_instances] == ["The counter"]
    WorkerBase.await_workers(2000)  # what napari does when its window closes
    assert counter.closed_in is counter.made_in
    qtbot.waitUntil(lambda: job.state is JobState.CANCELLED)
    assert not list(progress._all_instances)


def test_the_report_of_a_failure_names_files_without_their_folders():
    try:
        int("x")
    except ValueError as error:
        report = failure_report(error)
    assert "test_jobs.py" in report
    assert sys.prefix not in report
