"""nnU-Net itself as the one that predicts: its own program in a process of its own, with its own Python and folders.

nnunetv2 needs packages that this program does without, so it lives in an environment of its own. Its process sees
folders and variables that are made for it and go with it; none has to be set by the person.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from src_models.errors import DeviceError, FileError, InputError
from src_models.files.gate import shown
from src_models.progress import Progress

RUNNER = Path(__file__).with_name("nnunet_runner.py")
BEAT_S = 0.2
"""Longest time between two reports."""
_PATIENCE_S = 5.0
_FOLDERS = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
# A Python of its own: what steers ours must not steer it.
_NOT_PASSED_ON = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV")


@dataclass(frozen=True)
class NNUNetSettings:
    """How nnU-Net is asked to predict.

    Attributes
    ----------
    folder : Path
        With ``plans.json``, ``dataset.json`` and the folders of the folds.
    folds : tuple of str
        Such as ``"0"`` or ``"all"``.
    checkpoint : str
        File in each of them.
    python : Path
        Of the environment that has nnunetv2.
    step : float
        Share of the window between two windows.
    mirror : bool
        Along the axes that were mirrored in training.
    device : str
        "auto", "cpu", "cuda" or "mps".
    """

    folder: Path
    folds: tuple[str, ...]
    checkpoint: str
    python: Path
    step: float = 0.5
    mirror: bool = False
    device: str = "auto"


@dataclass(frozen=True)
class NNUNetAnswer:
    """What the process made of one image.

    Attributes
    ----------
    stem : Path
        Without the ending of the data set: labels, and beside them ``.npz`` where probabilities were asked for.
    seconds : float
        Without the start of the process.
    device : str
        Where it ran.
    versions : dict of str to str
        Of nnunetv2, torch and numpy there.
    threads : int
        Of torch there.
    """

    stem: Path
    seconds: float
    device: str
    versions: dict[str, str]
    threads: int


class NNUNetProcess:
    """nnU-Net's predictor, started with the first image and kept for the next ones; a context manager.

    Parameters
    ----------
    settings : NNUNetSettings
        How.
    """

    def __init__(self, settings: NNUNetSettings) -> None:
        self.settings = settings
        self.private = Path(tempfile.mkdtemp(prefix="lsnet_nnunet_"))
        self._process: subprocess.Popen[str] | None = None
        self._events: queue.Queue[dict[str, Any]] = queue.Queue()
        self._ready: dict[str, Any] = {}

    def __enter__(self) -> NNUNetProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process and take its folders away."""
        self._end()
        shutil.rmtree(self.private, ignore_errors=True)

    def predict(
        self, files: Sequence[Path], *, probabilities: bool = False, interrupt: Callable[[], bool] | None = None
    ) -> Generator[Progress, None, NNUNetAnswer]:
        """Predict the files of one image, one per channel.

        Parameters
        ----------
        files : sequence of Path
            That nnU-Net's reader reads.
        probabilities : bool
            Whether they are wanted beside the labels.
        interrupt : callable, optional
            Asked between two reports; nnU-Net has nothing half done to give, so a yes ends the work as Ctrl-C does.

        Raises
        ------
        InputError
            Where there is no such Python, or nnunetv2 is not installed for it.
        FileError, DeviceError
            What nnU-Net could not do.
        """
        if self._process is None:
            self._start()
        stem = self.private / "results" / "labels"
        shutil.rmtree(stem.parent, ignore_errors=True)
        stem.parent.mkdir()
        whole = False
        try:
            if not self._ready:
                self._ready = yield from self._until("ready", "starting nnU-Net", interrupt)
            request = {
                "files": [str(path.resolve()) for path in files],
                "out": str(stem),
                "probabilities": probabilities,
            }
            self._ask(request)
            done = yield from self._until("done", "nnU-Net predicts", interrupt)
            whole = True
        finally:
            if not whole:  # cancelled or failed: the next image gets a new process
                self._end()
        ready = self._ready
        return NNUNetAnswer(stem, float(done["seconds"]), ready["device"], dict(ready["versions"]), ready["threads"])

    def _start(self) -> None:
        settings = self.settings
        program = self.private / "run_nnunet.py"
        shutil.copyfile(RUNNER, program)
        environment = {key: value for key, value in os.environ.items() if key not in _NOT_PASSED_ON}
        for name in _FOLDERS:
            (self.private / name).mkdir(exist_ok=True)
            environment[name] = str(self.private / name)
        # its own words; at least one, and no compiler that first has to be there
        environment |= {"nnUNet_def_n_proc": str(max(1, os.cpu_count() or 1)), "nnUNet_compile": "0"}
        # a name alone is looked for where programs are; links stay, since an environment is known by them
        python = str(settings.python if len(settings.python.parts) == 1 else settings.python.absolute())
        told = {
            "folder": str(settings.folder.resolve()),
            "folds": settings.folds,
            "checkpoint": settings.checkpoint,
            "step": settings.step,
            "mirror": settings.mirror,
            "device": settings.device,
        }
        try:
            with (self.private / "log.txt").open("w", encoding="utf-8") as log:
                self._process = subprocess.Popen(  # noqa: S603 - the Python that the person named, our own program
                    [python, str(program), json.dumps(told)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                    encoding="utf-8",
                    cwd=self.private,
                    env=environment,
                )
        except OSError as error:
            raise InputError(
                "nnunet-python",
                f"{shown(str(settings.python))} is no Python that can be started",
                (error.strerror or "").lower(),
                "Name that of an environment with nnunetv2: --nnunet-python PATH.",
            ) from error
        self._ready, self._events = {}, queue.Queue()
        assert self._process.stdout is not None
        threading.Thread(target=_listen, args=(self._process.stdout, self._events), daemon=True).start()

    def _ask(self, request: dict[str, Any]) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        # where it has ended already, the events tell why
        with contextlib.suppress(OSError):
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()

    def _until(
        self, wanted: str, message: str, interrupt: Callable[[], bool] | None
    ) -> Generator[Progress, None, dict[str, Any]]:
        """Report until an event comes."""
        began, passes = time.monotonic(), 0
        while True:
            count = f", {passes} windows" if passes else ""
            yield Progress(phase="nnunet", message=f"{message}{count}, {time.monotonic() - began:.0f} s")
            if interrupt is not None and interrupt():
                raise KeyboardInterrupt
            try:
                event = self._events.get(timeout=BEAT_S)
            except queue.Empty:
                continue
            if event["event"] == wanted:
                return event
            if event["event"] == "pass":
                passes += 1
            else:
                raise self._failure(event)

    def _failure(self, event: dict[str, Any]) -> InputError | FileError | DeviceError:
        python = shown(str(self.settings.python))
        why = shown(" ".join(str(event.get("why", "")).split()), 200)
        if event["event"] == "missing":
            return InputError(
                "nnunet-missing",
                f"nnunetv2 is not installed for {python}",
                why,
                "Install it in an environment of its own and name its Python: --nnunet-python PATH.",
            )
        if event.get("memory"):
            return DeviceError(
                "nnunet-memory",
                "nnU-Net ran out of memory",
                "",
                "Leave out --backend nnunet, which streams its results.",
            )
        if event["event"] == "ended":
            why = "its process ended, as it does when memory runs out"
        return FileError("nnunet-failed", "nnU-Net could not predict this image", why, "Leave out --backend nnunet.")

    def _end(self) -> None:
        process, self._process, self._ready = self._process, None, {}
        if process is None:
            return
        if process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(_PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
        process.wait()


def _listen(stream: IO[str], events: queue.Queue[dict[str, Any]]) -> None:
    """Put every line into the queue; a thread, since a read has no time limit."""
    with stream:
        for line in stream:
            try:
                content = json.loads(line)
            except ValueError:
                continue
            if isinstance(content, dict) and "event" in content:
                events.put(content)
    events.put({"event": "ended"})
