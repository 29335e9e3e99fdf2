"""What the command line says: plain lines for people, JSON lines for programs."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from src_models.geometry import Grid
from src_models.progress import Progress, finish

if TYPE_CHECKING:
    from src_models.levelset.coupled import LabelsResult, LabelsState
    from src_models.levelset.evolution import LevelSetResult, LevelSetState

Result = TypeVar("Result")

_INTERVAL_S = 0.2
"""Between two JSON lines of progress: often enough to follow, seldom enough not to slow a quick run."""


def write_json(content: Mapping[str, Any] | Sequence[Any]) -> None:
    """One JSON line on standard output, at once; numbers that are not finite become null."""
    sys.stdout.write(json.dumps(_plain(content), ensure_ascii=False) + "\n")
    sys.stdout.flush()


def say(*lines: str) -> None:
    """Lines for people on standard output."""
    for line in lines:
        sys.stdout.write(line + "\n")
    sys.stdout.flush()


def warn(*lines: str) -> None:
    """Lines for people on standard error, above a bar that is under way."""
    from tqdm import tqdm

    for line in lines:
        tqdm.write(line, file=sys.stderr)


@contextmanager
def watch(json_lines: bool) -> Iterator[Callable[[LevelSetState | LabelsState], None]]:
    """Show the states of a run: a bar on standard error for people, or JSON lines on standard output."""
    if json_lines:
        last = -math.inf

        def show_json(state: LevelSetState | LabelsState) -> None:
            nonlocal last
            now = time.monotonic()
            if now - last >= _INTERVAL_S or state.stop_reason is not None:
                last = now
                write_json(
                    {
                        "event": "progress",
                        "step": state.iteration,
                        "fraction": state.fraction,
                        "message": state.message,
                        "notes": list(state.notes),
                        "stop_reason": state.stop_reason,
                        **state.values,
                    }
                )

        yield show_json
        return
    from tqdm import tqdm

    # without a terminal there is nobody to watch a bar, and its lines would fill a log
    with tqdm(desc="level set", unit=" steps", disable=None, file=sys.stderr, leave=False) as bar:

        def show_bar(state: LevelSetState | LabelsState) -> None:
            bar.update(state.iteration - bar.n)
            bar.set_postfix_str(state.message.partition(", ")[2], refresh=False)

        yield show_bar


@contextmanager
def watch_job(json_lines: bool, title: str, event: str = "progress") -> Iterator[Callable[[Progress], None]]:
    """Show the progress of any other job, likewise."""
    if json_lines:
        last, heard = -math.inf, set[str]()

        def show_json(progress: Progress) -> None:
            nonlocal last
            now = time.monotonic()
            new = [note for note in progress.notes if note not in heard]
            # a note is never lost between two lines
            if new or now - last >= _INTERVAL_S:
                last = now
                heard.update(new)
                told = {"phase": progress.phase, "fraction": progress.fraction, "message": progress.message}
                write_json({"event": event, **told, "notes": new, **progress.values})

        yield show_json
        return
    from tqdm import tqdm

    shape = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}{postfix}"
    with tqdm(desc=title, total=1.0, bar_format=shape, disable=None, file=sys.stderr, leave=False) as bar:

        def show_bar(progress: Progress) -> None:
            bar.update((progress.fraction or 0.0) - bar.n)
            bar.set_postfix_str(progress.message, refresh=False)

        yield show_bar


def follow(work: Generator[Progress, Any, Result], *, json_lines: bool) -> Result:
    """Run to its end what has to be done before a run, under a bar or JSON lines, and give its result."""
    with watch_job(json_lines, "preparing", "preparing") as show:
        return finish(work, show)


def amount(count: float, unit: str) -> str:
    """A large number with two or three digits and the unit that suits it: ``12 MB``, ``1.3 GFLOP``."""
    for factor, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= 0.9995 * factor:
            value = count / factor
            return f"{value:.0f} {letter}{unit}" if value >= 9.95 else f"{value:.1f} {letter}{unit}"
    return f"{count:.0f} {unit}"


def size_text(result: LevelSetResult | LabelsResult, grid: Grid) -> str:
    """The size of a result in the largest unit that is known: ml, mm2, or voxels where they have no size."""
    if not grid.spacing_known:
        return f"{int(result.mask.sum())} {'voxels' if grid.ndim == 3 else 'pixels'}"
    millilitres = result.record.result.get("volume_ml")
    if millilitres is not None:
        return f"{millilitres:.2f} ml"
    return f"{result.record.result['size_mm']:.1f} mm2"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
