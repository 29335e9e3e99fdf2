"""``lsnet kernels``: what the kernels of a trained network are, beside what random kernels would be."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src_models.cli import kernel_changes, kernel_effects, kernel_regions, kernel_terms, options, outputs, report
from src_models.cli.driving import interrupts
from src_models.errors import SaveError
from src_models.kernels.parameters import KernelAnalysisParameters

if TYPE_CHECKING:
    from src_models.kernels.result import KernelReport
    from src_models.kernels.sources import Source

_EPILOG = """\
examples:
  lsnet kernels NAME --out kernels
  lsnet kernels checkpoint_final.pth --preset paper-11 --null uniform --out kernels
  lsnet kernels nnunet_model_folder --fold 0 --out kernels
  lsnet kernels after.safetensors --compare before.safetensors --out kernels
  lsnet kernels NAME --knock-out labels --data FOLDER --groups '(p[0-9]+)_' --patients unseen.txt --out kernels

Written are kernels.csv and kernels.parquet (one row a kernel), kernels.json (the summary of each layer), the figures as
PNG, and kernels.html, which explains them. Figures and Parquet need pip install napari-lsnet[kernels]."""
_TITLES = {"basic": "what is asked", "advanced": "advanced", "run": "run"}
REPORT_DRAWS = 100_000
STOPPED = 130


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Every flag of the command."""
    parser.epilog = _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="A name from lsnet weights list, a file of weights, or a folder (nnU-Net, MONAI).",
    )
    parser.add_argument("--out", metavar="FOLDER", type=Path, required=True, help="Where to; made where it is missing.")
    parser.add_argument("--fold", metavar="N", default="", help="Of a model with several. Default: the first.")
    kernel_changes.add_flags(parser)
    parser.add_argument("--svg", action="store_true", help="Also write the figures as SVG.")
    parser.add_argument("--no-figures", action="store_true", help="Write the table and the summary alone.")
    parser.add_argument("--overwrite", action="store_true", help="Replace results of earlier runs. Models never are.")
    options.add_model(parser, KernelAnalysisParameters, _TITLES)
    kernel_effects.add_flags(parser)
    kernel_regions.add_flags(parser)
    kernel_terms.add_flags(parser)


def run(arguments: argparse.Namespace) -> int:
    """Do what the command line says."""
    values = options.given(arguments, KernelAnalysisParameters)
    # a report is made once: its chance may take the time
    chosen = options.build(KernelAnalysisParameters, {"null_draws": REPORT_DRAWS} | values)
    kernel_effects.check(arguments)
    kernel_regions.check(arguments)
    kernel_terms.check(arguments)
    curves = kernel_changes.curves(arguments)
    writers = _writers()
    folder = _folder(arguments, [name for name, _ in writers])
    ready = kernel_effects.prepare(arguments)
    found = _analysed(arguments.model if ready is None else ready.source, chosen, arguments)
    notes = list(_missing(arguments))
    contents: dict[str, bytes] = {}
    for name, write in writers:
        contents[name] = write(found)
    extra: list[str] = []
    if arguments.compare:
        written, section = kernel_changes.compared(_analysed(arguments.compare, chosen, arguments), found, arguments)
        contents |= written
        extra.append(section)
    if curves is not None:
        written, section = kernel_changes.drifted(curves, arguments)
        contents |= written
        extra.append(section)
    if ready is not None and found.complete:
        extra += _experiments(ready, found, arguments, contents)
    more: list[str] = []
    if arguments.terms is not None and found.complete:
        more, told = kernel_terms.write(found, arguments)
        notes += told
    contents |= _pictures(found, arguments, extra)
    for name, content in contents.items():
        outputs.write_whole(folder / name, content)
    _write_record(folder, found, arguments)
    _tell(folder, found, [*contents, "kernels.lsnet.json"], more, notes, arguments)
    return 0 if found.complete else STOPPED


def _experiments(
    ready: kernel_effects.Ready, found: KernelReport, arguments: argparse.Namespace, contents: dict[str, bytes]
) -> list[str]:
    """What was asked for beside the analysis; its files come to the contents, and its sections are returned."""
    sections = []
    if arguments.knock_out:
        effects = kernel_effects.effects(ready, found, arguments)
        written, section = kernel_effects.files(effects, found, arguments)
        contents |= written
        sections.append(section)
    if arguments.regions:
        written, section = kernel_regions.files(ready, found, arguments)
        contents |= written
        sections.append(section)
    return sections


def _analysed(model: str | Source, chosen: KernelAnalysisParameters, arguments: argparse.Namespace) -> KernelReport:
    """The analysis under a bar or JSON lines; the first Ctrl-C keeps the layers that are finished."""
    from platformdirs import user_cache_path

    from src_models.kernels.analysis import analyse

    cache = user_cache_path("napari-lsnet", appauthor=False) / "kernels"
    work = analyse(model, chosen, fold=arguments.fold, cache=cache)
    with report.watch_job(arguments.json, "kernels", "progress") as show, interrupts(True) as interrupted:
        while True:
            try:
                step = next(work)
            except StopIteration as end:
                result: KernelReport = end.value
                return result
            show(step)
            if interrupted():
                partial = step.result()
                work.close()
                if not partial.layers:
                    raise KeyboardInterrupt
                return partial


def _writers() -> list[tuple[str, Callable[[KernelReport], bytes]]]:
    from src_models.kernels import report as files

    made: list[tuple[str, Callable[[KernelReport], bytes]]] = [
        ("kernels.csv", lambda found: files.to_csv(found.table)),
        ("kernels.json", files.to_json),
    ]
    if files.has_parquet():
        made.insert(1, ("kernels.parquet", _parquet))
    return made


def _parquet(found: KernelReport) -> bytes:
    from src_models.kernels.report import write_parquet

    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "kernels.parquet"
        write_parquet(found.table, path)
        return path.read_bytes()


def _pictures(found: KernelReport, arguments: argparse.Namespace, extra: Sequence[str]) -> dict[str, bytes]:
    from src_models.kernels.figures import draw, has_figures
    from src_models.kernels.page import page

    drawn: dict[str, bytes] = {}
    made: dict[str, bytes] = {}
    if has_figures() and not arguments.no_figures and found.layers:
        drawn = draw(found)
        made = {f"{name}.png": content for name, content in drawn.items()}
        if arguments.svg:
            made |= {f"{name}.svg": content for name, content in draw(found, "svg").items()}
    made["kernels.html"] = page(found, drawn, extra).encode()
    return made


def _missing(arguments: argparse.Namespace) -> list[str]:
    from src_models.kernels.figures import has_figures
    from src_models.kernels.report import has_parquet

    told = []
    if not has_parquet():
        told.append("No Parquet file: pyarrow is not installed. pip install napari-lsnet[kernels] brings it.")
    if not has_figures() and not arguments.no_figures:
        told.append("No figures: matplotlib is not installed. pip install napari-lsnet[kernels] brings it.")
    return told


def _folder(arguments: argparse.Namespace, names: Sequence[str]) -> Path:
    """The folder, made where it is missing, once no result of an earlier run would be lost."""
    folder: Path = arguments.out
    if folder.is_file():
        raise SaveError("target-is-file", f"{folder.name} is a file", "", "Give the name of a folder.")
    there = [name for name in (*names, "kernels.html", "kernels.lsnet.json") if (folder / name).exists()]
    if there and not arguments.overwrite:
        raise SaveError(
            "target-exists", f"{folder.name} holds {there[0]} already", "", "Choose another --out, or add --overwrite."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        why = (error.strerror or "the system refused it").lower()
        raise SaveError("target-folder", f"{folder.name} cannot be made", why, "Choose another folder.") from error
    return folder


def _write_record(folder: Path, found: KernelReport, arguments: argparse.Namespace) -> None:
    from src_models.record import write_record

    path = Path(arguments.model)
    local = {"model": outputs.relative_path(path, folder.resolve()) if path.exists() else arguments.model}
    write_record(folder / "kernels.lsnet.json", found.record.model_copy(update={"local": local}))


def _tell(
    folder: Path,
    found: KernelReport,
    names: Sequence[str],
    terms: Sequence[str],
    notes: Sequence[str],
    arguments: argparse.Namespace,
) -> None:
    every = [*notes, *found.notes]
    if arguments.json:
        told: dict[str, Any] = {"event": "result", **found.record.result, "status": found.record.status}
        report.write_json({**told, "out": str(folder), "files": [*names, *terms], "notes": every})
        return
    report.say(*lines(found), *(f"Note: {note}" for note in every))
    if found.skipped:
        reasons = "; ".join(dict.fromkeys(each.reason for each in found.skipped))
        were = "was" if len(found.skipped) == 1 else "were"
        report.say(f"{_many(len(found.skipped), 'convolution')} {were} not analysed: {reasons}.")
    report.say(f"Saved {_many(len(names), 'file')} in {folder}; begin with kernels.html.")
    if terms:
        # where --terms says, which need not be the folder
        report.say(f"Saved the terms in {arguments.terms.parent}: {', '.join(terms)}.")


def _many(count: int, name: str) -> str:
    return f"{count} {name}" + ("" if count == 1 else "s")


def lines(found: KernelReport) -> list[str]:
    """A few lines for people: the labels of all layers beside chance."""
    kernels, layers = _many(len(found.table), "kernel"), _many(len(found.layers), "layer")
    told = [f"{kernels} in {layers}, {found.record.duration_s:.1f} s"]
    if not found.complete:
        told[0] += ", stopped before the end"
    names = dict.fromkeys(one.name for each in found.layers for one in each.labels)
    told.append(f"  {'label':<18} {'kernels':>8} {'share':>7} {'chance':>7}")
    for name in names:
        mine = [one for each in found.layers for one in each.labels if one.name == name]
        total = max(sum(one.total for one in mine), 1)
        count = sum(one.count for one in mine)
        expected = sum(one.null_share * one.total for one in mine if one.null_total)
        told.append(f"  {name:<18} {count:>8} {count / total:>7.3f} {expected / total:>7.3f}")
    return told
