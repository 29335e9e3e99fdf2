"""One analysis in a viewer: its job, and the newest report. It can do without a panel."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from napari_lsnet.jobs import Job
from napari_lsnet.kernels.source_chooser import SourceChoice
from napari_lsnet.one_job import OneJob
from src_models.errors import InputError
from src_models.kernels.parameters import KernelAnalysisParameters
from src_models.progress import Progress

if TYPE_CHECKING:
    from src_models.kernels.result import KernelReport
    from src_models.kernels.sources import Source
    from src_models.record import Record


@dataclass(frozen=True, eq=False)
class AnalysisRequest:
    """What an analysis is made from.

    Attributes
    ----------
    choice : SourceChoice
        The model.
    parameters : KernelAnalysisParameters
        What is asked.
    """

    choice: SourceChoice
    parameters: KernelAnalysisParameters

    def make(self) -> Generator[Progress, None, Analysis]:
        """The generator of the job; called in the worker, because it imports torch."""
        from src_models.processor import let_waiting_threads_sleep

        let_waiting_threads_sleep()
        yield Progress(phase="load", message="Loading the model...")
        from src_models.kernels.analysis import analyse
        from src_models.kernels.sources import open_source

        source = open_source(self.choice.source)
        work = analyse(source, self.parameters, cache=null_folder())
        try:
            while True:
                try:
                    step = next(work)
                except StopIteration as end:
                    return Analysis(source, end.value, self)
                yield _Step(
                    phase=step.phase,
                    fraction=step.fraction,
                    message=step.message,
                    notes=step.notes,
                    result=lambda made=step.result: self._finished(source, made),
                )
        finally:
            work.close()

    def _finished(self, source: Source, made: Callable[[], KernelReport]) -> Analysis | None:
        """What a stopped run keeps; None where no layer is finished yet."""
        try:
            return Analysis(source, made(), self)
        except InputError:
            return None


@dataclass(frozen=True, kw_only=True, eq=False)
class _Step(Progress):
    result: Any = None


@dataclass(frozen=True, eq=False)
class Analysis:
    """A report with the network that it is about; see `run_controls.Shareable`.

    Attributes
    ----------
    source : Source
        The network, for what is done with it afterwards.
    report : KernelReport
        Of all layers, or of those that were finished.
    request : AnalysisRequest
        What was asked.
    """

    source: Source
    report: KernelReport
    request: AnalysisRequest

    def as_python(self) -> str:
        """A script that makes the same report."""
        chosen = self.request.parameters
        changed = {
            name: value
            for name, value in chosen.model_dump().items()
            if value != type(chosen).model_fields[name].default
        }
        options = "".join(f"\n    {name}={value!r}," for name, value in changed.items())
        parameters = f"KernelAnalysisParameters({options}\n)" if changed else "KernelAnalysisParameters()"
        return (
            "from src_models.kernels import KernelAnalysisParameters, analyse\n"
            "from src_models.progress import finish\n\n"
            f"parameters = {parameters}\n"
            f"report = finish(analyse({self.request.choice.name!r}, parameters))\n"
            'print(report.table.words("label"))\n'
        )

    def as_command_line(self) -> str:
        """A command line that makes the same report."""
        import shlex

        chosen = self.request.parameters
        words = ["lsnet", "kernels", self.request.choice.name, "--out", "kernels"]
        for name, field in type(chosen).model_fields.items():
            value = getattr(chosen, name)
            if value == field.default:
                continue
            option = "--" + name.replace("_", "-")
            if isinstance(value, bool):
                words.append(option if value else "--no-" + option[2:])
            else:
                words += [option, ",".join(map(str, value)) if isinstance(value, tuple) else str(value)]
        return shlex.join(words)

    def record_for(self, _folder: Path) -> Record:
        """The record of the report; there is nothing in it that depends on where it is saved."""
        return self.report.record


class AnalysisRun(OneJob):
    """Runs analyses one after the other and keeps the newest result.

    Attributes
    ----------
    result : Analysis or None
        The newest, of all layers or of those that were finished.
    """

    def __init__(self) -> None:
        super().__init__()
        self.result: Analysis | None = None

    def start(self, request: AnalysisRequest) -> None:
        """Begin."""
        if self.is_busy:
            return
        self._begin(Job(request.make, title="The analysis of kernels", device="cpu"))

    def _keep(self, result: Any) -> None:
        if result is not None and result.report.layers:
            self.result = result


_runs: WeakKeyDictionary[Any, AnalysisRun] = WeakKeyDictionary()


def run_of(viewer: Any) -> AnalysisRun:
    """The run of a viewer: a panel that is opened again finds what was found before."""
    bare = getattr(viewer, "__wrapped__", viewer)
    if bare not in _runs:
        _runs[bare] = AnalysisRun()
    return _runs[bare]


def write_tables(found: Analysis, folder: Path) -> str:
    """Write the table and the summary of each layer; both are there afterwards, or none.

    Returns
    -------
    str
        The name of the folder.

    Raises
    ------
    SaveError
        Where they cannot be written, or are there already.
    """
    from src_models.files.saving import save_together
    from src_models.kernels.report import to_csv, to_json

    content = {folder / "kernels.csv": to_csv(found.report.table), folder / "kernels.json": to_json(found.report)}
    save_together(content, overwrite=False)
    return folder.name


def null_folder() -> Path:
    """Where large samples of random kernels are kept."""
    from platformdirs import user_cache_path

    return user_cache_path("napari-lsnet", appauthor=False) / "kernels"
